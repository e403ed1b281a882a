"""The pins on disk: what a machine boots is there before it is told."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from ipaddress import IPv4Address
from pathlib import Path

from pxeboot.exports import pins
from pxeboot.exports.pins import Pin
from pxeboot.written import Written, done

log = logging.getLogger(__name__)

FILE = "pins"
"""Below the state folder."""


class PinStore:
    """The pins of all machines, kept in a file. For use from several threads; nothing but the first reading blocks.

    A change counts at once, and its future is done when it is on disk. What changes while the file is being written
    is written with the next one, all together: a farm that boots at once costs a few writes.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read what was kept at `path`. `clock` gives seconds. Raises `OSError`."""
        self._lock = threading.Lock()
        self._file = Written(path, lambda: list(self._pins.values()), pins.dump, lock=self._lock, clock=clock)
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
            return self._file.changed()

    def drop(self, machines: Iterable[str]) -> Future[None]:
        """Forget what these machines booted."""
        with self._lock:
            found = [name for name in machines if self._forget(name)]
            return self._file.changed() if found else done()

    def drop_pin(self, pin: Pin) -> bool:
        """Forget a pin; return whether it was still its machine's."""
        with self._lock:
            if self._pins.get(pin.machine) is not pin:
                return False
            self._forget(pin.machine)
            self._file.changed()
            return True

    def _forget(self, machine: str) -> bool:
        pin = self._pins.pop(machine, None)
        if pin is not None and self._at.get(pin.address) is pin:
            del self._at[pin.address]
        return pin is not None

    def close(self) -> None:
        """Write what is left, and stop. Blocks on the disk."""
        self._file.close()
