"""What is wrong in a configuration, and where."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing that is wrong. Lines and columns count from 1, as editors do."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigErrors(Exception):
    """A configuration that is refused, with everything that is wrong in it; its text has a line for each."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes: Sequence[Mistake] = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(map(str, self.mistakes)))


def shown(value: object) -> str:
    """Return a value as it stands in a message: short, and a list or a mapping only by that word.

    >>> shown("10.0.0.256"), shown(["a"]), shown(None)
    ("'10.0.0.256'", 'a list', 'an empty value')
    """
    match value:
        case None:
            return "an empty value"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str() if len(value) > 60:
            return f"{value[:57]!r}..."
    return repr(value)


def suggestion(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return "; did you mean 'x'?" for the known word that is nearest to `word`, or nothing if none is near.

    `likeness` is how near it must be, from 0 to 1.

    >>> suggestion("wokers", ["workers", "storage"])
    "; did you mean 'workers'?"
    """
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), [*known], n=1, cutoff=likeness)
    return f"; did you mean {near[0]!r}?" if near else ""
