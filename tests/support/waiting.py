"""How a test waits, and asks whether something is quick, so that a busy machine gives no wrong answer."""

import time
from collections.abc import Callable


def until(holds: Callable[[], object], what: str, within_s: float = 90.0) -> None:
    """Wait until `holds()`. Raises `TimeoutError`, which says `what` was waited for."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)


def quick(attempt: Callable[[], float], within_s: float, tries: int = 8) -> bool:
    """Return whether one of a few attempts took less than `within_s`; `attempt` returns the seconds that it took.

    A machine that was busy elsewhere makes one attempt late. What waits for something that it should not wait for is
    late each time.
    """
    return any(attempt() < within_s for _ in range(tries))
