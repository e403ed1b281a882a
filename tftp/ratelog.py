"""What a peer can cause to be logged as often as it likes is said a few times a minute.

Each kind of line has its own budget, so that what anybody can send from forged addresses (a request for `../x`) hides
nothing else, least of all our own errors. Within a kind, nobody takes more than a part of it.
"""

import logging
from collections import Counter
from enum import Enum, auto

log = logging.getLogger("tftp")

A_MINUTE = 30
"""Lines of one kind that are logged each minute."""
OF_ONE = 5
"""Those of them that are about one client."""


class Kind(Enum):
    """What a line is about."""

    OURS = auto()
    """An error of this machine: a disk, a socket, no descriptor. For these no client is named as the source."""
    REFUSED = auto()
    """A request that is not granted to anybody."""
    BUSY = auto()
    """A request that would be granted at another time."""
    ENDED = auto()
    """A transfer whose client did not get all."""
    NARROW = auto()
    """A client that gets smaller blocks from now on."""


class RateLog:
    """Logs a line, or leaves it out and says so once a minute."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._minute = 0
        self._said: Counter[Kind] = Counter()
        self._of: Counter[tuple[Kind, str]] = Counter()  # no more than are said

    def say(
        self, now: float, kind: Kind, source: str, text: str, *details: object, level: int = logging.WARNING
    ) -> None:
        """Log `text` at `level`, unless there were too many of its kind this minute. `now` is in seconds.

        `source` is the client that caused it; "" if no client did.
        """
        if int(now // 60) != self._minute:
            self._minute = int(now // 60)
            self._said.clear()
            self._of.clear()
        if self._said[kind] > A_MINUTE or (source and self._of[kind, source] > OF_ONE):
            return
        if source:
            self._of[kind, source] += 1
        if source and self._of[kind, source] > OF_ONE:
            text, details, level = "tftp %s: more of this kind is left out for a minute", (source,), logging.WARNING
        self._said[kind] += 1
        if self._said[kind] > A_MINUTE:
            text = "tftp: more than %d warnings like the last one in a minute; the rest is left out"
            details, level = (A_MINUTE,), logging.WARNING
        log.log(level, text, *details, extra={"ip": source} if source else None)
