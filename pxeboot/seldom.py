"""Log lines that a machine can cause: each at most once a minute, however often it asks."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

EVERY_S = 60.0
MOST_KEYS = 10_000
"""How many are remembered; the oldest is forgotten first, and may then be said again."""


class Seldom:
    """Knows what was said lately, by a key such as (machine, reason). For use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most_keys: int = MOST_KEYS) -> None:
        """Start with nothing said. `clock` gives seconds."""
        self._clock = clock
        self._most_keys = most_keys
        self._said_s: OrderedDict[Hashable, float] = OrderedDict()
        self._lock = Lock()

    def __call__(self, *key: Hashable) -> bool:
        """Return whether `key` may be said now, and count it as said if so."""
        now_s = self._clock()
        with self._lock:
            said_s = self._said_s.get(key)
            if said_s is not None and now_s - said_s < EVERY_S:
                return False
            self._said_s[key] = now_s
            self._said_s.move_to_end(key)
            if len(self._said_s) > self._most_keys:
                self._said_s.popitem(last=False)
            return True
