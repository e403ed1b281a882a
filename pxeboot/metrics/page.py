"""The page that Prometheus reads: made in a thread, and kept for a moment, so that no number of readers does harm."""

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from importlib.metadata import version

from aiohttp import web

from pxeboot import logs
from pxeboot.api.control import Route
from pxeboot.metrics.histogram import LAG_S, Histogram
from pxeboot.metrics.sample import Metric, Sample

KEPT_S = 1.0
"""For so long a page is good for everybody who asks."""
ASIDE_S = 10.0
"""For so long what takes a while to find out is."""
LOOK_S = 0.25
"""How often the loop is asked how late it is."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Aside = Callable[[], Callable[[], Iterable[Sample]]]
"""Called on the loop, where it copies what it needs; it returns what is called in a thread."""


def nothing() -> Callable[[], Iterable[Sample]]:
    """Copy nothing, of which nothing is found out."""
    return tuple


class Page:
    """The metrics of one process."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        samples: Callable[[], Iterable[Sample]],
        aside: Aside = nothing,
        health: Callable[[], Awaitable[Iterable[Sample]]] | None = None,
    ) -> None:
        """Tell `metrics`: `samples` is called on the loop, at each reading; `aside` and `health` more seldom."""
        self._metrics = metrics
        self._samples = samples
        self._aside = aside
        self._health = health
        self._lag = Histogram(LAG_S)
        self._lock = asyncio.Lock()
        self._text = b""
        self._until_s = 0.0
        self._known: Sequence[Sample] = ()
        self._known_until_s = 0.0
        self._healthy: Iterable[Sample] = ()

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        while True:
            due_s = time.monotonic() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self._lag.observe(max(0.0, time.monotonic() - due_s))

    async def text(self) -> bytes:
        """Return the page, in the text format of Prometheus (version 0.0.4)."""
        if time.monotonic() >= self._until_s:
            async with self._lock:
                if time.monotonic() >= self._until_s:
                    await self._renew()
        return self._text

    async def _renew(self) -> None:
        find_out, healthy = None, self._healthy
        if time.monotonic() >= self._known_until_s:
            find_out = self._aside()
            healthy = [] if self._health is None else await self._health()
        samples = [*process(self._lag), *self._samples(), *healthy]
        # A histogram is read in the thread while the loop counts on: a number may be one too new, no harm.
        self._text, self._known = await asyncio.to_thread(self._write, samples, find_out)
        now = time.monotonic()
        self._until_s = now + KEPT_S
        if find_out is not None:
            self._known_until_s = now + ASIDE_S
            self._healthy = healthy

    def _write(
        self, samples: list[Sample], find_out: Callable[[], Iterable[Sample]] | None
    ) -> tuple[bytes, Sequence[Sample]]:
        from pxeboot.metrics.exposition import written  # prometheus_client: 50 ms, when somebody asks

        known = self._known if find_out is None else [*find_out()]
        return written(self._metrics, [*samples, *known]), known

    async def answer(self, _: web.Request) -> web.Response:
        """GET /metrics."""
        return web.Response(body=await self.text(), headers={"Content-Type": CONTENT_TYPE})

    @property
    def route(self) -> Route:
        """Where the page is."""
        return Route("GET", "/metrics", self.answer)


def process(lag: Histogram) -> Iterator[Sample]:
    """Yield what every process of ours tells of itself, but for what the kernel knows of it."""
    yield Sample("pxeboot_build_info", 1, (version("pxeboot"), platform.python_version()))
    yield Sample("pxeboot_event_loop_lag_seconds", lag)
    lines = logs.written()
    yield Sample("pxeboot_log_lines_left_out_total", 0 if lines is None else lines.left_out)
