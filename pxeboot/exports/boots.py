"""The boots of machines that read their roots by NBD: when one begins, and when a machine has gone."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from ipaddress import IPv4Address
from threading import Lock
from typing import Protocol

from pxeboot.bootfiles.lookups import Lookups
from pxeboot.bootfiles.machine import Machine
from pxeboot.exports.pin_store import PinStore
from pxeboot.exports.pins import Pin
from pxeboot.image.store import StoredImage
from pxeboot.seldom import Seldom
from pxeboot.written import both, done

log = logging.getLogger("pxeboot")

LOOK_S = 60.0
"""How often to look who has gone, in seconds."""
GONE_S = 300.0
"""A machine without an address and an open export for so long has gone. Longer than this server takes to restart, and
than a machine takes to connect again."""
FETCHING_S = 1800.0
"""A machine that copies its root into its RAM has it after so long, or will start again."""
AT_ONCE = 200
"""Machines that are looked at before others have their turn in the event loop."""
THREADS = 4
"""How many disks may be dropped at once."""


class Disks(Protocol):
    """The disks that machines write to (`nbd.overlay.Overlays`)."""

    def booting(self, machine: str) -> None:
        """Drop what a boot of this machine ends. Blocks."""


class Boots:
    """Pins the version that a machine boots, and forgets it when the machine has gone."""

    def __init__(
        self,
        pins: PinStore,
        disks: Disks,
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
        connected: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """Keep `pins`, and tell `disks`. `clock` gives seconds since 1970, `now` such as nobody can set.

        `connected` says how many exports a machine has open, for people only: one that was reset has them, too.
        """
        self.pins = pins
        self._disks = disks
        self._clock = clock
        self._now = now
        self._connected = connected
        self._seldom = Seldom()
        self._lock = Lock()  # so that a boot that begins and one that is forgotten are one after the other
        self._threads = Lookups(THREADS, "boots")
        self._boots = itertools.count()
        self._numbers: dict[str, int] = {}
        """Of each disk that is to be dropped, the newest boot."""
        self._fetching: dict[str, tuple[str, float]] = {}
        """What machines fetch by HTTP: image id, since when. Forgotten with this server, as their downloads are."""

    def begins(self, machine: Machine, image: StoredImage | None) -> Future[None]:
        """Take note that a machine is about to boot `image`, or something else (None). Ends the boot before.

        The future is done when that is on disk, and the machine's own disk is as a boot finds it; or it raises
        `OSError`. Blocks nobody. A machine without a pin has no disk that a boot would drop (`Roots.tidy`), so one
        that boots by HTTP costs nothing here.
        """
        before = self.pins.get(machine.name)
        had_disk = before is not None and before.writable is not None
        if had_disk and self._connected(machine.name) and self._seldom(machine.name, "still open"):
            log.info("%s boots, and still has its disk open: it was reset, or what runs on it fetched its menu, "
                     "which costs it what a boot drops", machine.name)  # fmt: skip
        self._fetching.pop(machine.name, None)
        if image is None or machine.pool.root == "http":
            with self._lock:
                if had_disk:
                    self._drop(machine.name).add_done_callback(partial(self._complain, machine.name))
                self.pins.drop([machine.name])
            if image is not None:
                self._fetching[machine.name] = image.image_id, self._now()
            return done()
        pool = machine.pool
        pin = Pin(machine.name, pool.image, image.image_id, machine.ip, self._clock(), pool.writable)
        with self._lock:
            kept = self.pins.put(pin)
            if had_disk or pool.writable is not None:
                return both(kept, self._drop(machine.name))
            return kept

    def _drop(self, machine: str) -> Future[None]:
        """Drop what a boot of this machine ends, unless it begins yet another before a thread comes to that."""
        number = self._numbers[machine] = next(self._boots)

        def drop() -> None:
            if self._numbers.get(machine) == number:
                self._disks.booting(machine)
                with self._lock:
                    if self._numbers.get(machine) == number:
                        del self._numbers[machine]

        try:
            return self._threads.submit(drop)
        except TimeoutError as error:  # the disk of the state folder hangs
            failed: Future[None] = Future()
            failed.set_exception(error)
            return failed

    def _complain(self, machine: str, dropped: "Future[None]") -> None:
        if (error := dropped.exception()) is not None and self._seldom(machine):
            log.warning("%s: its disk cannot be dropped: %s", machine, error)

    def in_ram(self, machine: Machine) -> None:
        """Take note that a machine has its root. One that copied it into its RAM reads it no more."""
        self._fetching.pop(machine.name, None)
        if machine.pool.root == "nbd-to-ram":
            self.pins.drop([machine.name])

    def fetching(self, image_id: str) -> list[str]:
        """Return the machines that are about to copy this version into their RAM by HTTP, or do so now."""
        since_s = self._now() - FETCHING_S
        return [name for name, (one, at_s) in list(self._fetching.items()) if one == image_id and at_s > since_s]

    def booting(self, machine: str) -> str:
        """Return the version that a machine is about to copy into its RAM by HTTP, or copies now; "" for none."""
        return self._fetching.get(machine, ("", 0.0))[0]

    async def watch(self, who: Callable[[IPv4Address], str | None], connected: Callable[[], Iterable[str]]) -> None:
        """Forget machines that have gone, until cancelled.

        `who` says whose address one is now: for a machine that the farm lists, always, since it may come back to its
        address without asking; for others while their leases last. `connected` are those that have an export open.
        """
        absence = Absence(GONE_S)
        while True:
            await asyncio.sleep(LOOK_S)
            there = set(connected())
            pins = self.pins.every()
            for start in range(0, len(pins), AT_ONCE):
                some = pins[start : start + AT_ONCE]
                there.update(pin.machine for pin in some if who(pin.address) == pin.machine)
                await asyncio.sleep(0)
            gone = absence.look([pin.machine for pin in pins], there, time.monotonic())
            if gone:
                await asyncio.to_thread(self._forget, [pin for pin in pins if pin.machine in gone])

    def _forget(self, pins: list[Pin]) -> None:
        for pin in pins:
            with self._lock:
                if not self.pins.drop_pin(pin):
                    continue  # it has booted meanwhile
                dropped = self._drop(pin.machine) if pin.writable is not None else done()
            log.info("%s has gone: it has neither a lease nor an NBD export open", pin.machine)
            dropped.add_done_callback(partial(self._complain, pin.machine))


class Absence:
    """Knows since when somebody is missing."""

    def __init__(self, gone_s: float) -> None:
        """Who is missing for `gone_s` seconds has gone."""
        self._gone_s = gone_s
        self._since_s: dict[str, float] = {}

    def look(self, every: Iterable[str], there: set[str], now_s: float) -> list[str]:
        """Return who of `every` has gone, if these are there `now_s`."""
        missing = [name for name in every if name not in there]
        self._since_s = {name: self._since_s.get(name, now_s) for name in missing}
        return [name for name in missing if now_s - self._since_s[name] >= self._gone_s]
