"""The farm's file, read again; and the farm that is served.

PUT /v1/reload      read the file now; what came of it
GET /v1/farm        the farm that is served, as the file would say it, with digests in place of secrets
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict

from aiohttp import web

from config.model import Farm
from pxeboot.api.control import Route, answer
from pxeboot.reloading.masked import dump
from pxeboot.reloading.prepared import Prepared
from pxeboot.reloading.reloader import Reloader
from pxeboot.reloading.state import Reloads


def routes(
    reloads: Reloads, reloader: Reloader[Prepared] | None, farm: Callable[[], Farm], *, nbdkit: bool
) -> Sequence[Route]:
    """Return the routes; without a `reloader` there is no file. `nbdkit` says whether such a process runs."""

    async def reload(_: web.Request) -> web.Response:
        if reloader is None:
            return await answer({"error": "it was started without a file: there is nothing to read again"}, 409)
        outcome = await reloader.reload()
        return await answer(asdict(outcome) | {"configuration": reloads.as_json()})

    async def served(_: web.Request) -> web.Response:
        return await answer({"farm": await asyncio.to_thread(dump, farm()), "nbdkit": nbdkit})

    return [Route("PUT", "/v1/reload", reload), Route("GET", "/v1/farm", served)]
