import asyncio
import os
import re
import shutil
import time
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.content import Content, Made, OpenFile
from config.events import Event, Stage
from config.model import Farm
from pxeboot.bootfiles.lookups import handed_over
from pxeboot.bootfiles.scripts import NODE_FILES
from pxeboot.bootfiles.tree import Asker, Tree, stage_of
from pxeboot.image import store
from tests.support.cpio_reader import unpack
from tests.support.fake_image import add_image, noise

FIRST, SECOND, OTHER, GUEST = (f"52:54:00:00:00:{n:02x}" for n in (1, 2, 3, 0x99))
M1, M2, GUEST_IP, LOST_IP, STRANGER = (IPv4Address(f"10.0.0.{n}") for n in (10, 11, 200, 210, 250))
TOKEN = "abcdef.0123456789abcdef"
JOIN = f"kubeadm join 10.0.0.1:6443 --token {TOKEN}"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Farmyard:
    """A farm with two machines and a guest, its image store and its lts.conf."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = add_image(folder / "images")
        self.lts_conf = folder / "lts.conf"
        grub = folder / "state/boot/grub/x86_64-efi"
        grub.mkdir(parents=True)
        (grub / "core.efi").write_bytes(b"MZ core")
        own = folder / "state/boot/grub/own/10.0.0.1:8080/x86_64-efi"
        own.mkdir(parents=True)
        (own / "core.efi").write_bytes(b"MZ core of 10.0.0.1:8080")
        self.askers = {
            M1: Asker(FIRST, "m1"),
            M2: Asker("", "m2"),
            GUEST_IP: Asker(GUEST, "node-guest"),
            LOST_IP: Asker("52:54:00:00:00:77", "node-lost"),
        }
        self.events: list[Event] = []
        self.tree = self.serve()

    def serve(self, **more: Any) -> Tree:
        farm: dict[str, Any] = {
            "server": {"state": self.folder / "state", "http_port": 8080},
            "dhcp": {
                "subnets": [
                    {"subnet": "10.0.0.0/25"},
                    {"subnet": "10.0.0.192/28", "unknown": "guests"},
                    {"subnet": "10.0.0.208/28"},
                ]
            },
            "images": {"node": {"path": self.folder / "images/node"}},
            "clusters": {"prod": {"lts_conf": self.lts_conf}},
            "pools": [
                {
                    "name": "workers",
                    "image": "node",
                    "cluster": "prod",
                    "nodes": [
                        {"name": "m1", "macs": [FIRST, SECOND], "ip": str(M1)},
                        {"name": "m2", "macs": [OTHER], "ip": str(M2)},
                    ],
                },
                {"name": "guests", "image": "node"},
            ],
            "tags": {"all": {"lts": {"A": "of-tags", "B": "of-tags"}}},
        }
        return Tree(
            Farm.model_validate(farm | more),
            who=self.askers.get,
            server_for=lambda _: IPv4Address("10.0.0.1"),
            now=lambda: NOW,
            node=dict.fromkeys(NODE_FILES, b"script"),
            report=self.events.append,
        )

    def failures(self) -> list[tuple[str | IPv4Address, str]]:
        """Return who failed and why, and forget it."""
        assert all(event.stage is Stage.FAILED for event in self.events)
        failed = [(event.peer, event.detail) for event in self.events]
        self.events.clear()
        return failed

    def content(self, name: str, peer: IPv4Address = M1, tree: Tree | None = None) -> Content | None:
        return asyncio.run(_look((tree or self.tree), name, peer))

    def read(self, name: str, peer: IPv4Address = M1, tree: Tree | None = None) -> bytes | None:
        found = self.content(name, peer, tree)
        if found is None:
            return None
        try:
            return found.pread(found.size_bytes + 1, 0)
        finally:
            found.close()

    def cpio_name(self, mac: str = FIRST, image_id: str | None = None) -> str:
        return f"images/{image_id or self.image.image_id}/01-{mac.replace(':', '-')}/node.cpio"

    def lts(self, peer: IPv4Address = M1, tree: Tree | None = None) -> dict[str, str]:
        text = (self.read("lts.conf", peer, tree) or b"").decode()
        pairs = (line.split(" = ") for line in text.splitlines() if " = " in line)
        return {key: value.strip('"') for key, value in pairs}


async def _look(tree: Tree, name: str, peer: IPv4Address) -> Content | None:
    return await tree.lookup(name, peer)


@pytest.fixture
def farm(tmp_path: Path) -> Farmyard:
    return Farmyard(tmp_path)


def menu(mac: str) -> str:
    return f"grub/grub.cfg-01-{mac.replace(':', '-')}"


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("grub/i386-pc/core.0", Stage.LOADER),
        ("grub/x86_64-efi/core.efi", Stage.LOADER),
        ("grub/grub.cfg", Stage.MENU),
        ("grub.cfg-01-52-54-00-00-00-01", Stage.MENU),
        ("images/x/vmlinuz", Stage.KERNEL),
        ("node.cpio", Stage.INITRD),
        ("images/x/initrd.img", Stage.INITRD),
        ("images/x/root.squashfs", Stage.FETCH),
        ("images/x/SHA256SUMS", None),
        ("lts.conf", None),
        ("grub/x86_64-efi/normal.mod", None),
        ("", None),
    ],
)
def test_a_name_is_a_stage_or_not_worth_telling(name: str, stage: Stage | None) -> None:
    assert stage_of(name) is stage


def test_a_machine_is_given_its_menu_by_the_name_of_its_card(farm: Farmyard) -> None:
    text = (farm.read(menu(FIRST)) or b"").decode()
    assert f"$from/{farm.cpio_name(FIRST)}" in text
    assert "pxeboot.server=http://10.0.0.1:8080" in text
    assert farm.read("grub/grub.cfg") == farm.read("grub/grub.cfg-01-52-54-00-00-00-01")
    other = (farm.read(menu(SECOND)) or b"").decode()
    assert f"/{farm.cpio_name(SECOND)}" in other
    assert "BOOTIF=01-52-54-00-00-00-02" in other


@pytest.mark.parametrize(
    "name",
    [
        menu(OTHER),
        menu(GUEST),
        "grub/grub.cfg-0A00000A",
        "grub/grub.cfg-0",
        "grub/grub.cfg-01-",
        "grub/grub.cfg-01-52-54-00",
        'grub/grub.cfg-01-";reboot;"',
        "grub/grub.cfg.bak",
        "grub/grub.cfgs",
    ],
)
def test_another_menu_is_none(farm: Farmyard, name: str) -> None:
    assert farm.read(name) is None


def test_a_stranger_is_told_that_there_is_nothing_and_given_nothing_secret(farm: Farmyard) -> None:
    farm.lts_conf.write_text(f'RCFILE_07_JOIN_K8S = "{JOIN}"\n')
    for peer in (STRANGER, LOST_IP):
        assert b"has nothing to boot here" in (farm.read("grub/grub.cfg", peer) or b"")
        assert FIRST.encode() in (farm.read(menu(FIRST), peer) or b"")
        for mac in (FIRST, SECOND, OTHER, GUEST):
            assert farm.read(farm.cpio_name(mac), peer) is None
        assert farm.read("lts.conf", peer) is None
    assert farm.read('grub/grub.cfg-01-";reboot;"', STRANGER) is None


def test_a_stranger_may_have_what_is_no_secret(farm: Farmyard) -> None:
    image_id = farm.image.image_id
    assert farm.read("grub/x86_64-efi/core.efi", STRANGER) == b"MZ core of 10.0.0.1:8080"
    assert farm.read(f"images/{image_id}/vmlinuz", STRANGER) == noise("vmlinuz one", 3000)
    found = farm.content(f"images/{image_id}/root.squashfs", STRANGER)
    assert isinstance(found, OpenFile)
    assert (found.etag, found.immutable) == (farm.image.squashfs_sha256, True)
    found.close()


def test_grub_is_told_of_no_file_systems_to_fetch(farm: Farmyard) -> None:
    """A machine that is sent to its disk met, over HTTP, 33 modules of 2.5 s each before it came to the right one."""
    (farm.folder / "state/boot/grub/x86_64-efi/fs.lst").write_text("zfs\nxfs\n")
    assert farm.read("grub/x86_64-efi/fs.lst") == b""
    assert farm.read("grub/i386-pc/fs.lst") == b""


def test_a_machine_gets_the_archive_of_its_own_cards_alone(farm: Farmyard) -> None:
    for mac in (FIRST, SECOND):
        found = unpack(farm.read(farm.cpio_name(mac)) or b"")
        assert found["pxeboot/root/etc/hostname"].data == b"m1\n"
        network = found["pxeboot/root/etc/systemd/network/05-pxeboot.network"].data
        assert f"MACAddress={mac}\n".encode() in network
        assert found["pxeboot/modules/01-overlay.ko"].data == noise("overlay one", 500)
    for mac in (OTHER, GUEST):
        assert farm.read(farm.cpio_name(mac)) is None
    assert farm.read(f"images/{farm.image.image_id}/{FIRST}/node.cpio") is not None
    assert farm.read(f"images/{farm.image.image_id}//node.cpio") is None
    content = farm.content(farm.cpio_name())
    assert isinstance(content, Made)
    assert content.secret


def test_a_machine_whose_card_is_not_known_yet_is_the_one_of_its_address(farm: Farmyard) -> None:
    assert unpack(farm.read(farm.cpio_name(OTHER), M2) or b"")["pxeboot/root/etc/hostname"].data == b"m2\n"


def test_a_guest_is_named_by_whoever_knows_leases(farm: Farmyard) -> None:
    found = unpack(farm.read(farm.cpio_name(GUEST), GUEST_IP) or b"")
    assert found["pxeboot/root/etc/hostname"].data == b"node-guest\n"
    assert farm.lts(GUEST_IP) == {"A": "of-tags", "B": "of-tags"}


def test_lts_conf_wins_over_tags_and_a_section_over_default(farm: Farmyard) -> None:
    farm.lts_conf.write_text("[Default]\nB = file\nC = file\n[m1]\nC = mine\n")
    assert farm.lts(M1) == {"A": "of-tags", "B": "file", "C": "mine"}
    assert farm.lts(M2) == {"A": "of-tags", "B": "file", "C": "file"}
    farm.lts_conf.write_text("B = now\n")
    assert farm.lts(M1) == {"A": "of-tags", "B": "now"}


def test_the_clusters_lts_conf_wins_over_the_farms(farm: Farmyard) -> None:
    everybody = farm.folder / "all.conf"
    everybody.write_text("B = all\nC = all\n")
    farm.lts_conf.write_text("C = cluster\n")
    tree = farm.serve(lts_conf=everybody)
    assert farm.lts(M1, tree) == {"A": "of-tags", "B": "all", "C": "cluster"}
    assert farm.lts(GUEST_IP, tree) == {"A": "of-tags", "B": "all", "C": "all"}


@pytest.mark.parametrize("broken", [None, b'A = "b', b"\xff\xfe", b"[a]]\n"])
def test_a_machine_boots_without_an_lts_conf_that_cannot_be_read(
    farm: Farmyard, broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    if broken is not None:
        farm.lts_conf.write_bytes(broken)
    assert farm.lts() == {"A": "of-tags", "B": "of-tags"}
    assert f"m1 boots without {farm.lts_conf}" in caplog.text


@pytest.mark.parametrize(
    ("expires", "served"),
    [
        (None, True),
        ("2026-01-01T00:00:01Z", True),
        ("2026-01-01T00:00:00Z", False),
        ("2025-12-31T23:59:59Z", False),
        ("2026-01-01T01:00:00+02:00", False),
        ("2027-01-01T00:00:00", False),
        ("soon", False),
        ("", False),
    ],
)
def test_a_join_command_is_served_until_its_token_expires(
    farm: Farmyard, expires: str | None, served: bool, caplog: pytest.LogCaptureFixture
) -> None:
    text = f'RCFILE_07_JOIN_K8S = "{JOIN}"\nRCFILE_08 = other\n'
    farm.lts_conf.write_text(text + (f'JOIN_K8S_EXPIRES = "{expires}"\n' if expires is not None else ""))
    lts = farm.lts()
    assert lts.get("RCFILE_07_JOIN_K8S") == (JOIN if served else None)
    assert lts["RCFILE_08"] == "other"
    assert "JOIN_K8S_EXPIRES" not in lts
    cpio = farm.read(farm.cpio_name()) or b""
    assert (TOKEN.encode() in cpio) == served
    assert b"JOIN_K8S_EXPIRES" not in cpio
    assert ("m1 boots without its join command" in caplog.text) == (not served)
    assert TOKEN not in caplog.text


def test_an_expired_token_is_not_served_to_a_machine_of_no_cluster_either(farm: Farmyard) -> None:
    farm.lts_conf.write_text(f'RCFILE_07_JOIN_K8S = "{JOIN}"\nJOIN_K8S_EXPIRES = "2025-01-01T00:00:00Z"\n')
    tree = farm.serve(lts_conf=farm.lts_conf)
    assert farm.lts(GUEST_IP, tree) == {"A": "of-tags", "B": "of-tags"}


OTHER_JOIN = "kubeadm join 10.0.0.2:6443 --token 000000.0000000000000000"
GOOD, EXPIRED = 'JOIN_K8S_EXPIRES = "2999-01-01T00:00:00Z"\n', 'JOIN_K8S_EXPIRES = "2025-01-01T00:00:00Z"\n'


def two_clusters(farm: Farmyard, key: str = "RCFILE_07_JOIN_K8S") -> tuple[Tree, Path]:
    """Return a tree where the farm's lts.conf is that of another cluster, and that file."""
    other = farm.folder / "other.conf"
    clusters = {"prod": {"lts_conf": farm.lts_conf}, "other": {"lts_conf": other, "join_key": key}}
    return farm.serve(lts_conf=other, clusters=clusters), other


