"""An open export: an image's file, read without blocking where its pages are in memory."""

import os
from errno import EIO

from config.content import OpenFile

ALIGNMENT = 4096
"""Exports are padded with zeros to a multiple of this many bytes: a block device ends at a whole sector, and what a
client cuts off at the end is missing from a file system (reference NQ6). A squashfs is padded to 4096 already."""


class Export:
    """One client's open image. It stays what it was when the image's name moves on to another file.

    An image that is changed in place, against the image store's promise, answers EIO from then on: a machine is told
    that its disk is broken and never gets a mixture of two images.
    """

    __slots__ = ("_file", "_stamp", "name", "size_bytes")

    def __init__(self, name: str, file: OpenFile) -> None:
        self.name = name
        """As the client asked for it."""
        self.size_bytes = -(-file.size_bytes // ALIGNMENT) * ALIGNMENT
        """What the client is told: the file's size, rounded up to `ALIGNMENT`."""
        self._file = file
        self._stamp = self._look()

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

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()
