"""Lists and watches."""

import asyncio
import json
from collections.abc import Iterator

from aiohttp import web

from tests.support.kube_stand_in.faults import Refusal
from tests.support.kube_stand_in.resources import Object, Target
from tests.support.kube_stand_in.selectors import Matches, selector
from tests.support.kube_stand_in.store import Change, Compacted, Store

BEFORE_END_S = 2.0
"""A watch that is about to end is told of its version then, as the real one does."""
GONE = Refusal(410, "Expired", "too old resource version")


def chosen(request: web.Request, target: Target) -> Matches:
    """Return which objects a list or watch is about. Raises `Refusal` (400)."""
    matches = selector(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
    return lambda found: target.name in ("", found["metadata"]["name"]) and matches(found)


def listed(store: Store, request: web.Request, target: Target) -> web.Response:
    """Answer a list. Raises `Refusal`."""
    matches = chosen(request, target)
    items = [item for item in store.all(target.resource, target.namespace) if matches(item)]
    body = {
        "kind": f"{target.resource.kind}List",
        "apiVersion": target.resource.api_version,
        "metadata": {"resourceVersion": str(store.version)},
        "items": [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in items],
    }
    return web.json_response(body)


def event(change: Change, matches: Matches) -> tuple[str, Object] | None:
    """Return what a watcher is told of a change; an object that is no longer chosen is DELETED for it."""
    before = change.old is not None and matches(change.old)
    after = change.new is not None and matches(change.new)
    match before, after:
        case True, True:
            return "MODIFIED", change.new or {}
        case False, True:
            return "ADDED", change.new or {}
        case True, False:
            last = change.new or change.old or {}
            version = {"resourceVersion": str(change.version)}
            return "DELETED", {**(change.old or {}), "metadata": {**last["metadata"], **version}}
        case _:
            return None


def _first(store: Store, request: web.Request, target: Target, matches: Matches) -> Iterator[tuple[str, Object]]:
    """What a watch begins with: all that there is, or all that changed since the version given.

    Raises `Compacted`.
    """
    version = request.query.get("resourceVersion", "")
    if version in ("", "0"):
        for item in store.all(target.resource, target.namespace):
            if matches(item):
                yield "ADDED", item
        return
    if not version.isdigit():
        raise Refusal(400, "BadRequest", f"invalid resource version {version!r}")
    for change in store.since(int(version)):
        if concerns(change, target) and (told := event(change, matches)):
            yield told


def concerns(change: Change, target: Target) -> bool:
    """Return whether a change is of the kind and in the namespace that are watched."""
    return change.resource == target.resource and target.namespace in ("", change.namespace)


async def watch(
    store: Store, request: web.Request, target: Target, *, bookmark_s: float, gone: bool
) -> web.StreamResponse:
    """Answer a watch until its time is over, it is cut, or the client has gone. Raises `Refusal`."""
    matches = chosen(request, target)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    end = begin + float(request.query.get("timeoutSeconds") or 1800)
    marks = [end - BEFORE_END_S, *(begin + bookmark_s * n for n in range(1, int((end - begin) / bookmark_s) + 1))]
    due = sorted(marks) if request.query.get("allowWatchBookmarks") in ("true", "1") else []
    passed = told_version = 0
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    queue: asyncio.Queue[Change | None] = asyncio.Queue()
    try:
        if gone:
            raise Compacted
        first = list(_first(store, request, target, matches))
    except Compacted:
        await response.prepare(request)
        await response.write(_line("ERROR", GONE.status))
        return response
    since = int(request.query.get("resourceVersion") or 0)  # one that is yet to come is waited for in silence
    store.watchers.add(queue)
    try:
        await response.prepare(request)
        for told in first:
            await response.write(_line(*told))
        while loop.time() < end and request.transport is not None and not request.transport.is_closing():
            wait_s = min([end, *due[:1], loop.time() + 1.0]) - loop.time()
            try:
                change = await asyncio.wait_for(queue.get(), max(0.0, wait_s))
            except TimeoutError:
                if due and loop.time() >= due[0]:
                    due.pop(0)
                    if passed > told_version:  # a bookmark is of what changed, and not of the time that passed
                        told_version = passed
                        await response.write(_line("BOOKMARK", bookmark(target, passed)))
                continue
            if change is None:
                if request.transport is not None:  # who watched may have gone
                    request.transport.abort()
                return response
            if concerns(change, target) and change.version > since:
                passed = change.version
                if said := event(change, matches):
                    await response.write(_line(*said))
    except ConnectionResetError:
        pass
    finally:
        store.watchers.discard(queue)
    return response


def bookmark(target: Target, version: int) -> Object:
    """Return the object of a bookmark."""
    kind = {"kind": target.resource.kind, "apiVersion": target.resource.api_version}
    return {**kind, "metadata": {"resourceVersion": str(version), "creationTimestamp": None}}


def _line(kind: str, found: object) -> bytes:
    return json.dumps({"type": kind, "object": found}, separators=(",", ":")).encode() + b"\n"
