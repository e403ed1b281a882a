"""The HTTP server: looks names up, decides, and sends. aiohttp parses; what is answered is decided here."""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address

from aiohttp import web
from aiohttp.typedefs import Middleware

from config.content import Gone, NotNow, Once, WebLookup, Withheld
from config.delivery import Http
from config.events import Report, Stage
from httpimage.accepting import accept, hand_on
from httpimage.answer import respond
from httpimage.complaints import Complaints
from httpimage.connection import Connection, Connections
from httpimage.counts import LEFT, Counts
from httpimage.errands import close_content
from httpimage.gate import Gate, Visit
from httpimage.handshakes import Door, Handshakes
from httpimage.names import host_is_valid, relative_name
from httpimage.reply import Refusal, Reply
from httpimage.reports import Accept, Reports

log = logging.getLogger(__name__)

_REPORTS = "report/"
_ONCE = web.RequestKey("once", str)
"""What a request is called in the log whose target is a name that is given once."""
_COUNTS = web.AppKey("counts", Counts)
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"})
_STOPPED_WITHIN_S = 0.3  # aiohttp waits this long twice


def application(
    lookup: WebLookup,
    report: Report,
    stage_of: Callable[[str], Stage | None],
    accept: Accept,
    gate: Gate | None = None,
) -> web.Application:
    """Return the application that answers for every path: GET and HEAD of what `lookup` knows, POST of reports.

    `report` hears of downloads whose name `stage_of` knows. `accept` is handed what machines report. Root images
    pass `gate`, which has the default settings unless given. Routes added to the result win over these.
    """
    service = _Service(lookup, report, stage_of, accept, gate or Gate(Http()))
    app = web.Application(middlewares=[_counting(service.counts)])
    app[_COUNTS] = service.counts
    app.router.add_route("*", r"/{name:[\s\S]*}", service.answer, expect_handler=_expect)
    return app


_SILENCE_MS = 15_000
"""How long a client may acknowledge nothing. GRUB always connects from one port, so a machine that was switched off
and on while it fetched something cannot connect again before its old connections are forgotten."""
_IDLE_S = 5
"""How long a connection may be quiet before its client is asked whether it is still there."""


def open_socket(address: str, port: int, interface: str | None = None) -> socket.socket:
    """Return a listening-to-be TCP socket on `address` and `port`, seen only through `interface` if one is given.

    Raises `OSError`, of the class that fits, with a text that says what to do.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        notice_silence(sock)
        sock.bind((address, port))
        sock.listen(1024)  # a taken port may show only here
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        where = f"{address}:{port}" + (f" on {interface}" if interface else "")
        match error:
            case PermissionError():
                reason = "no privilege; run as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW"
            case OSError(errno=errno.EADDRINUSE):
                reason = "the port is taken; another web server runs here"
            case OSError(errno=errno.ENODEV):
                reason = "there is no such interface"
            case OSError(errno=errno.EADDRNOTAVAIL):
                reason = "this machine does not have that address"
            case _:
                reason = error.strerror or str(error)
        raise OSError(error.errno, f"HTTP cannot listen on {where}: {reason}") from error
    return sock


def notice_silence(sock: socket.socket) -> None:
    """Have the connections that come by a listening socket end soon after their clients fall silent."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)  # aiohttp turns SO_KEEPALIVE on
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _IDLE_S)


async def serve(sock: socket.socket, app: web.Application, tls: Door | None = None) -> None:
    """Serve `app` on `sock`, and through `tls`, until cancelled; then stop within a second, cutting off downloads."""
    loop = asyncio.get_running_loop()
    # A handler is not cancelled when its peer goes away, but meets that when it sends: a lookup that was cancelled
    # in a thread would leave the file it opens to nobody.
    runner = web.AppRunner(app, shutdown_timeout=_STOPPED_WITHIN_S, handler_cancellation=False)
    await runner.setup()
    server = runner.server
    if server is None:
        raise RuntimeError("aiohttp's runner has no server after setup")
    connections = Connections(Complaints(log, loop.time), loop, app.get(_COUNTS))

    def connection() -> Connection:
        return Connection(server, connections, loop)

    complain = Complaints(log, loop.time)
    try:
        async with asyncio.TaskGroup() as doors:
            doors.create_task(accept(sock, hand_on(connection), complain))
            if tls is not None:
                doors.create_task(accept(tls.sock, Handshakes(tls, connection, complain).take, complain))
    finally:
        await runner.cleanup()
        connections.close()


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _counting(counts: Counts) -> Middleware:
    """Return what every request goes through: it is guarded, and its answer counted."""

    @web.middleware
    async def counted(request: web.Request, handler: _Handler) -> web.StreamResponse:
        status = LEFT
        try:
            response = await _guard(request, handler)
            status = response.status
            return response
        finally:
            counts.requests[status] += 1
            counts.sent_bytes += request.writer.output_size

    return counted


