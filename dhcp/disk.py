"""What the lease file asks of the operating system, a method a call, so that a test can end it between any two."""

import os
from contextlib import suppress
from pathlib import Path

MODE = 0o640
"""Of every file made here, whatever the umask says."""


class Files:
    """The real ones. Every method may block, and raises `OSError`."""

    def read(self, path: Path) -> bytes:
        """Return what is in a file; nothing if there is none."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""

    def open(self, path: Path) -> int:
        """Open a file for appending; make an empty one if there is none."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)

    def create(self, path: Path, like: Path) -> int:
        """Begin a new file in place of one that may be there, with the owner of `like` as far as we may give it."""
        self.unlink(path)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        with suppress(OSError):
            before = like.lstat()
            os.fchown(fd, before.st_uid, before.st_gid)
        os.fchmod(fd, MODE)
        return fd

    def write(self, fd: int, data: bytes) -> None:
        """Write all of `data`: a disk that fills up takes a part, and only the next write says why."""
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, memoryview(data)[written:])

    def sync(self, fd: int) -> None:
        """Return when what was written would survive a power cut."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file off."""
        os.ftruncate(fd, size)

    def rename(self, path: Path, to: Path) -> None:
        """Put a file in the place of another at once."""
        os.rename(path, to)

    def link(self, path: Path, to: Path) -> None:
        """Give a file a second name, which another file may have had."""
        self.unlink(to)
        os.link(path, to)

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

    def inode(self, path: Path) -> int:
        """Return what tells the file at `path` from any other that was or will be there; 0 if there is none."""
        try:
            return os.stat(path).st_ino
        except FileNotFoundError:
            return 0

    def close(self, fd: int) -> None:
        """Close a file; what its last `sync` did not cover may be lost."""
        with suppress(OSError):
            os.close(fd)
