"""Tests of what has to come in time, on a machine that others use: it may stand still for seconds at any place.

Whoever is late is to blame only when the machine was not. `judged` tries again what failed while it stood still.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.support.lasting import Lasting

T = TypeVar("T")

_TICK_S = 0.01


class Stalls(Lasting):
    """While the context lasts: for how long this process did not run although it was to."""

    def __init__(self) -> None:
        """Nothing is watched yet."""
        super().__init__()
        self.longest_s = 0.0

    def run(self) -> None:
        """Sleep, and see how long that was."""
        slept = time.monotonic()
        while not self.ended.wait(_TICK_S):
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - slept - _TICK_S)
            slept = now


def judged(attempt: Callable[[], T], most_s: float = 0.2, tries: int = 20) -> T:
    """Return what `attempt` returns; what fails is tried again if this process stood still for `most_s` meanwhile.

    Raises what the last `attempt` raised.
    """
    while True:
        tries -= 1
        with Stalls() as stalls:
            try:
                return attempt()
            except Exception:
                if not tries or stalls.longest_s < most_s:
                    raise
