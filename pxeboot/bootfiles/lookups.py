"""Threads that look for files, and take on no more work once their disk hangs.

What waits for a disk cannot be called back. Without a bound, each request for a file on one that hangs would stay in
the queue until the disk is back, and take a place among what the servers grant until it is given up.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from config.disks import Pool

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="Closable | None")

WAITING = 64
"""How much may be in hand while nothing gets on; a disk that answers may have any number."""
STALLED_S = 0.5
"""After so long without a look-up that began or ended, nothing gets on."""


_PLACES = 16
"""Those with threads of their own; further ones share the threads of the last."""


class Closable(Protocol):
    """What holds a descriptor until it is closed."""

    def close(self) -> None:
        """Give it back."""


class Lookups:
    """A few threads of one disk, or of several that are as good as one."""

    def __init__(self, threads: int, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Start none yet. `clock` gives seconds."""
        self._pool = Pool(threads, name)
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting = 0  # including what was cancelled, until a thread sees that
        self._moved_s = 0.0  # when something last began or ended

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Do `work` in a thread. Raises `TimeoutError`, at once, while the disk hangs."""
        now_s = self._clock()
        with self._lock:
            if not self._waiting:
                self._moved_s = now_s
            stalled_s = now_s - self._moved_s
            if self._waiting >= WAITING and stalled_s > STALLED_S:
                raise TimeoutError(f"a disk hangs: {self._waiting} look-ups wait, since {stalled_s:.1f} s")
            self._waiting += 1
        # Not the pool's own future: a cancelled one stays in its queue, and nobody would know.
        future: Future[T] = Future()

        def run() -> None:
            self._moved(0)
            try:
                if future.set_running_or_notify_cancel():
                    _settle(future, lambda: work(*args, **kwargs))
            finally:
                self._moved(-1)

        self._pool.submit(run)
        return future

    def _moved(self, waiting: int) -> None:
        with self._lock:
            self._waiting += waiting
            self._moved_s = self._clock()


class Places:
    """A few threads for each of several folders, so that one whose disk hangs stops only what is there (F-17)."""

    def __init__(self, threads: int, name: str) -> None:
        """Start none yet. There are `threads` for each folder."""
        self._threads, self._name = threads, name
        self._lookups: dict[Path | None, Lookups] = {}

    def of(self, place: Path | None) -> Lookups:
        """Return the threads of one folder; those of None are for what may be anywhere."""
        if place not in self._lookups and len(self._lookups) >= _PLACES:
            return next(reversed(self._lookups.values()))
        return self._lookups.setdefault(place, Lookups(self._threads, self._name))


def _settle(future: "Future[T]", work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


async def handed_over(work: "Future[C]") -> C:
    """Return what a thread finds. When we are cancelled meanwhile, whatever it still finds is closed.

    A client that leaves, or a server that stops, must not cost a descriptor each time.
    """
    try:
        return await asyncio.wrap_future(work)
    except asyncio.CancelledError:
        work.add_done_callback(_close)
        raise


def _close(work: "Future[C]") -> None:
    if not work.cancelled() and work.exception() is None and (content := work.result()) is not None:
        content.close()
