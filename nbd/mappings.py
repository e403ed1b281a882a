"""Files of images, mapped into memory: one mapping for everybody who reads a file, kept for a while after the last.

To touch a page for the first time costs about as much as to copy it, and machines come and go. Nobody but the kernel
may look at a mapping: a page that was cut off its file kills who touches it (`nbd.exports.Export.window`).
"""

import mmap
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

UNUSED = 4
"""So many mappings are kept that nobody uses."""
UNUSED_S = 60.0
"""How long, in seconds. Until then a file that was deleted takes its space, and a disk cannot be unmounted."""

_Key = tuple[int, int, int, int]


@dataclass(slots=True)
class Mapping:
    """A file in memory."""

    key: _Key
    view: memoryview
    users: int = 0
    unused_since: float = 0.0


class Mappings:
    """All mappings of this process. For use from several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._mappings: dict[_Key, Mapping] = {}  # those that were used last come last

    def take(self, fd: int) -> Mapping | None:
        """Return the mapping of an open file; None if it cannot be mapped. `give` it back."""
        status = os.fstat(fd)
        key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        with self._lock:
            mapping = self._mappings.pop(key, None)
            if mapping is None:
                try:
                    mapped = mmap.mmap(fd, status.st_size, mmap.MAP_SHARED, mmap.PROT_READ)
                    mapped.madvise(mmap.MADV_RANDOM)  # a page that is missing after all brings no megabytes with it
                    view = memoryview(mapped)
                except (OSError, ValueError):  # ValueError: there is nothing in it, or not any more
                    return None
                mapping = Mapping(key, view)
            self._mappings[key] = mapping
            mapping.users += 1
            self._tidy()
        return mapping

    def give(self, mapping: Mapping) -> None:
        """Give a mapping back."""
        with self._lock:
            mapping.users -= 1
            mapping.unused_since = self._clock()
            self._tidy()
            if not mapping.users and self._timer is None:
                self._look_again()

    def _look_again(self) -> None:
        self._timer = threading.Timer(UNUSED_S / 4, self._tidy_now)
        self._timer.daemon = True
        self._timer.start()

    def _tidy_now(self) -> None:
        with self._lock:
            self._timer = None
            self._tidy()
            if any(not mapping.users for mapping in self._mappings.values()):
                self._look_again()

    def _tidy(self) -> None:
        now = self._clock()
        unused = [mapping for mapping in self._mappings.values() if not mapping.users]
        for number, mapping in enumerate(reversed(unused)):
            if number >= UNUSED or now - mapping.unused_since > UNUSED_S:
                del self._mappings[mapping.key]  # its memory is given back with its last window
