"""GET /v1/nbdkit: whether nbdkit serves images, on which interfaces, since when, and what it has open.

`wanted` are the images that say `engine: nbdkit`; `absent` says why pxeboot serves them itself.
"""

from collections.abc import Sequence

from aiohttp import web

from config.model import Farm
from pxeboot.api.control import Route, answer
from pxeboot.nbdkit.door import Door
from pxeboot.nbdkit.engine import Engine, wanted


def routes(farm: Farm, engine: Engine | None, door: Door | None, absent: str | None) -> Sequence[Route]:
    """Return the route that answers from the engine, if there is one."""

    async def nbdkit(_: web.Request) -> web.Response:
        told: dict[str, object] = {"wanted": wanted(farm.images), "absent": absent, "serves": False, "interfaces": []}
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
