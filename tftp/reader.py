"""Reading a file without making the event loop wait for a disk.

What is in the page cache is read at once (RWF_NOWAIT); for the rest a thread reads it and asks the kernel to fetch
what follows. So a storm of machines that load the same files reads the disk once and starts no threads, and a disk
that hangs stops only the transfers that need it. Either way 64 KiB are read together, which is also what a transfer
keeps in memory (a window above that: as much as a window, `options.WINDOW_CAP`).
"""

import os
import threading
from asyncio import AbstractEventLoop, Future
from concurrent.futures import Executor
from contextlib import suppress

from config.content import Made, OpenFile
from tftp.netascii import Netascii, Readable

_CHUNK = 64 * 1024
_READ_AHEAD = 1024 * 1024


class Truncated(OSError):
    """The file is shorter than it was when it was opened."""


class Reader:
    """Gives out pieces of `content`, and closes it once nobody reads it any more."""

    def __init__(self, content: OpenFile | Made | Netascii, executor: Executor) -> None:
        self._content: Readable = content
        self._made = isinstance(content, Made)
        self._file = content.fd if isinstance(content, OpenFile) else None
        self._fd = self._file  # for reads that do not wait
        self._executor = executor
        self._chunk = (0, memoryview(b""))  # offset, bytes: what was read last
        self._lock = threading.Lock()  # of the two below: `close` comes while a thread may be reading
        self._reading = False
        self._closed = False

    @property
    def file(self) -> int | None:
        """The descriptor of the file, for another process to read; None if this is no file, or it is closed."""
        return None if self._closed else self._file

    def read_now(self, offset: int, length: int) -> memoryview | None:
        """Return exactly these bytes if that takes no waiting, otherwise None: then `load` them first."""
        start, chunk = self._chunk
        if start <= offset and offset + length <= start + len(chunk):
            return chunk[offset - start : offset - start + length]
        if self._made:
            return memoryview(self._content.pread(length, offset))
        if self._fd is None:
            return None
        buffer = bytearray(max(length, _CHUNK))
        try:
            got = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError:  # a file system that cannot tell (or an error, which the thread will meet again)
            self._fd = None
            return None
        if got < length:
            return None
        chunk = memoryview(buffer)[:got]
        self._chunk = (offset, chunk)
        return chunk[:length]

    def load(self, loop: AbstractEventLoop, offset: int, length: int) -> "Future[None]":
        """Read these bytes in a thread, so that `read_now` has them. One load at a time.

        The future raises `Truncated` or another `OSError`, and `RuntimeError` when the executor is shut down.
        """
        return loop.run_in_executor(self._executor, self._load, offset, length)

    def close(self) -> None:
        """Give the content back: now, or as soon as the thread that reads it is done."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._reading:
                self._content.close()

    def _load(self, offset: int, length: int) -> None:
        with self._lock:
            if self._closed:
                return
            self._reading = True
        try:
            chunk = self._content.pread(max(length, _CHUNK), offset)
            if len(chunk) < length:
                raise Truncated(f"{len(chunk)} bytes at offset {offset}, expected {length}")
            self._chunk = (offset, memoryview(chunk))
            if self._fd is not None:
                with suppress(OSError):  # only a hint
                    os.posix_fadvise(self._fd, offset + len(chunk), _READ_AHEAD, os.POSIX_FADV_WILLNEED)
        finally:
            with self._lock:
                self._reading = False
                if self._closed:
                    self._content.close()
