"""Which downloads hardly move, so that their slots may be another's. Pure.

A machine that died, or whose disk did, takes nothing for as long as it pleases the kernel. A line that is slow for
all is another matter: there more downloads make each slower still.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

CRAWL_S = 20.0
"""A download that is taken at less than `CRAWL` for so long, in seconds, is said to crawl."""
CRAWL = 32_000.0
"""Bytes per second."""


@dataclass(slots=True)
class Motion:
    """How a download moved until now, in seconds."""

    crawled_s: float = 0.0
    """For how long it hardly moved."""
    stood_s: float = 0.0
    """For how long it did not at all."""
    moved_ago_s: float = inf
    """When it last moved as it should."""

    def seen(self, rate: float, share: float, seconds: float, *, is_busy: bool) -> None:
        """Note the `rate` of the last `seconds`, in bytes per second, of `share` that it might take.

        Without `is_busy` there was little to send: our disk is slow, and more downloads would not help.
        """
        if rate >= min(CRAWL, share / 2):
            self.crawled_s = self.stood_s = self.moved_ago_s = 0.0
            return
        self.moved_ago_s += seconds
        self.crawled_s = self.crawled_s + seconds if is_busy else 0.0
        self.stood_s = self.stood_s + seconds if is_busy and not rate else 0.0


def crawlers(motions: Mapping[int, Motion]) -> list[int]:
    """Return those of `motions` that crawl while others move, and those that do not move at all."""
    others_move = any(motion.moved_ago_s < CRAWL_S for motion in motions.values())
    return [
        number
        for number, motion in motions.items()
        if motion.crawled_s >= CRAWL_S and (others_move or motion.stood_s >= CRAWL_S)
    ]
