"""GET /v1/downloads: how many root images are being sent, at most, and how many machines wait for their turn."""

from collections.abc import Sequence

from aiohttp import web

from httpimage.gate import Gate
from pxeboot.api.control import Route, answer


def routes(gate: Gate) -> Sequence[Route]:
    """Return the route that answers from the gate before the root images."""

    async def downloads(_: web.Request) -> web.Response:
        return await answer({"running": gate.running, "at_most": gate.downloads, "waiting": gate.waiting})

    return [Route("GET", "/v1/downloads", downloads)]
