"""Patches, and who owns which field: server-side apply, as much of it as our clients can see.

A path is a tuple of keys. An item of a list that is merged by a key has a step `("type", "Ready")` of its own; every
other list is one value, and owned whole, as the API's schema has it for most (`spec.taints` among them).
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from tests.support.kube_stand_in.faults import Refusal
from tests.support.kube_stand_in.resources import Object

Step = str | tuple[str, str]
Path = tuple[Step, ...]
Owners = dict[tuple[str, str], frozenset[Path]]
"""(manager, Apply or Update) → what it owns."""

MERGED_BY = {"conditions": "type", "addresses": "type", "ownerReferences": "uid"}
_NOBODYS = {
    ("apiVersion",),
    ("kind",),
    *(
        ("metadata", key)
        for key in (
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "managedFields",
            "generateName",
        )
    ),
}


def merge(old: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386 section 2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def strategic(old: Any, patch: Any, key: str = "") -> Any:
    """Apply a strategic merge patch: as `merge`, but lists of `MERGED_BY` are merged by their key."""
    if isinstance(patch, list) and isinstance(old, list) and (by := MERGED_BY.get(key)):
        merged_list = {item.get(by): item for item in old}
        for item in patch:
            merged_list[item.get(by)] = strategic(merged_list.get(item.get(by)), item)
        return list(merged_list.values())
    if not isinstance(patch, dict):
        return patch
    merged = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if name.startswith("$"):  # directives; the order of a list matters to nobody here
            continue
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = strategic(merged.get(name), value, name)
    return merged


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Return every owned path of an object with its value."""
    found: dict[Path, Any] = {}
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            found |= leaves(inner, (*path, key))
        return {p: v for p, v in found.items() if p not in _NOBODYS}
    by = MERGED_BY.get(path[-1]) if path and isinstance(path[-1], str) else None
    if by and isinstance(value, list) and value:
        for item in value:
            found |= leaves(item, (*path, (by, str(item.get(by)))))
        return found
    return {path: value} if path else {}


def updated(old: Object | None, new: Object, manager: str) -> Object:
    """Return `new` with its managedFields: what differs from `old` is now `manager`'s, by Update."""
    before, after = leaves(old or {}), leaves(new)
    changed = frozenset(p for p, value in after.items() if p not in before or before[p] != value)
    owners = {who: (paths - changed) & after.keys() for who, paths in (_read(old) if old else {}).items()}
    owners[manager, "Update"] = owners.get((manager, "Update"), frozenset()) | changed
    return _written(new, owners)


def applied(old: Object | None, wanted: Object, manager: str, *, force: bool) -> Object:
    """Return `old` with what `manager` wants of it, and without what it wanted before and nobody else does.

    Raises `Refusal` (409) when another manager owns a field that is to be changed, unless it is forced.
    """
    if old is None:
        return _written(deepcopy(wanted), {(manager, "Apply"): frozenset(leaves(wanted))})
    owners, now, want = _read(old), leaves(old), leaves(wanted)
    me = (manager, "Apply")
    clashes = [
        (who[0], path)
        for who, paths in owners.items()
        for path in paths
        if who != me and path in want and now.get(path) != want[path]
    ]
    if clashes and not force:
        told = "\n".join(f'conflict with "{who}": {_dotted(path)}' for who, path in sorted(clashes, key=str))
        raise Refusal(409, "Conflict", f"Apply failed with {len(clashes)} conflict(s): {told}")
    taken = {path for _, path in clashes}
    owners = {who: paths - taken for who, paths in owners.items()}
    others = frozenset().union(*(paths for who, paths in owners.items() if who != me))
    new = deepcopy(old)
    for path in owners.get(me, frozenset()) - want.keys() - others:
        _drop(new, path)
    for path, value in want.items():
        _set(new, path, deepcopy(value))
    return _written(new, {**owners, me: frozenset(want)})


def _set(value: Any, path: Path, leaf: Any) -> None:
    for step, following in itertools.pairwise(path):
        empty: Any = [] if isinstance(following, tuple) else {}
        value = _item(value, step) if isinstance(step, tuple) else value.setdefault(step, empty)
    last = path[-1]
    if isinstance(last, tuple):
        _item(value, last)
    elif leaf != {} or not isinstance(value.get(last), dict):  # an empty map wants nothing of one that is there
        value[last] = leaf


def _item(found: list[Any], step: tuple[str, str]) -> Any:
    for item in found:
        if item.get(step[0]) == step[1]:
            return item
    found.append({step[0]: step[1]})
    return found[-1]


def _drop(value: Any, path: Path) -> None:
    """Take a leaf out, and what is empty without it."""
    step, *rest = path
    if isinstance(step, tuple):
        inner = next((item for item in value if item.get(step[0]) == step[1]), None)
    else:
        inner = value.get(step)
    if inner is None:
        return
    if rest:
        _drop(inner, tuple(rest))
    if not rest or inner in ({}, []):
        if isinstance(value, list):
            value.remove(inner)
        else:
            del value[step]


def _dotted(path: Path) -> str:
    return "".join(f".{step}" if isinstance(step, str) else f'[{step[0]}="{step[1]}"]' for step in path)


def _written(found: Object, owners: Mapping[tuple[str, str], Iterable[Path]]) -> Object:
    """Return an object with its managedFields."""
    entries = []
    for (manager, operation), paths in owners.items():
        tree: dict[str, Any] = {}
        for path in sorted(paths, key=str):
            node = tree
            for step in path:
                name = f"f:{step}" if isinstance(step, str) else "k:" + json.dumps(dict([step]), separators=(",", ":"))
                node = node.setdefault(name, {})
        if tree:
            entries.append(
                {
                    "manager": manager,
                    "operation": operation,
                    "apiVersion": found.get("apiVersion", "v1"),
                    "fieldsType": "FieldsV1",
                    "fieldsV1": tree,
                }
            )
    return {**found, "metadata": {**found["metadata"], "managedFields": entries}}


def _read(found: Object) -> Owners:
    """Return who owns what, of what `_written` wrote."""

    def paths(tree: Mapping[str, Any], path: Path) -> Iterable[Path]:
        for name, inner in tree.items():
            step: Step = name[2:]
            if name.startswith("k:"):
                ((key, value),) = json.loads(name[2:]).items()
                step = (key, value)
            if inner:
                yield from paths(inner, (*path, step))
            else:
                yield (*path, step)

    return {
        (entry["manager"], entry["operation"]): frozenset(paths(entry["fieldsV1"], ()))
        for entry in found["metadata"].get("managedFields") or []
    }
