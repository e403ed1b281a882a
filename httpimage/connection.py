"""One HTTP connection, with the limits that keep strangers from tying up the daemon."""

import asyncio
import logging
import re
import time
from collections import Counter
from functools import partial
from ipaddress import IPv4Address
from math import inf

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from config.content import Content, OpenFile
from httpimage.complaints import Complaints
from httpimage.counts import Counts
from httpimage.download import Download
from httpimage.heads import Measure
from httpimage.opened import Opened
from httpimage.pump import Channel, Pump
from httpimage.ranges import Span
from httpimage.reply import Headers, Refusal, head
from httpimage.shortcut import is_plain, understand
from httpimage.transfer import Transfer

log = logging.getLogger(__name__)

HEADER_S = 10.0
"""How long a request's head may take from its first byte (the first request: from the connection)."""
IDLE_S = 60.0
"""How long a connection may wait for another request."""
LINGER_S = 1.0
"""How long a refused peer may take to read why, before its connection is reset by what it goes on sending."""

MAX_TARGET = 8192
"""Bytes of the request line; longer is 414."""
MAX_FIELD = 4096
"""Bytes of one header; longer is 431."""
MAX_FIELDS = 100
"""Headers of one request; more is 431."""
MAX_HEAD = 16384
"""Bytes of all headers together; more is 431."""

MAX_CONNECTIONS = 4096
"""Connections at once."""
MAX_CONNECTIONS_PER_PEER = 256
"""Connections of one address at once."""

MOST_AT_ONCE = 1 << 20
"""Bytes of a range that takes the short way; more is no small matter, and may have to wait for its turn."""

_REQUEST_LINE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/")


