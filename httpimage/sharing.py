"""How a limited rate is divided among downloads. Pure.

Everybody gets the same, and what one cannot use goes to the others (max-min fairness); each limit, that of all and
those of subnets, holds for the sum of its downloads.
"""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FLOOR = 16_000.0
"""Nobody is sent less, in bytes per second, whatever the limits: the server takes a slower peer for gone."""

_ENOUGH = 0.9
"""Who used so much of a share is held back by it, and could use more."""
_ROOM = 1.5
"""Who used less may use so many times as much next, to show whether it could."""
_LEAST = 0.1
"""So much of a share stays free for one that did not use it, so that it can begin again."""


@dataclass(frozen=True, slots=True)
class Limit(Generic[K]):
    """What `members` take together, in bytes per second."""

    rate: float
    members: Collection[K]


def divide(wants: Mapping[K, float], limits: Sequence[Limit[K]]) -> dict[K, float]:
    """Return what each may take, in bytes per second; infinity where no limit applies.

    `wants` is the most that each can use. All shares grow alike until somebody has what it wants or a limit is
    reached, which stops those whom it concerns, and so on.

    >>> divide({"slow": 1e6, "a": math.inf, "b": math.inf}, [Limit(9e6, {"slow", "a", "b"})])
    {'slow': 1000000.0, 'a': 4000000.0, 'b': 4000000.0}
    """
    shares: dict[K, float] = {}
    growing = set(wants)
    while growing:
        held = [(limit, growing.intersection(limit.members)) for limit in limits]
        levels = [
            (max(0.0, limit.rate - sum(shares.get(key, 0.0) for key in limit.members)) / len(members), members)
            for limit, members in held
            if members
        ]
        level = min((level for level, _ in levels), default=math.inf)
        content = {key for key in growing if wants[key] <= level}
        if content:
            least = min(wants[key] for key in content)
            content = {key for key in content if wants[key] == least}
            shares |= dict.fromkeys(content, least)
            growing -= content
        else:
            full = set().union(*(members for reached, members in levels if reached == level))
            shares |= dict.fromkeys(full, level)
            growing -= full
    return {key: max(FLOOR, shares[key]) for key in wants}


def want(used: float, share: float) -> float:
    """Return what a download can use that took `used` of its `share`, both in bytes per second.

    >>> want(9.5e6, 10e6), want(2e6, 10e6), want(0.0, 10e6)
    (inf, 3000000.0, 1000000.0)
    """
    return math.inf if used >= _ENOUGH * share else max(_ROOM * used, _LEAST * share)
