"""What was answered since the start."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Counted in the event loop."""

    requests: Counter[int] = field(default_factory=Counter)
    """How many were answered, by the status code; 499 are those whose client left before that."""
    sent_bytes: int = 0
    """Bytes of bodies that are over; with the heads, where aiohttp wrote them."""


LEFT = 499
"""Counts whoever closed the connection before the answer began: no code of RFC 9110, but a custom of web servers."""
