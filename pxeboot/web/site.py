"""The listeners of the web page. None of them is needed to boot: one that cannot be opened is tried again."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestHandler

from config.observing import Web, parse_listen
from httpimage.tls import Credentials, TlsError
from pxeboot.api.control import Route
from pxeboot.seldom import Seldom
from pxeboot.web.guard import HEADERS, guard
from pxeboot.web.places import most_of

log = logging.getLogger("pxeboot")

AGAIN_S = 10.0
"""When to try once more to open a listener."""
MOST_CONNECTIONS = 512
"""Connections at once: of streams, and of browsers that keep some open."""
FEW = 16
"""Connections that one address may have when there is no room; of more, the oldest makes room for a new one."""
IDLE_S = 30.0
"""How long a connection may wait for another request."""
FIRST_S = 10.0
"""How long a new connection may take to send its first one."""
MAX_LINE = 8190
MAX_FIELD = 8190
"""Bytes of a request's first line, and of one of its headers."""
MAX_BODY = 64 * 1024
MOST_UNSENT = 32 * 1024 * 1024
"""Bytes of answers that wait for who asked to take them. A page of 2,000 machines is 2 MB, unless it is compressed."""
SMALL = 64 * 1024
"""An answer of so many bytes is given in any case."""
BACKLOG = 128
HANDSHAKE_S = 10.0


