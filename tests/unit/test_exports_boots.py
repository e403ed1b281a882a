"""When a boot begins, and when a machine has gone."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from config.exports import Writable
from config.model import Pool
from pxeboot.bootfiles.machine import Machine
from pxeboot.exports import boots
from pxeboot.exports.boots import Absence, Boots
from pxeboot.exports.pin_store import PinStore
from pxeboot.exports.pins import Pin
from pxeboot.image.store import StoredImage
from pxeboot.written import both

IMAGE = StoredImage("ab" * 32, Path("/images/by-sha256") / ("ab" * 32), {})
OTHER = StoredImage("cd" * 32, Path("/images/by-sha256") / ("cd" * 32), {})
M1 = IPv4Address("10.0.0.1")


class Disks:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.booted: list[str] = []
        self.error: OSError | None = None
        self.go = threading.Event()
        self.go.set()

    def booting(self, machine: str) -> None:
        self.go.wait(10)
        self.booted.append(machine)
        if self.error is not None:
            raise self.error


def machine(root: Any = "nbd", name: str = "m1", writable: Writable | None = None) -> Machine:
    pool = Pool(name="workers", image="node", root=root, writable=writable)
    return Machine(name, "52:54:00:00:00:01", ("52:54:00:00:00:01",), M1, pool, (), {}, {}, (), ())


@pytest.fixture
def disks() -> Disks:
    return Disks()


@pytest.fixture
def made(tmp_path: Path, disks: Disks) -> Boots:
    return Boots(PinStore(tmp_path / "pins"), disks, clock=lambda: 7.0)


RULES = Writable(limit_mib=3)


@pytest.mark.parametrize("root", ["nbd", "nbd-to-ram"])
def test_a_machine_that_reads_its_root_by_nbd_is_pinned_to_its_version(made: Boots, disks: Disks, root: str) -> None:
    rules = RULES if root == "nbd" else None
    made.begins(machine(root, writable=rules), IMAGE).result(10)
    assert made.pins.every() == [Pin("m1", "node", "ab" * 32, M1, 7.0, rules)]
    made.begins(machine(root), OTHER).result(10)
    assert made.pins.every() == [Pin("m1", "node", "cd" * 32, M1, 7.0)]
    assert disks.booted == (["m1", "m1"] if rules else []), "who has no disk costs nothing"


@pytest.mark.parametrize("what", ["http", "local"])
def test_a_pin_ends_when_the_machine_boots_something_else(made: Boots, disks: Disks, what: str) -> None:
    made.begins(machine(writable=RULES), IMAGE).result(10)
    made.begins(machine("http"), None if what == "local" else OTHER).result(0)
    assert made.pins.every() == []
    until(lambda: disks.booted == ["m1", "m1"])
    assert made.fetching("cd" * 32) == ([] if what == "local" else ["m1"])


def test_a_disk_that_cannot_be_dropped_lets_no_boot_begin(made: Boots, disks: Disks) -> None:
    disks.error = OSError(5, "Input/output error")
    with pytest.raises(OSError, match="Input/output"):
        made.begins(machine(writable=RULES), IMAGE).result(10)


def test_a_disk_that_cannot_be_dropped_is_no_trouble_to_who_needs_none(
    made: Boots, disks: Disks, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        disks.error = None
        made.begins(machine(writable=RULES), IMAGE).result(10)
        disks.error = OSError(5, "Input/output error")
        made.begins(machine("http"), IMAGE).result(0)
        until(lambda: len(disks.booted) == 2 * n + 2)  # noqa: B023
    until(lambda: "m1: its disk cannot be dropped" in caplog.text)
    assert len(caplog.messages) == 1


def test_a_disk_that_hangs_while_it_is_dropped_holds_up_that_boot_alone(made: Boots, disks: Disks) -> None:
    disks.go.clear()
    waiting = made.begins(machine(writable=RULES), IMAGE)
    made.begins(machine("http", "m2"), IMAGE).result(0)
    made.begins(machine(name="m3"), IMAGE).result(10)
    assert not waiting.done()
    disks.go.set()
    waiting.result(10)


def test_what_a_boot_of_before_was_to_drop_is_not_dropped_under_the_next(made: Boots, disks: Disks) -> None:
    disks.go.clear()
    for n in range(boots.THREADS):
        made.begins(machine("nbd", f"other{n}", RULES), IMAGE)
    made.begins(machine(writable=RULES), IMAGE)  # no thread is free for it
    last = made.begins(machine(writable=RULES), IMAGE)
    disks.go.set()
    last.result(10)
    until(lambda: len(disks.booted) == boots.THREADS + 1)
    assert disks.booted.count("m1") == 1


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("order", ["one first", "other first"])
@pytest.mark.parametrize("failing", [None, "one", "other", "both"])
def test_two_futures_are_done_when_both_are(order: str, failing: str | None) -> None:
    one: Future[None] = Future()
    other: Future[None] = Future()
    whole = both(one, other)
    parts = [("one", one), ("other", other)]
    for name, part in parts if order == "one first" else reversed(parts):
        assert not whole.done() or failing is not None
        if failing in (name, "both"):
            part.set_exception(OSError(name))
        else:
            part.set_result(None)
    assert whole.done()
    assert (whole.exception() is None) == (failing is None)


def test_a_root_that_is_in_ram_is_read_no_more(made: Boots) -> None:
    for root, name in (("nbd", "m1"), ("nbd-to-ram", "m2"), ("http", "m3")):
        made.begins(machine(root, name), IMAGE).result(10)
    assert made.fetching("ab" * 32) == ["m3"]
    for root, name in (("nbd", "m1"), ("nbd-to-ram", "m2"), ("http", "m3")):
        made.in_ram(machine(root, name))
    assert [pin.machine for pin in made.pins.every()] == ["m1"]
    assert made.fetching("ab" * 32) == []


def test_a_machine_that_never_says_that_it_has_its_root_fetches_it_no_more_after_a_while(tmp_path: Path) -> None:
    now = [100.0]
    made = Boots(PinStore(tmp_path / "pins"), Disks(), now=lambda: now[0])
    made.begins(machine("http"), IMAGE)
    now[0] += boots.FETCHING_S - 1
    assert made.fetching("ab" * 32) == ["m1"]
    now[0] += 2
    assert made.fetching("ab" * 32) == []


def test_who_is_missing_for_long_enough_has_gone() -> None:
    absence = Absence(300.0)
    assert absence.look(["a", "b"], {"a"}, 1000.0) == []
    assert absence.look(["a", "b"], {"a"}, 1299.0) == []
    assert absence.look(["a", "b"], set(), 1300.0) == ["b"]
    assert absence.look(["a"], {"a"}, 1301.0) == []
    assert absence.look(["a"], set(), 1700.0) == [], "it was there meanwhile"
    assert absence.look(["a"], set(), 2000.0) == ["a"]


def test_a_machine_without_lease_and_connection_is_forgotten(
    made: Boots, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "LOOK_S", 0.001)
    monkeypatch.setattr(boots, "GONE_S", 0.0)
    for name in ("leased", "connected", "gone"):
        made.begins(machine(name=name, writable=RULES), IMAGE).result(10)
    holder = {M1: "leased"}
    until(lambda: len(disks.booted) == 3)
    disks.booted.clear()
    disks.error = OSError(5, "Input/output error")

    async def watch() -> None:
        watching = asyncio.create_task(made.watch(holder.get, lambda: ["connected"]))
        while len(made.pins.every()) == 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        watching.cancel()

    asyncio.run(asyncio.wait_for(watch(), 10))
    assert [pin.machine for pin in made.pins.every()] == ["connected", "leased"]
    until(lambda: disks.booted == ["gone"])


def test_a_machine_that_boots_while_it_is_given_up_is_not_forgotten(
    made: Boots, disks: Disks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(boots, "LOOK_S", 0.001)
    monkeypatch.setattr(boots, "GONE_S", 0.0)
    caplog.set_level("INFO")
    made.begins(machine(writable=RULES), IMAGE).result(10)
    asked: list[int] = []

    def who(_: IPv4Address) -> str | None:
        asked.append(len(asked))
        if len(asked) <= 5:  # it is looked for, and boots before it is forgotten
            made.begins(machine(writable=RULES), OTHER).result(10)
            return None
        return "m1"

    async def watch() -> None:
        watching = asyncio.create_task(made.watch(who, lambda: []))
        while len(asked) < 8:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        watching.cancel()

    asyncio.run(asyncio.wait_for(watch(), 10))
    assert [pin.image_id for pin in made.pins.every()] == [OTHER.image_id]
    assert disks.booted == ["m1"] * 6, "once for each boot"
    assert "has gone" not in caplog.text