@pytest.mark.parametrize("key", ["RCFILE_07_JOIN_K8S", "RCFILE_09_OTHER"])
def test_a_machine_is_never_given_the_join_command_of_another_cluster(farm: Farmyard, key: str) -> None:
    tree, other = two_clusters(farm, key)
    other.write_text(f'{key} = "{OTHER_JOIN}"\nC = all\n{GOOD}')
    assert farm.lts(M1, tree) == {"A": "of-tags", "B": "of-tags", "C": "all"}, "it has no file of its own yet"
    farm.lts_conf.write_text("C = own\n")
    assert farm.lts(M1, tree) == {"A": "of-tags", "B": "of-tags", "C": "own"}
    farm.lts_conf.write_text(f'RCFILE_07_JOIN_K8S = "{JOIN}"\n{EXPIRED}')
    assert farm.lts(M1, tree) == {"A": "of-tags", "B": "of-tags", "C": "all"}
    farm.lts_conf.write_text(f'RCFILE_07_JOIN_K8S = "{JOIN}"\n{GOOD}')
    joined = {"A": "of-tags", "B": "of-tags", "C": "all", "RCFILE_07_JOIN_K8S": JOIN}
    assert farm.lts(M1, tree) == joined
    other.write_text(f'{key} = "{OTHER_JOIN}"\nC = all\n{EXPIRED}')
    assert farm.lts(M1, tree) == joined, "another file's expiry is none of ours"


