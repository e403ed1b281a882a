"""What copy-on-write disks ask of the operating system, a method a call, so that a test can end it between any two."""

import ctypes
import fcntl
import os
from collections.abc import Callable, Sequence
from errno import EACCES, EAGAIN, EINTR, EIO, ENOSYS, EOPNOTSUPP
from functools import cache
from pathlib import Path

MODE = 0o600
"""Of every file made here, whatever the umask says: a machine's disk holds its secrets."""
FOLDER_MODE = 0o700

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """Return libc's fallocate, which Python has no function for (`os.posix_fallocate` cannot make holes)."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        function = libc.fallocate64  # the same where off_t has 64 bits
    except AttributeError:
        try:
            function = libc.fallocate
        except AttributeError:
            return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    return function


class Files:
    """The real ones. Every method may block, but where it says that it does not, and raises `OSError`."""

    def folder(self, path: Path) -> None:
        """Make a folder that nobody else can look into."""
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        path.chmod(FOLDER_MODE)

    def memory(self, name: str) -> int:
        """Return an empty file in memory, which is gone when it is closed. Needs no disk."""
        return os.memfd_create(f"pxeboot {name}"[:200])

    def open(self, path: Path) -> int:
        """Open a file; make an empty one if there is none."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
        os.fchmod(fd, MODE)
        return fd

    def lock(self, fd: int) -> bool:
        """Keep other processes from this file until it is closed; return whether none has it. Does not wait.

        A lock of this process, so that a child which has the descriptor by fork does not keep it.
        """
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (EAGAIN, EACCES):
                return False
            raise
        return True

    def device(self, fd: int) -> int:
        """Return the disk that a file is on (`st_dev`). Does not block on a local disk."""
        return os.fstat(fd).st_dev

    def is_at(self, fd: int, path: Path) -> bool:
        """Return whether an open file is the one of this name."""
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(path))
        except FileNotFoundError:
            return False

    def length(self, path: Path) -> int | None:
        """Return how long the file of this name is; None if there is none."""
        try:
            return path.lstat().st_size
        except FileNotFoundError:
            return None

    def read(self, path: Path, most: int) -> bytes | None:
        """Return what is in a file, up to `most` bytes; None if there is none."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            return file.read(most)

    def pread(self, fd: int, into: memoryview, offset: int) -> None:
        """Fill `into` from `offset` on."""
        done = 0
        while done < len(into):
            got = os.preadv(fd, [into[done:]], offset + done)
            if not got:
                raise OSError(EIO, f"the file of a machine's disk ends at {offset + done}")
            done += got

    def pread_warm(self, fd: int, into: memoryview, offset: int) -> bool:
        """Fill `into` if that needs no disk, and return whether it is filled. Never blocks."""
        try:
            return os.preadv(fd, [into], offset, os.RWF_NOWAIT) == len(into)
        except OSError:
            return False

    def pwrite(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all of these, one after the other. Of a disk that fills up, a part is written before the error."""
        length = sum(map(len, pieces))
        done = os.pwritev(fd, pieces, offset)
        if done < length:
            rest = memoryview(b"".join(pieces))
            while done < length:
                done += os.pwrite(fd, rest[done:], offset + done)

    def truncate(self, fd: int, size: int) -> None:
        """Make a file this long."""
        os.ftruncate(fd, size)

    def punch(self, fd: int, offset: int, length: int) -> bool:
        """Have a range read as zeros and take no space; return False if this file system cannot."""
        function = _fallocate()
        if function is None:
            return False
        while function(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length) != 0:
            number = ctypes.get_errno()
            if number in (EOPNOTSUPP, ENOSYS):
                return False
            if number != EINTR:  # a signal came, and ctypes, unlike the functions of `os`, does not try again
                raise OSError(number, os.strerror(number))
        return True

    def sync(self, fd: int) -> None:
        """Return when what was written would survive a power cut."""
        os.fdatasync(fd)

    def rename(self, path: Path, to: Path) -> None:
        """Put a file in the place of another at once."""
        os.rename(path, to)

    def unlink(self, path: Path) -> None:
        """Remove a file if it is there."""
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in a folder would survive a power cut."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def names(self, folder: Path) -> list[str]:
        """Return what is in a folder; nothing if there is none."""
        try:
            return os.listdir(folder)
        except FileNotFoundError:
            return []

    def close(self, fd: int) -> None:
        """Give a descriptor back."""
        os.close(fd)

    def boot_id(self) -> str:
        """Return what differs after each start of this computer's kernel; empty if that is not known."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""
