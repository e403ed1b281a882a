"""GET /v1/downloads: how many root images are being sent, of at most how many, and how many machines wait.

`crawling` are more that are sent and hardly move: their slots are others'.
"""

from collections.abc import Sequence

from aiohttp import web

from httpimage.gate import Gate
from pxeboot.api.control import Route, answer


def routes(gate: Gate) -> Sequence[Route]:
    """Return the route that answers from the gate before the root images."""

    async def downloads(_: web.Request) -> web.Response:
        counts = {"running": gate.running, "at_most": gate.downloads, "crawling": gate.crawling}
        return await answer(counts | {"waiting": gate.waiting})

    return [Route("GET", "/v1/downloads", downloads)]