@pytest.mark.parametrize("key", ["RCFILE_07_JOIN_K8S", "RCFILE_09_OTHER"])
def test_clusters_that_share_a_file_do_not_share_a_join_command(farm: Farmyard, key: str) -> None:
    ours = {"lts_conf": farm.lts_conf, "section": "m?"}
    tree = farm.serve(clusters={"prod": ours, "other": {"lts_conf": farm.lts_conf, "join_key": key}})
    others = f'[Default]\n{key} = "{OTHER_JOIN}"\nC = all\n{GOOD}'
    farm.lts_conf.write_text(others)
    assert farm.lts(M1, tree) == {"A": "of-tags", "B": "of-tags", "C": "all"}
    farm.lts_conf.write_text(f'{others}[m?]\nRCFILE_07_JOIN_K8S = "{JOIN}"\n{GOOD}')
    assert farm.lts(M1, tree) == {"A": "of-tags", "B": "of-tags", "C": "all", "RCFILE_07_JOIN_K8S": JOIN}


def test_an_expiry_vouches_for_its_own_file_alone(farm: Farmyard) -> None:
    tree, other = two_clusters(farm)
    other.write_text(f'RCFILE_07_JOIN_K8S = "{OTHER_JOIN}"\n{EXPIRED}')
    farm.lts_conf.write_text(GOOD)
    assert "RCFILE_07_JOIN_K8S" not in farm.lts(M1, tree)
    other.write_text(GOOD)
    farm.lts_conf.write_text(f'RCFILE_07_JOIN_K8S = "{JOIN}"\n{EXPIRED}')
    assert "RCFILE_07_JOIN_K8S" not in farm.lts(M1, tree)


