"""A site with a made-up farm, by itself: `python -m tests.support.serve_web ADDRESS:PORT KIND [COUNT]`.

KIND is `busy` (COUNT machines, most of them up), `storm` (all of them fetch their roots, forever) or `believable`
(some 40, for screenshots). Lines on standard input are told to the timeline: a JSON list [NAME, STAGE, DETAIL].
Prints `ready` when it serves, and at its end the longest time that its event loop did not come around, in seconds.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping

from config.events import Stage
from config.model import Farm
from config.observing import Web
from dhcp.others import Other
from pxeboot.stuck import State
from pxeboot.timeline import Timeline
from pxeboot.web.facts import Addresses, Dhcp, Sending, Sources
from pxeboot.web.farm import FarmPage
from pxeboot.web.site import Site
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates
from tests.support import made_up_farm


async def _dhcp() -> Dhcp:
    return Dhcp((), (Addresses("10.28.72.10", "10.28.72.250", 37, 241),))


def _sources(farm: Farm, others: list[Other], page: list[FarmPage]) -> Sources:
    current = {"node": made_up_farm.version(made_up_farm.NOW), "gpu": made_up_farm.version(made_up_farm.GPU)}
    local = {node.name for pool in farm.pools for node in pool.nodes if node.boot == "local"}

    async def looked_up(_: object) -> Mapping[str, str]:
        return {name: current[name] for name in farm.images}

    def sending() -> Sending:
        states = page[0].board.counts
        return Sending(min(4, states[State.BOOTING]), 4, states[State.WAITING])

    return Sources(
        farm=lambda: farm,
        intent=lambda name: "boot=local" if name in local else "",
        dhcp=_dhcp,
        others=lambda: others,
        sending=sending,
        looked_up=looked_up,
    )


async def _follow(timeline: Timeline) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        name, stage, detail = json.loads(line)
        timeline.record(name, Stage(stage), detail, time.time())


async def _storm(timeline: Timeline, names: list[str]) -> None:
    turn = 0
    while True:
        made_up_farm.storm(timeline, names, time.time(), turn)
        turn += 1
        await asyncio.sleep(1.0)


async def _late(longest: list[float]) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.005)
        longest[0] = max(longest[0], time.monotonic() - before - 0.005)


async def main(listen: str, kind: str, count: int) -> None:
    """Serve until standard input ends."""
    now_s = time.time()
    others: list[Other] = []
    if kind == "believable":
        farm, timeline, others = made_up_farm.believable(now_s)
    else:
        farm, timeline = (made_up_farm.at_once if kind == "storm" else made_up_farm.busy)(count, now_s)
    static, closing, longest = Static(), asyncio.Event(), [0.0]
    pages: list[FarmPage] = []
    page = FarmPage(timeline, _sources(farm, others, pages), Templates(static), closing)
    pages.append(page)
    site = Site(Web(listen=(listen,)), [*page.routes, *static.routes], closing=closing)
    tasks = [asyncio.create_task(site.run()), asyncio.create_task(_late(longest))]
    if kind == "storm":
        names = [node.name for pool in farm.pools for node in pool.nodes]
        tasks.append(asyncio.create_task(_storm(timeline, names)))
    print("ready", flush=True)
    try:
        await _follow(timeline)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(f"{longest[0]:.3f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 40))
