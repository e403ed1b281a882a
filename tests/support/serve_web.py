"""A site with a made-up farm, by itself: `python -m tests.support.serve_web ADDRESS:PORT KIND [COUNT [TLS]]`.

KIND is `busy` (COUNT machines, most of them up), `storm` (all of them fetch their roots, forever), `believable`
(some 40, for screenshots) or `awkward` (long names, long words). TLS is a folder with tls.pem and tls.key. Lines on
standard input are told to the timeline: a JSON list [NAME, STAGE, DETAIL]. Prints `ready` when it serves, and at its
end how late its event loop was to come around, but for 1 time in 100, in seconds.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from config.delivery import Certificate
from config.events import Stage
from config.model import Farm
from config.observing import Web
from pxeboot.api.control import Route
from pxeboot.timeline import Timeline
from pxeboot.web.facts import Sources
from pxeboot.web.farm import FarmPage
from pxeboot.web.site import Site
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates
from tests.support import made_up_farm


def _sources(farm: Farm) -> Sources:
    async def looked_up(_: object) -> Mapping[str, str]:
        return dict.fromkeys(farm.images, made_up_farm.version(made_up_farm.NOW))

    return Sources(farm=lambda: farm, looked_up=looked_up)


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


async def _late(late_s: list[float]) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.005)
        late_s.append(time.monotonic() - before - 0.005)


async def main(listen: str, kind: str, count: int, tls: Certificate | None, cleanup: ExitStack) -> None:
    """Serve until standard input ends."""
    static, closing = Static(), asyncio.Event()
    late_s: list[float] = [0.0]
    templates, pages, more = Templates(static), list[FarmPage](), list[Route]()
    if kind in ("believable", "awkward"):
        from tests.support.whole_farm import Whole  # it takes a second to import

        made = Whole(Path(cleanup.enter_context(tempfile.TemporaryDirectory())), cleanup, kind)
        farm, timeline, sources = made.farm, made.hub.timeline, made.sources(pages)
        more += made.routes(templates)
    else:
        farm, timeline = (made_up_farm.at_once if kind == "storm" else made_up_farm.busy)(count, time.time())
        sources = _sources(farm)
    page = FarmPage(timeline, sources, templates, closing)
    pages.append(page)
    site = Site(Web(listen=(listen,), tls=tls), [*more, *page.routes, *static.routes], closing=closing)
    tasks = [asyncio.create_task(site.run()), asyncio.create_task(_late(late_s))]
    if kind == "storm":
        from pxeboot.daemon import SWITCH_S  # it takes a second, too, and matters only to how late the loop is

        sys.setswitchinterval(SWITCH_S)
        names = [node.name for pool in farm.pools for node in pool.nodes]
        tasks.append(asyncio.create_task(_storm(timeline, names)))
    await site.tried.wait()
    print("ready", flush=True)
    try:
        await _follow(timeline)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(f"{sorted(late_s)[len(late_s) * 99 // 100]:.3f}", flush=True)


if __name__ == "__main__":
    address, which, *others = sys.argv[1:]
    number = int(others[0]) if others else 40
    both = Certificate(certificate=Path(others[1], "tls.pem"), key=Path(others[1], "tls.key")) if others[1:] else None
    with ExitStack() as at_the_end:
        asyncio.run(main(address, which, number, both, at_the_end))