def test_the_farms_lts_conf_may_be_the_clusters_own(farm: Farmyard) -> None:
    tree = farm.serve(lts_conf=farm.lts_conf)
    farm.lts_conf.write_text(f'RCFILE_07_JOIN_K8S = "{JOIN}"\n{GOOD}')
    for peer in (M1, GUEST_IP):
        assert farm.lts(peer, tree)["RCFILE_07_JOIN_K8S"] == JOIN


def test_what_goes_wrong_for_a_machine_is_logged_once_however_often_it_asks(
    farm: Farmyard, caplog: pytest.LogCaptureFixture
) -> None:
    (farm.folder / "images/node").unlink()
    for _ in range(3):
        farm.lts()
        farm.read("grub/grub.cfg")
    farm.lts_conf.write_text(f'RCFILE_07_JOIN_K8S = "{JOIN}"\n{EXPIRED}')
    for _ in range(3):
        farm.lts()
    starts = [record.getMessage().split(":")[0] for record in caplog.records]
    assert len(starts) == len(set(starts)) == 3, starts
    farm.lts(M2)
    assert "m2 boots without its join command" in caplog.text


def test_a_machine_asks_again_for_a_join_command_that_was_not_valid_yet(farm: Farmyard) -> None:
    name = "lts/RCFILE_07_JOIN_K8S"
    farm.lts_conf.write_text(f'RCFILE_07_JOIN_K8S = "{JOIN}"\nJOIN_K8S_EXPIRES = "2025-01-01T00:00:00Z"\n')
    assert farm.read(name) is None
    farm.lts_conf.write_text(f'RCFILE_07_JOIN_K8S = "{JOIN}"\nJOIN_K8S_EXPIRES = "2999-01-01T00:00:00Z"\n')
    assert farm.read(name) == JOIN.encode()
    assert farm.read(name, IPv4Address("10.77.0.99")) is None, "it is no stranger's"
    assert farm.read("lts/NONE") is None


