"""Who uses an image, and what becomes of disks that nobody will ask for again."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from config.exports import Writable
from config.model import Farm, Pool
from nbd.exports import Asked, Export, Refused
from nbd.overlay import Kept
from nbd.transport import Activity, Service
from pxeboot.api import images as images_api
from pxeboot.api import nbd as nbd_api
from pxeboot.bootfiles.imagefiles import ImageFiles
from pxeboot.bootfiles.machine import Machine
from pxeboot.exports import roots
from pxeboot.exports.pin_store import PinStore
from pxeboot.exports.pins import Pin
from pxeboot.exports.roots import Roots
from pxeboot.exports.writable import writable_without_disk
from pxeboot.image import removal
from pxeboot.image.store import StoredImage
from tests.support.fake_image import add_image, noise

M1, M2 = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")


class House:
    """The roots of a farm that lists m1 only."""

    def __init__(self, folder: Path, **pool: Any) -> None:
        self.folder = folder
        self.one = add_image(folder / "images", marker="one", disk_bytes=1 << 16)
        self.two = add_image(folder / "images", marker="two", disk_bytes=1 << 16)
        nodes = [{"name": "m1", "macs": ["52:54:00:00:00:01"], "ip": str(M1)}]
        self.farm = Farm.model_validate(
            {
                "server": {"state": folder},
                "images": {"node": {"path": folder / "images/node"}, "gone": {"path": folder / "images/gone"}},
                "pools": [{"name": "workers", "image": "node", "root": "nbd", "nodes": nodes, **pool}],
            }
        )
        self.roots = self.start()

    def start(self) -> Roots:
        self.roots = Roots(self.farm, PinStore(self.folder / "pins"), {M1: "m1", M2: "m2"}.get, lambda _: None)
        return self.roots

    def pin(self, name: str, image: StoredImage, writable: Writable | None = None) -> None:
        address = M1 if name == "m1" else M2
        self.roots.pins.put(Pin(name, "node", image.image_id, address, 5.0, writable)).result(10)

    def write(self, name: str, writable: Writable) -> None:
        """Let a machine boot, and write to its root."""
        self.pin(name, self.one, writable)

        async def write() -> None:
            export = await self.roots.catalogue.open(Asked(f"node/{name}", M1 if name == "m1" else M2))
            assert not isinstance(export, Refused)
            export.write(memoryview(b"x" * 4096), 0, fua=True)
            export.close()

        asyncio.run(write())

    def users(self, image_id: str) -> list[str]:
        return [f"{who} {how}" for who, how in self.roots.users(image_id)]

    def disks(self) -> list[str]:
        return [kept.machine for kept in self.roots.disks.machines()]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_an_image_that_nobody_uses_has_no_users(house: House) -> None:
    assert house.roots.users(house.one.image_id) == []
    assert house.roots.users("0" * 64) == []
    assert house.roots.users(house.two.image_id) == [("the farm's file", "has it as its image node")]


def test_who_booted_it_and_who_has_a_disk_over_it_uses_it(house: House) -> None:
    house.pin("m1", house.one)
    house.write("m2", Writable(where="file", keep="always"))
    assert house.roots.users(house.one.image_id) == [("m1", "booted it"), ("m2", "booted it")]
    house.roots.pins.drop(["m2"]).result(10)
    assert house.roots.users(house.one.image_id) == [("m1", "booted it"), ("m2", "has a disk of its own over it")]
    assert ("m1", "booted it") not in house.roots.users(house.two.image_id)


def test_somebody_uses_an_image_before_it_is_opened(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that who asks after it was moved aside finds everybody who opened it before."""
    seen = []
    opened = ImageFiles.open

    def watched(self: ImageFiles, image: StoredImage, file: str) -> object:
        seen.append(house.roots.users(house.one.image_id))
        return opened(self, image, file)

    monkeypatch.setattr(ImageFiles, "open", watched)

    async def open_it() -> None:
        export = await house.roots.catalogue.open(Asked(house.one.image_id, M1))
        assert not isinstance(export, Refused)
        export.close()

    asyncio.run(open_it())
    assert seen == [[("m1", f"reads it by NBD as '{house.one.image_id}'")]]


