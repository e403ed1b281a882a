"""Exports are found by every name that they have, and for whom they are."""

import asyncio
import dataclasses
import os
import shutil
import threading
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from config.content import OpenFile
from config.events import Event, Stage
from config.exports import Writable
from config.model import Farm
from nbd.exports import Asked, Export, FileExport, Refused
from nbd.overlay import Overlays
from pxeboot.bootfiles import lookups
from pxeboot.bootfiles.imagefiles import ImageFiles
from pxeboot.exports.catalogue import Catalogue
from pxeboot.exports.pin_store import PinStore
from pxeboot.exports.pins import Pin
from pxeboot.image.store import StoredImage
from tests.support.fake_image import add_image, noise

M1, M2, STRANGER = (IPv4Address(f"10.0.0.{n}") for n in (1, 2, 3))
DISK = 64 << 10


class Shop:
    """A catalogue over a store with the images `node` (a version of before, and one of now) and `db`."""

    def __init__(self, folder: Path, **nbd: Any) -> None:
        self.folder = folder
        self.before = add_image(folder / "images", marker="one", disk_bytes=DISK)
        self.now = add_image(folder / "images", marker="two", disk_bytes=DISK)
        self.db = add_image(folder / "images", "db", "three")
        self.pins = PinStore(folder / "pins")
        self.events: list[Event] = []
        paths = {name: {"path": folder / "images" / name} for name in ("node", "db")}
        self.farm = Farm.model_validate({"images": paths, "nbd": nbd})
        self.catalogue = Catalogue(
            self.farm,
            who={M1: "m1", M2: "m2"}.get,
            pins=self.pins,
            disks=Overlays(folder / "overlays"),
            report=self.events.append,
            clock=lambda: 9.0,
        )

    def pin(self, image: StoredImage, name: str = "node", writable: Writable | None = None) -> None:
        """Let m1 have booted `image`."""
        self.pins.put(Pin("m1", name, image.image_id, M1, 5.0, writable)).result(10)

    def open(self, name: str, peer: IPv4Address = M1, *, secure: bool = False, keep: bool = True) -> Export | Refused:
        return asyncio.run(_open(self.catalogue, Asked(name, peer, secure, keep)))

    def names(self, peer: IPv4Address = M1, *, secure: bool = False) -> list[str]:
        return list(asyncio.run(_names(self.catalogue, peer, secure)))

    def content(self, name: str, peer: IPv4Address = M1, *, secure: bool = False) -> str | Refused:
        """Return which file an export is."""
        export = self.open(name, peer, secure=secure)
        if isinstance(export, Refused):
            return export
        try:
            return which(export)
        finally:
            export.close()

    def failures(self) -> list[str]:
        assert all(event.stage is Stage.FAILED for event in self.events)
        said = [event.detail for event in self.events]
        self.events.clear()
        return said


async def _open(catalogue: Catalogue, asked: Asked) -> Export | Refused:
    return await catalogue.open(asked)


async def _names(catalogue: Catalogue, peer: IPv4Address, secure: bool) -> Any:
    return await catalogue.names(peer, secure)


def which(export: Export) -> str:
    head = bytearray(64)
    export.read(memoryview(head), 0)
    seeds = [f"{file} {marker}" for file in ("root.squashfs", "root.ext4") for marker in ("one", "two", "three")]
    return next(seed for seed in seeds if noise(seed, 64) == bytes(head))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


ONE, TWO, THREE = (f"root.squashfs {marker}" for marker in ("one", "two", "three"))
TLS = {"certificate": "/c", "key": "/k"}


def test_an_image_is_found_by_its_name_and_by_its_sha256(shop: Shop) -> None:
    assert shop.content("node") == TWO
    assert shop.content("db", STRANGER) == THREE
    assert shop.content(shop.before.image_id, STRANGER) == ONE
    assert shop.content(shop.now.image_id) == TWO
    for name in ("nodes", "", "../node", "0" * 64, "node/m1", "by-sha256"):
        assert shop.content(name, STRANGER) is Refused.UNKNOWN
    assert shop.catalogue.readers.every() == []


def test_the_empty_name_is_the_default(tmp_path: Path) -> None:
    assert Shop(tmp_path, default="db").content("") == THREE


def test_a_machines_root_is_what_it_booted_and_for_it_alone(shop: Shop) -> None:
    assert shop.content("node/m1") is Refused.UNKNOWN
    shop.pin(shop.before)
    assert shop.content("node/m1") == ONE
    assert shop.content("node/m1", M2) is Refused.UNKNOWN
    assert shop.content("node/m1", STRANGER) is Refused.UNKNOWN
    assert shop.names() == ["db", "node", "node/m1"]
    assert shop.names(M2) == shop.names(STRANGER) == ["db", "node"]