def test_an_archive_fits_the_image_in_its_path_though_the_name_was_switched(farm: Farmyard) -> None:
    old = farm.image
    new = add_image(farm.folder / "images", "node", "two")
    assert new.image_id != old.image_id
    assert f"/{new.image_id}/" in (farm.read("grub/grub.cfg") or b"").decode()
    for image, marker in ((old, "one"), (new, "two")):
        found = unpack(farm.read(farm.cpio_name(image_id=image.image_id)) or b"")
        assert found["pxeboot/modules/00-squashfs.ko"].data == noise(f"squashfs {marker}", 500)
        assert image.squashfs_sha256 in found["pxeboot/env"].data.decode()
        assert farm.read(f"images/{image.image_id}/vmlinuz") == noise(f"vmlinuz {marker}", 3000)


def test_a_machine_whose_image_is_missing_is_told_so(farm: Farmyard, caplog: pytest.LogCaptureFixture) -> None:
    (farm.folder / "images/node").unlink()
    assert b"the image of m1 is not there yet" in (farm.read("grub/grub.cfg") or b"")
    assert "m1 will not boot" in caplog.text
    shutil.rmtree(farm.image.folder)
    assert farm.read(farm.cpio_name()) is None
    assert farm.read(f"images/{farm.image.image_id}/vmlinuz") is None


