"""The time that leases are told by."""

import time


class SteadyClock:
    """Seconds since 1970, counted from when it was made by a clock that nobody can set.

    Leases on disk need the wall clock, which jumps: a machine that booted in 1970 is put right by NTP a minute
    later, and all its leases would be over at once. So the wall clock is read once and time then only passes.
    `drift_s` says how far the two are apart by now, for who wants to follow. A machine that sleeps gets no older by
    `time.monotonic`, though its leases do, so that is not the clock (CLOCK_BOOTTIME counts sleep).
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def __call__(self) -> float:
        """Return the time."""
        return self._offset + time.clock_gettime(time.CLOCK_BOOTTIME)

    def drift_s(self) -> float:
        """Return by how much the wall clock was set forward since this clock was made or last `follow`ed."""
        return time.time() - self()

    def follow(self, by_s: float) -> None:
        """Move by `by_s`, together with every time that was told by this clock."""
        self._offset += by_s
