"""A file that is written anew, whole, when what it keeps has changed: off the event loop, many changes at a time."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

from config.durable import replace_file

log = logging.getLogger(__name__)

T = TypeVar("T")

HANGS_S = 8.0
"""A disk that has not taken what it was given for so long hangs: nobody else waits for it."""


class Written(Generic[T]):
    """Writes a file in a thread of its own. Nothing here blocks but `close`.

    What changes while the file is being written is written with the next one, all together: a farm that boots at once
    costs a few writes.
    """

    def __init__(
        self,
        path: Path,
        look: Callable[[], T],
        dump: Callable[[T], str],
        *,
        lock: threading.Lock,
        mode: int = 0o640,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write at `path` what `dump` makes of what `look` finds, with the permissions `mode`.

        `lock` guards what is kept: it is held during `look`, not during `dump`, and by who calls `changed`. `clock`
        gives seconds.
        """
        self._path = path
        self._look = look
        self._dump = dump
        self._lock = lock
        self._mode = mode
        self._clock = clock
        self._began_s = 0.0  # the write that goes on, while `_writing`
        self._failing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=path.name)
        self._writing = False
        self._waiting: list[Future[None]] = []
        self._more = False  # something has changed that nobody waits for

    def changed(self) -> "Future[None]":
        """Have what is kept now written; call it with the lock held. The future is done when it is on disk.

        It raises `OSError` if that cannot be done, of these `TimeoutError`, at once, while the disk hangs; it is
        written when the disk is back.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # who waits for it may leave; it is settled all the same
        if self._writing and (since_s := self._clock() - self._began_s) > HANGS_S:
            self._more = True
            future.set_exception(TimeoutError(f"the disk of {self._path} hangs, since {since_s:.0f} s"))
            return future
        self._waiting.append(future)
        if not self._writing:
            self._writing, self._began_s = True, self._clock()
            self._thread.submit(self._write)
        return future

    def _write(self) -> None:
        """Write until nothing has changed meanwhile."""
        while True:
            with self._lock:
                waiting, self._waiting = self._waiting, []
                self._writing = bool(waiting) or self._more
                self._more, self._began_s = False, self._clock()
                if not self._writing:
                    return
                seen = self._look()
            try:
                replace_file(self._path, self._dump(seen).encode(), self._mode)
            except Exception as error:  # whatever it is, nobody waits for good
                if not self._failing:  # who forgets something waits for nothing, and nobody else would say it
                    log.error("%s cannot be written: %s", self._path, error)
                self._failing = True
                for future in waiting:
                    future.set_exception(error)
            else:
                self._failing = False
                for future in waiting:
                    future.set_result(None)

    def close(self) -> None:
        """Write what is left, and stop. Blocks on the disk."""
        self._thread.shutdown()


def done() -> "Future[None]":
    """Return the future of what needs no writing."""
    future: Future[None] = Future()
    future.set_result(None)
    return future


def both(one: "Future[None]", other: "Future[None]") -> "Future[None]":
    """Return a future that is done when both are, or raises what the first of them raises."""
    whole: Future[None] = Future()
    whole.set_running_or_notify_cancel()
    left = [one, other]
    lock = threading.Lock()

    def ended(part: "Future[None]") -> None:
        with lock:
            left.remove(part)
            if whole.done():
                return
            if (error := part.exception()) is not None:
                whole.set_exception(error)
            elif not left:
                whole.set_result(None)

    for part in (one, other):
        part.add_done_callback(ended)
    return whole
