"""A machine that is told to boot another image than its pool's, and what people are shown of its files."""

import asyncio
import shlex
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.content import Made
from config.events import Event, Stage
from config.model import Farm
from pxeboot.bootfiles.machine import Machine
from pxeboot.bootfiles.masked import mask, mask_lts
from pxeboot.bootfiles.preview import ONCE_FOLDER, Preview
from pxeboot.bootfiles.scripts import NODE_FILES
from pxeboot.bootfiles.tree import Asker, Tree
from pxeboot.image import store
from pxeboot.images_chosen import Refused, allowed, resolved, versions
from pxeboot.intents import Boot, Intent, Origin
from pxeboot.written import done
from tests.support.fake_image import add_image

MAC = "52:54:00:00:00:01"
M1 = IPv4Address("10.0.0.10")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "abcdef.0123456789abcdef"
JOIN = f"kubeadm join 10.0.0.1:6443 --token {TOKEN} --discovery-token-ca-cert-hash sha256:{'0' * 64}"
HASH = "$6$rounds=5000$saltsaltsalt$" + "Zx9" * 28
FOLDER = "0123456789abcdef0123456789abcdef"
SECRETS = [TOKEN, HASH, FOLDER, "geheimes-wort"]


class Yard:
    """A farm with two images, one of them in two versions, and what its tree was told to note."""

    def __init__(self, folder: Path, **pool: Any) -> None:
        self.folder = folder
        self.old = add_image(folder / "images", name="other", marker="old")
        self.new = add_image(folder / "images", name="other", marker="new")
        self.own = add_image(folder / "images", name="node", marker="own")
        self.intent = Intent(Boot.NETBOOT)
        self.noted: list[tuple[str, str]] = []
        self.events: list[Event] = []
        cluster = {"lts_conf": folder / "lts.conf"} | pool.pop("cluster", {})
        (folder / "lts.conf").write_text(f'[Default]\nRCFILE_07_JOIN_K8S = "{JOIN}"\nSTEP = "echo {TOKEN}"\n')
        node = {"name": "m1", "macs": [MAC], "ip": str(M1)}
        self.farm = Farm.model_validate({
            "server": {"state": folder / "state", "http_port": 8080},
            "dhcp": {"subnets": [{"subnet": "10.0.0.0/24"}]},
            "images": {name: {"path": folder / "images" / name} for name in ("node", "other")},
            "clusters": {"prod": cluster},
            "pools": [{"name": "workers", "image": "node", "cluster": "prod", "nodes": [node]} | pool],
            "tags": {"all": {"lts": {"WIFI_PSK": "geheimes-wort", "ADMIN": f"root/{HASH}", "TZ": "UTC"},
                             "kernel_parameters": ["quiet", "vault.token=geheimes-wort"]}},
            "node": {"root_password_hash": HASH},
        })  # fmt: skip
        self.tree = Tree(
            self.farm,
            who={M1: Asker(MAC, "m1")}.get,
            server_for=lambda _: IPv4Address("10.0.0.1"),
            now=lambda: NOW,
            node=dict.fromkeys(NODE_FILES, b"script"),
            report=self.events.append,
            intent=lambda _: self.intent,
            begins=self.begins,
            joins=self.joins,
        )

    def begins(self, machine: Machine, image: store.StoredImage | None) -> "Future[None]":
        self.noted.append((machine.pool.image, image.image_id if image is not None else ""))
        return done()

    def joins(self, _: Machine, boots: bool) -> "tuple[str, Future[None]]":
        self.noted.append(("join", str(boots)))
        return (FOLDER if self.farm.clusters["prod"].per_boot and boots else ""), done()

    def menu(self) -> str:
        async def look() -> str:
            found = await self.tree.lookup(f"grub/grub.cfg-01-{MAC.replace(':', '-')}", M1)
            await asyncio.sleep(0)  # what was told from a thread
            assert isinstance(found, Made)
            return found.pread(found.size_bytes, 0).decode()

        return asyncio.run(look())

    def preview(self) -> Preview:
        machine = self.tree.house.machine(MAC, M1, "m1")
        assert machine is not None
        return self.tree.preview(machine)


def said(image: str, *, once: bool = False, boot: Boot = Boot.NETBOOT) -> Intent:
    return Intent(boot, Origin.PAGE, 5.0, "anna", image, once)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


# Which image


