"""The journal behind the event loop: leases that arrive together share one fdatasync, in a thread of its own."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from dhcp.clock import SteadyClock
from dhcp.journal import Journal
from dhcp.leases import Lease

log = logging.getLogger("dhcp")

MOST_WAITING = 20_000
"""Leases that wait for a disk which does not answer; past this, requests are refused (clients repeat them)."""

Then = Callable[[BaseException | None], None]
"""Called on the loop when a lease is on disk, or with the error that kept it off."""


class StoreBusy(OSError):
    """The disk is too slow for what is asked of it."""


@dataclass(slots=True)
class _Entry:
    """A record on its way to the disk, and who waits for it."""

    lease: Lease
    then: list[Then]


class LeaseStore:
    """Where leases survive. `clock` tells the times in them."""

    def __init__(self, journal: Journal, clock: SteadyClock) -> None:
        self.clock = clock
        self._journal = journal
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="leases")
        self._waiting: dict[IPv4Address, _Entry] = {}
        self._writing: dict[IPv4Address, _Entry] = {}
        self._count = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the lease file, or begin one. Blocks; call it before serving.

        Raises `JournalError` with a text for people, and `OSError`.
        """
        journal = Journal(path)
        if journal.skipped:
            log.warning("dhcp: %s: left out %d unreadable lines", path, journal.skipped)
        return cls(journal, SteadyClock())

    @property
    def leases(self) -> tuple[Lease, ...]:
        """What was on disk when it was opened, and since."""
        return self._journal.leases

    def put(self, lease: Lease, then: Then) -> None:
        """Have `lease` on disk and call `then`, at once if it is there already. Only on a running loop."""
        waiting, writing = self._waiting.get(lease.address), self._writing.get(lease.address)
        if waiting is None and writing is None and self._journal.holds(lease):
            then(None)
            return
        if self._count >= MOST_WAITING:
            then(StoreBusy(f"{self._count} requests wait for the disk already"))
            return
        self._count += 1
        if waiting is not None:
            waiting.lease = lease  # only the newest record of an address matters
            waiting.then.append(then)
        elif writing is not None and writing.lease == lease:
            writing.then.append(then)
        else:
            self._waiting[lease.address] = _Entry(lease, [then])
        self._write()

    def replace(self, leases: tuple[Lease, ...]) -> Future[None]:
        """Make these the only records on disk, after what was put before."""
        return self._thread.submit(self._journal.replace, leases)

    def close(self) -> None:
        """Finish what is under way and let go of the file. Blocks for as long as the disk does."""
        self._thread.shutdown(wait=True)
        self._journal.close()

    def _write(self) -> None:
        """Begin the next batch, unless one is under way."""
        if self._writing or not self._waiting:
            return
        self._writing, self._waiting = self._waiting, {}
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(
            self._thread, self._journal.append, [entry.lease for entry in self._writing.values()]
        )
        job.add_done_callback(self._written)

    def _written(self, job: "asyncio.Future[None]") -> None:
        done, self._writing = self._writing, {}
        error = StoreBusy("stopping") if job.cancelled() else job.exception()
        for entry in done.values():
            self._count -= len(entry.then)
            for then in entry.then:
                then(error)
        self._write()
