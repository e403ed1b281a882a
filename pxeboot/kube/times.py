"""Seconds since 1970 ⇄ the two ways in which the API writes times."""

import time
from datetime import UTC, datetime

from pxeboot.controller.token import parse_rfc3339, rfc3339


def micro_time(seconds: float) -> str:
    """Seconds since 1970 → a MicroTime, as Lease objects have them.

    >>> micro_time(1735689600.25)
    '2025-01-01T00:00:00.250000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: object) -> float | None:
    """A Time or MicroTime → seconds since 1970; None for what is none.

    >>> seconds("2025-01-01T00:00:00.250000Z"), seconds(None), seconds("soon")
    (1735689600.25, None, None)
    """
    if not isinstance(text, str):
        return None
    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError):
        return None


def rfc3339_now() -> str:
    """Now, as a Time, for what people read; nothing here judges by it."""
    return rfc3339(time.time())


def running_clock() -> float:
    """Seconds of a clock that nobody sets and that also runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