def test_a_machine_boots_the_image_that_was_chosen_and_it_is_noted_so(yard: Yard) -> None:
    assert f"images/{yard.own.image_id}/" in yard.menu()
    yard.intent = said("other")
    assert f"images/{yard.new.image_id}/" in yard.menu()
    assert yard.noted[-1] == ("other", yard.new.image_id)


def test_a_machine_boots_the_very_version_that_was_chosen(yard: Yard) -> None:
    yard.intent = said(f"other@{yard.old.image_id}")
    text = yard.menu()
    assert f"pxeboot.image={yard.old.image_id}" in text
    assert yard.new.image_id not in text
    assert yard.noted[-1] == ("other", yard.old.image_id)


def test_an_image_for_one_boot_asks_leave_before_the_kernel_starts(yard: Yard) -> None:
    yard.intent = said("other")
    assert "intent/started" not in yard.menu()
    yard.intent = said("other", once=True)
    assert "intent/started" in yard.menu()


def test_an_image_that_is_gone_keeps_the_machine_from_booting_and_says_whose_word_it_was(yard: Yard) -> None:
    yard.intent = said(f"other@{yard.old.image_id}")
    shutil.rmtree(yard.old.folder)
    assert "is not there yet" in yard.menu()
    (event,) = yard.events
    assert event.stage is Stage.FAILED
    assert event.detail.startswith("it is to boot the image other@")
    assert "says anna (the web page): " in event.detail
    assert yard.preview().trouble == event.detail


def test_an_image_that_the_farm_dropped_keeps_the_machine_from_booting(yard: Yard) -> None:
    yard.intent = said("gone")
    assert "is not there yet" in yard.menu()
    assert "the farm has no image gone any more" in yard.events[0].detail


def test_a_disk_boot_needs_no_image(yard: Yard) -> None:
    yard.intent = said("gone", boot=Boot.LOCAL)
    assert "goes on with its own disk" in yard.menu()
    assert yard.preview().trouble == ""


# What may be chosen


def test_a_version_is_named_by_the_beginning_of_its_digest(yard: Yard) -> None:
    assert resolved(yard.farm, "other") == "other"
    assert resolved(yard.farm, f"other@{yard.old.image_id[:8]}") == f"other@{yard.old.image_id}"
    assert yard.old.image_id in versions(yard.farm, "other")


