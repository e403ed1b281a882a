"""YAML text → a tree in which every value and every key knows its line and column.

Made from the parser's events, without recursion, because the loaders that come with the parser lose three things
that a configuration needs: places, duplicate keys, and the text as it was written. A plain word is its text here,
whatever it looks like: YAML 1.1 would read 52:54:00:12:34:56 as a number, `no` as false and 0644 as 420. Only
null has a meaning of its own; whoever knows which type is wanted (`config.model`) makes numbers out of texts.
"""

import re
from collections import abc
from dataclasses import dataclass, field
from typing import Any

import yaml

Mark = tuple[int, int]
"""Line and column, both from 1."""
Place = tuple[str | int, ...]
"""The way from the root to a value: keys and indices."""

MOST_LEVELS = 50
"""How deep values may nest; deeper is refused, so that nothing that walks the tree runs out of stack."""
MOST_VALUES = 1_000_000
"""How many values a file may have once its aliases are written out."""

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAINLY = {
    "mapping values are not allowed": "a second key in one line, or a line farther to the right than the one above; "
    "quote a text that holds a colon and a space",
    "did not find expected key": "this line, or the one before, begins at another column than its neighbours",
    "did not find expected '-' indicator": "this line begins at another column than the entries of its list",
    "could not find expected ':'": "a key without its colon",
    "found character that cannot start any token": "no word begins with this character; quote a text that does",
}
"""What the parser says in its own terms."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Scalar:
    """A text, or None for null."""

    mark: Mark
    value: str | None
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Sequence:
    """A list."""

    mark: Mark
    items: list["Node"] = field(default_factory=list)
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Mapping:
    """Keys, each with its own place, and their values."""

    mark: Mark
    items: dict[str, tuple[Mark, "Node"]] = field(default_factory=dict)
    size: int = 1
    height: int = 1


Node = Scalar | Sequence | Mapping


class NotReadable(Exception):
    """Text that is no YAML, or more of it than we read. The tree ends here."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message


Complain = abc.Callable[[Mark, str], None]
"""Where mistakes go that do not stop the reading."""


def read(text: str, complain: Complain) -> Node | None:
    """Return the tree of the one document in `text`, or None if there is none.

    Duplicate keys, unknown tags and the like go to `complain`; the first of two equal keys counts.
    Raises `NotReadable` where reading cannot go on.
    """
    odd = _NOT_YAML.search(text)
    if odd is not None:
        before = text[: odd.start()]
        mark = before.count("\n") + 1, odd.start() - before.rfind("\n")
        raise NotReadable(mark, f"the character {odd[0]!r} is not allowed in YAML")
    builder = _Builder(complain)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.problem, error.context) if part)
        if where is not None and _tab_indents(text, where.line):
            said = "a tab stands before the first word; indent with spaces"
        else:
            said = next((plainly for words, plainly in _PLAINLY.items() if words in said), said)
        raise NotReadable(_mark(where), f"this is not YAML: {said}") from None
    return builder.root


