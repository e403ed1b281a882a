"""What a file consists of: whatever is called zero reads as zeros, and all else is called data."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from struct import pack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.content import OpenFile
from nbd.exports import FileExport
from nbd.extents import MOST, Extent, merged

FOLDERS = [pytest.param("", id="ext4"), pytest.param("/dev/shm", id="tmpfs")]
DATA, HOLE, ZERO = (Extent(1, hole, zero) for hole, zero in ((False, False), (True, True), (False, True)))


@contextmanager
def sparse(folder: Path, size: int, pieces: list[tuple[int, bytes]]) -> Iterator[FileExport]:
    """Make a file of holes with these pieces in it; it is gone afterwards."""
    path = folder / f"sparse-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        os.unlink(path)
        os.ftruncate(fd, size)
        for offset, data in pieces:
            os.pwrite(fd, data[: max(size - offset, 0)], offset)
        yield FileExport("x", OpenFile("x", fd, size, "", None))
    finally:
        os.close(fd)


def told(export: FileExport, offset: int, length: int, most: int = 1000) -> list[Extent]:
    """Ask until the whole range is told, as a client does; every answer is one that a client may get."""
    whole: list[Extent] = []
    at = offset
    while at < offset + length:
        extents = export.extents(at, offset + length - at, most)
        assert 1 <= len(extents) <= most
        assert all(extent.length > 0 for extent in extents)
        assert all((one.hole, one.zero) != (two.hole, two.zero) for one, two in pairwise(extents))
        at += sum(extent.length for extent in extents)
        whole += extents
    assert at == offset + length
    return merged(whole, 1 << 20)


sizes = st.integers(1, 300_000)
pieces = st.lists(st.tuples(st.integers(0, 300_000), st.binary(min_size=1, max_size=20)), max_size=6)


@pytest.mark.parametrize("folder", FOLDERS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(size=sizes, pieces=pieces, start=st.floats(0, 1), share=st.floats(0, 1), most=st.integers(1, 5))
def test_what_is_called_zero_reads_as_zeros(
    tmp_path: Path, folder: str, size: int, pieces: list[tuple[int, bytes]], start: float, share: float, most: int
) -> None:
    with sparse(Path(folder or tmp_path), size, pieces) as export:
        content = bytearray(export.size_bytes)
        export.read(memoryview(content), 0)
        offset = min(int(start * export.size_bytes), export.size_bytes - 1)
        length = max(int(share * (export.size_bytes - offset)), 1)
        at = offset
        for extent in told(export, offset, length, most):
            assert extent.zero or not extent.hole
            if extent.zero:
                assert not any(content[at : at + extent.length])
            at += extent.length


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_holes_of_a_file_are_told(tmp_path: Path, folder: str) -> None:
    with sparse(Path(folder or tmp_path), 1 << 20, [(65536, b"x" * 65536), (1 << 19, b"y" * 5)]) as export:
        assert told(export, 0, 1 << 20) == [
            Extent(65536, hole=True, zero=True),
            Extent(65536, hole=False, zero=False),
            Extent((1 << 19) - 131072, hole=True, zero=True),
            Extent(4096, hole=False, zero=False),
            Extent((1 << 19) - 4096, hole=True, zero=True),
        ]
        assert export.extents(100_000, 100, 1000) == [Extent(100, hole=False, zero=False)]


def test_what_the_export_has_after_its_file_is_a_hole(tmp_path: Path) -> None:
    with sparse(tmp_path, 5000, [(0, b"x" * 5000)]) as export:
        assert export.extents(0, 8192, 10) == [
            Extent(5120, hole=False, zero=False),
            Extent(3072, hole=True, zero=True),
        ]
        assert export.extents(6000, 100, 10) == [Extent(100, hole=True, zero=True)]


def squashfs(bytes_used: int, tail: bytes, *, magic: bytes = b"hsqs", version: tuple[int, int] = (4, 0)) -> bytes:
    """Return what begins as a squashfs of this size does, with something after it."""
    superblock = magic + bytes(24) + pack("<HHQQ", *version, 0, bytes_used)
    body = random.Random(1).randbytes(max(bytes_used, 48))
    return (superblock + body[len(superblock) :])[:bytes_used] + tail


TAILS = [
    pytest.param(squashfs(10_000, bytes(2288)), 10_240, 2048, id="padded"),
    pytest.param(squashfs(12_288, b""), 12_288, 0, id="not-padded"),
    pytest.param(squashfs(10_000, bytes(2287) + b"x"), 12_288, 0, id="something-in-the-padding"),
    pytest.param(squashfs(10_000, b"x" * 2288), 12_288, 0, id="something-appended"),
    pytest.param(squashfs(10_000, bytes(2288), magic=b"sqsh"), 12_288, 0, id="big-endian"),
    pytest.param(squashfs(10_000, bytes(2288), version=(3, 1)), 12_288, 0, id="older"),
    pytest.param(b"hsqs", 512, 3584, id="too-short"),
]


@pytest.mark.parametrize(("content", "data", "zero"), TAILS)
def test_only_padding_of_a_squashfs_that_was_seen_to_be_zeros_is_called_so(
    tmp_path: Path, content: bytes, data: int, zero: int
) -> None:
    with sparse(tmp_path, len(content), [(0, content)]) as export:
        extents = export.extents(0, export.size_bytes, 10)
        assert extents[0] == Extent(data, hole=False, zero=False)
        assert sum(extent.length for extent in extents[1:] if extent.zero) == zero


def test_a_squashfs_that_claims_to_end_in_its_first_bytes_hides_nothing(tmp_path: Path) -> None:
    """The rest is not looked at as padding, however long it is."""
    content = squashfs(100, bytes(100_000 - 100))
    with sparse(tmp_path, len(content), [(0, content)]) as export:
        assert not export.extents(0, 4096, 10)[0].zero


def test_a_file_in_very_many_pieces_is_told_in_parts(tmp_path: Path) -> None:
    count = MOST + 100
    with sparse(tmp_path, count * 8192, []) as export:
        for at in range(count):
            os.pwrite(export.fd or 0, b"x", at * 8192)
        extents = export.extents(0, export.size_bytes, 1 << 20)
        assert MOST // 2 <= len(extents) <= MOST
        assert len(told(export, 0, export.size_bytes, 1 << 20)) == 2 * count


@pytest.mark.parametrize(
    ("given", "most", "expected"),
    [
        ([], 5, []),
        ([DATA, DATA, HOLE], 5, [Extent(2, hole=False, zero=False), HOLE]),
        ([DATA, Extent(0, hole=True, zero=True), DATA], 5, [Extent(2, hole=False, zero=False)]),
        ([HOLE, ZERO, DATA], 5, [HOLE, ZERO, DATA]),
        ([HOLE, DATA, DATA, HOLE], 2, [HOLE, Extent(2, hole=False, zero=False)]),
    ],
)
def test_neighbours_of_one_kind_are_told_as_one(given: list[Extent], most: int, expected: list[Extent]) -> None:
    assert merged(given, most) == expected
