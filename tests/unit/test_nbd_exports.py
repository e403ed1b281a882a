"""Reading an export: the file's bytes, padded, and EIO when it is not the file any more."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.content import OpenFile
from nbd.exports import FileExport

CONTENT = bytes(i * 7 % 251 for i in range(10_000))


@contextmanager
def opened(path: Path) -> Iterator[FileExport]:
    fd = os.open(path, os.O_RDONLY)
    export = FileExport("node", OpenFile("node", fd, os.fstat(fd).st_size, "x", None))
    try:
        yield export
    finally:
        export.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(("size", "exported"), [(0, 0), (1, 4096), (4096, 4096), (4097, 8192), (10_000, 12_288)])
def test_the_size_is_rounded_up_to_4096(tmp_path: Path, size: int, exported: int) -> None:
    (tmp_path / "image").write_bytes(bytes(size))
    with opened(tmp_path / "image") as export:
        assert export.size_bytes == exported


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(offset=st.integers(0, 12_288), length=st.integers(0, 12_288))
def test_reads_equal_slices_of_the_padded_file(image: Path, offset: int, length: int) -> None:
    padded = CONTENT + bytes(12_288 - len(CONTENT))
    expected = padded[offset : offset + length]
    with opened(image) as export:
        for warm in (False, True):
            into = bytearray(b"\xee" * len(expected))
            if not warm:
                export.read(memoryview(into), offset)
            elif not export.read_warm(memoryview(into), offset):
                continue  # a file system that does not know RWF_NOWAIT
            assert bytes(into) == expected


def test_a_truncated_file_is_an_error_and_no_zeros(image: Path) -> None:
    with opened(image) as export:
        os.truncate(image, 5000)
        assert not export.intact()
        into = memoryview(bytearray(4096))
        assert not export.read_warm(into, 4096)
        with pytest.raises(OSError, match="ends at 5000") as caught:
            export.read(into, 4096)
        assert caught.value.errno == errno.EIO


def test_a_rewritten_file_is_not_intact(image: Path) -> None:
    with opened(image) as export:
        assert export.intact()
        with image.open("r+b") as file:
            file.write(b"other")
        os.utime(image, ns=(0, 1))
        assert not export.intact()


def test_a_replaced_file_stays_what_it_was(image: Path) -> None:
    with opened(image) as export:
        (image.parent / "new").write_bytes(b"new")
        os.replace(image.parent / "new", image)
        assert export.intact()
        into = bytearray(100)
        export.read(memoryview(into), 0)
        assert into == CONTENT[:100]


def test_prefetching_reads_nothing_wrong(image: Path) -> None:
    with opened(image) as export:
        export.prefetch(0, 4096)


def test_an_error_is_told_by_the_read_that_may_block(image: Path) -> None:
    fd = os.open(image, os.O_WRONLY)
    export = FileExport("node", OpenFile("node", fd, len(CONTENT), "x", None))
    into = memoryview(bytearray(10))
    assert not export.read_warm(into, 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        export.read(into, 0)
    export.close()
    assert not export.intact()
