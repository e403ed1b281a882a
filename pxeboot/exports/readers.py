"""Who has which image open by NBD, so that none is deleted under a machine. For use from several threads."""

import itertools
import threading
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address

from nbd.exports import Export


@dataclass(frozen=True, slots=True)
class Reader:
    """One open export."""

    peer: IPv4Address
    machine: str | None
    """Whose address that was when it was opened; None if nobody's that we know."""
    name: str
    """The export, as it was asked for."""
    image_id: str
    writable: bool
    since_s: float
    """Seconds since 1970."""

    @property
    def who(self) -> str:
        """The machine, or else the address."""
        return self.machine or str(self.peer)


class Readers:
    """All open exports. Somebody is in here before the file is opened: whoever is not, does not read."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._readers: dict[int, tuple[Reader, Export | None]] = {}
        self._of: Counter[str | None] = Counter()

    def enter(self, reader: Reader) -> int:
        """Take note of somebody who is about to open an image; return a number for the others."""
        with self._lock:
            number = next(self._numbers)
            self._readers[number] = reader, None
            self._of[reader.machine] += 1
            return number

    def opened(self, number: int, export: Export) -> None:
        """Take note of the export that the reader was given."""
        with self._lock:
            if number in self._readers:
                self._readers[number] = self._readers[number][0], export

    def leave(self, number: int) -> None:
        """Forget a reader, whose files are closed; once."""
        with self._lock:
            reader, _ = self._readers.pop(number)
            self._of[reader.machine] -= 1
            if not self._of[reader.machine]:
                del self._of[reader.machine]

    def every(self) -> list[tuple[Reader, Export | None]]:
        """Return all of them with their exports, the oldest first; None while it is being opened."""
        with self._lock:
            return list(self._readers.values())

    def machines(self) -> list[str]:
        """Return the machines among them."""
        with self._lock:
            return [machine for machine in self._of if machine is not None]

    def count(self, machine: str) -> int:
        """Return how many exports a machine has open."""
        with self._lock:
            return self._of[machine]
