"""What a file consists of, for `base:allocation`: its holes, and what is known to read as zeros at its end.

Whatever is called zero here reads as zeros. Of what is called data that is not said: a file system that knows no
holes shows one stretch of data, and so does what would take too long to look through.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from errno import EINVAL, ENOSYS, ENXIO, EOPNOTSUPP
from itertools import islice
from struct import Struct

MOST = 8192
"""The most stretches that one call looks for: of a file in a million pieces, a client gets the first of them and
asks again for what follows (reference A-48)."""
SECTOR = 512
"""What stretches begin and end at: clients ask for that (N-72)."""

_SUPERBLOCK = Struct("<4s24xHH8xQ")
"""Of squashfs 4.0: s_magic, s_major, s_minor, bytes_used."""
_LONGEST_PADDING = 1 << 16


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of an export, for `base:allocation`."""

    length: int
    hole: bool
    """Whether nothing is allocated for it."""
    zero: bool
    """Whether it reads as zeros."""


def merged(extents: Iterable[Extent], most: int) -> list[Extent]:
    """Return at most `most` stretches, neighbours of the same kind as one; empty ones are left out.

    Takes no more from `extents` than is needed to know that the last stretch is over.
    """
    result: list[Extent] = []
    for extent in extents:
        if not extent.length:
            continue
        last = result[-1] if result else None
        if last is not None and (last.hole, last.zero) == (extent.hole, extent.zero):
            result[-1] = Extent(last.length + extent.length, last.hole, last.zero)
        elif len(result) == most:
            break
        else:
            result.append(extent)
    return result


def of_file(fd: int, file_bytes: int, zero_from: int, offset: int, length: int, most: int) -> list[Extent]:
    """Return what a range of an export consists of, from `offset` on: at most `most` stretches, and at most `MOST`.

    `fd` is a file of `file_bytes`, after which the export goes on with zeros. From `zero_from` on, the file is known
    to hold zeros. Raises `OSError`; may block on a disk.
    """
    end = offset + length
    zero_from = -(-min(zero_from, file_bytes) // SECTOR) * SECTOR
    file_end = -(-file_bytes // SECTOR) * SECTOR
    stop = min(end, zero_from)

    def stretches() -> Iterator[Extent]:
        at = offset
        if at < stop:
            for extent in islice(_holes(fd, at, stop), MOST):
                at += extent.length
                yield extent
            if at < stop:
                return
        if at < min(end, file_end):
            yield Extent(min(end, file_end) - at, hole=False, zero=True)
            at = min(end, file_end)
        if at < end:
            yield Extent(end - at, hole=True, zero=True)

    return merged(stretches(), min(most, MOST))


def _holes(fd: int, offset: int, end: int) -> Iterator[Extent]:
    """Return the data and the holes of a part of a file, in turn; all of it data where that cannot be known."""
    at = offset
    while at < end:
        data = _seek(fd, at, os.SEEK_DATA, end)
        if data is None:
            yield Extent(end - at, hole=False, zero=False)
            return
        # A hole ends where data begins; a boundary in the middle of a sector counts as data.
        data = max(min(data, end) // SECTOR * SECTOR, at)
        if data > at:
            yield Extent(data - at, hole=True, zero=True)
            at = data
        if at >= end:
            return
        hole = _seek(fd, at, os.SEEK_HOLE, end)
        hole = end if hole is None else min(-(-hole // SECTOR) * SECTOR, end)
        if hole <= at:  # punched meanwhile
            hole = end
        yield Extent(hole - at, hole=False, zero=False)
        at = hole


def _seek(fd: int, at: int, whence: int, end: int) -> int | None:
    """Return where the next data, or hole, is; `end` if there is none; None if the file system does not know."""
    try:
        return os.lseek(fd, at, whence)
    except OSError as error:
        if error.errno == ENXIO:
            return end
        if error.errno in (EINVAL, ENOSYS, EOPNOTSUPP):
            return None
        raise


def padding_of(fd: int, file_bytes: int) -> int:
    """Return from where on a squashfs's file holds nothing but zeros; `file_bytes` if it is none, or if it does not.

    mksquashfs pads its file systems to 4096 with zeros. Something else may have been appended, such as the hashes of
    dm-verity, so what follows `bytes_used` is read, and believed only if it is zeros. Raises `OSError`; may block.
    """
    head = os.pread(fd, _SUPERBLOCK.size, 0)
    if len(head) < _SUPERBLOCK.size:
        return file_bytes
    magic, major, minor, bytes_used = _SUPERBLOCK.unpack(head)
    if (magic, major, minor) != (b"hsqs", 4, 0) or not file_bytes - _LONGEST_PADDING <= bytes_used < file_bytes:
        return file_bytes
    tail = os.pread(fd, file_bytes - bytes_used, bytes_used)
    return bytes_used if tail == bytes(file_bytes - bytes_used) else file_bytes
