"""The boots that may join, on disk: what a menu tells its machine is there before the menu leaves."""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from pxeboot.joining import once
from pxeboot.joining.once import Boot, Boots, Kind, Refused
from pxeboot.written import Written, done

log = logging.getLogger(__name__)

FILE = "joins"
"""Below the state folder. It holds secrets."""


def since_boot_s() -> float:
    """Return seconds that go on while the machine sleeps, and that nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class BootStore:
    """The boots, kept in a file that only we may read. For use from several threads; only the first reading blocks.

    A change counts at once, and its future is done when it is on disk, as with `pxeboot.written.Written`.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = since_boot_s,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Read what was kept at `path`. `clock` gives seconds since 1970, `now` such as nobody can set.

        Raises `OSError`.
        """
        self._clock = clock
        self._now = now
        self._random = random
        self._lock = threading.Lock()
        kept: list[Boot] = []
        self.damaged = 0
        """How many lines could not be read."""
        with suppress(FileNotFoundError):
            kept, self.damaged = once.parse(path.read_text(encoding="utf-8", errors="replace"))
        if self.damaged:
            log.warning("%s: %d lines are damaged and left out: machines that boot just now may have to boot again",
                        path, self.damaged)  # fmt: skip
        self._boots = Boots(kept, clock_s=clock(), now_s=now())
        self._file = Written(path, lambda: list(self._boots), once.dump, lock=self._lock, mode=0o600)

    def begin(self, machine: str, cluster: str, mac: str, address: IPv4Address) -> "tuple[Boot, Future[None]]":
        """Begin a boot of a machine, which ends the one before."""
        random = self._random(once.RANDOM_BYTES)
        with self._lock:
            boot = self._boots.begin(
                *(machine, cluster, mac, address), clock_s=self._clock(), now_s=self._now(), random=random
            )
            return boot, self._file.changed()

    def end(self, machine: str, why: str) -> "Future[None]":
        """End the newest boot of a machine."""
        with self._lock:
            return done() if self._boots.end(machine, why) is None else self._file.changed()

    def over(self, boot_id: str, why: str) -> "Future[None]":
        """End one boot."""
        with self._lock:
            return done() if self._boots.over(boot_id, why) is None else self._file.changed()

    def may(self, kind: Kind, name: str, machine: str | None) -> Boot | Refused:
        """Return whose name this is, if `machine` may fetch it now."""
        with self._lock:
            return self._boots.may(kind, name, machine, self._now())

    def fetch(
        self, kind: Kind, name: str, machine: str | None, token_id: str = "", expires_s: float = 0.0
    ) -> "tuple[Boot, Future[None]] | Refused":
        """Spend a name, a join command's with the token that goes with it."""
        with self._lock:
            boot = self._boots.fetch(kind, name, machine, self._now())
            if isinstance(boot, Refused):
                return boot
            if kind == "join":
                boot = self._boots.given(boot.id, token_id, expires_s) or boot
            return boot, self._file.changed()

    def get(self, boot_id: str) -> Boot | None:
        """Return a boot that is kept."""
        with self._lock:
            return self._boots.get(boot_id)

    def newest(self, machine: str) -> Boot | None:
        """Return the boot of a machine that began last."""
        with self._lock:
            return self._boots.newest(machine)

    def open(self) -> list[Boot]:
        """Return the boots that may still fetch their join command, or become Ready with the one that they have."""
        with self._lock:
            return self._boots.open(self._clock(), self._now())

    def close(self) -> None:
        """Write what is left, and stop. Blocks on the disk."""
        self._file.close()
