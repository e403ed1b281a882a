"""Files in memory that forget: what a killed process, or a power cut, leaves of machines' disks.

`PowerCut` behaves as `nbd.overlay_files.Files`. It can end the process (`Killed`) in place of any of its operations,
or in the middle of a write. `killed` is what the next process finds then. `after` is what a power cut leaves: of what
was not synced, any sector that was written, in any of its versions, and the first so many of the renames.
"""

import errno
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event
from typing import TypeVar

from nbd.overlay_files import Files

T = TypeVar("T")

PAGE = 4096
SECTOR = 512


class Killed(BaseException):
    """The process is no more."""


@dataclass(slots=True, eq=False)
class _File:
    unit: int
    """What the disk writes whole: a sector, or for the blocks themselves a page."""
    number: int
    parts: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    synced: dict[int, bytes] = field(default_factory=dict)
    synced_size: int = 0
    since: dict[int, list[bytes]] = field(default_factory=dict)
    """What else a power cut may leave of each part."""
    sizes: list[int] = field(default_factory=list)

    def put(self, offset: int, data: bytes) -> None:
        for at in range(offset // self.unit, -(-(offset + len(data)) // self.unit)):
            old = self.parts.get(at, bytes(self.unit))
            start, end = max(offset - at * self.unit, 0), min(offset + len(data) - at * self.unit, self.unit)
            taken = at * self.unit + start - offset
            new = old[:start] + data[taken : taken + end - start] + old[end:]
            self.parts[at] = new
            self.since.setdefault(at, []).append(new)
        if offset + len(data) > self.size:
            self.resize(offset + len(data))

    def get(self, offset: int, length: int) -> bytes:
        first, last = offset // self.unit, -(-(offset + length) // self.unit)
        data = b"".join(self.parts.get(at, bytes(self.unit)) for at in range(first, last))
        return data[offset - first * self.unit :][: min(length, max(self.size - offset, 0))]

    def resize(self, size: int) -> None:
        if size < self.size:
            for at in [at for at in self.parts if (at + 1) * self.unit > size]:
                new = self.parts[at][: max(size - at * self.unit, 0)].ljust(self.unit, b"\0")
                self.parts[at] = new
                self.since.setdefault(at, []).append(new)
        self.size = size
        self.sizes.append(size)

    def sync(self) -> None:
        self.synced, self.synced_size = dict(self.parts), self.size
        self.since, self.sizes = {}, []

    def left(self, random: Random | None) -> "_File":
        """Return what is left of it: everything, or what a power cut leaves."""
        found = _File(self.unit, self.number, dict(self.parts), self.size)
        if random is not None:
            found.parts = dict(self.synced)
            for at, versions in self.since.items():
                found.parts[at] = _any(random, self.synced.get(at, bytes(self.unit)), versions)
            found.size = _any(random, self.synced_size, self.sizes)
            found.sync()
        else:
            found.synced, found.synced_size = self.synced, self.synced_size
            found.since, found.sizes = self.since, self.sizes
        return found


def _any(random: Random, first: T, others: list[T]) -> T:
    """Return what is oldest, newest, or in between."""
    return random.choice([first, others[-1], random.choice(others)]) if others else first


class PowerCut(Files):
    """Files in memory, in one boot of a computer."""

    def __init__(self, boot: int = 1, *, holes: bool = True) -> None:
        self.boot = boot
        self.holes = holes
        """Whether this file system can make holes."""
        self.operations = 0
        self.kill_at: int | None = None
        """The number of the operation that is the last, and is not done or only half."""
        self.failing: tuple[str, int] | None = None
        """An operation that fails, and its errno."""
        self.awake = Event()
        """Cleared: what is to be synced hangs."""
        self.awake.set()
        self._names: dict[str, _File] = {}
        self._history: list[dict[str, _File]] = [{}]
        """The names as they were when the folder was last synced, and after each change since."""
        self._open: dict[int, _File] = {}
        self._serial = itertools.count(1000)

    @property
    def descriptors(self) -> int:
        """How many files are open."""
        return len(self._open)

    def killed(self) -> "PowerCut":
        """Return what a process finds that starts after this one was killed."""
        return self._left(None)

    def after(self, random: Random) -> "PowerCut":
        """Return what is found after a power cut."""
        return self._left(random)

    def _left(self, random: Random | None) -> "PowerCut":
        found = PowerCut(self.boot + (random is not None), holes=self.holes)
        found._serial = self._serial
        copies: dict[_File, _File] = {}
        histories = self._history if random is None else [random.choice(self._history)]
        for names in histories:
            for file in names.values():
                if file not in copies:
                    copies[file] = file.left(random)
        found._history = [{name: copies[file] for name, file in names.items()} for names in histories]
        found._names = dict(found._history[-1])
        return found

    def _do(self, operation: str) -> None:
        self.operations += 1
        if self.kill_at is not None and self.operations >= self.kill_at:
            raise Killed(operation)
        if self.failing is not None and self.failing[0] == operation:
            raise OSError(self.failing[1], os.strerror(self.failing[1]))

    def _renamed(self) -> None:
        self._history.append(dict(self._names))

    def folder(self, path: Path) -> None:
        self._do("folder")

    def open(self, path: Path) -> int:
        self._do("open")
        if path.name not in self._names:
            self._names[path.name] = _File(PAGE if path.suffix == ".disk" else SECTOR, next(self._serial))
            self._renamed()
        fd = next(self._serial)
        self._open[fd] = self._names[path.name]
        return fd

    def lock(self, fd: int) -> bool:
        return True

    def device(self, fd: int) -> int:
        return 1

    def is_at(self, fd: int, path: Path) -> bool:
        return self._names.get(path.name) is self._open[fd]

    def length(self, path: Path) -> int | None:
        file = self._names.get(path.name)
        return None if file is None else file.size

    def read(self, path: Path, most: int) -> bytes | None:
        file = self._names.get(path.name)
        return None if file is None else file.get(0, min(file.size, most))

    def pread(self, fd: int, into: memoryview, offset: int) -> None:
        data = self._open[fd].get(offset, len(into))
        if len(data) < len(into):
            raise OSError(errno.EIO, "the file ends before")
        into[:] = data

    def pread_warm(self, fd: int, into: memoryview, offset: int) -> bool:
        self.pread(fd, into, offset)
        return True

    def pwrite(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> None:
        file, data = self._open[fd], b"".join(pieces)
        try:
            self._do("pwrite")
        except BaseException:
            half = (offset + len(data) // 2) // PAGE * PAGE - offset  # a page is copied whole
            if half > 0:
                file.put(offset, data[:half])
            raise
        file.put(offset, data)

    def truncate(self, fd: int, size: int) -> None:
        self._do("truncate")
        self._open[fd].resize(size)

    def punch(self, fd: int, offset: int, length: int) -> bool:
        self._do("punch")
        if self.holes:
            self._open[fd].put(offset, bytes(length))
        return self.holes

    def sync(self, fd: int) -> None:
        self._do("sync")
        self.awake.wait()
        self._open[fd].sync()

    def rename(self, path: Path, to: Path) -> None:
        self._do("rename")
        if path.name not in self._names:
            raise FileNotFoundError(path)
        self._names[to.name] = self._names.pop(path.name)
        self._renamed()

    def unlink(self, path: Path) -> None:
        self._do("unlink")
        if self._names.pop(path.name, None) is not None:
            self._renamed()

    def sync_folder(self, folder: Path) -> None:
        self._do("sync_folder")
        self._history = [dict(self._names)]

    def names(self, folder: Path) -> list[str]:
        return list(self._names)

    def close(self, fd: int) -> None:
        del self._open[fd]

    def boot_id(self) -> str:
        return str(self.boot)
