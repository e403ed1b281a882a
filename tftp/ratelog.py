"""What a peer can cause to be logged as often as it likes is said a few times a minute."""

import logging

log = logging.getLogger("tftp")

A_MINUTE = 30
"""Lines that are logged each minute."""


class RateLog:
    """Logs a line, or leaves it out and says so once a minute."""

    def __init__(self) -> None:
        self._minute = 0
        self._said = 0

    def say(self, now: float, text: str, *details: object, level: int = logging.WARNING) -> None:
        """Log `text` at `level`, unless there were too many this minute. `now` is in seconds."""
        if int(now // 60) != self._minute:
            self._minute, self._said = int(now // 60), 0
        self._said += 1
        if self._said <= A_MINUTE:
            log.log(level, text, *details)
        elif self._said == A_MINUTE + 1:
            log.warning("tftp: more than %d warnings in a minute; the rest is left out", A_MINUTE)
