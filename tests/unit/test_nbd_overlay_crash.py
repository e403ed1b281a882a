"""Machines' disks after their server was killed, or its power cut, at any moment."""

import errno
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.content import OpenFile
from config.exports import Writable
from nbd import overlay_map
from nbd.exports import FileExport
from nbd.overlay import DiskExport, Overlays
from nbd.overlay_disk import BLOCK, Disk
from nbd.overlay_folder import Folder
from nbd.overlay_format import About
from tests.support.power_cut import Killed, PowerCut

BLOCKS = 12
SIZE = BLOCKS * BLOCK
CONTENT = random.Random(7).randbytes(SIZE)
ABOUT = About("m", "image", SIZE, "boot")


@pytest.fixture(autouse=True)
def _tidy_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay_map, "TIDY_RECORDS", 6)
    monkeypatch.setattr(overlay_map, "FLUSH_RECORDS", 10)


def image() -> FileExport:
    fd = os.memfd_create("base")
    os.write(fd, CONTENT)
    return FileExport("base", OpenFile("base", fd, SIZE, "x", None))


@contextmanager
def opened(files: PowerCut) -> Iterator[Disk]:
    """Open the machine's disk, or make it, as the next process does."""
    folder = Folder(Path("/overlays"), files)
    base = image()
    try:
        found = folder.open(ABOUT)
        if found is None:
            yield Disk(base, folder.make(ABOUT), bytearray(BLOCKS), SIZE)
        else:
            yield Disk(base, found[0], found[1], SIZE, flushed=found[2])
    finally:
        base.close()


def block_of(disk: Disk, number: int) -> bytes:
    into = bytearray(BLOCK)
    disk.read(memoryview(into), number * BLOCK)
    return bytes(into)


