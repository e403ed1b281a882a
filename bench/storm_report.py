"""Delays and how they are shown: a table with a column for each thing that was measured. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all are not above (nearest rank); infinite if there are none.

    >>> percentile([4, 1, 3, 2], 0.5)
    2
    """
    if not values:
        return float("inf")
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Delays:
    """How long answers took, in milliseconds. What was not answered in time counts as infinitely late."""

    asked: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    """The longest, of those that were answered."""
    lost: int

    @classmethod
    def of(cls, answered_ms: Sequence[float], lost: int = 0) -> "Delays":
        """Return what the single delays come to."""
        late = [*answered_ms, *[float("inf")] * lost]
        return cls(len(late), percentile(late, 0.5), percentile(late, 0.99), max(answered_ms, default=0.0), lost)

    def __str__(self) -> str:
        text = f"{figure(self.p50_ms)} / {figure(self.p99_ms)} / {figure(self.max_ms)}"
        return f"{text}, {self.lost} lost" if self.lost else text


def figure(value: float) -> str:
    """Return a number with as many digits as are worth reading.

    >>> [figure(number) for number in (0.1234, 12.34, 1234.5, float("inf"))]
    ['0.12', '12.3', '1,234', 'never']
    """
    if value == float("inf"):
        return "never"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    label: str
    values: tuple[str, ...]
    """A text for each column."""
    wanted: str = ""
    good: bool | None = None
    """Whether what is wanted was reached; None if nothing is."""


def render(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return the table as text, with a heading for each column."""
    lines = [["", *columns, "wanted", ""]]
    for row in rows:
        verdict = {True: "reached", False: "MISSED", None: ""}[row.good]
        lines.append([row.label, *row.values, *[""] * (len(columns) - len(row.values)), row.wanted, verdict])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = []
    for line in lines:
        label, *middle, wanted, verdict = line
        cells = [cell.rjust(width) for cell, width in zip(middle, widths[1:-2], strict=True)]
        text.append("   ".join((label.ljust(widths[0]), *cells, wanted.ljust(widths[-2]), verdict)).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


def missed(rows: Sequence[Row]) -> bool:
    """Tell whether a target was not reached."""
    return any(row.good is False for row in rows)
