"""Which carriers send now, where there are more than keep the processors busy. Pure, but for `Processors`.

A processor keeps apart the addresses of six processes (Linux, x86: TLB_NR_DYN_ASIDS). When more than these take turns
on it at every packet, as eight carriers and eight clients of one machine do on two processors, each begins with
nothing in its caches, and a block costs a quarter more. So once carriers keep the processors busy, a few of them send,
for `TURN_S` each, and the others wait; with eight carriers on two processors a client waits 0.15 s for a block now and
then, and no client asks again so soon. While it is the network that is waited for, all send at once.
"""

import os

TURN_S = 0.05
"""How long a carrier sends before it lets others have their turn: a few MB."""
LONGEST_S = 4 * TURN_S
"""Who has not come back after so long waits for his client, or for a disk, and stands in nobody's way."""
LOOK_S = 0.2
"""Between two looks at the processors, whose times are told in hundredths of a second."""
BUSY = 0.05
"""With less than this share of all processors idle, fewer take turns."""
SPARE = 0.4
"""With more than this share idle, more do."""
OURS = 0.25
"""With less than this share of all processors used by carriers, it is not these that keep them busy, and all send."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Turns:
    """Who sends, and who waits for that, first come first served. A carrier is named by a number."""

    def __init__(self, processors: int) -> None:
        self.limit = 2 * processors
        """How many may send at a time. One for each processor always may."""
        self.spare = True
        """Whether processors were idle lately."""
        self._least = processors
        self._sending: dict[int, float] = {}
        self._waiting: dict[int, None] = {}

    @property
    def crowded(self) -> bool:
        """Whether there are more than can send at all times."""
        return len(self._sending) + len(self._waiting) > self._least

    @property
    def few(self) -> bool:
        """Whether there are so few that each, and each one's client, can have a processor of its own."""
        return len(self._sending) + len(self._waiting) <= self._least // 2

    def ask(self, who: int) -> None:
        """Take note that `who` wants a turn; one that it has ends."""
        self.end(who)
        self._waiting[who] = None

    def end(self, who: int) -> None:
        """Take note that `who` needs no turn any more."""
        self._sending.pop(who, None)
        self._waiting.pop(who, None)

    def look(self, idle: float, ours: float) -> None:
        """Let fewer or more send, by the share of the processors that is idle, and the one that carriers use."""
        self.spare = idle > BUSY
        if idle > SPARE or ours < OURS:
            self.limit *= 2 if self._waiting else 1
        elif idle < BUSY:
            self.limit = max(self._least, self.limit // 2)

    def next(self, now: float) -> list[int]:
        """Return whose turn it is now, besides those that have theirs."""
        for who, since in list(self._sending.items()):
            if now - since >= LONGEST_S:
                del self._sending[who]
        free = max(0, self.limit - len(self._sending))
        chosen = list(self._waiting)[:free]
        for who in chosen:
            del self._waiting[who]
            self._sending[who] = now
        return chosen


class Processors:
    """How busy all processors of this machine are."""

    def __init__(self, stat: str = "/proc/stat") -> None:
        self._stat = stat
        self._used_s = 0.0
        self._before = self._times()

    def used(self, seconds: float) -> None:
        """Take note that a carrier used a processor for so long."""
        self._used_s += seconds

    def shares(self) -> tuple[float, float]:
        """Return which share of their time they were idle since this was asked last, and which carriers used.

        If nobody says, they were idle.
        """
        before, self._before = self._before, self._times()
        used_s, self._used_s = self._used_s, 0.0
        idle_s, all_s = (now - then for now, then in zip(self._before, before, strict=True))
        return (idle_s / all_s, used_s / all_s) if all_s > 0 else (1.0, 0.0)

    def _times(self) -> tuple[float, float]:
        """Return for how many seconds they were idle, and were at all (proc_stat(5))."""
        try:
            with open(self._stat) as file:
                times = [int(time) * _TICK_S for time in file.readline().split()[1:9]]
        except OSError:
            return 0.0, 0.0
        return sum(times[3:5]), sum(times)