class Model:
    """What each block may read as: first what is on stable storage, last what was written."""

    def __init__(self) -> None:
        self.blocks = [[CONTENT[at : at + BLOCK]] for at in range(0, SIZE, BLOCK)]

    def change(self, offset: int, data: bytes) -> None:
        for number in range(offset // BLOCK, -(-(offset + len(data)) // BLOCK)):
            start, end = max(offset - number * BLOCK, 0), min(offset + len(data) - number * BLOCK, BLOCK)
            old = self.blocks[number][-1]
            taken = number * BLOCK + start - offset
            self.blocks[number].append(old[:start] + data[taken : taken + end - start] + old[end:])

    def flushed(self) -> None:
        self.blocks = [versions[-1:] for versions in self.blocks]

    def found(self, disk: Disk, *, cut: bool) -> None:
        """Take what is read now as what is there, and after a power cut as what is on stable storage."""
        for number in range(BLOCKS):
            self.blocks[number] = [*([] if cut else self.blocks[number]), block_of(disk, number)]


offsets = st.integers(0, SIZE - 1) | st.integers(0, BLOCKS - 1).map(lambda number: number * BLOCK)
lengths = st.integers(1, 3 * BLOCK) | st.integers(1, 4).map(lambda number: number * BLOCK)
changes = st.tuples(st.sampled_from(["write", "zero", "fill", "trim"]), offsets, lengths, st.booleans())
steps = st.lists(changes | st.just(("flush", 0, 0, False)), max_size=16)


def carry_out(disk: Disk, model: Model, step: tuple[str, int, int, bool], byte: int) -> None:
    """Do one step; the model knows of it before, as the process may end in the middle."""
    kind, offset, length, fua = step
    length = min(length, SIZE - offset)
    match kind:
        case "flush":
            disk.flush()
            model.flushed()
            return
        case "write":
            data = bytes([byte]) * length
            model.change(offset, data)
            disk.write(memoryview(data), offset, fua=fua)
        case "trim":
            first, last = -(-offset // BLOCK) * BLOCK, (offset + length) // BLOCK * BLOCK
            if first < last:
                model.change(first, bytes(last - first))
            disk.trim(offset, length, fua=fua)
        case _:
            model.change(offset, bytes(length))
            disk.write_zeroes(offset, length, no_hole=kind == "fill", fua=fua)
    if fua:
        model.flushed()


@settings(max_examples=200, deadline=None)
@given(lives=st.lists(st.tuples(steps, st.booleans(), st.integers(1, 60), st.integers(0, 99)), min_size=1, max_size=4))
def test_what_was_flushed_survives_and_no_block_is_older_or_mixed(
    lives: list[tuple[list[tuple[str, int, int, bool]], bool, int, int]],
) -> None:
    files, model, byte = PowerCut(), Model(), 0
    for todo, cut, kill_after, seed in lives:
        files.kill_at = files.operations + kill_after
        running: tuple[str, int, int, bool] | None = None
        before = [versions[-1] for versions in model.blocks]
        try:
            with opened(files) as disk:
                for running in todo:
                    before = [versions[-1] for versions in model.blocks]
                    byte += 1
                    carry_out(disk, model, running, byte)
                    before = [versions[-1] for versions in model.blocks]
        except Killed:
            pass
        files = files.after(random.Random(seed)) if cut else files.killed()
        with opened(files) as disk:
            for number in range(BLOCKS):
                found, versions = block_of(disk, number), model.blocks[number]
                if cut:
                    assert found in versions, f"block {number} is none that was written since the last flush"
                else:  # only the one that was being carried out may be there or not, step by step
                    since = versions[len(versions) - 1 - versions[::-1].index(before[number]) :]
                    assert found in since, f"block {number} is not what was written last"
            model.found(disk, cut=cut)


def many_records(disk: Disk) -> None:
    """Change blocks again and again, so that the map has more than a sector of records."""
    for at in range(40):
        disk.trim(at % BLOCKS * BLOCK, BLOCK, fua=False)
        disk.write(memoryview(bytes([at]) * BLOCK), at % BLOCKS * BLOCK, fua=False)


def test_a_power_cut_at_any_moment_of_a_flush_damages_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay_map, "TIDY_RECORDS", 1000)
    monkeypatch.setattr(overlay_map, "FLUSH_RECORDS", 1000)
    for operation in range(1, 6):
        for seed in range(20):
            files = PowerCut()
            with opened(files) as disk:
                many_records(disk)
                files.kill_at = files.operations + operation
                with suppress(Killed):
                    disk.flush()
            with opened(files.after(random.Random(seed))) as disk:
                assert block_of(disk, 0) in (CONTENT[:BLOCK], bytes(BLOCK), *(bytes([at]) * BLOCK for at in range(40)))


def test_a_flush_of_blocks_that_were_changed_before_asks_the_disk_once() -> None:
    """So are most of a file system's: its journal is written again and again."""
    files = PowerCut()
    with opened(files) as disk:
        disk.write(memoryview(b"x" * BLOCK), 0, fua=True)
        before, length = files.operations, files.length(Path("/overlays/m.map"))
        for byte in b"yz":
            disk.write(memoryview(bytes([byte]) * BLOCK), 0, fua=True)
        assert files.operations - before == 2 * len(["pwrite", "sync"])
        assert files.length(Path("/overlays/m.map")) == length
    with opened(files.after(random.Random(1))) as disk:
        assert block_of(disk, 0) == b"z" * BLOCK


def test_a_map_that_has_grown_long_is_written_anew() -> None:
    files = PowerCut()
    with opened(files) as disk:
        for _ in range(50):
            many_records(disk)
            disk.flush()
        name = Path("/overlays/m.map")
        assert len(files.read(name, 1 << 20) or b"") < 20_000
        last = [block_of(disk, number) for number in range(BLOCKS)]
    with opened(files.after(random.Random(1))) as disk:
        assert [block_of(disk, number) for number in range(BLOCKS)] == last


def test_a_map_that_cannot_be_written_anew_goes_on_as_it_is() -> None:
    files = PowerCut()
    with opened(files) as disk:
        for _ in range(5):
            many_records(disk)
        files.failing = ("open", errno.ENOSPC)
        disk.flush()
        files.failing = None
    with opened(files.after(random.Random(1))) as disk:
        assert block_of(disk, 0) == bytes([36]) * BLOCK


def test_a_disk_whose_flush_failed_once_is_written_no_more() -> None:
    files = PowerCut()
    with opened(files) as disk:
        disk.write(memoryview(b"x" * BLOCK), 0, fua=False)
        files.failing = ("sync", errno.EIO)
        with pytest.raises(OSError, match="Input/output error"):
            disk.flush()
        files.failing = None
        for attempt in (disk.flush, lambda: disk.write(memoryview(b"y"), 0, fua=False)):
            with pytest.raises(OSError, match="failed before") as caught:
                attempt()
            assert caught.value.errno == errno.EIO
        assert block_of(disk, 0) == b"x" * BLOCK


@pytest.mark.parametrize("failing", ["pwrite", "punch"])
def test_a_write_that_failed_is_not_half_remembered(failing: str) -> None:
    files = PowerCut()
    with opened(files) as disk:
        disk.write(memoryview(b"x" * BLOCK), 0, fua=True)
        files.failing = (failing, errno.ENOSPC)
        attempts = {
            "punch": lambda: disk.trim(0, BLOCK, fua=False),
            "pwrite": lambda: disk.write(memoryview(b"y" * BLOCK * 2), BLOCK, fua=False),
        }
        with pytest.raises(OSError, match="No space"):
            attempts[failing]()
        files.failing = None
        assert block_of(disk, 0) == b"x" * BLOCK
        assert block_of(disk, 1) == CONTENT[BLOCK : 2 * BLOCK]
        assert disk.changed_bytes == BLOCK


def test_where_no_holes_can_be_made_zeros_are_written_and_trim_leaves_what_is_there() -> None:
    with opened(PowerCut(holes=False)) as disk:
        disk.write(memoryview(b"x" * 3 * BLOCK), 0, fua=False)
        disk.trim(0, 5 * BLOCK, fua=False)
        assert [block_of(disk, number)[:1] for number in range(5)] == [b"x", b"x", b"x", b"\0", b"\0"]
        assert disk.changed_bytes == 3 * BLOCK
        disk.write_zeroes(BLOCK, 6 * BLOCK, no_hole=False, fua=False)
        assert [block_of(disk, number) == bytes(BLOCK) for number in range(8)] == [False, *[True] * 6, False]
        assert disk.changed_bytes == 3 * BLOCK


def test_a_flush_after_a_restart_covers_what_was_answered_before() -> None:
    """What the killed server had not flushed is in the kernel's memory only, until somebody does."""
    for seed in range(10):
        files = PowerCut()
        with attached(files) as export:
            export.write(memoryview(b"x" * BLOCK), 0, fua=False)
            left = files.killed()
        with attached(left) as export:
            export.flush()
            files = left
        with attached(files.after(random.Random(seed))) as export:
            into = bytearray(BLOCK)
            export.read(memoryview(into), 0)
            assert into == b"x" * BLOCK


def test_a_machine_whose_connection_ended_has_everything_after_a_start_of_the_computer() -> None:
    """Its server was stopped, and the computer started anew; the machine goes on with the next server."""
    for seed in range(10):
        files = PowerCut()
        with attached(files) as export:
            export.write(memoryview(b"x" * BLOCK), 0, fua=False)
        with attached(files.after(random.Random(seed))) as export:
            assert first_block(export) == b"x" * BLOCK


def test_a_server_that_ends_in_order_leaves_everything_on_stable_storage() -> None:
    for seed in range(10):
        files = PowerCut()
        overlays = Overlays(Path("/overlays"), files)
        with attached(files, overlays=overlays) as export:
            export.write(memoryview(b"x" * BLOCK), 0, fua=False)
            overlays.settle(10)
            left = files.after(random.Random(seed))
        with attached(left) as export:
            assert first_block(export) == b"x" * BLOCK


def test_a_server_that_ends_does_not_wait_for_a_disk_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    files = PowerCut()
    overlays = Overlays(Path("/overlays"), files)
    with attached(files, overlays=overlays) as export:
        export.write(memoryview(b"x" * BLOCK), 0, fua=False)
        files.awake.clear()
        overlays.settle(0.01)
        assert "1 machines' disks were not flushed" in caplog.text
        files.awake.set()


def first_block(export: DiskExport) -> bytes:
    into = bytearray(BLOCK)
    export.read(memoryview(into), 0)
    return bytes(into)


@contextmanager
def attached(files: PowerCut, image: str = "image", overlays: Overlays | None = None) -> Iterator[DiskExport]:
    """Open the machine's disk as the catalogue does."""
    fd = os.memfd_create("base")
    os.write(fd, CONTENT)
    base = OpenFile("base", fd, SIZE, "x", None)
    overlays = overlays or Overlays(Path("/overlays"), files)
    export = overlays.attach("m", image, base, Writable(where="file"), "node/m")
    try:
        yield export
    finally:
        export.close()
        for thread in threading.enumerate():
            if thread.name == "nbd overlay":
                thread.join(10)


def test_who_starts_after_one_that_was_killed_in_a_flush_can_promise_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map may have a new name that no power cut would leave it."""
    monkeypatch.setattr(overlay_map, "FLUSH_RECORDS", 1000)
    for operation in range(1, 9):
        for seed in range(8):
            files = PowerCut()
            with opened(files) as disk:
                many_records(disk)
                files.kill_at = files.operations + operation
                with suppress(Killed):
                    disk.flush()
            files = files.killed()
            with opened(files) as disk:
                disk.write(memoryview(b"z" * BLOCK), 3 * BLOCK, fua=True)
            with opened(files.after(random.Random(seed))) as disk:
                assert block_of(disk, 3) == b"z" * BLOCK


@pytest.mark.parametrize(
    "operation", ["folder", "open", "truncate", "sync", "pwrite", "rename", "sync_folder", "unlink"]
)
@pytest.mark.parametrize("found", ["nothing", "a disk of this boot", "a disk of another boot", "another image"])
def test_a_disk_that_cannot_be_opened_for_an_error_can_be_when_that_is_over(operation: str, found: str) -> None:
    files = PowerCut()
    if found != "nothing":
        with attached(files) as export:
            export.write(memoryview(b"x" * BLOCK), 0, fua=True)
        files = files.after(random.Random(3)) if "another boot" in found else files.killed()
    image = "other" if found == "another image" else "image"
    files.failing = (operation, errno.EIO)
    with suppress(OSError), attached(files, image):
        pass
    assert files.descriptors == 0
    files.failing = None
    with attached(files, image) as export:
        into = bytearray(BLOCK)
        export.read(memoryview(into), 0)
        assert into == (b"x" * BLOCK if "boot" in found else CONTENT[:BLOCK])
        export.write(memoryview(b"y" * BLOCK), 0, fua=True)
    with attached(files.after(random.Random(5)), image) as export:
        export.read(memoryview(into), 0)
        assert into == b"y" * BLOCK
    assert files.descriptors == 0