@pytest.mark.parametrize(
    ("wanted", "status", "why"),
    [
        ("../x", 400, "names no image"),
        ("gone", 404, "it has node, other"),
        ("other@ffffffff", 404, "no version in the store of image other"),
    ],
)
def test_what_is_no_image_is_refused(yard: Yard, wanted: str, status: int, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        resolved(yard.farm, wanted)
    assert refused.value.status == status


def test_a_machine_that_keeps_its_disk_is_given_no_other_image(tmp_path: Path) -> None:
    yard = Yard(tmp_path, root="nbd", writable={"keep": "always"})
    with pytest.raises(Refused, match="would cost it"):
        allowed(yard.farm, ["nobody", "m1"], "other")
    allowed(yard.farm, ["nobody", "m1"], "node")


# What is shown


def minted(folder: Path) -> Yard:
    return Yard(folder, cluster={"tokens": "boot", "lts_conf": None})


@pytest.mark.parametrize("make", [Yard, minted], ids=["shared", "a-token-for-each-boot"])
@pytest.mark.parametrize("boot", list(Boot))
def test_to_look_at_a_machines_files_changes_nothing_and_shows_no_secret(
    tmp_path: Path, make: Callable[[Path], Yard], boot: Boot
) -> None:
    yard = make(tmp_path)
    yard.intent = said("other", once=True, boot=boot)
    before = sorted(tmp_path.rglob("*"))
    shown = yard.preview()
    assert yard.noted == []
    assert yard.events == []
    assert yard.intent == said("other", once=True, boot=boot)
    assert sorted(tmp_path.rglob("*")) == before
    text = shown.grub_cfg + repr(dict(shown.lts))
    assert not [secret for secret in SECRETS if secret in text]
    assert shown.lts["TZ"] == "UTC"
    if boot in (Boot.NETBOOT, Boot.ONCE):
        assert "vault.token=***" in shown.grub_cfg


@pytest.mark.parametrize("make", [Yard, minted], ids=["shared", "a-token-for-each-boot"])
def test_what_is_shown_is_what_the_machine_gets_but_for_what_is_secret(
    tmp_path: Path, make: Callable[[Path], Yard]
) -> None:
    yard = make(tmp_path)
    for intent in (
        Intent(Boot.NETBOOT),
        said("other", once=True),
        said("", boot=Boot.LOCAL),
        said("", boot=Boot.REFUSE),
    ):
        yard.intent = intent
        real = yard.menu().replace("geheimes-wort", "***").replace(FOLDER, ONCE_FOLDER)
        assert yard.preview().grub_cfg == real


def test_the_join_command_is_shown_to_be_there(yard: Yard) -> None:
    assert yard.preview().lts["RCFILE_07_JOIN_K8S"] == "*** (the join command)"
    assert yard.preview().lts["STEP"] == "echo ***"


@pytest.mark.parametrize(
    "text",
    [
        f"root:{HASH}:19000::", f"--token {TOKEN}", f"GET join/{FOLDER}", "password=geheimes-wort",
        "nfs -o user=x,password=geheimes-wort,ro", "Authorization=geheimes-wort", "rd.auth-token: geheimes-wort",
        "--password geheimes-wort --x",
        'PASSWORD="geheimes-wort"', "x:$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G31:1",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIgeheimes-wort\n-----END RSA PRIVATE KEY-----",
        "password=a,geheimes-wort", "password=a;geheimes-wort", 'password="a"geheimes-wort', 'psk="geheimes-wort',
        "secret_access_key=geheimes-wort", "PASSWORD_HASH=geheimes-wort", '{"password": "geheimes-wort"}',
        '{\\"token\\": \\"geheimes-wort\\"}', "Authorization: Bearer geheimes-wort", 'password=\\"geheimes-wort',
        "http://user:geheimes-wort@proxy:3128/", "http://user:a@geheimes-wort@proxy:3128/",
        "'rd.password=a b geheimes-wort' 'quiet'", "'password=a\ngeheimes-wort'",
    ],
)  # fmt: skip
def test_what_is_secret_is_masked(text: str) -> None:
    shown = mask(text)
    assert "***" in shown
    for secret in (*SECRETS, "X3DX6M94c7o"):
        assert secret not in shown


@pytest.mark.parametrize(
    "text",
    [
        f"images/{'ab' * 32}/vmlinuz", "boot=pxeboot panic=60", "console=ttyS0,115200n8", "m1.c29.prod.example",
        "tokens are rare", "sha256 is right", "ssh_authorized_keys: 2", "http://proxy:3128/a@b", "'quiet' 'root=pass'",
         "BOOTIF=01-52-54-00-00-00-0a", "if [ $a = $b ]; then", "linux-6.1.0",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert mask(text) == text


@given(st.text(max_size=300))
def test_masking_twice_is_masking_once(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_a_word_of_a_shell_or_of_grub_is_masked_to_its_end_and_no_further(secret: str) -> None:
    of_shell, of_grub = shlex.quote(secret), secret.replace("\\", "\\\\").replace("'", "'\\''")
    assert mask(f"a=b password={of_shell} c=d") == "a=b password=*** c=d"
    assert mask(f"linux 'a.token={of_grub}' 'c=d'; then") == "linux 'a.token=***' 'c=d'; then"


@pytest.mark.parametrize(
    "part",
    ["0pass", "-", "--a", "password", "_", "--token-", "pass ", "-----BEGIN ", "pass='", "'pass=", "\"'pass=", "://a:",
     "://a:b@", "@", "pass=\\", "pass=\"'", "'a"],
)  # fmt: skip
def test_a_search_for_secrets_ends_whatever_a_machine_wrote(part: str) -> None:
    """A report is 64 KiB of a machine's choice, and nothing else runs meanwhile. Squared, this takes hours."""
    assert "geheim" not in mask(part * (65_000 // len(part)) + " password=geheim")


def test_keys_that_name_a_secret_hide_their_value() -> None:
    values = {"PASSWORDS_LAB": "x/y", "WIFI_PSK": "x", "API_KEY": "x", "KEYBOARD": "us", "MONKEY": "x"}
    assert mask_lts(values, []) == {
        "PASSWORDS_LAB": "***", "WIFI_PSK": "***", "API_KEY": "***", "KEYBOARD": "us", "MONKEY": "x",
    }  # fmt: skip
