"""What is noted before a machine is told what to boot."""

import asyncio
import threading
from concurrent.futures import Future
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from config.content import Content
from pxeboot.bootfiles import tree as tree_module
from pxeboot.bootfiles.machine import Machine
from pxeboot.bootfiles.tree import Tree
from pxeboot.exports.boots import Boots
from pxeboot.exports.pin_store import PinStore
from pxeboot.image.store import StoredImage
from pxeboot.intents import Boot, Intent
from tests.support.fake_image import add_image
from tests.unit.test_bootfiles_tree import FIRST, M1, STRANGER, Farmyard, menu

NODES = [{"name": "m1", "macs": [FIRST], "ip": str(M1)}]


class Noted:
    """Takes note of boots; each future is done when the test says so."""

    def __init__(self) -> None:
        self.boots: list[tuple[str, str | None]] = []
        self.kept: Future[None] = Future()
        self.error: OSError | None = None
        self.came = threading.Event()

    def begins(self, machine: Machine, image: StoredImage | None) -> "Future[None]":
        self.boots.append((machine.name, None if image is None else image.image_id))
        self.came.set()
        if self.error is not None:
            raise self.error
        return self.kept


@pytest.fixture
def farm(tmp_path: Path) -> Farmyard:
    return Farmyard(tmp_path)


@pytest.fixture
def noted() -> Noted:
    return Noted()


def tree(farm: Farmyard, noted: Noted, boot: Boot = Boot.NETBOOT, **pool: Any) -> Tree:
    pools = [{"name": "workers", "image": "node", "nodes": NODES, **pool}]
    made = farm.serve(pools=pools, clusters={})
    return Tree(made.house.farm, who=farm.askers.get, server_for=lambda _: M1, node={}, report=farm.events.append,
                begins=noted.begins, intent=lambda _: Intent(boot))  # fmt: skip


def text(content: Content | None) -> str:
    assert content is not None
    return content.pread(1 << 20, 0).decode()


def test_a_machine_is_told_nothing_before_it_is_kept_what_it_boots(farm: Farmyard, noted: Noted) -> None:
    served = tree(farm, noted, root="nbd")

    async def ask() -> None:
        asking = asyncio.create_task(served.lookup(menu(FIRST), M1))
        await asyncio.to_thread(noted.came.wait, 10)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asking.done()
        noted.kept.set_result(None)
        assert f"images/{farm.image.image_id}/vmlinuz" in text(await asking)

    asyncio.run(ask())
    assert noted.boots == [("m1", farm.image.image_id)]


def test_each_menu_is_a_new_boot_and_other_files_are_not(farm: Farmyard, noted: Noted) -> None:
    noted.kept.set_result(None)
    served = tree(farm, noted, root="nbd")
    farm.content(menu(FIRST), tree=served)
    other = add_image(farm.folder / "images", "node", "two")
    farm.content("lts.conf", tree=served)
    farm.content("grub/x86_64-efi/fs.lst", tree=served)
    farm.content(menu(FIRST), STRANGER, tree=served)
    farm.content("grub/grub.cfg", tree=served)
    assert noted.boots == [("m1", farm.image.image_id), ("m1", other.image_id)]


@pytest.mark.parametrize("late", [True, False])
def test_a_machine_whose_boot_cannot_be_kept_is_told_to_ask_again(farm: Farmyard, noted: Noted, late: bool) -> None:
    noted.error = None if late else OSError(28, "No space left on device")
    noted.kept.set_exception(OSError(28, "No space left on device"))
    told = text(farm.content(menu(FIRST), tree=tree(farm, noted, root="nbd")))
    assert "vmlinuz" not in told
    assert "asks again in 20 seconds" in told
    assert farm.failures() == [(M1, "what it boots cannot be kept: No space left on device")]


def test_a_machine_does_not_wait_for_ever_for_a_disk_that_hangs(
    farm: Farmyard, noted: Noted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tree_module, "KEPT_S", 0.01)
    noted.kept.set_running_or_notify_cancel()
    served = tree(farm, noted, root="nbd")
    for _ in range(3):
        assert "asks again in 20 seconds" in text(farm.content(menu(FIRST), tree=served))
        assert farm.failures() == [(M1, "what it boots cannot be kept: the disk did not answer within 0 s")]
    assert len(caplog.messages) == 1, "farms ask again and again"


@pytest.mark.parametrize("boot", [Boot.LOCAL, Boot.REFUSE])
def test_a_machine_that_goes_elsewhere_boots_nothing_of_ours(farm: Farmyard, noted: Noted, boot: Boot) -> None:
    noted.kept.set_exception(OSError(28, "No space left on device"))
    text(farm.content(menu(FIRST), tree=tree(farm, noted, boot)))
    assert noted.boots == [("m1", None)]


def test_a_machine_that_is_to_write_to_an_image_without_a_disk_is_told_so(farm: Farmyard, noted: Noted) -> None:
    served = tree(farm, noted, root="nbd", writable={})
    told = text(farm.content(menu(FIRST), tree=served))
    assert "m1 is to write to its root, and its image node has none for that (root.ext4)" in told
    assert noted.boots == [("m1", None)]
    assert farm.failures() == [(M1, "its root is to be writable, and the image node has no root.ext4")]


def test_an_image_that_is_removed_while_its_boot_is_noted_boots_nobody(farm: Farmyard, noted: Noted) -> None:
    noted.kept.set_result(None)

    class Removing(Noted):
        def begins(self, machine: Machine, image: StoredImage | None) -> "Future[None]":
            assert image is not None
            image.folder.rename(image.folder.with_name(".aside"))
            return noted.begins(machine, image)

    told = text(farm.content(menu(FIRST), tree=tree(farm, Removing(), root="nbd")))
    assert "is not there yet" in told


def test_a_farm_that_boots_at_once_waits_for_a_few_writes(farm: Farmyard, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = 300
    go, written, asked = threading.Event(), [], threading.Semaphore(0)

    def slow(path: Path, data: bytes, _: int) -> None:
        go.wait(20)
        written.append(len(data.splitlines()) - 1)

    class Counted(Boots):
        def begins(self, machine: Machine, image: StoredImage | None) -> "Future[None]":
            try:
                return super().begins(machine, image)
            finally:
                asked.release()

    class NoDisks:
        def booting(self, machine: str) -> None:
            """There is none."""

    monkeypatch.setattr("pxeboot.written.replace_file", slow)
    boots = Counted(PinStore(farm.folder / "pins"), NoDisks())
    addresses = [IPv4Address("10.1.0.1") + n for n in range(machines)]
    nodes = [{"name": f"n{n}", "macs": [mac_of(n)], "ip": str(ip)} for n, ip in enumerate(addresses)]
    made = farm.serve(pools=[{"name": "all", "image": "node", "root": "nbd", "nodes": nodes}], clusters={})
    served = Tree(made.house.farm, who=lambda _: None, server_for=lambda _: M1, node={}, begins=boots.begins)

    async def boot() -> None:
        waiting = [asyncio.create_task(served.lookup(menu(mac_of(n)), ip)) for n, ip in enumerate(addresses)]

        def all_asked() -> None:
            for _ in range(machines):
                assert asked.acquire(timeout=20)

        await asyncio.to_thread(all_asked)
        go.set()
        for found in await asyncio.gather(*waiting):
            assert "vmlinuz" in text(found)

    asyncio.run(boot())
    assert len(written) <= 2
    assert written[-1] == machines


def mac_of(number: int) -> str:
    return f"52:54:00:01:{number >> 8:02x}:{number & 255:02x}"
