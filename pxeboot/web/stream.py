"""GET /events: what changed on the farm's page, as server-sent events.

An event is one JSON object, made once for all who are at the same version. Who reads slowly is sent less often, and
never more than one at a time: what changed meanwhile is in the next one.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiohttp import web

from pxeboot.seldom import Seldom
from pxeboot.web.places import Places, is_gone

log = logging.getLogger("pxeboot")

EVERY_S = 0.5
"""How often a reader is sent what changed, at most."""
BEAT_S = 15.0
"""A reader is sent something at least so often, so that it and what is in between know that we are there."""
PATIENCE_S = 30.0
"""A reader that takes nothing for so long is gone."""
MOST = 64
"""Readers at once."""
MOST_EVENTS = 8
"""Events that are kept for others who need the same one. A reader says itself which version it has."""
PIECE = 64 * 1024
"""Bytes of an event that are sent at once."""
AGAIN_MS = 3000
"""When a browser asks again after its stream broke."""

Look = Callable[[], int]
"""Takes in what is new, and returns the newest version."""

Made = Callable[[], Mapping[str, object]]
"""Returns what changed, as JSON values; called in a thread."""


class Stream:
    """Sends what changed to everybody who reads."""

    def __init__(self, look: Look, made: Callable[[int], Made], closing: asyncio.Event) -> None:
        """`made` is called on the event loop, with the version that a reader has; what it returns, in a thread."""
        self._look = look
        self._made = made
        self._closing = closing
        self._name = secrets.token_hex(4)
        """Tells our versions from those of a server before us."""
        self._events: dict[tuple[int, int], asyncio.Task[bytes]] = {}
        self._places = Places(MOST)
        self._seldom = Seldom()

    def label(self, version: int) -> str:
        """Return what a page is given to say which version it shows."""
        return f"{self._name}-{version}"

    def version(self, label: str) -> int:
        """Return the version that a label means; 0 for one that is not ours."""
        name, _, number = label.partition("-")
        return int(number) if name == self._name and number.isdecimal() and len(number) < 16 else 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer GET /events?since=LABEL, for as long as the reader reads."""
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        if not self._places.take(request):
            if self._seldom("full"):
                log.warning("web: %d pages follow the farm live, so others do not", MOST)
            raise web.HTTPServiceUnavailable(text="Too many pages are open.\n", headers={"Retry-After": "10"})
        has = self.version(request.headers.get("Last-Event-ID") or request.query.get("since", ""))
        try:
            await response.prepare(request)
            async with asyncio.timeout(PATIENCE_S) as patience:
                await response.write(f"retry: {AGAIN_MS}\n\n".encode())
                await self._send(request, response, has, patience)
        except (TimeoutError, ConnectionError):
            pass
        except Exception:  # the answer has begun: all that can be said is that it ends
            log.exception("web: what changed cannot be told")
        finally:
            self._places.leave(request)
            if not len(self._places):
                self._events.clear()
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, has: int, patience: asyncio.Timeout
    ) -> None:
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        while not (self._closing.is_set() or is_gone(request)):
            patience.reschedule(loop.time() + PATIENCE_S)
            newest = self._look()
            if newest != has:
                event = await self._event(has, newest)
                for start in range(0, len(event), PIECE):  # no more is copied for a reader than it takes
                    await response.write(event[start : start + PIECE])
                has, sent_s = newest, loop.time()
            elif loop.time() - sent_s >= BEAT_S:
                await response.write(b":\n\n")
                sent_s = loop.time()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), EVERY_S)

    async def _event(self, has: int, newest: int) -> bytes:
        """Return the event that leads from the version `has` to the newest; the same one for all who need it."""
        task = self._events.get((has, newest))
        if task is None:
            for old in [key for key in self._events if key[1] != newest]:
                del self._events[old]
            if len(self._events) >= MOST_EVENTS:
                del self._events[next(iter(self._events))]
            task = asyncio.create_task(asyncio.to_thread(self._bytes, self._made(has), newest))
            self._events[has, newest] = task
        return await asyncio.shield(task)

    def _bytes(self, made: Made, newest: int) -> bytes:
        text = json.dumps(made(), separators=(",", ":"))
        return f"event: farm\nid: {self.label(newest)}\ndata: {text}\n\n".encode()