def test_at_the_start_disks_of_boots_that_are_over_are_dropped(house: House, caplog: pytest.LogCaptureFixture) -> None:
    file = Writable(where="file")
    for name in ("m1", "m2"):
        house.write(name, file)
    house.roots.pins.drop(["m2"]).result(10)
    again = house.start()
    assert house.disks() == ["m1", "m2"]
    again.tidy()
    assert house.disks() == ["m1"]
    assert "does not list" not in caplog.text


WHAT_STAYS = [
    # where, keep: after another connection, after a restart of the server, after a boot, after a boot of a new version
    ("memory", "connection", "fresh", "fresh", "fresh", "fresh"),
    ("file", "connection", "fresh", "fresh", "fresh", "fresh"),
    ("memory", "boot", "kept", "has to boot again", "fresh", "fresh"),
    ("file", "boot", "kept", "kept", "fresh", "fresh"),
    ("file", "always", "kept", "kept", "kept", "fresh"),
]


@pytest.mark.parametrize(
    ("where", "keep", "event", "found"),
    [
        pytest.param(where, keep, event, found, id=f"{where}-{keep}-{event}")
        for where, keep, *founds in WHAT_STAYS
        for event, found in zip(("connection", "restart", "boot", "version"), founds, strict=True)
    ],
)
def test_what_a_machine_wrote_stays_as_long_as_its_rules_say(
    house: House, where: Any, keep: Any, event: str, found: str
) -> None:
    rules = Writable(where=where, keep=keep)
    house.write("m1", rules)
    pool = Pool(name="workers", image="node", root="nbd", writable=rules)
    mac = "52:54:00:00:00:01"
    m1 = Machine("m1", mac, (mac,), M1, pool, (), {}, {}, (), ())
    if event == "restart":
        house.roots.pins.close()
        house.start()
    elif event != "connection":
        house.roots.boots.begins(m1, house.one if event == "boot" else house.two).result(10)

    async def open_it() -> Export | Refused:
        return await house.roots.catalogue.open(Asked("node/m1", M1))

    if found not in ("kept", "fresh"):
        with pytest.raises(OSError, match=found):
            asyncio.run(open_it())
        house.roots.boots.begins(m1, house.one).result(10)
        found = "fresh"
    export = asyncio.run(open_it())
    assert not isinstance(export, Refused)
    head = bytearray(64)
    export.read(memoryview(head), 0)
    export.close()
    version = "two" if event == "version" else "one"
    assert bytes(head) == (b"x" * 64 if found == "kept" else noise(f"root.ext4 {version}", 64))


def test_a_boot_of_a_machine_that_has_its_disk_open_is_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rules = Writable()
    pool = Pool(name="workers", image="node", root="nbd", writable=rules)
    m1 = Machine("m1", "", (), M1, pool, (), {}, {}, (), ())
    house.write("m1", rules)
    house.roots.boots.begins(m1, house.one).result(10)
    assert "still has its disk open" not in caplog.text

    async def open_it() -> Export | Refused:
        return await house.roots.catalogue.open(Asked("node/m1", M1))

    export = asyncio.run(open_it())
    house.roots.boots.begins(m1, house.one).result(10)
    assert "m1 boots, and still has its disk open" in caplog.text
    assert not isinstance(export, Refused)
    export.close()


def test_at_the_start_no_disk_is_dropped_under_a_machine_that_has_it_open(house: House) -> None:
    house.pin("m1", house.one, Writable(where="file"))

    async def open_it() -> Export | Refused:
        return await house.roots.catalogue.open(Asked("node/m1", M1))

    export = asyncio.run(open_it())
    assert not isinstance(export, Refused)
    house.roots.pins.drop(["m1"]).result(10)
    house.roots.tidy()
    export.write(memoryview(b"x" * 4096), 0, fua=True)
    assert house.disks() == ["m1"]
    export.close()


