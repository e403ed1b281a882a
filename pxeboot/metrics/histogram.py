"""How long things take, as a histogram of Prometheus: counts up to some bounds, and the sum. Pure."""

from bisect import bisect_left
from collections.abc import Sequence

BOOT_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0)
"""Bounds for a boot and its stages, in seconds."""
SYNC_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Bounds for a write to a disk."""
LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Bounds for how late the event loop is."""


class Histogram:
    """Counts values by the first of `bounds`, which ascend, that is not below them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin with no value."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """Of each bound, and last of what is above them all."""
        self.total = 0.0
        """The sum of all values."""

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many values were at most each bound, the bound as the exposition format writes it.

        >>> some = Histogram((1.0, 2.5))
        >>> for value in (0.5, 2.0, 9.0): some.observe(value)
        >>> some.buckets()
        [('1.0', 1.0), ('2.5', 2.0), ('+Inf', 3.0)]
        """
        so_far, out = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            out.append((bound, float(so_far)))
        return out
