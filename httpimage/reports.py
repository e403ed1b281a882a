"""What a booting machine reports: POST /report/<stage> with a short text."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from httpimage.complaints import Complaints
from httpimage.reply import Refusal, Reply

MAX_REPORT = 65536
"""Bytes of a report; longer is 413."""
REPORT_S = 10.0
"""How long a machine may take to send one, in seconds."""
MAX_REPORTS = 256
"""Reports being received at once."""
MAX_REPORTS_PER_PEER = 4
"""Reports being received from one address at once."""

Accept = Callable[[IPv4Address, str, str], bool]
"""(peer, stage, text) → whether there is such a machine and such a stage."""


class Reports:
    """Receives reports and hands them to `accept`, never more than so many at once."""

    def __init__(self, accept: Accept, complain: Complaints) -> None:
        self._accept = accept
        self._complain = complain
        self._receiving: Counter[IPv4Address] = Counter()

    async def take(self, request: web.Request, peer: IPv4Address, stage: str, now_s: float) -> Reply:
        """Answer a report of `stage`: 204 if it was accepted, 404 if not.

        The text is UTF-8; what is not becomes U+FFFD.
        """
        if "Content-Encoding" in request.headers:
            return Refusal(415, now_s=now_s, close=True)
        if (request.content_length or 0) > MAX_REPORT:
            return Refusal(413, now_s=now_s, close=True)
        if self._receiving.total() >= MAX_REPORTS or self._receiving[peer] >= MAX_REPORTS_PER_PEER:
            self._complain(logging.WARNING, "http %s: too many reports at once", peer)
            return Refusal(503, now_s=now_s, headers=[("Retry-After", "1")], close=True)
        self._receiving[peer] += 1
        try:
            async with asyncio.timeout(REPORT_S):
                body = await _body(request)
        except (TimeoutError, web.RequestPayloadError, HttpProcessingError) as error:
            self._complain(logging.INFO, "http %s: a report of %.200r was cut off: %r", peer, stage, error)
            return Refusal(408 if isinstance(error, TimeoutError) else 400, now_s=now_s, close=True)
        finally:
            self._receiving[peer] -= 1
            if not self._receiving[peer]:
                del self._receiving[peer]
        if body is None:
            return Refusal(413, now_s=now_s, close=True)
        if not self._accept(peer, stage, body.decode("utf-8", "replace")):
            self._complain(logging.INFO, "http %s reported %.200r: no such machine or stage", peer, stage)
            return Refusal(404, now_s=now_s)
        return Reply(204, now_s=now_s)


async def _body(request: web.Request) -> bytes | None:
    """Return the whole body, or None if it is longer than `MAX_REPORT`."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_REPORT:
            return None
    return bytes(body)
