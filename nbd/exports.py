"""What NBD serves: the seam between the protocol, and whoever knows which disks there are.

`Catalogue` finds an export for a client; `Export` is one client's open disk. `FileExport` is an image's file, read
without blocking where its pages are in memory.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from errno import EIO, EROFS
from ipaddress import IPv4Address
from typing import Protocol

from config.content import OpenFile
from nbd import extents
from nbd.extents import Extent as Extent
from nbd.mappings import Mapping, Mappings

ALIGNMENT = 4096
"""Exports are padded with zeros to a multiple of this many bytes: a block device ends at a whole sector, and what a
client cuts off at the end is missing from a file system (reference NQ6). A squashfs is padded to 4096 already."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for which export."""

    name: str
    """As the client sent it, without leading slashes; it may hold anything else. Empty: the default export."""
    peer: IPv4Address
    secure: bool = False
    """Whether the connection has TLS."""
    keep: bool = True
    """False if the client only wants to know about it (INFO), and it is closed at once."""


class Refused(Enum):
    """Why there is no export for this client."""

    UNKNOWN = auto()
    """There is none of this name, or not for this client."""
    POLICY = auto()
    """This client may not."""
    TLS_REQUIRED = auto()
    """Not without TLS."""


class Export(Protocol):
    """One client's open disk. Safe to use from several threads; all but `read_warm` may block on a disk.

    Ranges are inside `size_bytes` and lengths are not 0: who calls has checked that. Where bytes are read or written
    `OSError` is raised for a disk's error, ENOSPC for a machine that has written more than it may.
    """

    name: str
    """As the client asked for it."""
    description: str
    """For people (NBD_INFO_DESCRIPTION)."""
    size_bytes: int
    writable: bool
    fd: int | None
    """A file that has the same bytes at the same offsets, up to `file_bytes`, for who reads it himself; or None."""
    file_bytes: int
    """Where that file ends; what follows up to `size_bytes` reads as zeros."""
    device: int
    """What its bytes are on, so that a disk that hangs can be told from the others: `st_dev`, or less than 0 for what
    is served apart from the images on the same disk; 0: not known."""

    def intact(self) -> bool:
        """Return whether it still is what was opened; if not, every read is an I/O error. Does not block."""

    def read_warm(self, into: memoryview, offset: int) -> bool:
        """Fill `into` from `offset` if that needs no disk; never blocks. False means: use `read`."""

    def window(self, offset: int, length: int) -> memoryview | None:
        """Return a range as it lies in the page cache, to be copied from by one system call; None: use `read_warm`.

        It may be gone before it is copied, if its file is cut off: a system call then fails (EFAULT), and whoever
        touches it in another way is killed. To copy it may block on a disk.
        """

    def read(self, into: memoryview, offset: int) -> None:
        """Fill `into` from `offset`."""

    def write(self, data: memoryview, offset: int, *, fua: bool) -> None:
        """Write; with `fua`, it is on stable storage before this returns."""

    def write_zeroes(self, offset: int, length: int, *, no_hole: bool, fua: bool) -> None:
        """Have a range read as zeros; with `no_hole`, later writes to it do not fail for want of space."""

    def trim(self, offset: int, length: int, *, fua: bool) -> None:
        """Forget what is in a range; it may read as anything of before, or as zeros."""

    def flush(self) -> None:
        """Put every write that has returned on stable storage."""

    def extents(self, offset: int, length: int, most: int) -> Sequence[Extent]:
        """Return what the range consists of, from `offset` on, at most `most` of them; the last may reach past it."""

    def prefetch(self, offset: int, length: int) -> None:
        """Bring a range into memory."""

    def close(self) -> None:
        """Let go of it, once."""


class Catalogue(Protocol):
    """Knows which exports there are, and who may have them. Never blocks the event loop."""

    async def open(self, asked: Asked) -> Export | Refused:
        """Open an export. Tells people why somebody gets none. Raises `OSError` for a broken disk."""

    async def names(self, peer: IPv4Address, secure: bool) -> Sequence[str]:
        """Return the names of the exports that this client may see (NBD_OPT_LIST)."""


PROBE_BYTES = 1 << 16


