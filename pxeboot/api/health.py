"""GET /healthz: this process is alive, for its loop answers. GET /readyz: whether machines can boot now, and why not.

/readyz is 200 if they can, 503 if not, as a line for each reason; or as JSON, for who asks by Accept, or ?format=json.
What is not as it should be, though machines boot, is told too, and is 200.
"""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from pxeboot.api.control import Route, answer
from pxeboot.health import Health


def routes(look: Callable[[], Awaitable[Health]]) -> Sequence[Route]:
    """Return the routes that answer from `look`, which is called each time."""

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(request: web.Request) -> web.Response:
        found = await look()
        status = 200 if found.ready else 503
        if request.query.get("format") == "json" or "application/json" in request.headers.get("Accept", ""):
            return await answer(found.as_json(), status)
        return web.Response(text=found.as_text(), status=status)

    return [Route("GET", "/healthz", alive), Route("GET", "/readyz", ready)]
