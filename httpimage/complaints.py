"""Log lines that a peer can cause: a few a second, and a count of the rest."""

import logging
from collections.abc import Callable
from ipaddress import IPv4Address

BURST = 10
"""How many lines a second are written."""


class Complaints:
    """Writes at most `BURST` lines a second to `log`, and says how many it kept back. `clock` gives seconds."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._second = 0
        self._lines = 0
        self.count = 0
        """All complaints so far, written or not."""

    def __call__(self, level: int, message: str, *arguments: object) -> None:
        """Write the line, unless this second has had its share. Of a peer, the first of
        `arguments` is its address."""
        self.count += 1
        second = int(self._clock())
        if second != self._second:
            if self._lines > BURST:
                self._log.log(level, "http %d more lines like the last ones were left out", self._lines - BURST)
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= BURST:
            peer = next((str(argument) for argument in arguments[:1] if isinstance(argument, IPv4Address | str)), "")
            self._log.log(level, message, *arguments, extra={"ip": peer} if peer else None)
