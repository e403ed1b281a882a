"""A disk that hangs stops what is on it, and nothing else (F-17)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from config.content import Made, OpenFile
from tftp.disks import DiskHangs, Disks


def on(device: int) -> OpenFile:
    return OpenFile("f", -1, 10, "etag", None, device=device)


@contextmanager
def disks(threads: int, waiting: int) -> Iterator[tuple[Disks, threading.Event]]:
    """The threads, and what lets those go on that hang."""
    made, goes_on = Disks(threads, waiting), threading.Event()
    try:
        yield made, goes_on
    finally:
        goes_on.set()
        made.close()


def test_a_disk_that_hangs_leaves_the_others_their_threads() -> None:
    with disks(2, 100) as (some, goes_on):
        for _ in range(10):
            some.of(on(1)).submit(goes_on.wait)
        assert some.of(on(2)).submit(int, "7").result(5) == 7
        assert some.of(Made("who", b"", "")).submit(int, "8").result(5) == 8
        last = some.of(on(1)).submit(int, "9")
        assert not last.done()
        goes_on.set()
        assert last.result(5) == 9


def test_so_many_reads_wait_for_a_disk_and_no_more() -> None:
    with disks(1, 4) as (some, goes_on):
        work = [some.of(on(1)).submit(goes_on.wait) for _ in range(4)]
        with pytest.raises(DiskHangs, match="4 reads wait for the disk of 'f'"):
            some.of(on(1))
        assert work[3].cancel()
        assert some.of(on(1)).submit(goes_on.wait)
        goes_on.set()
        assert all(done.result(5) for done in work[:3])


def test_no_number_of_disks_takes_more_threads() -> None:
    with disks(1, 10_000) as (some, _):
        before = threading.active_count()
        for device in range(200):
            assert some.of(on(device)).submit(int, "1").result(5) == 1
        assert threading.active_count() <= before + 16