def test_an_open_export_stays_the_version_it_was(shop: Shop) -> None:
    export = shop.open("node")
    assert not isinstance(export, Refused)
    add_image(shop.folder / "images", marker="three")
    assert which(export) == TWO
    assert shop.content("node") == THREE
    assert export.description == f"image node {shop.now.image_id[:12]}, 0.1 MB, read-only"
    export.close()


@pytest.mark.parametrize("keep", ["boot", "connection"])
def test_a_writable_root_is_the_machines_own_over_the_disk_of_its_image(shop: Shop, keep: Any) -> None:
    shop.pin(shop.before, writable=Writable(limit_mib=1, keep=keep))
    first, second = shop.open("node/m1"), shop.open("node/m1")
    assert not isinstance(first, Refused)
    assert not isinstance(second, Refused)
    assert (first.writable, first.size_bytes, which(first)) == (True, DISK, "root.ext4 one")
    first.write(memoryview(noise("root.ext4 two", 4096)), 0, fua=False)
    assert which(second) == "root.ext4 two"
    assert [reader.writable for reader, _ in shop.catalogue.readers.every()] == [True, True]
    first.close()
    second.close()
    assert shop.catalogue.readers.every() == []
    assert shop.content(shop.before.image_id) == ONE, "by its digest an image can only be read"


def test_who_reads_is_known_until_the_export_is_closed(shop: Shop) -> None:
    export = shop.open("node", STRANGER)
    own = shop.open(shop.before.image_id)
    assert not isinstance(export, Refused)
    assert not isinstance(own, Refused)
    (one, its), (other, _) = shop.catalogue.readers.every()
    assert its is export
    assert (one.who, one.image_id, one.since_s, one.writable) == ("10.0.0.3", shop.now.image_id, 9.0, False)
    assert (other.who, other.image_id) == ("m1", shop.before.image_id)
    assert shop.catalogue.readers.machines() == ["m1"]
    assert shop.catalogue.readers.count("m1") == 1
    export.close()
    own.close()
    assert shop.catalogue.readers.machines() == []
    assert shop.catalogue.readers.count("m1") == 0


def test_known_addresses_alone_where_the_farm_says_so(tmp_path: Path) -> None:
    shop = Shop(tmp_path, access="known")
    for name in ("node", "nothing", "", shop.now.image_id):
        assert shop.content(name, STRANGER) is Refused.POLICY
    assert shop.names(STRANGER) == []
    assert shop.content("node") == TWO
    assert shop.names() == ["db", "node"]
    assert shop.events == [], "a stranger has no timeline"


def test_an_image_with_tls_only_is_neither_told_nor_served_without(tmp_path: Path) -> None:
    shop = Shop(tmp_path, tls={**TLS, "mode": "offered", "only": ["db"]})
    assert shop.content("db") is Refused.TLS_REQUIRED
    assert shop.content(shop.db.image_id) is Refused.TLS_REQUIRED
    assert shop.content(shop.before.image_id) is Refused.TLS_REQUIRED, "of which name it was, nobody knows any more"
    assert shop.names() == ["node"]
    assert (shop.content("node"), shop.content(shop.now.image_id)) == (TWO, TWO)
    assert shop.content("db", secure=True) == shop.content(shop.db.image_id, secure=True) == THREE
    assert shop.names(secure=True) == ["db", "node"]
    shop.pin(shop.before)
    assert shop.content(shop.before.image_id) == ONE, "m1 booted it as `node`"
    assert shop.content(shop.before.image_id, M2) is Refused.TLS_REQUIRED
    shop.pin(shop.db, "db")
    assert shop.content("node/m1") is Refused.TLS_REQUIRED
    assert shop.names() == ["node"]
    assert shop.names(secure=True) == ["db", "node", "node/m1"]
    assert shop.content("node/m1", secure=True) == THREE


def test_nothing_is_served_without_tls_where_that_is_required(tmp_path: Path) -> None:
    shop = Shop(tmp_path, tls=TLS)
    assert shop.content("node") is Refused.TLS_REQUIRED
    assert shop.names() == []
    assert shop.content("node", secure=True) == TWO


