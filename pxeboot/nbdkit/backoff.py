"""How long to wait before something that ended is started again. Pure."""

LEAST_S = 0.25
MOST_S = 30.0
STEADY_S = 60.0
"""What has run so long had no trouble starting."""


class Backoff:
    """Waits twice as long each time, up to `MOST_S`, and little again after a steady run."""

    def __init__(self) -> None:
        """Begin with the least."""
        self._next_s = LEAST_S

    def after(self, ran_s: float) -> float:
        """Return the seconds to wait after a run of `ran_s` seconds.

        >>> waits = Backoff()
        >>> [waits.after(0.1), waits.after(0.1), waits.after(0.1), waits.after(3600)]
        [0.25, 0.5, 1.0, 0.25]
        """
        wait_s = LEAST_S if ran_s >= STEADY_S else self._next_s
        self._next_s = min(wait_s * 2, MOST_S)
        return wait_s
