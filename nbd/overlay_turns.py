"""A lock that is had in the order in which it was asked for.

A kernel whose request waits too long connects anew and sends it again. The write that it has given up may still be
waiting for a slow disk; it must not overtake, and undo, one that came after it.
"""

from collections import deque
from threading import Lock
from types import TracebackType


class Turns:
    """A context manager; whoever enters it first is the first one inside. Not to be entered twice by one thread."""

    def __init__(self) -> None:
        self._guard = Lock()  # of what follows; held for a moment
        self._taken = False
        self._waiting: deque[Lock] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
