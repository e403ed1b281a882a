"""Bytes of one file on their way to one socket, a step at a time. What it asks of the kernel may wait for a disk."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable

from httpimage.errands import close

STEP = 4 << 20
"""Bytes after which a connection lets others go first."""
COLD_STEP = 1 << 19
"""The same, if they come from a disk."""

_COLD_S = 0.003
_MEMORY_RATE = 1e9
"""Bytes a second. What takes longer, and `_COLD_S` more, comes from a disk, or else it does not matter."""
_AHEAD = 1 << 18
"""What is asked of a disk in advance. All that is asked for stands before whatever else the disk is to do, such as the
sync of a lease: with eight cold downloads that took 85 ms in the median with the kernel's own read-ahead and 4 MiB of
ours, and 3 ms so, while the downloads came to 600 MB/s and not to 1,000 (bench.http_cold)."""
_AHEAD_OF_A_SEEK = 4 << 20
_SEEKING = 4e6
"""A disk that gives a connection fewer bytes a second has to move its head for them: it is asked for more at once."""
_BY_HAND = 1 << 17
_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class Truncated(Exception):
    """The file ended before the promised length: only closing the connection tells the peer."""


class Source:
    """A file of our own descriptor. Whoever holds it calls `share` for another holder; the last `drop` closes it."""

    __slots__ = ("_holders", "_lock", "device", "etag", "fd", "name", "size_bytes")

    def __init__(self, fd: int, name: str, size_bytes: int, etag: str, device: int = 0) -> None:
        """Take a descriptor of one's own of `fd`. Raises `OSError` if there is none left."""
        self.fd = os.dup(fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_RANDOM)  # we read ahead ourselves, and less: see _AHEAD
        self.name = name
        self.size_bytes = size_bytes
        self.etag = etag
        self.device = device
        self._holders = 1
        self._lock = threading.Lock()

    def share(self) -> "Source":
        """Return the same for one more holder."""
        with self._lock:
            self._holders += 1
        return self

    def drop(self) -> None:
        """Give back what the constructor or `share` returned. May be called in any thread; waits for nothing."""
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
        close(self.fd, self.device, self.etag)


class Transfer:
    """Bytes of one file on their way to one connection, behind a head."""

    __slots__ = (
        "by_hand",
        "cold",
        "end",
        "error",
        "finished",
        "head",
        "mark",
        "position",
        "sent",
        "since",
        "source",
    )

    def __init__(
        self,
        source: Source,
        position: int,
        length: int,
        head: bytes,
        finished: Callable[["Transfer"], None],
    ) -> None:
        self.source = source
        self.position = position
        self.end = position + length
        self.head = head
        self.finished = finished
        self.sent = 0
        """Bytes of the file that the kernel has taken."""
        self.error: Exception | None = None
        self.by_hand = False
        """Whether the file's system has no sendfile."""
        self.cold = True
        """Whether its last bytes seem to have come from a disk, which is asked for the next ones in advance."""
        self.mark = 0
        """`sent` at `since`, the beginning of the window that is timed."""
        self.since = time.monotonic()

    def step(self, sock: socket.socket) -> bool:
        """Send what `sock` takes, `STEP` bytes at most; tell whether all is sent. May wait for a disk.

        Raises `Truncated`, and `OSError` of the peer or the disk.
        """
        budget = COLD_STEP if self.cold else STEP
        try:
            if self.head:
                self.head = self.head[sock.send(self.head, socket.MSG_MORE) :]
                if self.head:
                    return False
            while self.position < self.end and budget > 0:
                count = min(self.end - self.position, budget)
                sent = self._move(sock, count)
                if not sent:
                    raise Truncated(f"{self.source.name!r} ended at byte {self.position}, of {self.source.size_bytes}")
                self.position += sent
                self.sent += sent
                budget -= sent
                if sent < count and not self.by_hand:
                    break
        except (BlockingIOError, InterruptedError):
            return False
        return self.position >= self.end

    def _move(self, sock: socket.socket, count: int) -> int:
        if not self.by_hand:
            try:
                began = time.monotonic()
                sent = os.sendfile(sock.fileno(), self.source.fd, self.position, count)
                took_s = time.monotonic() - began
                self.cold = took_s > _COLD_S + sent / _MEMORY_RATE
                if self.cold:
                    ahead = _AHEAD if sent > took_s * _SEEKING else _AHEAD_OF_A_SEEK
                    os.posix_fadvise(self.source.fd, self.position + sent, ahead, os.POSIX_FADV_WILLNEED)
                return sent
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                self.by_hand = True
        data = os.pread(self.source.fd, min(_BY_HAND, count), self.position)
        return sock.send(data) if data else 0
