"""Threads that read files: a few for each disk, so that one that hangs stops only what is on it (F-17)."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from config.content import Content, OpenFile
from tftp.errors import Busy

P = ParamSpec("P")
T = TypeVar("T")

_POOLS = 16
"""Disks with threads of their own; what is on further ones shares the threads of the last."""


class DiskHangs(Busy):
    """As many reads as we keep wait for the disk of this file."""


class _Pool(ThreadPoolExecutor):
    """Threads of one disk, and how many pieces of work they still have."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="tftp-read")
        self.waiting = 0
        self._counting = threading.Lock()

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Do the same as `Executor.submit`."""
        with self._counting:
            self.waiting += 1
        future = super().submit(work, *args, **kwargs)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: "Future[T]") -> None:
        with self._counting:
            self.waiting -= 1


class Disks:
    """The threads of every disk: at most `threads` for each, and `waiting` reads that are not done."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._threads = threads
        self._waiting = waiting
        self._pools: dict[int, _Pool] = {}

    def of(self, content: Content) -> ThreadPoolExecutor:
        """Return the threads that read `content`. Raises `DiskHangs`."""
        device = content.device if isinstance(content, OpenFile) else 0
        if device not in self._pools and len(self._pools) >= _POOLS:
            device = next(reversed(self._pools))
        if device not in self._pools:
            self._pools[device] = _Pool(self._threads)
        pool = self._pools[device]
        if pool.waiting >= self._waiting:
            raise DiskHangs(f"{pool.waiting} reads wait for the disk of {content.name!r}")
        return pool

    def close(self) -> None:
        """End the threads that are idle, and the others when they are done. What waits is not begun."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
