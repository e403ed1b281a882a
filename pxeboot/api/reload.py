"""PUT /v1/reload: read the farm's file again now, and say what came of it."""

from collections.abc import Sequence
from dataclasses import asdict

from aiohttp import web

from pxeboot.api.control import Route, answer
from pxeboot.reloading.reloader import Reloader
from pxeboot.reloading.state import Reloads


def routes(reloads: Reloads, reloader: Reloader | None) -> Sequence[Route]:
    """Return the route; without a `reloader` it says that there is no file."""

    async def reload(_: web.Request) -> web.Response:
        if reloader is None:
            return await answer({"error": "it was started without a file: there is nothing to read again"}, 409)
        outcome = await reloader.reload()
        return await answer(asdict(outcome) | {"configuration": reloads.as_json()})

    return [Route("PUT", "/v1/reload", reload)]