class Connections:
    """The connections that are open, and what is counted against their limits."""

    def __init__(self, complain: Complaints, loop: asyncio.AbstractEventLoop, counts: Counts | None = None) -> None:
        self.complain = complain
        self.counts = counts or Counts()
        """What is counted of the answers."""
        self.pump = Pump(loop, self.counts)
        """What sends files."""
        self.opened = Opened(loop)
        """Files that the short way knows."""
        self._by_peer: Counter[str] = Counter()

    def admit(self, peer: str) -> bool:
        """Count a connection of `peer`, if there is room for it."""
        if self._by_peer.total() >= MAX_CONNECTIONS or self._by_peer[peer] >= MAX_CONNECTIONS_PER_PEER:
            return False
        self._by_peer[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Give back what `admit` counted."""
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]

    def close(self) -> None:
        """End what is being sent."""
        self.pump.close()
        self.opened.close()


class Connection(web.RequestHandler):
    """A connection as aiohttp parses it, plus deadlines for the head, limits, and errors that reach the peer.

    Whoever handles a request calls `begin_request` and `end_request` around it.
    """

    __slots__ = (
        "_admitted",
        "_behind",
        "_body",
        "_channel",
        "_connections",
        "_deadline",
        "_early",
        "_eof",
        "_gone",
        "_head",
        "_linger",
        "_peer",
        "_plain",
        "_transfer",
        "_unanswered",
    )

    def __init__(self, server: web.Server, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # how aiohttp turns it off
            logger=log,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            max_line_size=MAX_TARGET,
            max_field_size=MAX_FIELD,
            max_headers=MAX_FIELDS + 2,  # its Python parser counts the request line and the empty one
            auto_decompress=False,
        )
        self._connections = connections
        self._channel: Channel | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._gone = loop.create_future()
        self._linger = False
        self._peer = ""
        self._admitted = False
        self._head = Measure()
        self._body: StreamReader = EMPTY_PAYLOAD
        """That of the last request that was parsed."""
        self._behind = False
        """Whether a part of another head came behind it."""
        self._unanswered = 0
        """Requests that were parsed."""
        self._plain = True
        """Whether aiohttp's parser was given whole heads only, and so holds nothing now."""
        self._transfer: Transfer | None = None
        """What is being sent by the short way."""
        self._early = b""
        self._eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the peer, and begin to wait for its first request."""
        address = transport.get_extra_info("peername")
        self._peer = str(address[0]) if address else "?"
        self._admitted = self._connections.admit(self._peer)
        super().connection_made(transport)
        if self._admitted:
            self._expect_head()
        else:
            self._connections.complain(logging.WARNING, "http %s has too many connections: one refused", self._peer)
            self._refuse(503)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give everything back."""
        self._stop_clock()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._admitted:
            self._admitted = False
            self._connections.leave(self._peer)
        if not self._gone.done():
            self._gone.set_result(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, unless the head takes too long or grows too large."""
        if self._linger:
            return
        if self._transfer is not None:
            self._early += data
            if self.transport is not None:
                self.transport.pause_reading()
            return
        if self._plain:
            if self._takes_shortcut(data):
                return
            self._plain = is_plain(data)
        if not self._head.is_whole and data.strip(b"\r\n"):  # GRUB 2.06 leaves an empty line behind each request
            if self._deadline is None:
                self._expect_head()
            self._head.feed(data)
            if self._head.exceeds(2 * MAX_TARGET, MAX_HEAD):  # aiohttp's parser tells of MAX_TARGET itself
                self._connections.complain(logging.INFO, "http %s sent a head that is too large", self._peer)
                self._refuse(431)
                self._stop_clock()
                self._deadline = asyncio.get_running_loop().call_later(LINGER_S, self.force_close)
                return
        before = len(self._messages)
        super().data_received(data)
        if len(self._messages) > before:
            self._unanswered += len(self._messages) - before
            self._body = self._messages[-1][1]
            self._behind = self._body is EMPTY_PAYLOAD and bool(data.rpartition(b"\r\n\r\n")[2].strip(b"\r\n"))
        elif self._body is EMPTY_PAYLOAD and data.strip(b"\r\n"):
            self._behind = True
        if self._messages and self._current_request is not None:
            self._end_bad_body()

    def eof_received(self) -> bool | None:  # type: ignore[override] # aiohttp always closes
        """Close, but not before what the peer asked for is out: it may say at once that it will ask no more."""
        self._eof = self._transfer is not None or self._will_answer()
        return self._eof

    def learn(self, target: str, content: Content, fields: Headers, now_s: float) -> None:
        """Remember how one range of `target` was answered: with `content`, and `fields` besides Date."""
        if self.ssl_context is None:
            self._connections.opened.learn(target, content, fields, now_s)

    def channel(self) -> Channel | None:
        """Return the way for files past aiohttp; None where there is none: TLS, or no descriptor is left."""
        if self._channel is None and self.transport is not None and self.ssl_context is None:
            try:
                self._channel = self._connections.pump.channel(self.transport.get_extra_info("socket").fileno())
            except OSError as error:
                self._connections.complain(logging.WARNING, "http %s is served slowly: %s", self._peer, error)
        return self._channel

    def _end_bad_body(self) -> None:
        """Tell whoever reads a body that the rest of it makes no sense; aiohttp leaves them waiting."""
        bad, body = self._messages[-1][0], None if self._current_request is None else self._current_request.content
        if isinstance(bad, _ErrInfo) and body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(web.RequestPayloadError(bad.message or ""))

    def begin_request(self) -> None:
        """A head is complete: stop its clock."""
        self._stop_clock()

    def end_request(self) -> None:
        """The answer is out: the next bytes are a new head."""
        self._head = Measure()
        self._unanswered = max(0, self._unanswered - 1)
        if not self._unanswered and self.transport is not None:
            if self._eof:
                self.close()  # when the answer is out
            elif self._behind and self._deadline is None:
                self._expect_head()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what could not be parsed, or the last resort after a bug of ours."""
        self._stop_clock()
        self.close()
        if isinstance(exc, ConnectionError):
            pass  # the client went away, and whoever sent to it has told so
        elif status >= 500:
            log.error("http %s: an error of ours", self._peer, exc_info=exc)
        else:
            status = _status(exc)
            self._connections.counts.requests[status] += 1
            self._connections.complain(logging.INFO, "http %s sent a bad request: %.200r", self._peer, exc)
        if request.writer.output_size > 0:
            raise ConnectionAbortedError("the answer has begun; only closing can tell the peer")
        return _LastWord(self, status)

    def log_exception(self, *args: object, **kwargs: object) -> None:
        """Log a bug; but a body that turned out wrong while it was thrown away is the peer's doing."""
        error = kwargs.get("exc_info")
        if isinstance(error, web.RequestPayloadError | HttpProcessingError):
            self._connections.complain(logging.INFO, "http %s sent a bad body: %.200r", self._peer, error)
        else:
            super().log_exception(*args, **kwargs)

    async def linger(self) -> None:
        """Close our side and read on for a moment, so that a reset does not overtake our last answer.

        RFC 9112 section 9.6.
        """
        self._linger = True
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
            await asyncio.wait((self._gone,), timeout=LINGER_S)

    def _takes_shortcut(self, data: bytes) -> bool:
        """Answer a plain request for a small range of a file that was just looked up, unless anything is unusual.

        What is left out is all that costs time, and none of what is decided: aiohttp's parser, its tasks, the
        lookup. So a range costs a sixth. Whatever could end in a report, an error or a wait goes the long way.
        """
        asked = understand(data)
        waiter, transport = self._waiter, self.transport
        if (
            asked is None
            or (waiter is None or waiter.done() or self._messages or self._close or self._force_close)
            or (transport is None or transport.is_closing() or transport.get_write_buffer_size())
            or (self._head.has_begun or log.isEnabledFor(logging.DEBUG))
        ):
            return False
        kept = self._connections.opened.find(asked.target)
        length = asked.last - asked.first + 1
        if kept is None or asked.last >= kept.content.size_bytes - 1 or length > MOST_AT_ONCE:
            return False
        channel = self.channel()
        if channel is None:
            return False
        answer = kept.template.head(self._connections.opened.date(), asked.first, asked.last)
        finished = partial(self._shortcut_ended, kept.content, Span(asked.first, asked.last))
        try:
            self._transfer = channel.send(kept.source.share(), asked.first, length, finished, answer)
        except OSError:
            return False  # the long way tells why
        self._connections.counts.requests[206] += 1
        self._stop_clock()
        self._next_keepalive_close_time = inf
        return True

    def _shortcut_ended(self, content: OpenFile, span: Span, transfer: Transfer) -> None:
        """Go on with what came meanwhile, or wait for it."""
        self._transfer = None
        if transfer.error is not None:
            download = Download(IPv4Address(self._peer), content, (span,), None, lambda event: None)
            download.progress(transfer.sent)
            download.stopped(str(transfer.error) or type(transfer.error).__name__)
            if self.transport is not None:
                self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._next_keepalive_close_time = until = loop.time() + IDLE_S
        alarm = self._keepalive_handle
        if isinstance(alarm, asyncio.TimerHandle) and alarm.when() > until:
            alarm.cancel()  # it came up during the transfer
            self._keepalive_handle = loop.call_at(until, self._process_keepalive)
        if self._early and self.transport is not None:
            early, self._early = self._early, b""
            self.transport.resume_reading()
            self.data_received(early)
        if self._eof and self._transfer is None and not self._will_answer():
            self.force_close()

    def _will_answer(self) -> bool:
        """Tell whether an answer is to come for which the peer need send nothing more; TLS cannot be half closed."""
        return self._unanswered > 0 and self._body.is_eof() and not self._linger and self.ssl_context is None

    def _expect_head(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(HEADER_S, self._too_slow)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self._connections.complain(logging.INFO, "http %s sent no whole request in %d s", self._peer, HEADER_S)
        self.force_close()

    def _refuse(self, status: int) -> None:
        """Answer at once, outside a request."""
        self._linger = True
        if self.transport is not None:
            self.transport.write(head(status, [("Connection", "close"), ("Content-Length", "0")]))


class _LastWord(Refusal):
    """An error answer after which the connection is closed gently."""

    def __init__(self, connection: Connection, status: int) -> None:
        super().__init__(status, now_s=time.time(), close=True)
        self._connection = connection

    async def write_eof(self, data: bytes = b"") -> None:
        """Send what is left, then linger."""
        await super().write_eof(data)
        await self._connection.linger()


def _status(error: BaseException | None) -> int:
    """Return the status for what aiohttp's parser found, which answers 400 to everything."""
    match error:
        case LineTooLong():
            return 414 if str(error.args[1]) == str(MAX_TARGET) else 431
        case BadHttpMethod() if _REQUEST_LINE.search(error.message):
            return 501
        case _ if "Too many headers" in str(error):
            return 431
        case _:
            return 400
