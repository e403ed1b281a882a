"""Kea's JSON with comments → a tree whose parts know their line. Pure.

YAML is JSON and more, so that the reader of our own files does it, once comments and tabs are blanks. Nothing moves.
"""

import re

from config import yamltree
from config.yamltree import Mapping, Mark, Node
from pxeboot.imports.found import Draft, NotReadable, Source

_PART = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\.)*") | (?P<include><\?include\s+"(?P<path>[^"\n]*)"\s*\?>)
    | (?P<comment>\#[^\n]* | //[^\n]* | /\*.*?\*/) | (?P<tab>\t)""",
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"[^\n]")


def root_of(source: Source, draft: Draft) -> Mapping:
    """Return what is in a file. Raises `NotReadable`."""
    draft.sources.add(source)
    included: list[tuple[int, str]] = []

    def blank(match: re.Match[str]) -> str:
        if match["string"] is not None:
            return match["string"].replace("\\/", "/")
        if match["include"] is not None:
            included.append((match.start(), match["path"]))
            return "null" + _BLANK.sub(" ", match.group()[4:])
        return _BLANK.sub(" ", match.group())

    text = _PART.sub(blank, source.text)
    try:
        root = yamltree.read(text, lambda mark, message: draft.lost(mark, "this line", message))
    except yamltree.NotReadable as error:
        raise NotReadable(f"{source.name}:{error.mark[0]}:{error.mark[1]}: {error.message}") from None
    for at, path in included:
        mark: Mark = source.text.count("\n", 0, at) + 1, at - source.text.rfind("\n", 0, at)
        draft.lost(mark, f'<?include "{path}"?>', "put the content of that file there, and import again")
    if not isinstance(root, Mapping):
        raise NotReadable(f"{source.name}: it is no JSON object")
    return root


def inside(root: Node | None, *keys: str) -> Node | None:
    """Return what is at a place, None if there is nothing."""
    return None if root is None else yamltree.find(root, keys)


def text(node: Node | None, *keys: str) -> str:
    """Return a text, a number or a word at a place; empty if there is none."""
    found = inside(node, *keys)
    return found.value or "" if isinstance(found, yamltree.Scalar) else ""


def items(node: Node | None, *keys: str) -> list[Node]:
    """Return the items of a list at a place; none if there is no list."""
    found = inside(node, *keys)
    return [*found.items] if isinstance(found, yamltree.Sequence) else []


def entries(node: Node | None) -> list[tuple[str, Mark, Node]]:
    """Return the keys of an object, with their places and values."""
    return [(key, mark, value) for key, (mark, value) in node.items.items()] if isinstance(node, Mapping) else []
