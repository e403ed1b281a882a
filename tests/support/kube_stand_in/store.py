"""Objects in memory, their versions, and what changed since a version, as etcd and the watch cache keep them."""

import asyncio
import itertools
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field

from tests.support.kube_stand_in.resources import Object, Resource

KEPT_CHANGES = 5000


class Compacted(Exception):
    """What changed since that version is no longer known (410 Gone)."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write. `old` is None for a new object, `new` for one that was deleted; that one's `old` has the new
    version."""

    version: int
    resource: Resource
    namespace: str
    old: Object | None
    new: Object | None


@dataclass(slots=True)
class Store:
    """All objects. What is handed out must not be changed; what comes in is copied."""

    objects: dict[tuple[Resource, str, str], Object] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    version: int = 100
    compacted: int = 0
    watchers: set[asyncio.Queue[Change | None]] = field(default_factory=set)
    """Each gets every change; None ends it."""
    _uids: Iterator[int] = field(default_factory=itertools.count)

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Return an object, if it is there."""
        return self.objects.get((resource, namespace, name))

    def all(self, resource: Resource, namespace: str = "") -> list[Object]:
        """Return the objects of a kind, by name; of one namespace, or of all."""
        found = [(key, o) for key, o in self.objects.items() if key[0] == resource and namespace in ("", key[1])]
        return [o for _, o in sorted(found, key=lambda pair: pair[0][1:])]

    def put(self, resource: Resource, new: Object) -> Object:
        """Keep an object, whose metadata is complete but for its version, and tell the watchers."""
        new = deepcopy(new)
        metadata = new["metadata"]
        key = (resource, metadata.get("namespace", ""), metadata["name"])
        old = self.objects.get(key)
        if old is not None and {**old, "metadata": _comparable(old)} == {**new, "metadata": _comparable(new)}:
            return old  # as the API server: a write that changes nothing is none
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self.objects[key] = new
        self._tell(Change(self.version, resource, key[1], old, new))
        return new

    def delete(self, resource: Resource, namespace: str, name: str) -> Object:
        """Forget an object and return it as it last was. Raises `KeyError`."""
        old = self.objects.pop((resource, namespace, name))
        self.version += 1
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self._tell(Change(self.version, resource, namespace, last, None))
        return last

    def uid(self) -> str:
        """Return a uid that no object had."""
        return f"00000000-0000-4000-8000-{next(self._uids):012x}"

    def since(self, version: int) -> list[Change]:
        """Return the changes after `version`. Raises `Compacted`."""
        if version < self.compacted:
            raise Compacted
        return [change for change in self.changes if change.version > version]

    def draft(self) -> "Store":
        """Return a copy that nobody watches, to try a write on."""
        return Store(dict(self.objects), version=self.version)

    def compact(self) -> None:
        """Forget what changed; objects stay."""
        self.compacted = self.version
        self.changes.clear()

    def _tell(self, change: Change) -> None:
        self.changes.append(change)
        if len(self.changes) > KEPT_CHANGES:
            self.compacted = self.changes[0].version
            del self.changes[0]
        for watcher in self.watchers:
            watcher.put_nowait(change)


def _comparable(found: Object) -> Object:
    return {key: value for key, value in found["metadata"].items() if key != "resourceVersion"}
