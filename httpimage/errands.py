"""What may wait for a disk, done by threads of our own that nothing waits for, not even the end of the process.

Neither asyncio's executor, which is joined at the end and has few threads for everybody, nor the event loop may do it:
Linux asks a file system in user space at each close(), too, and waits for its answer.
"""

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from config.content import Content, OpenFile
from httpimage.turns import Line, Lines

log = logging.getLogger(__name__)

SPARE_S = 5.0
"""How long a thread stays without work."""

_Work = Callable[[], None]


class Errands:
    """Work in threads, so much at once for one file and for one disk."""

    def __init__(self, name: str, *, per_file: int, per_disk: int, most: int) -> None:
        """Start nothing yet. There are never more than `most` threads."""
        self._name = name
        self._most = most
        self._lines: Lines[_Work] = Lines(per_file=per_file, per_disk=per_disk)
        self._ready: deque[tuple[Line[_Work], _Work]] = deque()
        self._changed = threading.Condition(threading.Lock())
        """Guards all of this."""
        self._threads = self._idle = 0

    def run(self, device: int, file: str, work: Callable[[], None]) -> None:
        """Have `work` done, when it is the turn of `file` on `device`. May be called in any thread."""
        with self._changed:
            line = self._lines.of(device, file)
            if line.enter(work):
                self._ready.append((line, work))
            if len(self._ready) <= self._idle:
                self._changed.notify()
            elif self._ready and self._threads < self._most:
                with suppress(RuntimeError):  # no thread is left: one that there is does it, or else the next call
                    threading.Thread(target=self._work, name=self._name, daemon=True).start()
                    self._threads += 1

    def _work(self) -> None:
        with self._changed:
            while self._ready or self._waited():
                line, work = self._ready.popleft()
                self._changed.release()
                try:
                    work()
                except Exception:
                    log.exception("%s: an error of ours", self._name)
                finally:
                    del work
                    self._changed.acquire()
                following = line.leave()
                if following is not None:
                    self._ready.append(following)
            self._threads -= 1

    def _waited(self) -> bool:
        """Wait for work; false if there was none for a while."""
        self._idle += 1
        self._changed.wait_for(lambda: self._ready, SPARE_S)
        self._idle -= 1
        return bool(self._ready)


_CLOSING = Errands("http-close", per_file=1, per_disk=1, most=32)
_READING = Errands("http-read", per_file=2, per_disk=4, most=64)


def close(fd: int, device: int, file: str) -> None:
    """Close a descriptor of `file` on `device`, a little later."""
    _CLOSING.run(device, file, lambda: os.close(fd))


def close_content(content: Content) -> None:
    """Close what was looked up, a little later."""
    if isinstance(content, OpenFile):
        close(content.fd, content.device, content.etag)


async def read(file: OpenFile, length: int, offset: int) -> bytes:
    """Return up to `length` bytes of `file` at `offset`; fewer only at its end. Raises `OSError`.

    Cancelled here, the descriptor may be closed under the thread. It then reads nothing, or something else, into bytes
    that nobody looks at.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def tell(data: bytes, error: Exception | None) -> None:
        if not done.done():
            if error is None:
                done.set_result(data)
            else:
                done.set_exception(error)

    def work() -> None:
        data, failure = b"", None
        if not done.done():
            try:
                data = file.pread(length, offset)
            except OSError as error:
                failure = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, data, failure)

    _READING.run(file.device, file.etag, work)
    return await done
