"""Threads for each disk: one that hangs stops only what is on it, and never the end of the process (F-17)."""

import subprocess
import sys
import threading
from concurrent.futures import CancelledError

import pytest

from config.disks import DiskHangs, Disks


def test_what_is_submitted_is_done_and_what_it_raises_is_told() -> None:
    disks = Disks(2, 100)
    work = [disks.of(1, "f").submit(int, text) for text in ("1", "2", "three", "4")]
    assert [done.result(5) for done in (*work[:2], work[3])] == [1, 2, 4]
    with pytest.raises(ValueError, match="three"):
        work[2].result(5)
    disks.close()


def test_a_disk_that_hangs_leaves_the_others_their_threads() -> None:
    disks, goes_on = Disks(2, 100), threading.Event()
    try:
        for _ in range(10):
            disks.of(1, "f").submit(goes_on.wait)
        assert disks.of(2, "g").submit(int, "7").result(5) == 7
        small = Disks(1, 4)
        for _ in range(4):
            small.of(1, "h").submit(goes_on.wait)
        with pytest.raises(DiskHangs, match="4 reads wait for the disk of 'h'"):
            small.of(1, "h")
    finally:
        goes_on.set()
        disks.close()


def test_what_was_not_begun_when_they_end_is_cancelled() -> None:
    disks, goes_on = Disks(1, 100), threading.Event()
    begun = disks.of(1, "f").submit(goes_on.wait)
    waits = disks.of(1, "f").submit(int, "1")
    while not begun.running():
        pass
    disks.close()
    with pytest.raises(CancelledError):
        waits.result(5)
    with pytest.raises(RuntimeError, match="were ended"):
        disks.of(1, "f").submit(int, "1")
    goes_on.set()
    assert begun.result(5) is True


def test_a_thousand_pieces_of_work_are_all_done() -> None:
    disks = Disks(4, 10_000)
    work = [disks.of(device, "f").submit(int, str(number)) for number in range(500) for device in (1, 2)]
    assert sum(done.result(5) for done in work) == 2 * sum(range(500))
    assert disks.of(1, "f").waiting == 0
    disks.close()


def test_a_thread_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    program = (
        "import threading; from config.disks import Disks; disks = Disks(1, 9);"
        " disks.of(1, 'f').submit(threading.Event().wait); disks.close()"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=20, check=False).returncode == 0