def test_what_a_machine_did_not_get_is_in_its_timeline(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.pin(shop.before)
    shutil.rmtree(shop.before.folder)
    gone = f"the image node {shop.before.image_id[:12]}, which it booted, is not in the store any more"
    assert shop.content("node/m1") is Refused.UNKNOWN
    assert shop.failures() == [f"NBD export 'node/m1': {gone}"]
    assert f"m1: NBD export 'node/m1': {gone}" in caplog.text
    assert shop.content(shop.before.image_id) is Refused.UNKNOWN
    assert shop.content("node/m2") is Refused.UNKNOWN
    assert shop.content("a\nb") is Refused.UNKNOWN
    assert shop.failures() == [
        f"NBD export '{shop.before.image_id}': no image {shop.before.image_id[:12]} is in the store",
        "NBD export 'node/m2': it is for that machine alone",
        r"NBD export 'a\nb': there is no such image",
    ]
    shop.open("nothing", keep=False)
    assert shop.failures() == [], "it only looked around"
    shop.open("nothing", STRANGER)
    assert shop.failures() == []
    assert shop.catalogue.refused == 6


def test_who_makes_up_names_does_not_fill_the_log(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(20):
        assert shop.open(f"name {n}", STRANGER) is Refused.UNKNOWN
        assert shop.open(f"{n:064x}", STRANGER) is Refused.UNKNOWN
        assert shop.open(f"node/{n}", STRANGER) is Refused.UNKNOWN
    assert len(caplog.messages) == 2
    assert shop.open("node/m1", M1) is Refused.UNKNOWN
    assert len(caplog.messages) == 3, "nor does he hide what others are told"


def test_who_closed_an_image_reads_it_no_more_whatever_its_disk_says(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = shop.open("node")
    assert not isinstance(export, Refused)

    def broken(file: OpenFile) -> None:
        os.close(file.fd)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(OpenFile, "close", broken)
    with pytest.raises(OSError, match="Input/output"):
        export.close()
    assert shop.catalogue.readers.every() == []


def test_an_image_that_cannot_be_looked_at_costs_no_descriptor(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(export: FileExport) -> tuple[int, int]:
        raise OSError(116, "Stale file handle")

    shop.content("node")  # whatever is opened once, is
    monkeypatch.setattr(FileExport, "_look", stale)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match="Stale"):
            shop.open("node")
    assert len(os.listdir("/proc/self/fd")) == before
    assert shop.catalogue.readers.every() == []


def test_a_writable_root_whose_image_has_no_disk_is_refused_in_words(shop: Shop) -> None:
    shop.pin(shop.db, "db", Writable())
    assert shop.content("node/m1") is Refused.UNKNOWN
    label = f"image db {shop.db.image_id[:12]}"
    assert shop.failures() == [
        f"NBD export 'node/m1': {label} has no root.ext4 to write to; make it again with --ext4"
    ]
    assert shop.catalogue.readers.every() == []


def test_a_disk_that_is_damaged_is_an_error_and_no_refusal(shop: Shop) -> None:
    """So that the connection is closed, and the machine asks again."""

    class Damaged:
        def attach(self, machine: str, image_id: str, base: OpenFile, *_: object) -> Export:
            base.close()
            raise OSError(5, "Input/output error")

    catalogue = Catalogue(shop.farm, who={M1: "m1"}.get, pins=shop.pins, disks=Damaged(), report=shop.events.append)
    shop.pin(shop.before, writable=Writable())
    with pytest.raises(OSError, match="Input/output"):
        asyncio.run(_open(catalogue, Asked("node/m1", M1)))
    assert shop.failures() == ["NBD export 'node/m1' cannot be opened: Input/output error"]
    assert catalogue.readers.every() == []


def test_a_disk_that_hangs_holds_some_and_the_next_are_told_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "STALLED_S", 0.05)
    go = threading.Event()
    opened = ImageFiles.open

    def hang(self: ImageFiles, image: StoredImage, file: str) -> OpenFile | None:
        go.wait(20)
        return opened(self, image, file)

    monkeypatch.setattr(ImageFiles, "open", hang)

    async def many() -> None:
        waiting = [asyncio.create_task(shop.catalogue.open(Asked("node", STRANGER))) for _ in range(lookups.WAITING)]
        await asyncio.sleep(0.2)
        with pytest.raises(TimeoutError, match="a disk hangs"):
            await shop.catalogue.open(Asked("node", STRANGER))
        waiting[0].cancel()
        go.set()
        for export in (await asyncio.gather(*waiting, return_exceptions=True))[1:]:
            assert not isinstance(export, BaseException | Refused)
            export.close()
        while shop.catalogue.readers.every():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(many(), 20))


def test_a_pin_of_another_boot_of_the_same_machine_wins(shop: Shop) -> None:
    shop.pin(shop.before)
    pin = shop.pins.get("m1")
    assert pin is not None
    shop.pins.put(dataclasses.replace(pin, image_id=shop.now.image_id)).result(10)
    assert shop.content("node/m1") == TWO
