"""GET /v1/tftp: how many transfers run, of at most how many, and how often what happened since the start.

What is counted is described at `tftp.transport.Server`; what never happened is not there.
"""

from collections.abc import Sequence

from aiohttp import web

from pxeboot.api.control import Route, answer
from pxeboot.serving import Serving


def routes(serving: Serving) -> Sequence[Route]:
    """Return the route that answers from the TFTP servers of all interfaces."""

    async def tftp(_: web.Request) -> web.Response:
        running, at_most = serving.transfers()
        return await answer({"running": running, "at_most": at_most, "counts": dict(serving.tftp_counts())})

    return [Route("GET", "/v1/tftp", tftp)]
