"""The journal behind the event loop: leases that arrive together share one fdatasync, in a thread of its own.

Only what must is done in that thread: bytes made ready on the loop are joined, written and synced, and the last two
let go of the interpreter. A disk that fails, or is full, costs leases and nothing else: none is acknowledged, the
loop goes on, and the disk is tried again by and by.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Self

from dhcp.clock import SteadyClock
from dhcp.journal import Journal, encode
from dhcp.leases import Lease

log = logging.getLogger("dhcp")

MOST_WAITING = 20_000
"""Requests that wait for a disk which does not answer; past this, they are refused (clients repeat them)."""
RETRY_S = 0.5
"""How long a disk that failed is left alone. Clients repeat themselves after 4 s."""
SLOW_S = 5.0
"""A disk that has not answered for this long is told of."""
_PAUSE_S = 0.005
"""Between two steps of tidying: they need the interpreter, which the loop gives up at every system call, for a fifth
of a millisecond each, and would take half of it if they came one after the other."""
_SEVERAL = 3
"""Behind a batch that so many waited for, more gather."""
_GATHER_S = 0.001
"""So much later the next one begins then: each costs a tenth of a millisecond of a processor, and the thread and the
loop take the interpreter from each other."""
_AT_ONCE = 128
"""Answers given before the loop sees to others: some milliseconds."""

Then = Callable[[BaseException | None], None]
"""Called on the loop when a lease is on disk, or with the error that kept it off."""
Early = Callable[[], None]
"""Called in the thread when a lease is on disk, if nothing else is under way; it raises nothing and is quick."""


Before = Callable[[Lease, Callable[[], None], Then], None]
"""Asked before a lease is stored: it calls the second argument when the lease may be, or the third with an error."""


class Taken(OSError):
    """The address is somebody else's: another server was quicker."""


class Away(OSError):
    """Nobody can be asked whether another server gave the address to somebody."""


class StoreBusy(OSError):
    """The disk is too slow for what is asked of it."""


@dataclass(slots=True)
class _Entry:
    """A line on its way to the disk, and who waits for it."""

    line: bytes
    then: list[Then]
    early: Early | None = None
    """Of the only one who waits, for this very line."""


_Entries = dict[int, _Entry]
"""By address."""


@dataclass(slots=True)
class _Batch:
    """What the thread is to do: put these lines on disk."""

    lines: dict[int, bytes]
    early: Early | None


@dataclass(slots=True)
class _Replacement:
    """What the thread is to do: make these leases the only ones."""

    leases: tuple[Lease, ...]
    then: list[Then]
    """Who waited for one of them."""
    done: Future[None] = field(default_factory=Future)


def _nobody(seconds: float, succeeded: bool) -> None:
    """Hear of a write to the disk."""


