"""What a probe of the whole chain finds: the steps of a boot in their order, and what is wrong at which. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Grade(StrEnum):
    """How a step went."""

    FINE = "fine"
    NOTE = "note"
    """It works, and there is something worth knowing."""
    WRONG = "wrong"
    SKIPPED = "skipped"
    """It was not tried."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong."""

    what: str
    """What is so, and what it means."""
    remedy: str = ""
    """What to do; "" where `what` says it."""


@dataclass(slots=True)
class Hop:
    """One step of a boot. Text in it may be a server's: what it chose is shown with `%r`."""

    step: str
    """Such as `TFTP` or `kernel`."""
    detail: str = ""
    """What came of it."""
    took_s: float | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: bool = False

    @property
    def grade(self) -> Grade:
        """How it went."""
        if self.problems:
            return Grade.WRONG
        if self.skipped:
            return Grade.SKIPPED
        return Grade.NOTE if self.notes else Grade.FINE

    def wrong(self, what: str, remedy: str = "") -> None:
        """Add a problem."""
        self.problems.append(Problem(what, remedy))


def as_json(hops: Sequence[Hop]) -> list[dict[str, object]]:
    """Return the steps as JSON values."""
    return [
        {
            "step": hop.step,
            "result": hop.grade.value,
            "took_ms": None if hop.took_s is None else round(hop.took_s * 1000, 1),
            "detail": hop.detail,
            "problems": [{"what": problem.what, "remedy": problem.remedy} for problem in hop.problems],
            "notes": [*hop.notes],
        }
        for hop in hops
    ]
