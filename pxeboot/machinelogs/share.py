"""How many lines are taken: of each machine so many at once and then a few a second, and of all together. Pure."""

from collections import OrderedDict

BURST = 300
"""Lines that a machine may send at once: as many as are kept of it."""
A_SECOND = 20.0
"""Lines that it may send a second from then on."""
ALL_BURST = 20_000
ALL_A_SECOND = 2_000.0
"""The same of all machines together. A line costs some 20 microseconds."""
MOST_MACHINES = 20_000


class Bucket:
    """So many at once, then so many a second."""

    __slots__ = ("_at_s", "_burst", "_left", "_rate")

    def __init__(self, burst: float, rate: float, now_s: float) -> None:
        """Begin full."""
        self._burst, self._rate = burst, rate
        self._left, self._at_s = burst, now_s

    def take(self, now_s: float) -> bool:
        """Take one, if there is one."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Share:
    """What each machine, and all of them, may send."""

    def __init__(self, now_s: float) -> None:
        """Begin with everybody's share untouched. `now_s` is monotonic."""
        self._all = Bucket(ALL_BURST, ALL_A_SECOND, now_s)
        self._of: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, machine: str, now_s: float) -> bool:
        """Return whether a line of this machine is taken now."""
        bucket = self._of.pop(machine, None) or Bucket(BURST, A_SECOND, now_s)
        self._of[machine] = bucket
        if len(self._of) > MOST_MACHINES:
            self._of.popitem(last=False)
        return bucket.take(now_s) and self._all.take(now_s)
