"""Metrics of the controller, at an address of its own: it is a process of its own, and may be on another machine.

Off unless asked for: the controller holds credentials, and needs no port for its work.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from aiohttp import web

from pxeboot.controller.talking import Tokens
from pxeboot.metrics.catalogue import OF_CONTROLLER
from pxeboot.metrics.page import Page
from pxeboot.metrics.sample import Sample


class Watched:
    """Serves GET /metrics and GET /healthz while it is entered."""

    def __init__(self, listen: tuple[str, int], samples: Callable[[], Iterable[Sample]]) -> None:
        """Serve at an address and a port."""
        self._listen = listen
        self._page = Page(OF_CONTROLLER, samples)
        app = web.Application()
        app.router.add_get("/metrics", self._page.answer)
        app.router.add_get("/healthz", _alive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        host, port = self._listen
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            why = error.strerror or str(error)
            raise OSError(error.errno, f"no metrics at {host} port {port}: {why}") from error
        self._task = asyncio.create_task(self._page.watch_loop())

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._runner.cleanup()


async def _alive(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def samples(kept: Mapping[str, Tokens], told: Mapping[tuple[str, str], int]) -> Iterator[Sample]:
    """Yield how each cluster is supplied, and what was `told` of it."""
    for cluster, tokens in kept.items():
        seen = tokens.tokens()
        yield Sample("pxeboot_controller_tokens", len(seen), (cluster,))
        status = tokens.status()
        yield Sample("pxeboot_controller_trouble", float(bool(status["trouble"])), (cluster,))
        if status["tokens"] == "shared" and seen:
            expiry = max(token.expires_s for token in seen)
            yield Sample("pxeboot_controller_token_expiry_timestamp_seconds", expiry, (cluster,))
    for (cluster, stage), count in sorted(told.items()):
        yield Sample("pxeboot_controller_events_total", count, (cluster, stage))
