"""What an import gives: a farm whose values know the line that they come from, and what did not come along. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from config.yamltree import Mapping, Mark, Node, Scalar, plain
from config.yamltree import Sequence as List

MADE: Mark = (0, 0)
"""The place of a value that stands in none of the files: we made it."""


class NotReadable(ValueError):
    """The text is not of this format at all; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its name for people, and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Left:
    """Something that could not be carried over, or was changed on the way.

    `lost` says whether the farm lacks something: then a person has to act. Otherwise it is only told.
    """

    file: str
    line: int
    column: int
    what: str
    why: str
    lost: bool = True

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {'' if self.lost else 'note: '}{self.what}: {self.why}"


@dataclass(frozen=True, slots=True)
class Imported:
    """A farm's file in the making: its tree, what was left out, and what is still to be done by hand."""

    tree: Mapping
    left: tuple[Left, ...]
    sources: "Sources"
    todo: tuple[str, ...] = ()

    @property
    def farm(self) -> dict[str, Any]:
        """The farm as plain values."""
        found = plain(self.tree)
        assert isinstance(found, dict)
        return found


@dataclass(slots=True)
class Sources:
    """Several files as one: the lines of the second are counted on from those of the first, so that a mark is enough
    to know the file, too."""

    _files: list[tuple[int, str]] = field(default_factory=list)
    _next: int = 1

    def add(self, source: Source) -> int:
        """Take a file in, and return what is to be added to the numbers of its lines."""
        before = self._next - 1
        self._files.append((before, source.name))
        self._next += source.text.count("\n") + 1
        return before

    def where(self, mark: Mark) -> tuple[str, int, int]:
        """Return the file, the line and the column of a mark; line 0 for what we made."""
        line, column = mark
        before, name = self._files[0] if self._files else (0, "")
        for start, file in self._files:
            if start < line:
                before, name = start, file
        return name, max(line - before, 0), column


@dataclass(slots=True)
class Draft:
    """An import on its way."""

    sources: Sources = field(default_factory=Sources)
    left: list[Left] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)

    def lost(self, mark: Mark, what: str, why: str) -> None:
        """Say that something is not in the farm, and what can be done about it."""
        self.left.append(Left(*self.sources.where(mark), what, why))

    def note(self, mark: Mark, what: str, why: str) -> None:
        """Say that something is different, though nothing is missing by it."""
        self.left.append(Left(*self.sources.where(mark), what, why, lost=False))

    def done(self, farm: dict[str, Any]) -> Imported:
        """Return the import, without sections that say nothing."""
        root = tree({key: value for key, value in farm.items() if value}, MADE)
        assert isinstance(root, Mapping)
        return Imported(root, in_order(self.left), self.sources, tuple(self.todo))


def in_order(left: Iterable[Left]) -> tuple[Left, ...]:
    """Return each of `left` once, as the lines of each file follow each other."""
    once = list(dict.fromkeys(left))
    files = list(dict.fromkeys(one.file for one in once))
    return tuple(sorted(once, key=lambda one: (files.index(one.file), one.line, one.column)))


def tree(value: object, mark: Mark) -> Node:
    """Return values as a tree whose parts have the place `mark`, but for parts that are trees already.

    >>> plain(tree({"ip": Scalar((3, 9), "10.0.0.1"), "tags": ["a"], "proxy": True}, (3, 1)))
    {'ip': '10.0.0.1', 'tags': ['a'], 'proxy': 'true'}
    """
    match value:
        case Scalar() | List() | Mapping():
            return value
        case dict():
            nodes = {str(key): tree(inner, mark) for key, inner in value.items()}
            return Mapping(mark, {key: (node.mark, node) for key, node in nodes.items()})
        case list() | tuple():
            return List(mark, [tree(inner, mark) for inner in value])
        case None:
            return Scalar(mark, None)
        case bool():
            return Scalar(mark, "true" if value else "false")
        case _:
            return Scalar(mark, str(value))


def texts(values: Sequence[str], mark: Mark) -> List:
    """Return a list of texts of one place."""
    return List(mark, [Scalar(mark, value) for value in values])
