"""The answer to GET and HEAD of one content: preconditions, ranges, headers, and the body on its way."""

import asyncio
import secrets
from ipaddress import IPv4Address

from aiohttp import web

from config.content import Content, Made, OpenFile
from config.events import Report, Stage
from httpimage.conditional import Conditions, Decision, Validators, evaluate, range_applies
from httpimage.connection import Connection
from httpimage.dates import format_date
from httpimage.download import Download
from httpimage.gate import Visit
from httpimage.multipart import frame
from httpimage.names import content_type
from httpimage.ranges import NotSatisfiable, Selection, Span, Spans, Whole, select
from httpimage.reply import Refusal, Reply
from httpimage.sending import Truncated, send


async def respond(
    request: web.Request,
    peer: IPv4Address,
    content: Content,
    now_s: float,
    stage: Stage | None,
    report: Report,
    visit: Visit | None = None,
) -> Reply:
    """Answer, body included. `stage` is what the download means for a machine's boot; `report` hears of it.

    A body has to pass the gate first, if there is a `visit` to one.

    Raises `ConnectionError` when only closing the connection can tell the peer that the body ended early.
    """
    size_bytes = content.size_bytes
    validators = Validators(content.etag, _last_modified(content, now_s))
    fields = _cache_fields(content, validators)
    match evaluate(_conditions(request), validators):
        case Decision.PRECONDITION_FAILED:
            return Refusal(412, now_s=now_s)
        case Decision.NOT_MODIFIED:
            return Reply(304, fields, now_s=now_s)
        case Decision.PROCEED:
            selection = _selection(request, validators, size_bytes, now_s)
    kind = content_type(content.name)
    fields.append(("Accept-Ranges", "bytes"))
    pieces: list[bytes | Span]
    match selection:
        case NotSatisfiable():
            return Refusal(416, now_s=now_s, headers=[("Content-Range", f"bytes */{size_bytes}")])
        case Whole():
            status, length = 200, size_bytes
            pieces = [Span(0, size_bytes - 1)] if size_bytes else []
        case Spans(spans=(span,)):
            status, length, pieces = 206, span.length, [span]
            fields.append(("Content-Range", span.content_range(size_bytes)))
        case Spans(spans=spans):
            boundary = secrets.token_hex(16)
            body = frame(spans, size_bytes, kind, boundary)
            kind = f"multipart/byteranges; boundary={boundary}"
            status, length = 206, body.length
            pieces = [piece for part in body.parts for piece in (part.head, part.span)]
            pieces.append(body.tail)
    fields += [("Content-Type", kind), ("Content-Length", str(length))]
    spans = tuple(piece for piece in pieces if isinstance(piece, Span))
    if request.method == "GET" and visit is not None and (refusal := visit.enter(spans, now_s)) is not None:
        return refusal
    if status == 206 and len(pieces) == 1 and isinstance(request.protocol, Connection):
        request.protocol.learn(request.raw_path, content, fields, now_s)
    reply = Reply(status, fields, None, now_s=now_s)
    await reply.prepare(request)
    if request.method == "GET":
        await _send(request, content, pieces, Download(peer, content, spans, stage, report))
    return reply


async def _send(request: web.Request, content: Content, pieces: list[bytes | Span], download: Download) -> None:
    """Send a body, and tell how it went."""
    transport = request.transport
    try:
        if transport is None:
            raise ConnectionResetError("the peer closed the connection")
        for piece in pieces:
            if isinstance(piece, bytes):
                await request.writer.write(piece)
            else:
                await send(content, piece.first_pos, piece.length, request.writer, transport, download.progress)
    except asyncio.CancelledError:
        download.stopped("the connection was closed")
        raise
    except (OSError, Truncated) as error:
        download.stopped(str(error) or type(error).__name__)
        if transport is not None:
            transport.abort()
        raise ConnectionAbortedError("the answer has begun; only closing can tell the peer") from error
    download.ended()


def _selection(request: web.Request, validators: Validators, size_bytes: int, now_s: float) -> Selection:
    """Return what Range asks for. It counts for GET only, once, and if If-Range agrees (RFC 9110 section 14.2)."""
    ranges = request.headers.getall("Range", [])
    if request.method != "GET" or len(ranges) != 1:
        return Whole()
    if_range = request.headers.getall("If-Range", [])
    if len(if_range) > 1 or not range_applies(if_range[0] if if_range else None, validators, int(now_s)):
        return Whole()
    return select(ranges[0], size_bytes)


def _conditions(request: web.Request) -> Conditions:
    """Return the precondition headers: lists joined (RFC 9110 section 5.3), dates only if they are not doubled."""

    def entity_tags(name: str) -> str | None:
        values = request.headers.getall(name, [])
        return ", ".join(values) if values else None

    def date(name: str) -> str | None:
        values = request.headers.getall(name, [])
        return values[0] if len(values) == 1 else None

    return Conditions(
        if_match=entity_tags("If-Match"),
        if_unmodified_since=date("If-Unmodified-Since"),
        if_none_match=entity_tags("If-None-Match"),
        if_modified_since=date("If-Modified-Since"),
    )


def _last_modified(content: Content, now_s: float) -> int | None:
    """Return Last-Modified in whole seconds, never in the future (RFC 9110 section 8.8.2.1)."""
    match content:
        case OpenFile(modified_s=float() | int() as modified_s):
            return int(max(0, min(modified_s, now_s)))
        case _:
            return None


def _cache_fields(content: Content, validators: Validators) -> list[tuple[str, str]]:
    """Return ETag, Last-Modified and Cache-Control: what 200, 206 and 304 have in common."""
    match content:
        case OpenFile(immutable=True) | Made(immutable=True):
            caching = "public, max-age=31536000, immutable"
        case OpenFile():
            caching = "no-cache"
        case Made(secret=True):
            caching = "no-store"
        case Made():
            caching = "private, no-cache"
    fields = [("ETag", f'"{validators.etag}"'), ("Cache-Control", caching)]
    if validators.modified_s is not None:
        fields.append(("Last-Modified", format_date(validators.modified_s)))
    return fields
