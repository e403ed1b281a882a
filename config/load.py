"""A YAML file → a `Farm`, or every mistake in it with its place."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.check import Finding, Names, check
from config.check_files import configuration
from config.check_paths import PATHS, paths
from config.mistakes import ConfigErrors, Mistake
from config.model import Farm
from config.wording import sentence, united
from config.yamltree import (
    Mapping,
    Mark,
    Node,
    NotReadable,
    Place,
    Scalar,
    Sequence,
    changed,
    find,
    mark_of,
    plain,
    read,
)

__all__ = ["PATHS", "ConfigErrors", "Mistake", "load"]

_UNNAMED = "unnamed"
_FILLERS: dict[Place, Node] = {
    ("pools", "*", "name"): Scalar((0, 0), _UNNAMED),
    ("pools", "*", "image"): Scalar((0, 0), _UNNAMED),
    ("pools", "*", "nodes", "*", "name"): Scalar((0, 0), _UNNAMED),
    ("pools", "*", "nodes", "*", "ip"): Scalar((0, 0), "0.0.0.0"),
    ("pools", "*", "nodes", "*", "macs"): Sequence((0, 0), [Scalar((0, 0), "00:00:00:00:00:00")]),
}
"""What stands in for a value that is wrong, while the rest is checked; known by their mark, which no value has."""

_MOST_ROUNDS = 20


def load(path: Path) -> Farm:
    """Return the farm that the file at `path` describes, its paths absolute.

    Raises `ConfigErrors` with all mistakes at once: of syntax, of each value, and between the parts.
    """
    reading = _Reading(str(path), Path(os.path.abspath(path)), [])
    farm = reading.farm(path)
    if farm is None or reading.mistakes:
        raise ConfigErrors(reading.mistakes)
    return farm


@dataclass(slots=True)
class _Reading:
    """One file on its way to a farm."""

    file: str
    path: Path
    mistakes: list[Mistake]

    def complain(self, mark: Mark, message: str) -> None:
        self.mistakes.append(Mistake(self.file, *mark, message))

    def farm(self, path: Path) -> Farm | None:
        """Return the farm, without the parts that could not be read; None if nothing is left."""
        text = self._text(path)
        if text is None:
            return None
        try:
            root = read(text, self.complain)
        except NotReadable as error:
            self.complain(error.mark, error.message)
            return None
        if not isinstance(root, Mapping):
            empty = root is None or (isinstance(root, Scalar) and root.value is None)
            said = "the file is empty" if empty else "this is no farm's file"
            other = "" if empty else "; of dnsmasq, ISC dhcpd and Kea, `pxeboot import` reads the files"
            self.complain(root.mark if root else (1, 1), f"{said}; write settings such as `dhcp:` and `pools:`{other}")
            return None
        return self._validated(root)

    def _text(self, path: Path) -> str | None:
        try:
            data = path.read_bytes()
        except OSError as error:
            self.complain((1, 1), f"cannot be read: {error.strerror}")
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-8", "replace")
            mark = before.count("\n") + 1, len(before) - before.rfind("\n")
            self.complain(mark, f"the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8")
            return None

    def _validated(self, root: Node) -> Farm | None:
        """Validate; then leave out what is wrong, and check how the rest fits together."""
        names, whole = _names(root), root
        for rounds in range(_MOST_ROUNDS):
            values = plain(root)
            for place in PATHS:
                _make_absolute(values, place, self.path.parent)
            try:
                farm = Farm.model_validate(values)
            except ValidationError as refused:
                errors = united(refused.errors(include_url=False))
                if rounds == 0:
                    for error in errors:
                        self._complain_of(root, error)
                changes = dict(_repair(root, error) for error in errors)
                if () in changes:
                    return None
                root = changed(root, changes)
                continue
            subnets, lease_s = (
                _size(find(root, ("dhcp", key))) == _size(find(whole, ("dhcp", key))) for key in ("subnets", "lease_s")
            )
            self._check(farm, root, replace(names, subnets_known=subnets, lease_s_known=lease_s))
            return farm
        return None

    def _complain_of(self, root: Node, error: ErrorDetails) -> None:
        place = error["loc"]
        key = error["type"] == "extra_forbidden" or place[-1:] == ("[key]",)
        place = tuple(part for part in place if part != "[key]")
        original = find(root, place)
        if error["type"] == "too_short" and _size(original) > 0:
            return  # what is in the list is wrong, and said
        if isinstance(original, Scalar) and not key:  # the path as it is written, not as we made it absolute
            error = {**error, "input": original.value}
        self.complain(mark_of(root, place, key=key), sentence(error))

    def _check(self, farm: Farm, root: Node, names: Names) -> None:
        for finding in (*check(farm, names), *configuration(farm, self.path), *paths(root), *_files(farm)):
            if _is_filler(root, finding.place) or (finding.other and _is_filler(root, finding.other)):
                continue
            message = finding.message.removeprefix(f"{_UNNAMED}: ")  # its name is wrong, and told
            if finding.other is not None:
                message += f" (line {mark_of(root, finding.other)[0]})"
            self.complain(mark_of(root, finding.place, key=finding.key), message)


def _files(farm: Farm) -> Iterator[Finding]:
    """The files to copy must be there and readable now, not at the first boot."""
    for name, file in farm.node.files.items():
        if file.from_ is None:
            continue
        place = ("node", "files", name, "from")
        try:
            mode = file.from_.stat().st_mode
        except (OSError, ValueError) as error:
            yield Finding(place, f"the file {str(file.from_)!r} cannot be read: {getattr(error, 'strerror', error)}")
            continue
        if not S_ISREG(mode):
            yield Finding(place, f"{str(file.from_)!r} is not a file")
        elif not os.access(file.from_, os.R_OK):
            yield Finding(place, f"the file {str(file.from_)!r} cannot be read: Permission denied")


def _names(root: Node) -> Names:
    """The names that the file defines, also where what they stand for is wrong."""

    def keys(name: str) -> list[str] | None:
        match find(root, (name,)):
            case Mapping(items=items):
                return [*items]
            case None:
                return []
            case _:
                return None

    pools = find(root, ("pools",))
    pool_names = [find(pool, ("name",)) for pool in pools.items] if isinstance(pools, Sequence) else []
    known = [name.value for name in pool_names if isinstance(name, Scalar) and name.value is not None]
    complete = pools is None or (isinstance(pools, Sequence) and len(known) == len(pools.items))
    return Names(keys("images"), keys("clusters"), known if complete else None, keys("tags"))


def _size(node: Node | None) -> int:
    return len(node.items) if isinstance(node, Sequence | Mapping) else int(node is not None)


def _repair(root: Node, error: ErrorDetails) -> tuple[Place, Node | None]:
    """Return a change that takes `error` away and as little as possible with it.

    A value that its settings cannot do without gets a filler, so that the rest of them is still checked. Anything
    else is left out: the value, or what holds it.
    """
    place = tuple(part for part in error["loc"] if part != "[key]")
    filler = _FILLERS.get(_starred(place))
    if filler is not None:
        return place, filler
    if error["type"] == "value_error" and (machine := (*place, "macs")) and _starred(machine) in _FILLERS:
        return machine, _FILLERS[_starred(machine)]  # nothing says which machine it is
    if error["type"] == "missing":
        place = place[:-1]
    while place and find(root, place) is None:
        place = place[:-1]
    return place, None


def _starred(place: Place) -> Place:
    """The place with * for every index."""
    return tuple("*" if isinstance(part, int) else part for part in place)


def _is_filler(root: Node, place: Place) -> bool:
    """Whether the value at `place`, or what holds it, stands there in place of one that was wrong."""
    return any(find(root, place[:length]) in _FILLERS.values() for length in range(len(place), 1, -1))


def _make_absolute(values: Any, place: Place, folder: Path) -> None:
    """Put `folder` before the relative paths at `place` in plain values; `*` stands for any key."""
    if not isinstance(values, dict):
        return
    first, rest = place[0], place[1:]
    for key in [*values] if first == "*" else [first]:
        value = values.get(key)
        if rest:
            _make_absolute(value, rest, folder)
        elif isinstance(value, str) and value:
            values[key] = str(folder / value)
