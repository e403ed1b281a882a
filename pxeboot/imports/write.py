"""An import → the text of a farm's file, as a person would have written it. Pure.

Short lists and mappings stand on one line. What comes from a line of another file says so behind it.
"""

import re
from collections.abc import Iterable, Iterator
from textwrap import wrap

from config.yamltree import Mapping, Node, Place, Scalar, Sequence
from pxeboot.imports.found import Imported

WIDTH = 119
_PLAIN = re.compile(r"[A-Za-z0-9/.+_][A-Za-z0-9/.+_@%=:,()~^-]*( [A-Za-z0-9/.+_@%=(~^-][A-Za-z0-9/.+_@%=:,()~^-]*)*")
_FLOW = re.compile(r"[A-Za-z0-9/.+_][A-Za-z0-9/.+_@%=:()~^-]*( [A-Za-z0-9/.+_@%=(~^-][A-Za-z0-9/.+_@%=:()~^-]*)*")
_PRINTABLE = re.compile("[\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*")
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_OTHERS = re.compile("(?i)true|false|yes|no|on|off|y|n|0[0-7]+|[0-9_]+:[0-5]?[0-9](:[0-5]?[0-9])*|[0-9]+e[0-9]+")
"""Words that other readers of YAML take for something else than a text, some of them only where a text is meant."""
_ORDER = ("server", "dhcp", "images", "clusters", "pools", "tags", "node")
_FLAGS = frozenset(("proxy", "single_port", "probe", "authoritative", "match_client_id", "ipxe"))
"""Keys whose `true` and `false` are no texts."""
_PER_LINE = frozenset(("nodes", "taints", "static_routes", "pools", "subnets"))
"""Lists that have a line for each item, though all would fit on one."""


def text(imported: Imported, made_by: str) -> str:
    """Return the file. `made_by` is the command that did it, for the first line."""
    lines = ["# " + _one_line(f"Made by `{made_by}`.")]
    if imported.todo:
        lines += ["#", "# Still to be said here, for it stands in no file that was read:"]
        lines += _comments(imported.todo)
    lost = [str(one) for one in imported.left if one.lost]
    if lost:
        lines += ["#", "# Not carried over, or to be looked at:"]
        lines += _comments(lost)
    writer = _Writer(imported)
    keys = [*_ORDER, *(key for key in imported.tree.items if key not in _ORDER)]
    for key in keys:
        if key in imported.tree.items:
            lines.append("")
            lines += writer.entry(key, imported.tree.items[key][1], 0, (key,))
    return "\n".join(lines) + "\n"


class _Writer:
    """Makes lines of values."""

    def __init__(self, imported: Imported) -> None:
        self._imported = imported
        self._several = len({one.file for one in imported.left}) > 1

    def entry(self, key: str, node: Node, indent: int, place: Place) -> Iterator[str]:
        """The lines of a key and its value."""
        space = " " * indent
        head = f"{space}{scalar(key)}:"
        match node:
            case Scalar() if _is_block(node.value):
                yield f"{head} {_block_sign(str(node.value))}"
                yield from (f"{space}  {line}".rstrip(" ") if not line else f"{space}  {line}" for line in
                            str(node.value).removesuffix("\n").split("\n"))  # fmt: skip
            case Scalar():
                yield f"{head} {_value(key, node)}" if node.value is not None else head
            case _ if (short := self._short(node, place)) is not None and len(head) + 1 + len(short) <= WIDTH:
                yield f"{head} {short}"
            case Mapping():
                yield head
                for name, (_, inner) in node.items.items():
                    yield from self.entry(name, inner, indent + 2, (*place, name))
            case Sequence():
                yield head
                for number, item in enumerate(node.items):
                    yield from self._item(item, indent + 2, (*place, number))

    def _item(self, node: Node, indent: int, place: Place) -> Iterator[str]:
        """The lines of one item of a list."""
        space = " " * indent
        short = flow(node)
        origin = self._origin(node, place)
        if short is not None and (len(space) + 2 + len(short) <= WIDTH) and not _holds_lists(node):
            line = f"{space}- {short}"
            if origin and len(line) + 4 + len(origin) <= WIDTH:
                line += f"  # {origin}"
            yield line
            return
        match node:
            case Mapping():
                if origin:
                    yield f"{space}# {origin}"
                first = True
                for name, (_, inner) in node.items.items():
                    for line in self.entry(name, inner, indent + 2, (*place, name)):
                        yield f"{space}- {line.lstrip()}" if first else line
                        first = False
            case Scalar():
                yield f"{space}- {scalar(node.value)}"
            case Sequence():
                yield f"{space}-"
                for number, item in enumerate(node.items):
                    yield from self._item(item, indent + 2, (*place, number))

    def _origin(self, node: Node, place: Place) -> str:
        """Where an item comes from, for those that people look for."""
        if not isinstance(node, Mapping) or place[-2:-1] not in (("nodes",), ("subnets",), ("pools",)):
            return ""
        file, line, _ = self._imported.sources.where(node.mark)
        return f"{file.rpartition('/')[2]}:{line}" if line and _PRINTABLE.fullmatch(file) and "\n" not in file else ""

    def _short(self, node: Node, place: Place) -> str | None:
        """A list or mapping on one line, if that is how one would write it."""
        if isinstance(node, Sequence) and node.items and place[-1] in _PER_LINE:
            return None
        if len(place) == 1 and isinstance(node, Mapping):
            return (
                None
                if _holds_lists(node) or any(isinstance(i, Mapping) for _, i in node.items.values())
                else flow(node)
            )
        return None if _holds_mappings(node) else flow(node)


