"""The listeners of the web page. None of them is needed to boot: one that cannot be opened is tried again."""

import asyncio
import logging
from collections.abc import Sequence

from aiohttp import web

from config.observing import Web, parse_listen
from pxeboot.api.control import Route

log = logging.getLogger("pxeboot")

AGAIN_S = 10.0
"""When to try once more to open a listener."""


class Site:
    """Answers `routes` at the addresses of `web.listen`, while `run` runs."""

    def __init__(self, settings: Web, routes: Sequence[Route]) -> None:
        """Serve these routes."""
        self._settings = settings
        self._app = web.Application()
        for route in routes:
            self._app.router.add_route(route.method, route.path, route.handler)

    async def run(self) -> None:
        """Serve until cancelled."""
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            waiting = [parse_listen(listen) for listen in self._settings.listen]
            said = False
            while waiting:
                for host, port in list(waiting):
                    try:
                        await web.TCPSite(runner, host, port).start()
                        waiting.remove((host, port))
                    except OSError as error:
                        if not said:
                            log.error("no web page at %s port %d, tried again: %s", host, port, error.strerror)
                said = True
                await asyncio.sleep(AGAIN_S)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
