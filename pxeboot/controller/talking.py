"""The controller's unix socket, where the daemon tells it of boots and asks for their tokens: `pxeboot.joining.talk`.

Nothing that is said here is logged: it holds secrets. Other parts bring routes of their own.
"""

import asyncio
import errno
import logging
import os
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiohttp import web

from pxeboot.api.control import answer
from pxeboot.joining import talk
from pxeboot.joining.talk import BootBegun, JoinGiven, Refused, TokenAsked, TokenSeen, Told
from pxeboot.kube.errors import Unavailable

log = logging.getLogger("controller")

NODE = re.compile("[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
LONGEST_BODY = 65536
MOST_EVENTS = 5000
"""How many a slow reader may be behind before it is cut off; it connects again, and is told again what counts."""
QUIET_S = 15.0
"""After so long without an event an empty line is sent, so that both ends know the other to be there."""


@dataclass(frozen=True, slots=True)
class Route:
    """One more thing that can be asked: `method` and `path` (as aiohttp writes them) lead to `handler`."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]


class Tokens(Protocol):
    """The tokens of one cluster, whatever their kind."""

    def tokens(self) -> Sequence[TokenSeen]:
        """Those that are there, as far as we know; no secrets."""

    async def revoke(self, token_id: str) -> bool:
        """Delete one; False if there is no such. Raises `Unavailable`."""

    def status(self) -> dict[str, object]:
        """How it is doing, as JSON values."""


class BootTokens(Tokens, Protocol):
    """The tokens of boots of one cluster."""

    def begun(self, machine: str, said: BootBegun) -> None:
        """A machine was told what to boot."""

    def ended(self, machine: str, boot: str) -> None:
        """A machine was told to boot something that joins here no more; `boot` is the one that this ends."""

    async def give(self, machine: str, said: TokenAsked) -> JoinGiven | Refused:
        """Answer a machine that asks for its token."""


class Events:
    """What happened, for everybody who listens; nothing is kept for those who do not."""

    def __init__(self) -> None:
        """Begin without listeners."""
        self._queues: set[asyncio.Queue[Told | None]] = set()
        self.counts: Counter[tuple[str, str]] = Counter()
        """What happened, by the cluster and the stage."""

    def tell(self, told: Told) -> None:
        """Tell all who listen. Who is too far behind is cut off."""
        self.counts[told.cluster, told.stage.value] += 1
        for queue in list(self._queues):
            if queue.qsize() >= MOST_EVENTS:
                log.warning("who listens to events is %d behind, and is cut off", queue.qsize())
                self._cut(queue)
            else:
                queue.put_nowait(told)

    def close(self) -> None:
        """End all streams."""
        for queue in list(self._queues):
            self._cut(queue)

    def _cut(self, queue: asyncio.Queue[Told | None]) -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer with a line for each event, until the listener leaves."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        queue: asyncio.Queue[Told | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            await response.prepare(request)
            await response.write(b"\n")
            while True:
                try:
                    async with asyncio.timeout(QUIET_S):
                        told = await queue.get()
                except TimeoutError:
                    await response.write(b"\n")
                    continue
                if told is None:
                    break
                await response.write(talk.dump(told).encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            self._queues.discard(queue)
        return response


def application(
    boots: Mapping[str, BootTokens],
    shared: Mapping[str, Tokens],
    events: Events,
    routes: Sequence[Route] = (),
    more: Callable[[], dict[str, object]] = dict,
) -> web.Application:
    """Return the application that serves the clusters in `boots` and `shared`, by name, and has `routes` besides.

    Both are looked at anew for each request: clusters come and go. The status says `more`, too.
    """

    def tokens() -> dict[str, Tokens]:
        return {**shared, **boots}

    async def begin(request: web.Request) -> web.Response:
        keeper = boots.get(request.match_info["cluster"])
        if keeper is None:
            return _unknown(request)
        try:
            keeper.begun(_node(request), talk.boot_begun(await request.read()))
        except talk.NotUnderstood as error:
            return _said(Refused(str(error)), 400)
        return await answer({})

    async def end(request: web.Request) -> web.Response:
        keeper = boots.get(request.match_info["cluster"])
        if keeper is None:
            return _unknown(request)
        keeper.ended(request.match_info["node"], request.match_info["boot"])
        return await answer({})

    async def give(request: web.Request) -> web.Response:
        keeper = boots.get(request.match_info["cluster"])
        if keeper is None:
            return _unknown(request)
        try:
            node, asked = _node(request), talk.token_asked(await request.read())
        except talk.NotUnderstood as error:
            return _said(Refused(str(error)), 400)
        given = await keeper.give(node, asked)
        if isinstance(given, JoinGiven):
            return _said(given, 200)
        return _said(given, 409 if given.retry_after_s is None else 503)

    async def seen(_: web.Request) -> web.Response:
        found = [token for keeper in tokens().values() for token in keeper.tokens()]
        return web.Response(
            text='{"tokens": [' + ", ".join(map(talk.dump, found)) + "]}\n", content_type="application/json"
        )

    async def revoke(request: web.Request) -> web.Response:
        keeper = tokens().get(request.match_info["cluster"])
        if keeper is None:
            return _unknown(request)
        try:
            if await keeper.revoke(request.match_info["id"]):
                return await answer({})
        except Unavailable as error:
            return _said(Refused(str(error), error.retry_after_s or 5.0), 503)
        return _said(Refused(f"there is no token {request.match_info['id']!r} of ours"), 404)

    async def status(_: web.Request) -> web.Response:
        return await answer({"clusters": {name: keeper.status() for name, keeper in tokens().items()}} | more())

    app = web.Application(client_max_size=LONGEST_BODY)
    app.router.add_put("/v1/boots/{cluster}/{node}", begin)
    app.router.add_delete("/v1/boots/{cluster}/{node}/{boot}", end)
    app.router.add_post("/v1/boots/{cluster}/{node}/token", give)
    app.router.add_get("/v1/events", events.stream)
    app.router.add_get("/v1/tokens", seen)
    app.router.add_delete("/v1/tokens/{cluster}/{id}", revoke)
    app.router.add_get("/v1/status", status)
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler)
    return app


def _node(request: web.Request) -> str:
    """The node's name, which goes into paths of the API and names in certificates. Raises `talk.NotUnderstood`."""
    name = request.match_info["node"]
    if not NODE.fullmatch(name):
        raise talk.NotUnderstood("a node's name is of a-z, 0-9, - and .")
    return name


def _said(value: JoinGiven | Refused, status: int) -> web.Response:
    return web.Response(text=talk.dump(value) + "\n", status=status, content_type="application/json")


def _unknown(request: web.Request) -> web.Response:
    return _said(Refused(f"the controller has no cluster {request.match_info['cluster']!r} for this"), 404)


class Talking:
    """The unix socket, there while the controller runs."""

    def __init__(self, path: Path, app: web.Application, events: Events) -> None:
        """Serve `app` at `path`."""
        self._path = path
        self._events = events
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)

    async def __aenter__(self) -> "Talking":
        """Raises `OSError`, also when another controller answers there."""
        await asyncio.to_thread(_clear, self._path)
        await self._runner.setup()
        old = os.umask(0o117)  # the socket is made with mode 0660
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        finally:
            os.umask(old)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._events.close()
        await self._runner.cleanup()
        with suppress(FileNotFoundError):
            self._path.unlink()


def _clear(path: Path) -> None:
    """Make the folder, and remove the socket of a controller that was killed. Raises `OSError` if one answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, f"another pxeboot controller answers at {path}")