def test_what_is_kept_always_is_never_dropped_but_told_of(house: House, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("m1", "m2"):
        house.write(name, Writable(where="file", keep="always"))
    house.roots.pins.drop(["m1", "m2"]).result(10)
    house.start().tidy()
    assert house.disks() == ["m1", "m2"]
    assert f"{house.folder}/overlays keeps disks of machines that the farm does not list: m2" in caplog.text


def test_an_address_that_nobody_has_a_lease_for_is_the_machines_that_booted_from_it(house: House) -> None:
    free = IPv4Address("10.0.0.77")
    assert house.roots.whose(free) is None
    house.roots.pins.put(Pin("node-guest", "node", house.one.image_id, free, 5.0))
    house.roots.pins.put(Pin("node-other", "node", house.one.image_id, M1, 5.0))
    assert house.roots.whose(free) == "node-guest"
    assert house.roots.whose(M1) == "m1", "who has a lease is asked first"


def test_no_image_is_removed_from_under_somebody_who_opens_it_then(house: House) -> None:
    async def open_it() -> Export | Refused:
        return await house.roots.catalogue.open(Asked(house.one.image_id, M1))

    outcomes = set()
    for n in range(20):
        add_image(house.folder / "images", marker="one", disk_bytes=1 << 16)
        add_image(house.folder / "images", marker="two", disk_bytes=1 << 16)
        with ThreadPoolExecutor(1) as other:
            opening = other.submit(asyncio.run, open_it())
            time.sleep(n * 1e-4)
            try:
                removal.remove(house.folder / "images", house.one.image_id, house.users)
                removed = True
            except removal.InUse:
                removed = False
            export = opening.result(10)
        assert isinstance(export, Refused) or not removed
        assert house.one.folder.exists() != removed
        if not isinstance(export, Refused):
            export.close()
        outcomes.add((removed, isinstance(export, Refused)))
    assert outcomes <= {(True, True), (False, False), (False, True)}


def test_the_status_of_a_machine_says_what_its_root_is(house: House) -> None:
    assert house.roots.about("m1") == {}
    house.pin("m1", house.one, Writable())
    assert house.roots.about("m1") == {
        "root": {"image": "node", "id": house.one.image_id, "since_s": 5.0, "writable": True, "connections": 0}
    }


@pytest.mark.parametrize("disk", [0, 4096])
def test_an_image_without_a_disk_is_told_of_where_roots_are_to_be_writable(tmp_path: Path, disk: int) -> None:
    house = House(tmp_path, writable={})
    add_image(tmp_path / "images", marker="three", disk_bytes=disk)
    lines = writable_without_disk(house.farm)
    assert len(lines) == (0 if disk else 1)
    assert all("the image node has no root.ext4; make it again with --ext4" in line for line in lines)
    os.unlink(tmp_path / "images/node")
    assert writable_without_disk(house.farm) == []
    assert writable_without_disk(House(tmp_path / "other").farm) == []


class NoService:
    """Nobody is connected."""

    def connections(self) -> list[Activity]:
        return []

    counters: Mapping[str, int] = {}


@pytest.mark.parametrize("hangs", [True, False])
def test_who_asks_is_answered_though_the_disks_are_not(
    house: House, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    house.pin("m1", house.one)
    go = threading.Event()

    def machines() -> list[Kept]:
        if hangs:
            go.wait(10)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(roots, "LOOK_S", 0.05)
    monkeypatch.setattr(house.roots.disks, "machines", machines)
    said = "answer" if hangs else "Input/output error"

    async def ask() -> None:
        (route,) = nbd_api.routes(house.roots, cast(Service, NoService()))
        answer = await route.handler(make_mocked_request("GET", "/v1/nbd"))
        assert isinstance(answer, web.Response)
        found = json.loads(answer.text or "")
        assert [pin["machine"] for pin in found["pins"]] == ["m1"]
        assert found["disks"] == []
        assert said in found["disks_trouble"]
        (route,) = images_api.routes(house.roots)
        request = make_mocked_request("GET", "/", match_info={"id": house.one.image_id})
        response = await route.handler(request)
        assert isinstance(response, web.Response)
        assert (response.status, said in (response.text or "")) == (503, True), "no image is removed then"

    try:
        asyncio.run(ask())
    finally:
        go.set()


def renamed(house: House, *names: str) -> Farm:
    """Return the farm with its machine under another name, or none."""
    values = house.farm.model_dump(mode="json", by_alias=True, exclude_unset=True)
    values["pools"][0]["nodes"] = [{**values["pools"][0]["nodes"][0], "name": name} for name in names]
    return Farm.model_validate(values)


def test_a_running_machine_that_a_reload_renames_or_removes_keeps_its_root(house: House) -> None:
    now = {M1: "m1"}
    roots = Roots(house.farm, PinStore(house.folder / "pins"), lambda address: now.get(address), lambda _: None)
    roots.pins.put(Pin("m1", "node", house.one.image_id, M1, 5.0, None)).result(10)

    async def opens(name: str) -> bool:
        export = await roots.catalogue.open(Asked(f"node/{name}", M1))
        if isinstance(export, Refused):
            return False
        export.close()
        return True

    for name in ("other", "another"):
        roots.swap(renamed(house, name))
        now[M1] = name
        assert asyncio.run(opens("m1"))
        assert not asyncio.run(opens(name)), "it has not booted with that name"
    roots.swap(renamed(house))
    now[M1] = "node-525400000001"
    assert asyncio.run(opens("m1"))
    now[M1] = "node-525400000099"
    assert not asyncio.run(opens("m1")), "it is another machine at that address"
    now[M1] = "node-525400000001"
    roots.pins.put(Pin("node-525400000001", "node", house.two.image_id, M1, 6.0, None)).result(10)
    assert not asyncio.run(opens("m1")), "it has booted again"
    assert asyncio.run(opens("node-525400000001"))
    roots.pins.close()


def two(house: House, first: str, second: str, card: str = "52:54:00:00:00:02") -> Farm:
    """Return the farm with its machine, and another one beside it, under these names."""
    values = house.farm.model_dump(mode="json", by_alias=True, exclude_unset=True)
    one = values["pools"][0]["nodes"][0]
    other = {**one, "name": second, "macs": [card], "ip": str(M1 + 1)}
    values["pools"][0]["nodes"] = [{**one, "name": first}, other]
    return Farm.model_validate(values)


def test_two_running_machines_that_a_reload_gives_each_others_names_keep_their_roots(house: House) -> None:
    now = {M1: "m1", M1 + 1: "m2"}
    roots = Roots(two(house, "m1", "m2"), PinStore(house.folder / "pins"), now.get, lambda _: None)
    for name, address in (("m1", M1), ("m2", M1 + 1)):
        roots.pins.put(Pin(name, "node", house.one.image_id, address, 5.0, None)).result(10)
    roots.swap(two(house, "m2", "m1"))
    now.update({M1: "m2", M1 + 1: "m1"})
    assert (roots.whose(M1), roots.whose(M1 + 1)) == ("m1", "m2"), "as what they booted"
    roots.pins.put(Pin("m2", "node", house.one.image_id, M1, 6.0, None)).result(10)
    assert roots.whose(M1) == "m2", "it has booted again"
    assert roots.whose(M1 + 1) == "m1", "the pin of its name is another machine's: it gets no root, not a wrong one"
    roots.pins.close()


def test_a_name_that_a_machine_had_for_a_while_gives_the_next_one_nothing_of_it(house: House) -> None:
    now = {M1: "m1"}
    roots = Roots(house.farm, PinStore(house.folder / "pins"), now.get, lambda _: None)
    roots.pins.put(Pin("m1", "node", house.one.image_id, M1, 5.0, None)).result(10)
    roots.swap(renamed(house, "new"))
    roots.swap(renamed(house, "m1"))  # it was a mistake
    roots.swap(two(house, "m1", "new"))
    now[M1 + 1] = "new"
    assert (roots.whose(M1), roots.whose(M1 + 1)) == ("m1", "new")
    roots.pins.close()
