"""Threads that look for files on a disk that hangs."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.bootfiles.lookups import STALLED_S, WAITING, Lookups, Places


class Clock:
    """Shows what it is set to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def disk() -> Iterator[threading.Event]:
    """Set when the disk answers."""
    disk = threading.Event()
    yield disk
    disk.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def hang(lookups: Lookups, disk: threading.Event, number: int) -> "list[object]":
    """Submit `number` look-ups, and return once the threads have begun with them."""
    begun = threading.Semaphore(0)

    def look() -> None:
        begun.release()
        disk.wait(20)

    futures: list[object] = [lookups.submit(look) for _ in range(number)]
    for _ in range(2):
        assert begun.acquire(timeout=20)
    return futures


def test_what_is_found_and_what_is_raised_comes_back() -> None:
    lookups = Lookups(2, "test")
    assert lookups.submit(divmod, 7, 2).result(20) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        lookups.submit(divmod, 7, 0).result(20)


def test_on_a_disk_that_hangs_only_some_wait(disk: threading.Event, clock: Clock) -> None:
    lookups = Lookups(2, "test", clock)
    hang(lookups, disk, WAITING)
    clock.now_s += STALLED_S + 0.1
    with pytest.raises(TimeoutError, match=f"a disk hangs: {WAITING} look-ups wait, since 0.6 s"):
        lookups.submit(int)


def test_a_slow_disk_may_be_waited_for_by_any_number(disk: threading.Event, clock: Clock) -> None:
    lookups = Lookups(2, "test", clock)
    hang(lookups, disk, WAITING - 1)
    clock.now_s += 60
    last = [lookups.submit(int)]
    disk.set()
    assert last[0].result(20) == 0
    hang(lookups, disk, 10 * WAITING)


def test_what_was_given_up_counts_until_the_disk_is_back(disk: threading.Event, clock: Clock) -> None:
    """It is still in the queue: a hang of an hour would leave as much there as was asked for in that time."""
    lookups = Lookups(2, "test", clock)
    hang(lookups, disk, 2)
    done: list[int] = []
    given_up = [lookups.submit(done.append, number) for number in range(WAITING - 2)]
    assert all(future.cancel() for future in given_up)
    clock.now_s += STALLED_S + 0.1
    with pytest.raises(TimeoutError):
        lookups.submit(int)
    disk.set()
    last = threading.Event()
    while True:
        try:
            lookups.submit(last.set).result(20)
        except TimeoutError:
            continue  # a thread is on its way
        break
    assert last.is_set()
    assert done == []


def test_an_idle_hour_is_no_hang(disk: threading.Event, clock: Clock) -> None:
    lookups = Lookups(2, "test", clock)
    lookups.submit(int).result(20)
    clock.now_s += 3600
    hang(lookups, disk, 2 * WAITING)


def test_each_of_some_places_has_threads_of_its_own(disk: threading.Event) -> None:
    places = Places(2, "test")
    hang(places.of(Path("/a")), disk, 10)
    assert places.of(Path("/b")).submit(divmod, 7, 2).result(20) == (3, 1)
    assert places.of(None).submit(divmod, 7, 2).result(20) == (3, 1)
    assert places.of(Path("/a")) is places.of(Path("/a"))
    assert len({places.of(Path(f"/{n}")) for n in range(100)}) < 20, "no number of places takes more"


STUCK = """\
import os, sys
from pxeboot.bootfiles.lookups import Lookups
lookups = Lookups(2, "test")
for _ in range(5):
    lookups.submit(open, sys.argv[1])
"""


def test_the_process_ends_though_look_ups_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    subprocess.run([sys.executable, "-c", STUCK, str(tmp_path / "fifo")], check=True, timeout=30)
