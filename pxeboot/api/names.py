"""GET /v1/names: what machines, pools and images are called, for a shell that completes a word."""

import asyncio
from collections.abc import Callable, Sequence

from aiohttp import web

from config.model import Farm
from pxeboot.api.control import Route, answer


def routes(farm: Callable[[], Farm]) -> Sequence[Route]:
    """Return the routes that answer from the farm as it is now."""

    async def names(_: web.Request) -> web.Response:
        return await answer(await asyncio.to_thread(names_of, farm()))

    return [Route("GET", "/v1/names", names)]


def names_of(farm: Farm) -> dict[str, object]:
    """Return the names in a farm, in its order."""
    return {
        "machines": [node.name for pool in farm.pools for node in pool.nodes],
        "pools": [pool.name for pool in farm.pools],
        "images": [*farm.images],
    }
