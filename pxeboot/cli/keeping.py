"""A file to keep what a command fetches: until all is there, what lay at its path stays."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE, S_ISREG
from typing import BinaryIO


class Keeping:
    """A file to write to, which `keep` puts in its place."""

    def __init__(self, file: BinaryIO, now_at: Path, to_be_at: Path) -> None:
        self.file = file
        self._now_at = now_at
        self._to_be_at = to_be_at

    def keep(self) -> None:
        """Put it in its place; it is complete. Raises `OSError`."""
        self.file.flush()
        if self._now_at != self._to_be_at:
            os.replace(self._now_at, self._to_be_at)


@contextmanager
def keeping(path: Path) -> Iterator[Keeping]:
    """Give a new file beside `path`, which is gone afterwards unless it was kept. Raises `OSError`.

    A file that is replaced leaves its permissions to the new one, a link goes on leading there. A device or a pipe is
    written to as it is.
    """
    target = path.resolve()
    try:
        before = target.stat()
    except FileNotFoundError:
        before = None
    if before is not None and not S_ISREG(before.st_mode):
        with target.open("wb") as file:
            yield Keeping(file, target, target)
        return
    if before is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}")
    with temporary.open("xb") as file:
        try:
            if before is not None:
                os.fchmod(file.fileno(), S_IMODE(before.st_mode))
            yield Keeping(file, temporary, target)
        finally:
            with suppress(FileNotFoundError):  # it was kept
                temporary.unlink()
