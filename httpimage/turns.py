"""Whose turn it is at a disk, so that one that hangs holds a few threads and not all of them. Pure.

Whatever belongs to one file waits in one `Line`, and the lines of one disk share its limit. The caller holds a lock.
"""

from collections import deque
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class _Disk(Generic[T]):
    """One disk: how many are at it, and the lines in which somebody waits."""

    __slots__ = ("__weakref__", "lines", "running")

    def __init__(self) -> None:
        self.running = 0
        self.lines: deque[Line[T]] = deque()


class Line(Generic[T]):
    """One file: how many are at it, and who waits."""

    __slots__ = ("__weakref__", "_disk", "_limits", "_running", "_waiting")

    def __init__(self, disk: _Disk[T], limits: tuple[int, int]) -> None:
        self._disk = disk
        self._limits = limits
        self._running = 0
        self._waiting: deque[T] = deque()

    def enter(self, item: T) -> bool:
        """Tell whether `item` may go on at once; otherwise some `leave` returns it, when it is its turn."""
        per_file, per_disk = self._limits
        if self._running < per_file and self._disk.running < per_disk:
            self._running += 1
            self._disk.running += 1
            return True
        if not self._waiting:
            self._disk.lines.append(self)
        self._waiting.append(item)
        return False

    def leave(self) -> "tuple[Line[T], T] | None":
        """End what `enter` or `leave` began; return whose turn it is then, if anybody waits for this disk.

        >>> lines = Lines(per_file=1, per_disk=1)
        >>> a, b = lines.of(7, "a"), lines.of(7, "b")
        >>> a.enter("first"), b.enter("second"), a.enter("third"), lines.of(8, "c").enter("elsewhere")
        (True, False, False, True)
        >>> [item for _, item in (a.leave(), b.leave())], a.leave()
        (['second', 'third'], None)
        """
        self._running -= 1
        self._disk.running -= 1
        lines = self._disk.lines
        for _ in range(len(lines)):
            line = lines.popleft()
            if line._running >= self._limits[0]:
                lines.append(line)
                continue
            item = line._waiting.popleft()
            if line._waiting:
                lines.append(line)
            line._running += 1
            self._disk.running += 1
            return line, item
        return None


class Lines(Generic[T]):
    """The lines of all files. One is forgotten when nobody holds it."""

    def __init__(self, *, per_file: int, per_disk: int) -> None:
        """Let so many be at one file, and at one disk, at once."""
        self._limits = (per_file, per_disk)
        self._lines: WeakValueDictionary[tuple[int, str], Line[T]] = WeakValueDictionary()
        self._disks: WeakValueDictionary[int, _Disk[T]] = WeakValueDictionary()

    def of(self, device: int, file: str) -> Line[T]:
        """Return the line of `file` on `device`; a file of the device 0, which is not known, is a disk of its own."""
        line = self._lines.get((device, file))
        if line is None:
            disk = self._disks.get(device) if device else None
            if disk is None:
                disk = _Disk()
                if device:
                    self._disks[device] = disk
            line = self._lines[device, file] = Line(disk, self._limits)
        return line
