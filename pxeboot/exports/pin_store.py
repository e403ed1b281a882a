"""The pins on disk: what a machine boots is there before it is told."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

from config.durable import replace_file
from pxeboot.exports import pins
from pxeboot.exports.pins import Pin

log = logging.getLogger(__name__)

FILE = "pins"
"""Below the state folder."""
HANGS_S = 8.0
"""A disk that has not taken what it was given for so long hangs: nobody else waits for it."""


class PinStore:
    """The pins of all machines, kept in a file. For use from several threads; nothing but the first reading blocks.

    A change counts at once, and its future is done when it is on disk. What changes while the file is being written
    is written with the next one, all together: a farm that boots at once costs a few writes.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read what was kept at `path`. `clock` gives seconds. Raises `OSError`."""
        self._path = path
        self._clock = clock
        self._began_s = 0.0  # the write that goes on, while `_writing`
        self._failing = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pins")
        self._writing = False
        self._waiting: list[Future[None]] = []
        self._more = False  # something has changed that nobody waits for
        self.damaged = 0
        """How many lines could not be read."""
        try:
            self._pins, self.damaged = pins.parse(path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            self._pins = {}
        self._at = {pin.address: pin for pin in self._pins.values()}
        if self.damaged:
            log.warning("%s: %d lines are damaged and left out: machines that run from an NBD root are missing in it",
                        path, self.damaged)  # fmt: skip

    def get(self, machine: str) -> Pin | None:
        """Return what `machine` booted."""
        return self._pins.get(machine)

    def at(self, address: IPv4Address) -> Pin | None:
        """Return what the machine that booted last from an address booted, unless it has booted elsewhere since."""
        return self._at.get(address)

    def every(self) -> list[Pin]:
        """Return all pins, by the names of the machines."""
        with self._lock:
            return [pin for _, pin in sorted(self._pins.items())]

    def put(self, pin: Pin) -> Future[None]:
        """Keep what a machine boots from now on. The future raises `OSError` if that cannot be kept.

        Of these `TimeoutError`, at once, while the disk hangs; it is written when the disk is back.
        """
        with self._lock:
            self._forget(pin.machine)
            self._pins[pin.machine] = self._at[pin.address] = pin
            return self._changed()

    def drop(self, machines: Iterable[str]) -> Future[None]:
        """Forget what these machines booted."""
        with self._lock:
            found = [name for name in machines if self._forget(name)]
            return self._changed() if found else done()

    def drop_pin(self, pin: Pin) -> bool:
        """Forget a pin; return whether it was still its machine's."""
        with self._lock:
            if self._pins.get(pin.machine) is not pin:
                return False
            self._forget(pin.machine)
            self._changed()
            return True

    def _forget(self, machine: str) -> bool:
        pin = self._pins.pop(machine, None)
        if pin is not None and self._at.get(pin.address) is pin:
            del self._at[pin.address]
        return pin is not None

    def _changed(self) -> Future[None]:
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
                kept = list(self._pins.values())
            if not self._writing:
                return
            try:
                replace_file(self._path, pins.dump(kept).encode())
            except Exception as error:  # whatever it is, nobody waits for good
                if not self._failing:  # who forgets a pin waits for nothing, and nobody else would say it
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


def done() -> Future[None]:
    """Return the future of what needs no writing."""
    future: Future[None] = Future()
    future.set_result(None)
    return future
