"""A watch that does not end: list, watch from there, when its time is over go on, and when it breaks list again.

What can break it, each of which was seen: the connection is cut; the server ends it at its time-out; it ends at once,
again and again; the version that we were at is forgotten (410, as an answer or as an event), or is one that the
server has yet to reach, after a backup was restored; the server is overloaded (429); or nothing comes any more from a
server that has stopped, which only the clock tells. After all but a watch that lasted its time we list again.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from pxeboot.kube.api import Api
from pxeboot.kube.cache import Cache, Change, NotAnObject
from pxeboot.kube.errors import Held, Unavailable, refusal
from pxeboot.kube.paths import Object, Resource
from pxeboot.kube.values import is_earlier

log = logging.getLogger("controller")

V = TypeVar("V")

PAGE = 250
"""How many objects one answer to a list may hold."""
WATCH_S = 20
"""After so long the server ends a watch, and is asked to go on."""
GRACE_S = 5.0
"""A server that is so much later has stopped: with `WATCH_S` the bound on how long that is not noticed."""
SHORT_S = 1.0
"""A watch that ended sooner did not work, though it was no error."""
EARLY_S = 0.5
"""A server that ends a watch by so much before its time has begun anew: what it remembers is to be listed again."""
LEAST_PAUSE_S, MOST_PAUSE_S = 1.0, 20.0
_LONGEST_LINE = 8 << 20
_MOST_ODD = 100


class _Gone(Exception):
    """The version that we were at is forgotten (410)."""


class Watch(Generic[V]):
    """Objects of one kind, as `decode` makes values of them, kept up to date while `run` runs.

    `on_change` is told each difference, in order; `on_sync` when we lost (with the reason) or have again what the API
    has. Both are called on the loop and must not block; what one raises is logged, and ends nothing. `labels` and
    `fields` are selectors, as kubectl takes them. `namespace` None: objects that have none. What `decode` makes None
    of, or cannot read, is as if it were not there.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        decode: Callable[[Object], V | None],
        on_change: Callable[[Change[V]], None],
        *,
        on_sync: Callable[[bool, str], None] = lambda in_sync, why: None,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        watch_s: int = WATCH_S,
    ) -> None:
        self._api = api
        self._path = resource.path(namespace)
        self._what = f"{api.name}: the watch of {resource.plural}"
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        self._selectors = {key: value for key, value in selectors.items() if value}
        self._decode = decode
        self._odd: set[str] = set()
        self._cache = Cache(self._decoded)
        self._on_change = on_change
        self._on_sync = on_sync
        self._watch_s = watch_s
        self._version = ""
        """Where to go on; "" when all is to be listed again."""
        self._reached = ""
        """The last version that we were at."""
        self._failures = 0
        self._told: bool | None = None

    @property
    def in_sync(self) -> bool:
        """Whether we have what the API has, but for what is on its way."""
        return self._told is True

    @property
    def values(self) -> dict[str, V]:
        """All that is known, by name; old while not `in_sync`."""
        return self._cache.values

    def get(self, name: str) -> V | None:
        """The object of that name, as far as is known."""
        return self._cache.get(name)

    async def run(self) -> None:
        """List and watch until cancelled."""
        try:
            while True:
                await self._round()
        finally:
            self._told = None

    async def _round(self) -> None:
        """List if we have lost our place, watch until that ends, and wait as long as that deserves."""
        try:
            if not self._version:
                await self._list()
            began = time.monotonic()
            await self._watch()
            lasted_s = time.monotonic() - began
            if lasted_s < self._watch_s - EARLY_S:
                self._version = ""
            if lasted_s >= SHORT_S:
                self._failures = 0
            else:
                await self._pause("the API ends it at once")
        except _Gone:
            self._version = ""
            if self._failures:
                await self._pause("the API forgets where we were at once")
            self._failures += 1
        except Held as error:
            self._tell(str(error))
            await asyncio.sleep((error.retry_after_s or 0.0) + random.random())
        except Unavailable as error:
            self._version = ""
            await self._pause(str(error), error.retry_after_s)

    async def _list(self) -> None:
        """Read all there is, in pages, and tell what is different from what we knew.

        An API that is at an earlier version than we were has lost what came between, as after a backup of etcd was
        restored. Whoever compares versions must not think that he knows better: we were out of sync.
        """
        query = self._selectors | {"limit": str(PAGE)}
        found = []
        while True:
            page = await self._get(query)
            try:
                found += [self._cache.read(raw) for raw in page["items"] or ()]
                metadata = page["metadata"]
                version, follows = str(metadata["resourceVersion"]), metadata.get("continue")
            except (LookupError, TypeError, AttributeError, NotAnObject):
                raise Unavailable("the answer is no list of the objects that were asked for") from None
            if not follows:
                break
            query["continue"] = str(follows)
        if is_earlier(version, self._reached):
            self._tell("the API is in an earlier state than before, as after a backup was restored")
        self._version = self._reached = version
        self._change(self._cache.listed(found))

    async def _get(self, query: dict[str, str]) -> Object:
        try:
            return await self._api.call("GET", self._path, query=query)
        except Unavailable as error:
            if error.status == 410:  # the list took longer than the API remembers
                raise _Gone from None
            raise

    async def _watch(self) -> None:
        """Watch from our version until it ends. Raises `Unavailable` and `_Gone`."""
        query = self._selectors | {
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._watch_s),
        }
        bound_s = self._watch_s + GRACE_S
        try:
            async with asyncio.timeout(bound_s), self._api.stream(self._path, query) as given:
                self._tell("")
                async for line in lines(given):
                    self._event(line)
        except TimeoutError:
            raise Unavailable(f"nothing ended it within {bound_s:g} s") from None
        except Unavailable as error:
            if error.status == 410:
                raise _Gone from None
            raise

    def _event(self, line: bytes) -> None:
        """Take one event (Kubernetes API concepts, "Efficient detection of changes")."""
        try:
            event = json.loads(line)
            kind, raw = event["type"], event["object"]
            if kind == "ERROR":
                raise self._error(raw)
            version = str(raw["metadata"]["resourceVersion"])
            if kind in ("ADDED", "MODIFIED"):
                self._change(self._cache.put(*self._cache.read(raw)))
            elif kind == "DELETED":
                self._change(self._cache.put(str(raw["metadata"]["name"]), None))
            self._version = self._reached = version
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise Unavailable("an event cannot be understood") from None

    def _error(self, status: Object) -> Exception:
        code = int(status.get("code") or 500)
        if code == 410:
            return _Gone()
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
        return refusal(code, reason, message, None, secret="/secrets" in self._path)

    def _decoded(self, raw: Object) -> V | None:
        """The value of an object; one that `decode` cannot read is none of ours, and hides no other."""
        try:
            return self._decode(raw)
        except Exception as error:
            name = str(raw["metadata"]["name"])
            if name not in self._odd and len(self._odd) < _MOST_ODD:
                self._odd.add(name)
                log.warning("%s: %r is left out: it cannot be read (%s)", self._what, name, type(error).__name__)
            return None

    def _change(self, changes: list[Change[V]]) -> None:
        for change in changes:
            try:
                self._on_change(change)
            except Exception:
                log.exception("%s: a fault of the controller itself", self._what)

    def _tell(self, trouble: str) -> None:
        """Say that we are in sync, or what keeps us from it; only when that changes."""
        in_sync = not trouble
        if self._told == in_sync:
            return
        if not in_sync:
            log.warning("%s does not work: %s", self._what, trouble)
        elif self._told is False:
            log.info("%s works again", self._what)
        self._told = in_sync
        try:
            self._on_sync(in_sync, trouble)
        except Exception:
            log.exception("%s: a fault of the controller itself", self._what)

    async def _pause(self, trouble: str, retry_after_s: float | None = None) -> None:
        """Wait, longer after each failure in a row, and as long as the API asks for."""
        self._tell(trouble)
        pause_s = min(MOST_PAUSE_S, LEAST_PAUSE_S * 2.0 ** min(self._failures, 10)) * (1 + random.random()) / 2
        self._failures += 1
        await asyncio.sleep(max(pause_s, min(retry_after_s or 0.0, 60.0)))


async def lines(given: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut what comes into lines, without their ends; what is after the last one is dropped. Raises `Unavailable`."""
    rest = bytearray()
    async for chunk in given:
        searched = len(rest)
        rest += chunk
        begin = 0
        while (end := rest.find(b"\n", max(begin, searched))) >= 0:
            yield bytes(rest[begin:end])
            begin = end + 1
        del rest[:begin]
        if len(rest) > _LONGEST_LINE:
            raise Unavailable("an event is longer than any object may be")
