"""Where the changed blocks of a disk lie: in a sparse file, in memory or on a disk, each at its own offset.

TRIM makes holes in it, so the space that it gives back really is free.
"""

from collections.abc import Callable
from functools import partial

from nbd.overlay_files import Files
from nbd.overlay_format import Keep
from nbd.overlay_map import Map, Mark


class InMemory:
    """A file in memory (memfd): nothing of it survives this process, and no flush has anything to do."""

    def __init__(self, files: Files, name: str, size_bytes: int, began: Callable[[], None]) -> None:
        """`began` is called once, before anything counts as changed."""
        self._files = files
        self._began: Callable[[], None] | None = began
        self._fd = files.memory(name)
        files.truncate(self._fd, size_bytes)

    def read_warm(self, into: memoryview, offset: int) -> bool:
        """Fill `into`; always so."""
        self._files.pread(self._fd, into, offset)
        return True

    def read(self, into: memoryview, offset: int) -> None:
        """Fill `into`."""
        self._files.pread(self._fd, into, offset)

    def write(self, pieces: list[bytes | memoryview], offset: int) -> None:
        """Write these, one after the other."""
        self._files.pwrite(self._fd, pieces, offset)

    def punch(self, offset: int, length: int) -> bool:
        """Give back the space of a range."""
        return self._files.punch(self._fd, offset, length)

    def note(self, first: int, count: int, state: int) -> None:
        """Tell when it is the first time; nobody will ask for more later."""
        if self._began is not None:
            self._began()
            self._began = None

    @property
    def overdue(self) -> bool:
        """It never is."""
        return False

    def flusher(self, states: bytearray) -> Callable[[], None]:
        """Return what does nothing."""
        return _nothing

    def close(self) -> None:
        """Free the memory."""
        self._files.close(self._fd)


class InFile:
    """A sparse file. With a map it is found again later; without, it ends with its connections."""

    def __init__(self, files: Files, fd: int, blocks: Map | None) -> None:
        self._files = files
        self._fd = fd
        self._map = blocks

    @property
    def device(self) -> int:
        """The disk that it is on (`st_dev`). Raises `OSError`."""
        return self._files.device(self._fd)

    def keep(self, keep: Keep) -> None:
        """Remember another rule for when it is dropped. Raises `OSError`."""
        if self._map is not None:
            self._map.keep(keep)

    def read_warm(self, into: memoryview, offset: int) -> bool:
        """Fill `into` if its pages are in memory; never blocks."""
        return self._files.pread_warm(self._fd, into, offset)

    def read(self, into: memoryview, offset: int) -> None:
        """Fill `into`; may block on the disk. Raises `OSError`."""
        self._files.pread(self._fd, into, offset)

    def write(self, pieces: list[bytes | memoryview], offset: int) -> None:
        """Write these, one after the other. Raises `OSError`."""
        self._files.pwrite(self._fd, pieces, offset)

    def punch(self, offset: int, length: int) -> bool:
        """Give back the space of a range; False if the file system cannot. Raises `OSError`."""
        return self._files.punch(self._fd, offset, length)

    def note(self, first: int, count: int, state: int) -> None:
        """Write it into the map. Raises `OSError`."""
        if self._map is not None:
            self._map.append(first, count, state)

    @property
    def overdue(self) -> bool:
        """Whether the map has grown so long that it had better be flushed."""
        return self._map is not None and self._map.overdue

    def flusher(self, states: bytearray) -> Callable[[], None]:
        """Return what puts the bytes on stable storage, and then the map that says that they count.

        It raises `OSError`.
        """
        return _nothing if self._map is None else partial(self._flush, self._map, self._map.mark(states))

    def _flush(self, blocks: Map, mark: Mark) -> None:
        self._files.sync(self._fd)
        blocks.flush(mark)

    def close(self) -> None:
        """Give the files back, and with them the lock."""
        self._files.close(self._fd)
        if self._map is not None:
            self._map.close()


def _nothing() -> None:
    pass