async def _guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Refuse what HTTP forbids, and turn every failure of a handler into an answer, or a closed connection."""
    now_s = time.time()
    connection = request.protocol if isinstance(request.protocol, Connection) else None
    if connection is not None:
        connection.begin_request()
    try:
        if request.version not in ((1, 0), (1, 1)):
            return Refusal(505, now_s=now_s, close=True)
        if request.method not in _KNOWN_METHODS:
            return Refusal(501, now_s=now_s, close=True)
        if not host_is_valid(request.headers.getall("Host", []), required=request.version == (1, 1)):
            return Refusal(400, "the Host header is missing or bad", now_s=now_s, close=True)
        coding = request.headers.getall("Transfer-Encoding", [])
        if coding and request.version == (1, 0):
            return Refusal(400, "HTTP/1.0 has no Transfer-Encoding", now_s=now_s, close=True)
        if coding and [value.lower() for value in coding] != ["chunked"]:
            return Refusal(501, "the only Transfer-Encoding here is chunked", now_s=now_s, close=True)
        return await handler(request)
    except web.HTTPException as error:
        if request.match_info.http_exception is None:
            raise  # the answer of a route that was added
        # The router's: a target that is no path, such as that of CONNECT.
        if request.method in ("GET", "HEAD"):
            return Refusal(error.status, now_s=now_s, close=True)
        return Refusal(405, now_s=now_s, headers=[("Allow", "GET, HEAD")], close=True)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        path = request.get(_ONCE, request.raw_path)
        log.exception("http %s: %s %.200r failed", request.remote, request.method, path)
        if request.writer.output_size > 0:
            raise ConnectionAbortedError("the answer has begun; only closing can tell the peer") from None
        return Refusal(500, now_s=now_s, close=True)
    finally:
        if connection is not None:
            connection.end_request()


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Answer `Expect` (RFC 9110 section 10.1.1): go on for 100-continue, 417 for anything else."""
    if request.version < (1, 1):
        return None
    if request.headers["Expect"].lower() != "100-continue":
        return Refusal(417, now_s=time.time(), close=True)
    if request.method == "POST":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


class _Service:
    """Sorts requests: files, reports, and what is neither."""

    def __init__(
        self,
        lookup: WebLookup,
        report: Report,
        stage_of: Callable[[str], Stage | None],
        accept: Accept,
        gate: Gate,
    ) -> None:
        self._lookup = lookup
        self._gate = gate
        self.counts = gate.counts
        self._report = report
        self._stage_of = stage_of
        self._complain = Complaints(log, time.monotonic)
        self._reports = Reports(accept, self._complain)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        now_s = time.time()
        peer = _peer(request)
        if peer is None:
            return Refusal(403, "IPv4 only", now_s=now_s, close=True)
        name = relative_name(request.raw_path)
        is_report = name is not None and name.startswith(_REPORTS)
        match request.method:
            case "GET" | "HEAD" if not is_report:
                if request.body_exists:
                    return Refusal(413, "a request to read carries no body", now_s=now_s, close=True)
                return await self._read(request, peer, name, now_s)
            case "POST" if name is not None and is_report:
                return await self._reports.take(request, peer, name.removeprefix(_REPORTS), now_s)
            case _:
                allow = "POST" if is_report else "GET, HEAD"
                return Refusal(405, now_s=now_s, headers=[("Allow", allow)], close=request.body_exists)

    async def _read(self, request: web.Request, peer: IPv4Address, name: str | None, now_s: float) -> Reply:
        try:
            content = None if name is None else await self._lookup(name, peer)
            if isinstance(content, Once):
                request[_ONCE] = name = content.name  # what it was asked for by is a secret, and still good
                if request.method == "HEAD":  # which says nothing of what is not made yet
                    return Reply(200, [("Cache-Control", "no-store")], None, now_s=now_s)
                content = await content.take(lambda: request.transport is not None)
        except Withheld as error:
            return _withheld(error, now_s)
        except ConnectionError:
            raise
        except OSError as error:
            self._complain(logging.WARNING, "http %s asked for %.200r: %s", peer, name, error)
            return Refusal(503, now_s=now_s, headers=[("Retry-After", "1")])
        if content is None:
            self._complain(logging.INFO, "http %s asked for %.200r: not found", peer, request.raw_path)
            return Refusal(404, now_s=now_s)
        stage = self._stage_of(content.name)
        visit = Visit(self._gate, request, peer, stage, self._report)
        try:
            return await respond(request, peer, content, now_s, stage, self._report, visit)
        finally:
            visit.leave()
            close_content(content)  # which waits, for a file system that hangs


def _withheld(error: Withheld, now_s: float) -> Refusal:
    """Return why something is not given. busybox's wget shows only the first line, so it is there."""
    match error:
        case NotNow(why=why, retry_after_s=retry_after_s):
            phrase = f"Service Unavailable, Retry-After: {retry_after_s}, {why}"
            fields = [("Retry-After", str(retry_after_s)), ("Cache-Control", "no-store")]
            return Refusal(503, why, now_s=now_s, headers=fields, phrase=phrase)
        case Gone(why=why):
            return Refusal(410, why, now_s=now_s, headers=[("Cache-Control", "no-store")], phrase=f"Gone, {why}")
        case _:
            return Refusal(404, now_s=now_s)


def _peer(request: web.Request) -> IPv4Address | None:
    """Return who asks; None if it is not an IPv4 address."""
    try:
        return IPv4Address(request.remote or "")
    except ValueError:
        return None
