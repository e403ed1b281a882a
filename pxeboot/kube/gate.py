"""When the next request may be sent to an API server that fails. Pure: time is an argument, in monotonic seconds.

All that speak to one API share a gate, so that a hundred machines that ask for their tokens, three watches and an
elector are together no storm: after a failure nobody sends for a while, longer each time; then one request goes
first, and the others follow when it was answered.
"""

LEAST_S = 1.0
MOST_S = 20.0
"""So that all works again within half a minute of the API's return, the time of a request included."""
LONGEST_RETRY_AFTER_S = 60.0
"""What a server asks for is obeyed up to this."""


class Gate:
    """Open while the API answers."""

    def __init__(self) -> None:
        """Begin open."""
        self._failures = 0
        self._opens_at = 0.0
        self._first_is_out = False
        self.reason = ""
        """Why it is shut."""

    def wait_s(self, now: float) -> float:
        """Return how long to wait before the next request; 0 lets one through, and `passed` must follow."""
        if not self._failures:
            return 0.0
        if now < self._opens_at:
            return self._opens_at - now
        return LEAST_S if self._first_is_out else 0.0

    def passed(self) -> None:
        """A request is being sent."""
        self._first_is_out = True

    def worked(self) -> None:
        """It was answered, if only with a refusal of its own: the API is there."""
        self._failures, self._first_is_out, self.reason = 0, False, ""

    def gave_up(self) -> None:
        """It was cancelled before anything was learnt."""
        self._first_is_out = False

    def failed(self, reason: str, now: float, jitter: float, retry_after_s: float | None = None) -> None:
        """The API did not answer, or is overloaded. `jitter` is a random number from 0 to 1.

        Of requests that were on their way together only the first that fails makes the wait longer.
        """
        self._first_is_out = False
        asked_s = min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)
        if self._failures and now < self._opens_at:
            self._opens_at = max(self._opens_at, now + asked_s)
            return
        pause_s = min(MOST_S, LEAST_S * 2.0 ** min(self._failures, 10)) * (1 + jitter) / 2
        self._failures += 1
        self._opens_at = now + max(pause_s, asked_s)
        self.reason = reason