class LeaseStore:
    """Where leases survive. `clock` tells the times in them. All but `degraded` only on the loop."""

    def __init__(self, journal: Journal, clock: SteadyClock) -> None:
        self.clock = clock
        self.before: Before | None = None
        """Where leases are to be kept first, because several servers share them."""
        self.synced: Callable[[float, bool], None] = _nobody
        """Told of each write to the disk: how many seconds it took, and whether it succeeded. On the loop."""
        self._journal = journal
        self._jobs: SimpleQueue[_Batch | _Replacement | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="leases", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: _Entries = {}
        self._writing: _Entries = {}
        self._began: float | None = None
        """When the thread was given the batch that is under way, which may be an empty one; None if there is none."""
        self._superseded = False
        """Whether the records were replaced since that batch began."""
        self._due = False
        self._gathering = False
        """Whether the next batch is to begin later, however many wait."""
        self._answers: deque[tuple[Then, BaseException | None]] = deque()
        self._count = 0
        self._error: BaseException | None = None
        self._retry_at = 0.0
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the lease file, or begin one. Blocks; call it before serving.

        Raises `JournalError` with a text for people, and `OSError`.
        """
        journal = Journal(path)
        if journal.skipped:
            log.warning("dhcp: %s: left out %d unreadable lines; %s.damaged keeps them", path, journal.skipped, path)
        if journal.torn:
            log.warning("dhcp: %s: the last line was cut short, so nobody was told of that lease; left out", path)
        return cls(journal, SteadyClock())

    @property
    def leases(self) -> tuple[Lease, ...]:
        """What was on disk when it was opened, and since."""
        return self._journal.leases

    @property
    def degraded(self) -> str | None:
        """Why no lease can be given now, None if they can."""
        began = self._began
        if self._error is not None:
            return f"leases cannot be stored in {self._journal.path}: {self._error}"
        if began is not None and (waited_s := time.monotonic() - began) > SLOW_S:
            return f"the disk of {self._journal.path} has not answered for {waited_s:.0f} s"
        return None

    @property
    def answers(self) -> bool:
        """Whether more of those who wait are told right after the one who is told now."""
        return bool(self._answers)

    def put(self, lease: Lease, then: Then, early: Early | None = None) -> None:
        """Have `lease` on disk and call `then`, at once if it is there already. Only on a running loop.

        `early` may be called before it, and need not be.
        """
        if self.before is not None:
            self.before(lease, lambda: self.keep(lease, then), then)
        else:
            self.keep(lease, then, early)

    def keep(self, lease: Lease, then: Then, early: Early | None = None) -> None:
        """Do as `put` does, with nobody asked before."""
        address, line = int(lease.address), encode(lease)
        waiting, writing = self._waiting.get(address), self._writing.get(address)
        if waiting is None and writing is None and self._journal.holds(address, line):
            then(None)
            return
        if self._count >= MOST_WAITING:
            then(StoreBusy(f"{self._count} requests wait for the disk already"))
            return
        if waiting is None and writing is not None and writing.line == line:
            waiting = writing
        elif waiting is None:
            waiting = self._waiting[address] = _Entry(line, [])
        else:
            waiting.line, waiting.early = line, None  # only the newest record of an address matters
        if self._error is not None and time.monotonic() < self._retry_at:
            then(self._error)
            return
        self._count += 1
        waiting.early = None if waiting.then else early
        waiting.then.append(then)
        if not (self._due or self._gathering) and self._began is None:
            self._soon()

    def flush(self) -> None:
        """Begin to write what was put, since nothing more is to come at once."""
        if self._due:
            self._write()

    def replace(self, leases: tuple[Lease, ...]) -> Future[None]:
        """Make these the only records on disk, what was put before included; who waits for that is told then."""
        thens = [then for entry in self._waiting.values() for then in entry.then]
        self._waiting, self._superseded = {}, True
        with suppress(RuntimeError):  # there is no loop yet
            self._loop = asyncio.get_running_loop()
        replacement = _Replacement(leases, thens)
        self._jobs.put(replacement)
        return replacement.done

    def close(self) -> None:
        """Finish what is under way and let go of the file. Blocks for as long as the disk does."""
        self._jobs.put(None)
        self._thread.join()
        self._journal.close()

    def _soon(self) -> None:
        """Write when the messages that have arrived together are all answered, so that they share one sync."""
        self._due = True
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Begin the next batch, unless one is under way."""
        self._due = False
        if self._began is not None or not (self._waiting or self._error):
            return
        self._writing, self._waiting = self._waiting, {}
        self._began, self._superseded = time.monotonic(), False
        early = None
        if len(self._writing) == 1:
            [entry] = self._writing.values()
            early = entry.early
        self._jobs.put(_Batch({address: entry.line for address, entry in self._writing.items()}, early))

    def _written(self, error: BaseException | None) -> None:
        if self._began is not None:
            self.synced(time.monotonic() - self._began, error is None)
        done, self._writing, self._began = self._writing, {}, None
        thens = [then for entry in done.values() for then in entry.then]
        self._count -= len(thens)
        self._judge(error)
        if error is not None and not self._superseded:
            # On the loop it is a lease; so it should become one on disk, though nobody was told.
            for address, entry in done.items():
                self._waiting.setdefault(address, _Entry(entry.line, []))
        self._answer(thens, error)
        if self._error is None and len(thens) >= _SEVERAL:
            self._gathering = True
            asyncio.get_running_loop().call_later(_GATHER_S, self._gathered)
        elif self._error is None and self._waiting:
            self._write()

    def _gathered(self) -> None:
        self._gathering = False
        if self._error is None:
            self._write()

    def _replaced(self, thens: list[Then], error: BaseException | None) -> None:
        self._count -= len(thens)
        self._judge(error)
        self._answer(thens, error)

    def _judge(self, error: BaseException | None) -> None:
        if error is None:
            if self._error is not None:
                log.warning("dhcp stores leases again in %s", self._journal.path)
            self._error = None
            return
        self._error = error
        self._retry_at = time.monotonic() + RETRY_S
        asyncio.get_running_loop().call_later(RETRY_S, self._write)

    def _answer(self, thens: list[Then], error: BaseException | None) -> None:
        """Tell who waited, some at a time."""
        if thens:
            idle = not self._answers
            self._answers.extend((then, error) for then in thens)
            if idle:
                self._answer_some()

    def _answer_some(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._answers))):
            then, error = self._answers.popleft()
            then(error)
        if self._answers:
            asyncio.get_running_loop().call_soon(self._answer_some)

    def _call(self, what: Callable[..., None], *arguments: object) -> None:
        """In the thread: have the loop do something, unless it is no more."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what, *arguments)

    def _work(self) -> None:
        """The thread: one job after the other, and between them the file is tidied."""
        untidy, due = True, 0.0
        while True:
            wait_s = max(0.0, due - time.monotonic())
            if untidy and not wait_s:
                untidy, due = self._tidied(), time.monotonic() + _PAUSE_S
                continue
            try:
                job = self._jobs.get(timeout=wait_s if untidy else None)
            except Empty:
                continue
            if job is None:
                return
            error: BaseException | None = None
            try:
                if isinstance(job, _Replacement):
                    self._journal.replace(job.leases)
                else:
                    self._journal.write(job.lines)
                    if job.early is not None:
                        job.early()
            except BaseException as failed:
                error = failed
            if isinstance(job, _Replacement):
                self._call(self._replaced, job.then, error)
                job.done.set_result(None) if error is None else job.done.set_exception(error)
            else:
                self._call(self._written, error)
            untidy = True

    def _tidied(self) -> bool:
        try:
            return self._journal.tidy()
        except Exception:  # a bug of ours must not stop the writing of leases
            log.exception("dhcp could not tidy %s", self._journal.path)
            return False