class Site:
    """Answers `routes` at the addresses of `web.listen`, while `run` runs."""

    def __init__(
        self,
        settings: Web,
        routes: Sequence[Route],
        middlewares: Sequence[Middleware] = (),
        names: Callable[[], Sequence[str]] | None = None,
        closing: asyncio.Event | None = None,
    ) -> None:
        """Serve these routes, through `middlewares`. `names` are those that we go by, as the farm now says.

        `closing` is set when the end begins, for answers that otherwise go on for ever.
        """
        self._settings = settings
        self._closing = closing
        guarded = guard(names or (lambda: settings.names), socket.gethostname(), tls=settings.tls is not None)
        self._server: web.Server | None = None
        self._fresh: set[RequestHandler] = set()
        """Connections that have not sent a whole request yet."""
        self._app = web.Application(middlewares=[self._heard, guarded, *middlewares], client_max_size=MAX_BODY)
        for route in routes:
            if route.method == "GET":
                self._app.router.add_get(route.path, route.handler)
            else:
                self._app.router.add_route(route.method, route.path, route.handler)
        self._app.on_shutdown.append(self._end)
        self._seldom = Seldom()
        self._untried = set(settings.listen)
        self.tried = asyncio.Event()
        """Set when each listener is open, or could not be opened at first."""

    async def run(self) -> None:
        """Serve until cancelled. What is wrong with `web.tls` is logged: there is no page then."""
        credentials = None
        if self._settings.tls is not None:
            try:
                credentials = await asyncio.to_thread(Credentials, self._settings.tls, "web.tls")
            except TlsError as error:
                log.error("there is no web page: %s", error)
                self.tried.set()
                return
        runner = web.AppRunner(
            self._app, access_log=None, shutdown_timeout=0.5, keepalive_timeout=IDLE_S,
            max_line_size=MAX_LINE, max_field_size=MAX_FIELD, handler_cancellation=False,
        )  # fmt: skip
        await runner.setup()
        try:
            async with asyncio.TaskGroup() as tasks:
                if credentials is not None:
                    tasks.create_task(credentials.watch(), name="web.tls")
                for listen in self._settings.listen:
                    tasks.create_task(self._listen(runner, listen, credentials), name=listen)
                if not self._settings.listen:
                    self.tried.set()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _heard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._fresh.discard(request.protocol)
        response = await handler(request)
        if isinstance(response, web.Response) and isinstance(response.body, bytes) and len(response.body) > SMALL:
            return await self._hand_over(request, response, len(response.body))
        return response

    async def _hand_over(self, request: web.Request, response: web.Response, size_bytes: int) -> web.Response:
        """Send a page; refuse it while too much of others is not taken by who asked, which is held in memory."""
        if size_bytes + self._unsent_bytes() > MOST_UNSENT:
            if self._seldom("untaken"):
                log.warning("web: pages of %d MB are not taken by who asked, so others get none", MOST_UNSENT >> 20)
            headers = HEADERS | {"Retry-After": "5"}
            return web.Response(status=503, text="Too many pages are being sent.\n", headers=headers)
        with suppress(ConnectionError):  # aiohttp finds out itself
            await response.prepare(request)
            await response.write_eof()
            response.body = None  # aiohttp keeps the answer until the connection asks for something else, or ends
        return response

    def _unsent_bytes(self) -> int:
        open_ones = self._server.connections if self._server is not None else []
        waiting = (one.transport for one in open_ones if one.transport is not None)
        return sum(transport.get_write_buffer_size() for transport in waiting)

    async def _end(self, _: web.Application) -> None:
        if self._closing is not None:
            self._closing.set()

    def _was_tried(self, listen: str) -> None:
        self._untried.discard(listen)
        if not self._untried:
            self.tried.set()

    async def _listen(self, runner: web.AppRunner, listen: str, credentials: Credentials | None) -> None:
        """Listen at one address until cancelled."""
        host, port = parse_listen(listen)
        said = False
        while True:
            try:
                sock = await asyncio.to_thread(_open, host, port)
                break
            except OSError as error:
                if not said:
                    log.error("no web page at %s port %d, tried again: %s", host, port, error.strerror)
                said = True
                self._was_tried(listen)
            await asyncio.sleep(AGAIN_S)
        scheme = "http" if credentials is None else "https"
        log.info("the web page is at %s://%s:%d/", scheme, f"[{host}]" if ":" in host else host, port)
        with sock:
            while True:  # a new certificate is for new connections: the same socket is listened at anew
                context = credentials.context if credentials is not None else None
                server = await self._serve(runner, sock.dup(), context)
                self._was_tried(listen)
                try:
                    await _until_other(credentials, context)
                finally:
                    server.close()

    async def _serve(
        self, runner: web.AppRunner, sock: socket.socket, context: ssl.SSLContext | None
    ) -> asyncio.base_events.Server:
        loop = asyncio.get_running_loop()
        server = runner.server
        if server is None:
            raise RuntimeError("aiohttp's runner has no server after setup")
        self._server = server

        def connection() -> asyncio.BaseProtocol:
            if len(server.connections) >= MOST_CONNECTIONS and not _make_room(server):
                if self._seldom("too many"):
                    log.warning("web: %d connections are open, so others are refused", MOST_CONNECTIONS)
                return _Refusal()
            handler = server()
            self._fresh.add(handler)
            loop.call_later(FIRST_S, self._drop_if_silent, handler)
            return handler

        patience_s = None if context is None else HANDSHAKE_S
        return await loop.create_server(
            connection, sock=sock, backlog=BACKLOG, ssl=context, ssl_handshake_timeout=patience_s
        )

    def _drop_if_silent(self, connection: RequestHandler) -> None:
        if connection in self._fresh:
            self._fresh.discard(connection)
            connection.force_close()


async def _until_other(credentials: Credentials | None, context: ssl.SSLContext | None) -> None:
    """Return when the certificate has changed; without one, never."""
    if credentials is None:
        await asyncio.Event().wait()
        return
    while credentials.context is context:  # noqa: ASYNC110 # who follows the files tells nobody
        await asyncio.sleep(1.0)


def _make_room(server: web.Server) -> bool:
    """End the oldest connection of whoever has most; False if nobody has many.

    So one stranger cannot take the page from all, nor `/healthz` from who would start us anew without it.
    """
    open_ones = [one.transport for one in server.connections if one.transport is not None]
    most = most_of(((one.get_extra_info("peername") or ("",))[0], one) for one in open_ones if not one.is_closing())
    if len(most) <= FEW:
        return False
    most[0].abort()
    return True


class _Refusal(asyncio.Protocol):
    """A connection for which there is no room: closed before it costs anything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _open(host: str, port: int) -> socket.socket:
    """Return a socket that is bound. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
