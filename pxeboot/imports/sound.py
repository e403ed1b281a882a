"""Take out of an import what the farm's rules refuse, and say so, until the rest is right. Pure.

Other servers allow what we do not: the same MAC twice, an address outside of every network, a label that a kubelet may
not have. So there is one place that knows what is right, `config.check`, and readers need not know.
"""

from collections.abc import Iterator
from dataclasses import replace

from pydantic import ValidationError

from config.check import check
from config.check_paths import paths
from config.finding import Finding
from config.model import Farm
from config.wording import SECRETS, place_text, sentence, united
from config.yamltree import Mapping, Node, Place, Scalar, Sequence, changed, find, mark_of, plain
from pxeboot.imports.found import Imported, Left, in_order

_NEEDED = frozenset(("name", "ip", "image", "subnet", "range", "to", "via", "key", "effect", "content"))
"""Without one of these, what holds it is nothing either."""
_MERGE = "<<"
_MOST_ROUNDS = 100
_MOST_SHOWN = 60


def sound(imported: Imported) -> Imported:
    """Return the import without what a farm cannot be, and with a `Left` for each such part."""
    root: Node = imported.tree
    left: list[Left] = []
    for _ in range(_MOST_ROUNDS):
        findings = [*_wrong(root)]
        if not findings:
            break
        changes: dict[Place, Node | None] = {}
        for finding in findings:
            place = _removable(root, finding.place)
            changes[place] = None
            file, line, column = imported.sources.where(mark_of(root, finding.place, key=finding.key))
            what, why = _shown(root, place), finding.message.removeprefix(f"{place_text(finding.place)}: ")
            if finding.other is not None and (there := imported.sources.where(mark_of(root, finding.other)))[1]:
                why += f" ({there[0]}:{there[1]})"
            left.append(Left(file, line, column, what, why))
        root = _without(root, changes)
    assert isinstance(root, Mapping)
    return replace(imported, tree=root, left=in_order((*imported.left, *left)))


def _wrong(root: Node) -> Iterator[Finding]:
    """Everything that is wrong: with the values, and once they are right, between them."""
    merging = [*_merging(root, ())]
    if merging:
        yield from merging
        return
    try:
        farm = Farm.model_validate(plain(root))
    except ValidationError as refused:
        for error in united(refused.errors(include_url=False)):
            place = tuple(part for part in error["loc"] if part != "[key]")
            key = error["type"] == "extra_forbidden" or error["loc"][-1:] == ("[key]",)
            yield Finding(place, sentence(error), key=key)
        return
    yield from check(farm)
    yield from paths(root)


def _merging(node: Node, place: Place) -> Iterator[Finding]:
    """Keys that YAML takes for something else than a key, in quotation marks too."""
    match node:
        case Mapping():
            for key, (_, inner) in node.items.items():
                if key == _MERGE:
                    yield Finding((*place, key), f"nothing can be called {_MERGE!r} in YAML", key=True)
                else:
                    yield from _merging(inner, (*place, key))
        case Sequence():
            for number, inner in enumerate(node.items):
                yield from _merging(inner, (*place, number))
        case _:
            pass


def _removable(root: Node, place: Place) -> Place:
    """The place of the least that can be left out: what is wrong, or what is nothing without it."""
    while len(place) > 1 and (find(root, place) is None or (place[-1] in _NEEDED and _is_leaf(root, place))):
        place = place[:-1]
    return place


def _is_leaf(root: Node, place: Place) -> bool:
    return isinstance(find(root, place), Scalar)


def _without(root: Node, changes: dict[Place, Node | None]) -> Node:
    """The tree without some places; of one inside another, the outer one counts."""
    kept = {place: None for place in changes if not any(place[:length] in changes for length in range(len(place)))}
    if () in kept:
        return Mapping((0, 0))
    return changed(root, kept)


def _shown(root: Node, place: Place) -> str:
    """What is left out, in words: its place, and what it is called."""
    node = find(root, place)
    name = find(root, (*place, "name")) if isinstance(node, Mapping) else None
    where = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    match node, name:
        case _, Scalar(value=str() as word):
            return f"{where} ({word[:_MOST_SHOWN]})"
        case Scalar(value=str() as word), _ if not SECRETS.intersection(place):
            return f"{where} ({word[:_MOST_SHOWN]!r})"
        case _:
            return where
