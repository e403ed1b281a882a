"""Turns of many threads that read for their clients: so few at a time that the interpreter's lock is no lottery.

Whoever waits for that lock gets it by chance, and with sixty threads some wait for a very long time. Here each waits
in line, and when its turn has come there are few others left to wait with. As many have their turn as keep the
interpreter busy: on a disk that is waited for these are many, else few. Each disk has a line of its own, because who
waits for one that hangs keeps its turn.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

FEWEST, MOST = 6, 64
"""Threads that have their turn at a time."""
LOOK_S = 0.05
"""How often to look how busy we are, in seconds."""
BUSY, IDLE = 0.9, 0.6
"""Processors that all threads use together: from the first on, fewer threads are better; up to the other, more are."""


class Turns:
    """A line of threads. Used by `with`."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        """`clock` tells seconds, `processor` those that this process used."""
        self._clock = clock
        self._processor = processor
        self._lock = threading.Lock()
        self._line: deque[threading.Lock] = deque()
        self._having = 0
        self._looked_s, self._used_s = clock(), processor()
        self.at_a_time = FEWEST
        """How many may have their turn now."""

    def __enter__(self) -> None:
        with self._lock:
            if self._having < self.at_a_time and not self._line:
                self._having += 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._line.append(mine)
        mine.acquire()

    def __exit__(self, *_: object) -> None:
        now_s = self._clock()
        with self._lock:
            self._having -= 1
            if now_s - self._looked_s >= LOOK_S:
                self._look(now_s)
            while self._line and self._having < self.at_a_time:
                self._having += 1
                self._line.popleft().release()

    def _look(self, now_s: float) -> None:
        used_s = self._processor()
        busy = (used_s - self._used_s) / (now_s - self._looked_s)
        self._looked_s, self._used_s = now_s, used_s
        if busy >= BUSY:
            self.at_a_time = max(FEWEST, self.at_a_time // 2)
        elif busy <= IDLE:
            self.at_a_time = min(MOST, self.at_a_time * 2)
