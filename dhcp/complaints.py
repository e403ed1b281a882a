"""Warnings that a network can cause: machines can be made up faster than a log can be read."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from math import inf

MOST = 120
"""Machines and addresses complained of in a minute."""
PERIOD_S = 60.0
_TIDY_S = 1.0
"""How often it is looked for things that may be said again, while there are too many."""


class Complaints:
    """Logs one line a minute about a thing (and how many were not logged), and about so many that a network names."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float], most: int = MOST) -> None:
        self._log = log
        self._clock = clock
        self._most = most
        self._tidy_at = -inf
        self._quiet: dict[str, float] = {}
        """Until when nothing is said about a thing. These are few: the code names them all."""
        self._quiet_of: dict[tuple[str, str], float] = {}
        """The same of what a network names, which is as many as somebody likes."""
        self._hushed: Counter[str | tuple[str, str]] = Counter()

    def __call__(
        self,
        about: str,
        text: str,
        *arguments: object,
        whom: str = "",
        level: int = logging.WARNING,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Log `text` unless something was logged `about` this in the last minute.

        `whom` is what a peer has a say in, its MAC for instance: then it is about this of this one, and nothing is
        logged of more than `most` of them. So nobody can hush what is `about` ourselves by making machines up.
        `extra` is what the record says besides its text.
        """
        now = self._clock()
        if not whom:
            if self._quiet.get(about, -inf) > now:
                self._hushed[about] += 1
                return
            self._quiet[about] = now + PERIOD_S
            self._say(about, level, text, arguments, extra)
            return
        key = (about, whom)
        if len(self._quiet_of) >= self._most and now >= self._tidy_at:
            self._tidy(now)
        if self._quiet_of.get(key, -inf) > now:
            self._hushed[key] += 1
            return
        if len(self._quiet_of) >= self._most:
            return
        self._quiet_of[key] = now + PERIOD_S
        self._say(key, level, text, arguments, extra)

    @property
    def full(self) -> bool:
        """Whether so much is known of what a network names that nothing more of it is logged for a moment."""
        return len(self._quiet_of) >= self._most and self._clock() < self._tidy_at

    def _say(
        self,
        key: str | tuple[str, str],
        level: int,
        text: str,
        arguments: tuple[object, ...],
        extra: Mapping[str, object] | None,
    ) -> None:
        self._log.log(level, text, *arguments, extra=extra)
        if hushed := self._hushed.pop(key, 0):
            self._log.log(level, "dhcp: and %d more of these", hushed)

    def _tidy(self, now: float) -> None:
        self._tidy_at = now + _TIDY_S
        self._quiet_of = {key: until for key, until in self._quiet_of.items() if until > now}
        known = {*self._quiet, *self._quiet_of}
        self._hushed = Counter({key: count for key, count in self._hushed.items() if key in known})
