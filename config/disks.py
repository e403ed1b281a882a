"""Threads that read and write files: a few for each disk, so that one that hangs stops only what is on it (F-17).

They are daemon threads: the end of the process waits for none of them.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple[Callable[[], None], Callable[[], bool]]
"""What does a piece of work, and what cancels it."""

_POOLS = 16
"""Disks with threads of their own; what is on further ones shares the threads of the last."""


class DiskHangs(Exception):
    """As much work as we keep waits for this disk."""


class Pool(Executor):
    """The threads of one disk, and how many pieces of work they still have."""

    def __init__(self, most: int, name: str) -> None:
        """Start no thread yet; there are `most` at most."""
        self.waiting = 0
        self._most = most
        self._name = name
        self._work: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._closed = False
        self._lock = threading.Lock()

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Do the same as `Executor.submit`."""
        future: Future[T] = Future()
        future.add_done_callback(self._done)

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = work(*args, **kwargs)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)

        with self._lock:
            if self._closed:
                raise RuntimeError("these threads were ended")
            self.waiting += 1
            self._work.put((run, future.cancel))
            if self._idle:
                self._idle -= 1
            elif self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._thread, name=self._name, daemon=True).start()
        return future

    def _done(self, _: object) -> None:
        with self._lock:
            self.waiting -= 1

    def _thread(self) -> None:
        while (job := self._work.get()) is not None:
            job[0]()
            del job  # and what it holds, before the next one comes
            with self._lock:
                # Who brings work takes an idle thread off the count: this one, or one that has more to do already.
                if self._work.empty():
                    self._idle += 1
        self._work.put(None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads that are idle, and the others when they are done. Never waits."""
        with self._lock:
            self._closed = True
        with suppress(Empty):
            while cancel_futures:
                if (job := self._work.get_nowait()) is not None:
                    job[1]()
        self._work.put(None)


class Disks:
    """The threads of every disk: at most `threads` for each, and `waiting` pieces of work that are not done."""

    def __init__(self, threads: int, waiting: int, name: str = "disk") -> None:
        self._threads = threads
        self._waiting = waiting
        self._name = name
        self._pools: dict[int, Pool] = {}
        self._lock = threading.Lock()

    def of(self, device: int, file: str) -> Pool:
        """Return the threads of the disk `device` (`st_dev`; 0: not known), where `file` is. From any thread.

        Raises `DiskHangs`.
        """
        with self._lock:
            if device not in self._pools and len(self._pools) >= _POOLS:
                device = next(reversed(self._pools))
            if device not in self._pools:
                self._pools[device] = Pool(self._threads, self._name)
            pool = self._pools[device]
        if pool.waiting >= self._waiting:
            raise DiskHangs(f"{pool.waiting} reads wait for the disk of {file!r}")
        return pool

    def close(self) -> None:
        """End the threads that are idle, and the others when they are done. What waits is not begun."""
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