def plain(node: Node) -> Any:
    """Return the values alone: dicts, lists, texts and None."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return {key: plain(value) for key, (_, value) in node.items.items()}


def find(root: Node, place: Place) -> Node | None:
    """Return the value at `place`, or None."""
    node: Node | None = root
    for part in place:
        match node:
            case Mapping():
                node = node.items.get(str(part), (None, None))[1]
            case Sequence() if isinstance(part, int) and part < len(node.items):
                node = node.items[part]
            case _:
                return None
    return node


def mark_of(root: Node, place: Place, *, key: bool = False) -> Mark:
    """Return where the value at `place` is (its key, if `key`); else the place of what should hold it."""
    while place:
        holder = find(root, place[:-1])
        if key and isinstance(holder, Mapping) and str(place[-1]) in holder.items:
            return holder.items[str(place[-1])][0]
        node = find(root, place)
        if node is not None:
            # An empty value has its place behind the colon, often on another line: its key says more.
            empty = isinstance(node, Scalar) and not node.value
            if not (empty and isinstance(holder, Mapping)):
                return node.mark
            return holder.items[str(place[-1])][0]
        place, key = place[:-1], False
    return root.mark


def changed(root: Node, changes: abc.Mapping[Place, Node | None]) -> Node:
    """Return the tree with other values at the places of `changes`, or without them where that is None.

    Everything else keeps its mark. A key that is not there is added to its mapping.
    """
    below: dict[str, dict[Place, Node | None]] = {}
    for place, node in changes.items():
        below.setdefault(str(place[0]), {})[place[1:]] = node

    def after(name: str, node: Node) -> Node | None:
        inner = below.get(name)
        if inner is None:
            return node
        return inner[()] if () in inner else changed(node, inner)

    match root:
        case Mapping():
            items = {key: (mark, after(key, node)) for key, (mark, node) in root.items.items()}
            for key, inner in below.items():
                items.setdefault(key, (root.mark, inner.get(())))
            return Mapping(root.mark, {key: (mark, node) for key, (mark, node) in items.items() if node is not None})
        case Sequence():
            rest = [after(str(index), node) for index, node in enumerate(root.items)]
            return Sequence(root.mark, [node for node in rest if node is not None])
        case Scalar():
            return root


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    node: Sequence | Mapping
    anchor: str | None
    key: tuple[str, Mark] | None = None
    """The key whose value comes next."""
    has_key: bool = False
    """True also when that key was refused; its value is then dropped."""
    merged: list[Mapping] = field(default_factory=list)


class _Builder:
    """Takes the parser's events, one by one, and makes `root` of them."""

    def __init__(self, complain: Complain) -> None:
        self.root: Node | None = None
        self._complain = complain
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        mark = _mark(event.start_mark)
        match event:
            case yaml.ScalarEvent():
                if event.tag is not None:
                    self._check_tag(event.tag, mark)
                null = event.value in _NULL and event.implicit[0] and event.style in (None, "")
                self._add(Scalar(mark, None if null else event.value), event.anchor)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._check_tag(event.tag, mark)
                if len(self._open) >= MOST_LEVELS:
                    raise NotReadable(mark, f"values are nested deeper than {MOST_LEVELS} levels")
                node = Sequence(mark) if isinstance(event, yaml.SequenceStartEvent) else Mapping(mark)
                self._open.append(_Open(node, event.anchor))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self._open.pop()
                self._merge(done)
                self._add(done.node, done.anchor)
            case yaml.AliasEvent():
                node_there = self._anchors.get(str(event.anchor))
                if node_there is None:
                    self._complain(mark, f"*{event.anchor} is not defined above")
                self._add(node_there or Scalar(mark, None), None)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise NotReadable(mark, "a second document begins; a configuration is one document")
            case _:
                pass  # the stream's own ends, and the document's

    def _check_tag(self, tag: str | None, mark: Mark) -> None:
        if tag not in (None, "!") and tag not in _TAGS:
            self._complain(mark, f"the tag {tag!r} has no meaning here")

    def _add(self, node: Node, anchor: str | None) -> None:
        """Put a complete value where it belongs."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent.node, Mapping):
            if not parent.has_key:
                self._take_key(parent, node)
                return
            if parent.key is not None:
                name, mark = parent.key
                if name == "<<":
                    self._take_merge(parent, node, mark)
                else:
                    parent.node.items[name] = (mark, node)
            parent.key, parent.has_key = None, False
        else:
            parent.node.items.append(node)
        parent.node.size += node.size
        parent.node.height = max(parent.node.height, node.height + 1)
        if parent.node.size > MOST_VALUES:
            raise NotReadable(parent.node.mark, f"with its aliases this holds more than {MOST_VALUES} values")
        if len(self._open) + node.height > MOST_LEVELS + 1:
            raise NotReadable(node.mark, f"values are nested deeper than {MOST_LEVELS} levels")

    def _take_key(self, parent: _Open, node: Node) -> None:
        parent.has_key = True
        if not isinstance(node, Scalar):
            self._complain(node.mark, "a key is a single word, not a list or a mapping")
            return
        name = node.value if node.value is not None else "null"
        assert isinstance(parent.node, Mapping)
        if name in parent.node.items:
            first = parent.node.items[name][0]
            self._complain(node.mark, f"the key {name!r} is already there, in line {first[0]}")
            return
        parent.key = name, node.mark

    def _take_merge(self, parent: _Open, node: Node, mark: Mark) -> None:
        sources = node.items if isinstance(node, Sequence) else [node]
        for source in sources:
            if isinstance(source, Mapping):
                parent.merged.append(source)
            else:
                self._complain(mark, "<< takes a mapping, such as *name of one that is marked &name above")

    def _merge(self, done: _Open) -> None:
        for source in done.merged:
            for name, item in source.items.items():
                assert isinstance(done.node, Mapping)
                done.node.items.setdefault(name, item)


def _tab_indents(text: str, line: int) -> bool:
    """Whether a tab is in the white space that a line, counted from 0, begins with; the parser's words hide that."""
    found = text.split("\n")[line : line + 1]
    return any("\t" in content[: len(content) - len(content.lstrip())] for content in found)


def _mark(mark: Any) -> Mark:
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