def test_what_fails_on_our_side_is_told_of_the_machine(farm: Farmyard, caplog: pytest.LogCaptureFixture) -> None:
    cpio = farm.cpio_name()
    assert farm.read(cpio) is not None
    assert farm.read("grub/grub.cfg") is not None
    assert farm.read(farm.cpio_name(OTHER)) is None
    assert farm.failures() == []
    assert farm.read("grub/grub.cfg", LOST_IP) is not None
    assert farm.failures() == [(LOST_IP, "nothing to boot: neither a pool nor `unknown` of its subnet lists it")]

    tree = farm.serve(node={"files": {"/etc/x": {"from": str(farm.folder / "none")}}})
    for _ in range(2):
        assert farm.read(cpio, tree=tree) is None
        [(peer, reason)] = farm.failures()
        assert peer == M1
        assert re.fullmatch(r"its node.cpio cannot be made: .*No such file.*/none'", reason)
    assert caplog.text.count("m1 will not boot: its node.cpio cannot be made") == 1
    assert caplog.text.count("Traceback") == 1

    (farm.folder / "images/node").unlink()
    shutil.rmtree(farm.image.folder)
    for name, reason in (
        ("grub/grub.cfg", "no image here"),
        (cpio, "is not here"),
        (f"images/{farm.image.image_id}/vmlinuz", "vmlinuz of image"),
    ):
        farm.read(name)
        [(peer, said)] = farm.failures()
        assert peer == M1
        assert reason in said
    assert farm.read(f"images/{farm.image.image_id}/vmlinuz", STRANGER) is None
    assert farm.failures() == []


def test_an_image_that_lies_in_no_store_is_served_by_its_digest(farm: Farmyard, tmp_path: Path) -> None:
    shutil.copytree(farm.image.folder, tmp_path / "copied")
    tree = farm.serve(images={"node": {"path": tmp_path / "copied"}})
    shutil.rmtree(tmp_path / "images")
    assert farm.read(f"images/{farm.image.image_id}/vmlinuz", tree=tree) == noise("vmlinuz one", 3000)


CLIMBING = [
    "../secret", "grub/../secret", "grub/../../secret", "images/../secret", "images/..",
    "grub/x86_64-efi/../../../secret", "images/{id}/../../node/vmlinuz", "images/{id}/modules/00-squashfs.ko",
    "images/{id}/.", "images/other/vmlinuz", "images/{ID}/vmlinuz", "images/{id}/secret", "images/{id}/link",
    "grub/link", "/etc/shadow", "etc/shadow", "", "grub", "grub/", "images", "images/", "node.cpio",
    "images/{id}/node.cpio", "lts.conf/", "./lts.conf", "images/{id}/01-52-54-00-00-00-01/../vmlinuz",
    "images//vmlinuz", "images/{id}/vmlinuz\0", "leases", "grub/\udc80",
]  # fmt: skip


@pytest.mark.parametrize("name", CLIMBING)
def test_a_name_never_leaves_the_tree(farm: Farmyard, name: str) -> None:
    secret = farm.folder / "secret"
    secret.write_text("secret")
    (farm.folder / "state/boot/secret").write_text("secret")
    (farm.folder / "state/boot/grub/link").symlink_to(secret)
    (farm.image.folder / "secret").write_text("secret")
    image_id = farm.image.image_id
    assert farm.read(name.replace("{id}", image_id).replace("{ID}", image_id.upper())) is None


def test_a_file_of_an_image_that_became_a_link_is_not_followed(farm: Farmyard) -> None:
    kernel = farm.image.folder / store.KERNEL
    kernel.rename(farm.folder / "elsewhere")
    kernel.symlink_to(farm.folder / "elsewhere")
    assert farm.read(f"images/{farm.image.image_id}/vmlinuz") is None


