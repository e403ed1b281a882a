"""A disk in memory that forgets: what a killed process, or a power cut, leaves of the lease file.

`CrashDisk` behaves as `dhcp.disk.Files`. It can end the process (`Killed`) at any of its operations, half-way through
a write, or fail with an errno; `after` then says what is there when somebody starts again.
"""

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dhcp.disk import Files

Left = Literal["all", "synced", "synced-renamed"]
"""What remains: everything (kill -9), what was synced (a power cut), or that and the renames nobody synced."""


class Killed(BaseException):
    """The process is no more."""


@dataclass(slots=True)
class _Node:
    number: int
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


class CrashDisk(Files):
    """Files in memory."""

    def __init__(self) -> None:
        self.names: dict[Path, _Node] = {}
        self.done: list[str] = []
        """The operations so far."""
        self.before: Callable[[str, int], None] = lambda operation, number: None
        """Called before each operation with its name and number; may raise `Killed` or `OSError`."""
        self._durable: dict[Path, _Node] = {}
        self._open: dict[int, _Node] = {}
        self._serial = itertools.count(1)

    def kill_at(self, number: int) -> None:
        """End the process in place of this operation; a write gets half of its bytes out."""

        def before(operation: str, current: int) -> None:
            if current == number:
                raise Killed(operation)

        self.before = before

    def fail(self, operation: str, error: int) -> None:
        """Let an operation fail from now on."""

        def before(current: str, number: int) -> None:
            if current == operation:
                raise OSError(error, os.strerror(error))

        self.before = before

    def works(self) -> None:
        """Let nothing fail any more."""
        self.before = lambda operation, number: None

    def after(self, left: Left) -> "CrashDisk":
        """Return the disk as it is found after the end of the process."""
        found = CrashDisk()
        names = self._durable if left == "synced" else self.names
        for path, node in names.items():
            data = bytes(node.data) if left == "all" else node.synced
            found.names[path] = found._durable[path] = _Node(next(found._serial), bytearray(data), data)
        return found

    def _begin(self, operation: str) -> None:
        self.done.append(operation)
        self.before(operation, len(self.done) - 1)

    def read(self, path: Path) -> bytes:
        self._begin("read")
        return bytes(self.names[path].data) if path in self.names else b""

    def open(self, path: Path) -> int:
        self._begin("open")
        return self._descriptor(self.names.setdefault(path, _Node(next(self._serial))))

    def create(self, path: Path, like: Path) -> int:
        self._begin("create")
        self.names[path] = node = _Node(next(self._serial))
        return self._descriptor(node)

    def _descriptor(self, node: _Node) -> int:
        fd = next(self._serial)
        self._open[fd] = node
        return fd

    def write(self, fd: int, data: bytes) -> None:
        node = self._open[fd]
        try:
            self._begin("write")
        except BaseException:
            node.data += data[: len(data) // 2]
            raise
        node.data += data

    def sync(self, fd: int) -> None:
        self._begin("sync")
        self._open[fd].synced = bytes(self._open[fd].data)

    def truncate(self, fd: int, size: int) -> None:
        self._begin("truncate")
        del self._open[fd].data[size:]

    def rename(self, path: Path, to: Path) -> None:
        self._begin("rename")
        self.names[to] = self.names.pop(path)

    def link(self, path: Path, to: Path) -> None:
        self._begin("link")
        self.names[to] = self.names[path]

    def unlink(self, path: Path) -> None:
        self._begin("unlink")
        self.names.pop(path, None)

    def sync_folder(self, folder: Path) -> None:
        self._begin("sync_folder")
        self._durable = dict(self.names)

    def inode(self, path: Path) -> int:
        return self.names[path].number if path in self.names else 0

    def close(self, fd: int) -> None:
        if self._open.pop(fd, None) is None:
            raise OSError(errno.EBADF, "closed twice")
