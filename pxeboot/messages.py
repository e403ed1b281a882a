"""What there is to read about each machine: lines that it sent while it booted, and lines of our own log.

A line belongs to the boot in whose time it came: `of` takes when that began, and when the next one did. Everything is
bounded: for each machine the oldest lines go first, and in all the machine that was silent longest.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from threading import Lock

MAX_LINES = 300
"""Kept of one machine."""
MAX_BYTES = 64 * 1024
"""Kept of one machine, as characters of text: what is not ASCII may take four times as much."""
MAX_ALL_BYTES = 32 * 1024 * 1024
"""Kept of all machines together."""
MAX_LINE = 1000
"""Characters of one line; what is longer is cut."""
_ADO = 150
"""What a line costs beside its text, as an estimate."""


class Severity(IntEnum):
    """How bad it is, by the numbers of RFC 5424 section 6.2.1: a smaller one is worse."""

    EMERGENCY = 0
    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFORMATIONAL = 6
    DEBUG = 7


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `text` can be printed as it is: what a machine sent holds no control characters and no token."""

    at_s: float
    """When we got it, in seconds since 1970: the machine's own clock may not be set yet."""
    source: str
    """Who wrote it: `kernel` (netconsole), `syslog` and the program's name after a colon, or `pxeboot`."""
    severity: Severity
    text: str


@dataclass(slots=True)
class _Kept:
    lines: deque[Line] = field(default_factory=deque)
    size: int = 0


class Messages:
    """The newest lines of each machine. For use from several threads."""

    def __init__(self, max_all_bytes: int = MAX_ALL_BYTES) -> None:
        """Start with nothing."""
        self._max_all = max_all_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0
        self._lock = Lock()
        self.counts: dict[str, int] = {}
        """How many lines were taken in since we started, by the first word of their source."""

    def __len__(self) -> int:
        """Return of how many machines there are lines."""
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """What is kept in all, by the estimate that the bounds go by."""
        return self._size

    def add(
        self, machine: str, at_s: float, source: str, text: str, severity: Severity = Severity.INFORMATIONAL
    ) -> None:
        """Keep a line about `machine`, which came at `at_s`."""
        line = Line(at_s, source, severity, text[:MAX_LINE])
        with self._lock:
            kind = source.partition(":")[0]
            self.counts[kind] = self.counts.get(kind, 0) + 1
            kept = self._kept.pop(machine, None) or _Kept()
            self._kept[machine] = kept
            kept.lines.append(line)
            self._grow(kept, _size(line))
            while len(kept.lines) > MAX_LINES or kept.size > MAX_BYTES:
                self._grow(kept, -_size(kept.lines.popleft()))
            while self._size > self._max_all and len(self._kept) > 1:
                _, silent = self._kept.popitem(last=False)
                self._size -= silent.size

    def of(self, machine: str, since_s: float = -inf, until_s: float = inf) -> Sequence[Line]:
        """Return what is kept of `machine` from `since_s` until before `until_s`, the oldest first."""
        with self._lock:
            kept = self._kept.get(machine)
            lines = tuple(kept.lines) if kept is not None else ()
        return [line for line in lines if since_s <= line.at_s < until_s]

    def _grow(self, kept: _Kept, by: int) -> None:
        kept.size += by
        self._size += by


def _size(line: Line) -> int:
    return len(line.text) + len(line.source) + _ADO