@given(name=st.lists(st.sampled_from(["grub", "images", "..", ".", "", "boot", "secret", "a.lst"])).map("/".join))
def test_no_mix_of_parts_leads_out(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    farm = _shared(tmp_path_factory)
    assert farm.read(name) in (None, b"")


_made: list[Farmyard] = []


def _shared(factory: pytest.TempPathFactory) -> Farmyard:
    if not _made:
        _made.append(Farmyard(factory.mktemp("farm")))
        (_made[0].folder / "state/secret").write_text("secret")
        (_made[0].folder / "state/boot/secret").write_text("secret")
    return _made[0]


def test_a_missing_list_is_empty_and_a_missing_module_is_none(farm: Farmyard) -> None:
    assert farm.read("grub/x86_64-efi/crypto.lst") == b""
    assert farm.read("grub/x86_64-efi/crypto.mod") is None


def test_the_same_name_gives_the_same_bytes_and_validator(farm: Farmyard) -> None:
    farm.lts_conf.write_text("C = d\n")
    for name in ("grub/grub.cfg", "lts.conf", farm.cpio_name(), f"images/{farm.image.image_id}/SHA256SUMS"):
        one, two = farm.content(name), farm.content(name)
        assert one is not None
        assert two is not None
        assert one.pread(1 << 20, 0) == two.pread(1 << 20, 0)
        assert one.etag == two.etag
        one.close()
        two.close()


class Closable:
    """A content that counts how often it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("late", [True, False])
def test_what_a_thread_finds_for_somebody_who_has_left_is_closed(late: bool) -> None:
    found = Closable()

    async def leave() -> None:
        work: Future[Closable] = Future()
        work.set_running_or_notify_cancel()
        waiting = asyncio.create_task(handed_over(work))
        await asyncio.sleep(0)
        if not late:
            work.set_result(found)  # found, but not yet taken
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if late:
            work.set_result(found)

    asyncio.run(leave())
    assert found.closed == 1


@pytest.mark.parametrize("found", [None, OSError("a broken disk")])
def test_nothing_is_closed_where_nothing_was_found(found: OSError | None) -> None:
    async def leave() -> None:
        work: Future[Closable | None] = Future()
        work.set_running_or_notify_cancel()
        waiting = asyncio.create_task(handed_over(work))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if found is None:
            work.set_result(None)
        else:
            work.set_exception(found)

    asyncio.run(leave())


def test_what_is_found_is_closed_by_whoever_waited() -> None:
    async def stay() -> Closable:
        work: Future[Closable] = Future()
        work.set_result(Closable())
        return await handed_over(work)

    assert asyncio.run(stay()).closed == 0


def test_a_slow_disk_and_a_peer_that_leaves_cost_no_descriptor(farm: Farmyard) -> None:
    path = farm.image.folder / store.SUMS
    listing = path.read_bytes()
    path.unlink()
    os.mkfifo(path)  # whoever reads it waits, as for a slow disk

    async def leave() -> None:
        name = f"images/{farm.image.image_id}/vmlinuz"
        waiting = asyncio.create_task(_look(farm.tree, name, M1))
        for _ in range(5):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(leave())
    with path.open("wb") as fifo:  # waits for the reader
        fifo.write(listing)
    deadline = time.monotonic() + 5
    while (left := open_below(farm.folder)) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert left == []


def open_below(folder: Path) -> list[str]:
    """Return what this process has open below `folder`."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [path for path in found if path.startswith(str(folder))]


def test_images_whose_disk_hangs_stop_only_the_machines_that_boot_them(farm: Farmyard) -> None:
    """F-17: as the disk that hangs, a listing that nobody writes; GUEST boots an image of another store."""
    other = add_image(farm.folder / "elsewhere", name="other")
    tree = farm.serve(
        images={"node": {"path": farm.folder / "images/node"}, "other": {"path": farm.folder / "elsewhere/other"}},
        pools=[
            {"name": "workers", "image": "node", "nodes": [{"name": "m1", "macs": [FIRST], "ip": str(M1)}]},
            {"name": "guests", "image": "other"},
        ],
    )
    path = farm.image.folder / store.SUMS
    listing = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    needs_no_image = ["grub/x86_64-efi/core.efi", "lts.conf", "you"]

    async def boot() -> None:
        hung = [asyncio.create_task(_look(tree, name, M1)) for name in (menu(FIRST), "images/node/vmlinuz") * 20]
        try:
            for peer, names in ((M1, needs_no_image), (GUEST_IP, [*needs_no_image, menu(GUEST)])):
                for name in names:
                    assert await asyncio.wait_for(_look(tree, name, peer), 10) is not None, name
            for _ in range(2):
                found = await asyncio.wait_for(_look(tree, f"images/{other.image_id}/vmlinuz", GUEST_IP), 10)
                assert found is not None, "its menu has shown where that is"
                found.close()
                tree.swap(tree.house.farm)
            assert not any(each.done() for each in hung)
        finally:
            for each in hung:
                each.cancel()
            await asyncio.gather(*hung, return_exceptions=True)

    try:
        asyncio.run(boot())
    finally:
        path.rename(path.with_name("fifo"))
        path.write_bytes(listing)
        os.close(os.open(path.with_name("fifo"), os.O_RDWR | os.O_NONBLOCK))
