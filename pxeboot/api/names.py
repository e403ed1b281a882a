"""GET /v1/names: what machines, pools and images are called, for a shell that completes a word, and for a person who
mistyped one."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from aiohttp import web

from config.model import Farm
from pxeboot.api.control import Route, answer
from pxeboot.timeline import Timeline

MOST_UNLISTED = 1000
"""Machines that are not in the farm's file, those that were heard of last: anybody can make up more."""


def routes(farm: Callable[[], Farm], timeline: Timeline) -> Sequence[Route]:
    """Return the routes that answer from the farm as it is now, and from who was heard of."""

    async def names(_: web.Request) -> web.Response:
        heard = [(machine.name, machine.mac) for machine in islice(timeline.changed_since(0), MOST_UNLISTED)]
        return await answer(await asyncio.to_thread(names_of, farm(), heard))

    return [Route("GET", "/v1/names", names)]


def names_of(farm: Farm, heard: Iterable[tuple[str, str]] = ()) -> dict[str, object]:
    """Return the names in a farm, in its order, then those of other machines, of `heard` (name, MAC); and all MACs."""
    nodes = [node for pool in farm.pools for node in pool.nodes]
    machines, macs = {node.name: None for node in nodes}, {mac: node.name for node in nodes for mac in node.macs}
    for name, mac in heard:
        machines.setdefault(name)
        if mac:
            macs.setdefault(mac, name)
    return {
        "machines": [*machines],
        "pools": [pool.name for pool in farm.pools],
        "images": [*farm.images],
        "macs": macs,
    }
