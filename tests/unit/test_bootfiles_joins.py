"""Menus, archives and lts.conf of machines that join with a command of their own."""

import asyncio
import re
from concurrent.futures import Future
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from config.content import Content
from config.events import Event, Stage
from config.model import Farm
from pxeboot.bootfiles.machine import Machine
from pxeboot.bootfiles.names import is_ours
from pxeboot.bootfiles.scripts import NODE_FILES
from pxeboot.bootfiles.tree import Asker, Tree
from pxeboot.intents import Boot, Intent
from pxeboot.written import done
from tests.support.cpio_reader import Unpacked, unpack
from tests.support.fake_image import add_image

M1, M2 = IPv4Address("10.0.0.10"), IPv4Address("10.0.0.11")
MACS = {M1: "52:54:00:00:00:01", M2: "52:54:00:00:00:02"}
SHARED = "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef"
FOLDER = "f" * 32


class Yard:
    """m1 joins with a command of its own, m2 with the one that all share; both write to one lts.conf."""

    def __init__(self, folder: Path) -> None:
        self.image = add_image(folder / "images")
        self.lts_conf = folder / "lts.conf"
        expires = 'JOIN_K8S_EXPIRES = "2999-01-01T00:00:00Z"'
        self.lts_conf.write_text(f'[Default]\nRCFILE_07_JOIN_K8S = "{SHARED}"\n{expires}\nRCFILE_03_A = "a"\n')
        self.files = folder / "files"
        for name in ("join", f"images/{self.image.image_id}/01-x/{FOLDER}"):
            (self.files / name).mkdir(parents=True)
        (self.files / f"join/{FOLDER}").write_text("a file of everybody")
        self.events: list[Event] = []
        self.begun: list[tuple[str, bool]] = []
        self.kept: Future[None] = done()
        self.boot = Boot.NETBOOT
        farm: dict[str, Any] = {
            "server": {"state": folder / "state", "files": self.files},
            "images": {"node": {"path": folder / "images/node"}},
            "lts_conf": self.lts_conf,
            "clusters": {"own": {}, "shared": {"lts_conf": self.lts_conf}},
            "pools": [
                {"name": cluster, "image": "node", "cluster": cluster,
                 "nodes": [{"name": name, "macs": [MACS[address]], "ip": str(address)}]}
                for name, cluster, address in (("m1", "own", M1), ("m2", "shared", M2))
            ],
            "tags": {"all": {"lts": {"RCFILE_10_B": "b", "RCFILE_07_JOIN_K8S": "of a tag"}}},
        }  # fmt: skip
        self.tree = Tree(
            Farm.model_validate(farm),
            who=lambda address: Asker(MACS[address], "m1" if address == M1 else "m2"),
            server_for=lambda _: IPv4Address("10.0.0.1"),
            node=dict.fromkeys(NODE_FILES, b"script"),
            report=self.events.append,
            intent=lambda _: Intent(self.boot),
            joins=self.joins,
        )

    def joins(self, machine: Machine, netboots: bool) -> "tuple[str, Future[None]]":
        self.begun.append((machine.name, netboots))
        return (FOLDER if machine.name == "m1" and netboots else ""), self.kept

    def content(self, name: str, peer: IPv4Address = M1) -> Content | None:
        async def look() -> Content | None:
            return await self.tree.lookup(name, peer)

        return asyncio.run(look())

    def read(self, name: str, peer: IPv4Address = M1) -> str | None:
        found = self.content(name, peer)
        return None if found is None else found.pread(found.size_bytes, 0).decode()

    def menu(self, peer: IPv4Address = M1) -> str:
        return self.read("grub/grub.cfg", peer) or ""

    def archive(self, join: str) -> dict[str, Unpacked]:
        async def make() -> bytes:
            machine = self.tree.machine_at(M1)
            assert machine is not None
            made = await self.tree.archive(self.image.image_id, machine, MACS[M1], join)
            assert made is not None
            assert made.secret
            return made.data

        return unpack(asyncio.run(make()))


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def test_its_menu_alone_names_the_folder_of_its_archive(yard: Yard) -> None:
    image = yard.image.image_id
    assert f"/images/{image}/01-52-54-00-00-00-01/{FOLDER}/node.cpio $from/images/" in yard.menu()
    assert f"/images/{image}/01-52-54-00-00-00-02/node.cpio $from/" in yard.menu(M2)
    assert yard.begun == [("m1", True), ("m2", True)]


def test_the_name_that_everybody_knows_is_good_for_others_alone(yard: Yard) -> None:
    def old(peer: IPv4Address) -> str:
        return f"images/{yard.image.image_id}/01-{MACS[peer].replace(':', '-')}/node.cpio"

    assert yard.content(old(M1)) is None
    assert yard.content(old(M2), M2) is not None


def test_no_file_for_everybody_stands_in_for_what_is_given_once(yard: Yard) -> None:
    for name in (f"join/{FOLDER}", "join/x/y", f"images/{yard.image.image_id}/01-x/{FOLDER}/node.cpio"):
        (yard.files / name).parent.mkdir(parents=True, exist_ok=True)
        (yard.files / name).write_text("a file of everybody")
        assert is_ours(name)
        assert yard.content(name) is None
    (yard.files / "joined").write_text("other")
    assert yard.read("joined") == "other"


def test_no_join_command_reaches_it_by_an_lts_conf_or_a_tag(yard: Yard) -> None:
    said = yard.read("lts.conf") or ""
    assert re.findall("^([A-Z0-9_]+) =", said, re.MULTILINE) == ["RCFILE_03_A", "RCFILE_10_B"]
    assert yard.content("lts/RCFILE_07_JOIN_K8S") is None
    assert yard.read("lts/RCFILE_07_JOIN_K8S", M2) == SHARED


def test_its_archive_says_where_and_when_it_fetches_its_command(yard: Yard) -> None:
    found = yard.archive("join/abc")
    env = found["pxeboot/env"]
    assert b"JOIN_KEY=RCFILE_07_JOIN_K8S\nJOIN_ONCE=join/abc\n" in env.data
    assert env.permissions == 0o600
    keys = {path.removeprefix("pxeboot/lts/"): entry.data for path, entry in found.items() if "pxeboot/lts/" in path}
    assert keys == {"0000.RCFILE_03_A": b"a", "0001.RCFILE_07_JOIN_K8S": b"", "0002.RCFILE_10_B": b"b"}
    assert b"JOIN" not in found["pxeboot/root/etc/lts.conf"].data
    assert not any(b"abcdef" in entry.data for entry in found.values())


def test_its_menu_does_not_leave_before_its_names_are_on_disk(yard: Yard) -> None:
    yard.kept = Future()
    yard.kept.set_exception(OSError(28, "No space left on device"))
    text = yard.menu()
    assert FOLDER not in text
    assert "cannot be kept" in text
    assert [(event.stage, event.detail) for event in yard.events] == [
        (Stage.FAILED, "what it boots cannot be kept: No space left on device")
    ]


@pytest.mark.parametrize("boot", [Boot.LOCAL, Boot.REFUSE])
def test_a_menu_that_boots_nothing_ends_the_boot_before(yard: Yard, boot: Boot) -> None:
    yard.boot = boot
    assert "node.cpio" not in yard.menu()
    assert yard.begun == [("m1", False)]


def test_so_does_one_without_an_image(yard: Yard) -> None:
    node = yard.image.folder.parent.parent / "node"
    node.unlink()
    assert "is not there yet" in yard.menu()
    assert yard.begun == [("m1", False)]
