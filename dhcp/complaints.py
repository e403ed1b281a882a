"""Warnings that a network can cause: machines can be made up faster than a log can be read."""

import logging
from collections import Counter
from collections.abc import Callable
from math import inf

MOST = 120
"""Things complained of in a minute."""
PERIOD_S = 60.0
_TIDY_S = 1.0
"""How often it is looked for things that may be said again, while there are too many."""


class Complaints:
    """Logs one line a minute about a thing (and how many were not logged), and about so many things."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float], most: int = MOST) -> None:
        self._log = log
        self._clock = clock
        self._most = most
        self._tidy_at = -inf
        self._quiet: dict[str, float] = {}
        self._hushed: Counter[str] = Counter()

    def __call__(self, about: str, text: str, *arguments: object, level: int = logging.WARNING) -> None:
        """Log `text` unless something was logged `about` this in the last minute."""
        now = self._clock()
        if len(self._quiet) >= self._most and now >= self._tidy_at:
            self._tidy_at = now + _TIDY_S
            self._quiet = {about: until for about, until in self._quiet.items() if until > now}
            self._hushed = Counter({about: count for about, count in self._hushed.items() if about in self._quiet})
        if about in self._quiet and self._quiet[about] > now:
            self._hushed[about] += 1
            return
        if len(self._quiet) >= self._most:
            return
        self._quiet[about] = now + PERIOD_S
        self._log.log(level, text, *arguments)
        if hushed := self._hushed.pop(about, 0):
            self._log.log(level, "dhcp: and %d more of these", hushed)
