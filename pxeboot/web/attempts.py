"""How often somebody may be wrong: so many tries in a minute from one address, and so many from all. Pure."""

from collections import deque

WINDOW_S = 60.0
MOST_OF_ONE = 10
MOST_OF_ALL = 60


class Attempts:
    """The tries of the last minute that were wrong, or are not judged yet."""

    def __init__(self) -> None:
        """Start with none."""
        self._tries: deque[tuple[float, str]] = deque()

    def wait_s(self, address: str, now: float) -> float:
        """Return in how many seconds `address` may try; 0: now."""
        while self._tries and self._tries[0][0] <= now - WINDOW_S:
            self._tries.popleft()
        own = [at for at, who in self._tries if who == address]
        if len(self._tries) >= MOST_OF_ALL:
            return self._tries[0][0] + WINDOW_S - now
        if len(own) >= MOST_OF_ONE:
            return own[0] + WINDOW_S - now
        return 0.0

    def begin(self, address: str, now: float) -> None:
        """Count a try, before it is judged: many at once are no way round."""
        self._tries.append((now, address))

    def right(self, address: str) -> None:
        """Take back the newest try of `address`, which was right."""
        for i in range(len(self._tries) - 1, -1, -1):
            if self._tries[i][1] == address:
                del self._tries[i]
                return
