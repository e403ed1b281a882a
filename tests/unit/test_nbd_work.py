"""The work of a connection in threads; on a disk that takes none the client is dropped, its export closed once."""

import os
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import pytest

from config.content import OpenFile
from config.disks import Disks
from nbd.actions import BlockStatus, Read
from nbd.exports import FileExport
from nbd.pieces import Pieces
from nbd.replies import STRUCTURED
from nbd.work import Work


class Counted(FileExport):
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        """Count, and close."""
        self.closed += 1
        super().close()


@pytest.fixture
def export(tmp_path: Path) -> Counted:
    (tmp_path / "node").write_bytes(bytes(8192))
    fd = os.open(tmp_path / "node", os.O_RDONLY)
    return Counted("node", OpenFile("node", fd, 8192, etag="", modified_s=None))


@pytest.fixture
def work(export: Counted) -> Work:
    """On a disk of which as much waits as we keep."""
    made = Work(export, Disks(threads=1, waiting=0), 0, lambda item: item(), lambda item: item(), lambda: None)
    made.replies = STRUCTURED
    return made


def test_a_read_that_no_thread_takes_ends_the_client_and_closes_its_export_once(work: Work, export: Counted) -> None:
    pieces = Pieces(Read(1, 0, 4096, whole=False), STRUCTURED)
    work.read(pieces.piece(), pieces)
    assert work.torn
    work.close()
    assert export.closed == 1


def test_other_work_that_no_thread_takes_ends_the_client_and_closes_its_export_once(
    work: Work, export: Counted
) -> None:
    work.order(BlockStatus(1, 0, 4096, req_one=False, contexts=(1,)))
    assert work.torn
    work.close()
    assert export.closed == 1


def test_a_thread_of_the_disk_settles_before_it_does_anything(export: Counted) -> None:
    done: SimpleQueue[Callable[[], None]] = SimpleQueue()
    settled = []

    def settle() -> None:
        settled.append(done.qsize())

    disks = Disks(threads=1, waiting=10)
    work = Work(export, disks, 0, done.put, done.put, settle)
    work.replies = STRUCTURED
    pieces = Pieces(Read(1, 0, 4096, whole=False), STRUCTURED)
    work.read(pieces.piece(), pieces)
    done.get(timeout=9)()
    work.order(BlockStatus(1, 0, 4096, req_one=False, contexts=(1,)))
    done.get(timeout=9)()
    work.close()
    disks.of(0, "node").submit(int).result(9)  # its only thread: the export was closed before
    assert (settled, export.closed) == ([0, 0, 0], 1)
    disks.close()