class FileExport:
    """One client's open image. It stays what it was when the image's name moves on to another file.

    An image that is changed in place, against the image store's promise, answers EIO from then on: a machine is told
    that its disk is broken and never gets a mixture of two images.
    """

    __slots__ = (
        "_file",
        "_mapping",
        "_mappings",
        "_stamp",
        "_zero_from",
        "description",
        "device",
        "fd",
        "file_bytes",
        "name",
        "size_bytes",
        "writable",
    )

    def __init__(self, name: str, file: OpenFile, description: str = "", mappings: Mappings | None = None) -> None:
        """Without `mappings` there are no windows."""
        self.name = name
        """As the client asked for it."""
        self.description = description
        self.writable = False
        self.fd: int | None = file.fd
        self.file_bytes = file.size_bytes
        self.device = file.device
        self.size_bytes = -(-file.size_bytes // ALIGNMENT) * ALIGNMENT
        """What the client is told: the file's size, rounded up to `ALIGNMENT`."""
        self._file = file
        self._stamp = self._look()
        self._mappings = mappings
        self._mapping: Mapping | None = None  # once a window was asked for
        self._zero_from: int | None = None  # not looked for yet: that may block

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._file.fd)
        return status.st_size, status.st_mtime_ns

    def intact(self) -> bool:
        """Return whether the file has neither been truncated nor rewritten since it was opened."""
        try:
            return self._look() == self._stamp
        except OSError:  # such as ESTALE
            return False

    def read_warm(self, into: memoryview, offset: int) -> bool:
        """Fill `into` from `offset` if that needs no disk; never blocks.

        False means: use `read`. So it is for a cold page, for a file system without RWF_NOWAIT, and for an error,
        which `read` then tells.
        """
        wanted = min(len(into), self._file.size_bytes - offset)
        if wanted > 0:
            try:
                if os.preadv(self._file.fd, [into[:wanted]], offset, os.RWF_NOWAIT) < wanted:
                    return False
            except OSError:
                return False
        if wanted < len(into):
            start = max(wanted, 0)
            into[start:] = bytes(len(into) - start)
        return True

    def window(self, offset: int, length: int) -> memoryview | None:
        """Return a range as it lies in the page cache, if it seems to be there.

        Of every `PROBE_BYTES` one page is looked at: the kernel reads ahead, and drops, more than that at once.
        """
        last = offset + length - 1
        if last >= self._file.size_bytes:
            return None
        if self._mapping is None and self._mappings is not None:
            self._mapping = self._mappings.take(self._file.fd)
        if self._mapping is None or last >= len(self._mapping.view):
            return None
        byte = bytearray(1)
        try:
            for at in (*range(offset, last, PROBE_BYTES), last):
                if not os.preadv(self._file.fd, [byte], at, os.RWF_NOWAIT):
                    return None
        except OSError:
            return None
        return self._mapping.view[offset : last + 1]

    def read(self, into: memoryview, offset: int) -> None:
        """Fill `into` from `offset`; may block on a disk. Raises `OSError`, also when the file has become shorter."""
        wanted = max(min(len(into), self._file.size_bytes - offset), 0)
        done = 0
        while done < wanted:
            got = os.preadv(self._file.fd, [into[done:wanted]], offset + done)
            if got == 0:
                raise OSError(EIO, f"the file ends at {offset + done}, where it had {self._file.size_bytes} bytes")
            done += got
        into[wanted:] = bytes(len(into) - wanted)

    def prefetch(self, offset: int, length: int) -> None:
        """Bring a range into the page cache; may block on a disk. Raises `OSError`."""
        os.posix_fadvise(self._file.fd, offset, length, os.POSIX_FADV_WILLNEED)

    def write(self, data: memoryview, offset: int, *, fua: bool) -> None:
        """Refuse it. Raises `OSError`."""
        raise OSError(EROFS, "an image cannot be written")

    def write_zeroes(self, offset: int, length: int, *, no_hole: bool, fua: bool) -> None:
        """Refuse it. Raises `OSError`."""
        raise OSError(EROFS, "an image cannot be written")

    def trim(self, offset: int, length: int, *, fua: bool) -> None:
        """Refuse it. Raises `OSError`."""
        raise OSError(EROFS, "an image cannot be written")

    def flush(self) -> None:
        """Nothing was written, so there is nothing to do."""

    def extents(self, offset: int, length: int, most: int) -> Sequence[Extent]:
        """Return the file's holes and data; the zeros at a squashfs's end, and those after the file, are known too.

        Fewer than the range has, if they are many: at least one, at most `most`. None reaches past the range. Raises
        `OSError`; may block on a disk.
        """
        if self._zero_from is None:
            self._zero_from = extents.padding_of(self._file.fd, self.file_bytes)
        return extents.of_file(self._file.fd, self.file_bytes, self._zero_from, offset, length, most)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._mapping is not None and self._mappings is not None:
            self._mappings.give(self._mapping)
        self._file.close()