def _holds_lists(node: Node) -> bool:
    """Whether a mapping holds lists of mappings, or mappings in mappings: then it stands on lines of its own."""
    if not isinstance(node, Mapping):
        return False
    return any(_holds_mappings(inner) for _, inner in node.items.values())


def _holds_mappings(node: Node) -> bool:
    match node:
        case Mapping():
            return any(isinstance(inner, Mapping) or _holds_mappings(inner) for _, inner in node.items.values())
        case Sequence():
            return any(isinstance(inner, Mapping) for inner in node.items)
        case Scalar():
            return False


def flow(node: Node) -> str | None:
    """Return a value on one line, None if a text in it has several."""
    match node:
        case Scalar():
            return None if _is_block(node.value) else scalar(node.value, inside=True)
        case Sequence():
            items = [flow(item) for item in node.items]
            return None if None in items else f"[{', '.join(item or '' for item in items)}]"
        case Mapping():
            entries = [
                (
                    scalar(key, inside=True),
                    _value(key, inner, inside=True) if isinstance(inner, Scalar) else flow(inner),
                )
                for key, (_, inner) in node.items.items()
            ]
            if any(inner is None for _, inner in entries):
                return None
            return "{" + ", ".join(f"{key}: {inner}" for key, inner in entries) + "}"


def _value(key: str, node: Scalar, *, inside: bool = False) -> str | None:
    """A text behind a key."""
    if key in _FLAGS and node.value in ("true", "false"):
        return node.value
    return None if inside and _is_block(node.value) else scalar(node.value, inside=inside)


def scalar(value: str | None, *, inside: bool = False) -> str:
    """Return a text on one line, in quotes where it would be something else without. `inside`: of [] or {}.

    >>> scalar("94:57:a5:d3:ec:f2"), scalar("52:54:00:12:34:56"), scalar("a: b"), scalar("no"), scalar(None)
    ('94:57:a5:d3:ec:f2', '"52:54:00:12:34:56"', '"a: b"', '"no"', 'null')
    """
    if value is None:
        return "null"
    good = (_FLOW if inside else _PLAIN).fullmatch(value) and ": " not in value and not value.endswith(":")
    if good and value not in _NULLS and not _OTHERS.fullmatch(value):
        return value
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if _PRINTABLE.fullmatch(letter) and letter not in "\n\t\ufeff":
        return letter
    code = ord(letter)
    known = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return known or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _is_block(value: str | None) -> bool:
    """Whether a text is better on lines of its own. Those with odd characters or ends are not."""
    if value is None or not ("\n" in value.strip("\n") or (value.endswith("\n") and len(value) > 1)):
        return False
    lines = value.removesuffix("\n").split("\n")
    return bool(_PRINTABLE.fullmatch(value)) and "\t" not in lines[0][:1] and bool(lines[0]) and bool(lines[-1])


def _block_sign(value: str) -> str:
    indented = "2" if value.startswith((" ", "\t")) else ""
    return f"|{indented}" if value.endswith("\n") else f"|{indented}-"


def _comments(texts: Iterable[str]) -> Iterator[str]:
    for one in texts:
        yield from wrap(_one_line(one), WIDTH, initial_indent="#   ", subsequent_indent="#     ",
                        break_long_words=False, break_on_hyphens=False)  # fmt: skip


def _one_line(value: str) -> str:
    """A comment, whatever came in from outside."""
    return "".join(letter if _PRINTABLE.fullmatch(letter) and letter != "\n" else "?" for letter in value)
