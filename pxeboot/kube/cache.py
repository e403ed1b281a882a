"""What a list or an event of a watch changes about what we know. Pure.

A list, and a watch that goes on after a break, repeat what is known; only differences are told.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pxeboot.kube.paths import Object

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Change(Generic[V]):
    """Something is there (`old` is None), is another (both), or is gone (`new` is None)."""

    name: str
    old: V | None
    new: V | None


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    uid: str
    value: V


class NotAnObject(ValueError):
    """What the API sent is none of its objects. The message never holds what it was."""


class Cache(Generic[V]):
    """The objects of one watch by name, as `decode` makes values of them; None: it is none of ours.

    A name is one object's: the watch is of one namespace, or of what has none. One that was deleted and made again
    between two looks has another uid, and is told as gone and then as new.
    """

    def __init__(self, decode: Callable[[Object], V | None]) -> None:
        """Begin with nothing."""
        self._decode = decode
        self._entries: dict[str, _Entry[V]] = {}

    @property
    def values(self) -> dict[str, V]:
        """All there is, by name."""
        return {name: entry.value for name, entry in self._entries.items()}

    def get(self, name: str) -> V | None:
        """One of them."""
        entry = self._entries.get(name)
        return entry.value if entry else None

    def read(self, raw: object) -> tuple[str, "_Entry[V] | None"]:
        """Make a value of an object, so that the object itself can be dropped. Raises `NotAnObject`."""
        try:
            if not isinstance(raw, dict):
                raise NotAnObject("it is no JSON object")
            name, uid = raw["metadata"]["name"], raw["metadata"].get("uid", "")
            if not isinstance(name, str) or not isinstance(uid, str):
                raise NotAnObject("its name or uid is no text")
            value = self._decode(raw)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise NotAnObject("it is no object of the kind that was asked for") from None
        return name, None if value is None else _Entry(uid, value)

    def listed(self, found: Iterable[tuple[str, "_Entry[V] | None"]]) -> list[Change[V]]:
        """A whole list: what is not in it is gone."""
        there = dict(found)
        changes = [change for name in self._entries.keys() - there.keys() for change in self.put(name, None)]
        return changes + [change for name, entry in there.items() for change in self.put(name, entry)]

    def put(self, name: str, entry: "_Entry[V] | None") -> list[Change[V]]:
        """One object as it is now; None: it is gone."""
        old = self._entries.get(name)
        if entry is None:
            self._entries.pop(name, None)
            return [Change(name, old.value, None)] if old else []
        self._entries[name] = entry
        if old is None:
            return [Change(name, None, entry.value)]
        if old.uid != entry.uid:
            return [Change(name, old.value, None), Change(name, None, entry.value)]
        return [Change(name, old.value, entry.value)] if old.value != entry.value else []
