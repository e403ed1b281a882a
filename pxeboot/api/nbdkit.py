"""GET /v1/nbdkit: whether nbdkit serves images, on which interfaces, since when, and what it has open.

`wanted` are the images that say `engine: nbdkit`; `absent` says why pxeboot serves them itself.
"""

from collections.abc import Sequence

from aiohttp import web

from pxeboot.api.control import Route, answer
from pxeboot.nbdkit.second import Second


def routes(second: Second) -> Sequence[Route]:
    """Return the route that answers from the second engine."""

    async def nbdkit(_: web.Request) -> web.Response:
        told: dict[str, object] = {"wanted": second.wanted, "absent": second.absent, "serves": False, "interfaces": []}
        engine, door = second.engine, second.door
        if engine is not None and door is not None:
            told["serves"] = engine.serves
            told["port"] = engine.settings.port
            told["exports_open"] = door.open_exports
            told["counters"] = dict(sorted((engine.counts + door.counts).items()))
            told["interfaces"] = [
                {
                    "name": child.interface,
                    "pid": child.pid,
                    "ready": child.ready,
                    "since_s": child.since_s,
                    "starts": child.starts,
                }
                for child in sorted(engine.children, key=lambda child: child.interface)
            ]
        return await answer(told)

    return [Route("GET", "/v1/nbdkit", nbdkit)]
