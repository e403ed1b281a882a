"""A site with a made-up farm, by itself: `python -m tests.support.serve_web ADDRESS:PORT KIND [COUNT]`.

KIND is `busy` (COUNT machines, most of them up), `storm` (all of them fetch their roots, forever), `believable`
(some 40, for screenshots) or `awkward` (long names, long words). Lines on standard input are told to the timeline: a
JSON list [NAME, STAGE, DETAIL]. Prints `ready` when it serves, and at its end how late its event loop was to come
around, but for 1 time in 100, in seconds.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from config.events import Stage
from config.load import load
from config.model import Farm
from config.observing import Web
from dhcp.others import Other
from dhcp.store import LeaseStore
from pxeboot.api.control import Route
from pxeboot.daemon import SWITCH_S
from pxeboot.exports.pin_store import PinStore
from pxeboot.hub import Hub
from pxeboot.intent_store import IntentStore
from pxeboot.intents import Boot
from pxeboot.joining.store import BootStore
from pxeboot.nbdkit.second import Second
from pxeboot.selftest.findings import Finding
from pxeboot.stuck import State
from pxeboot.timeline import Timeline
from pxeboot.web.actions import Actions
from pxeboot.web.facts import Addresses, Dhcp, Sending, Sources
from pxeboot.web.farm import FarmPage
from pxeboot.web.machine import Machines
from pxeboot.web.site import Site
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates
from pxeboot.web.users import Users
from tests.support import awkward_farm, made_up_farm
from tests.support.fake_image import add_image


def _sources(farm: Farm) -> Sources:
    async def looked_up(_: object) -> Mapping[str, str]:
        return dict.fromkeys(farm.images, made_up_farm.version(made_up_farm.NOW))

    return Sources(farm=lambda: farm, looked_up=looked_up)


class _Whole:
    """A hub with the believable or the awkward farm, in a folder."""

    def __init__(self, folder: Path, cleanup: ExitStack, kind: str) -> None:
        old = add_image(folder / "images", marker="last week's")
        now = add_image(folder / "images", marker="this week's")
        gpu = add_image(folder / "images", name="gpu", marker="with a driver")
        path = folder / "farm.yaml"
        path.write_text((awkward_farm if kind == "awkward" else made_up_farm).text(folder))
        self.farm = load(path)
        self.others: Sequence[Other] = ()
        self.findings: Sequence[Finding] = ()
        leases = LeaseStore.open(folder / "leases")
        cleanup.callback(leases.close)
        pins = PinStore(folder / "pins")
        cleanup.callback(pins.close)
        boots = BootStore(folder / "boots")
        cleanup.callback(boots.close)
        self.hub = Hub(self.farm, leases, IntentStore(folder / "intents", self.farm), pins, boots, Second(self.farm))
        self.hub.reloads.path = str(path)
        if kind == "awkward":
            awkward_farm.tell(self.farm, self.hub.timeline, time.time())
            self.hub.reloads.refuse(awkward_farm.REFUSED, time.time())
            self.findings = awkward_farm.FINDINGS
            return
        versions = now.image_id, old.image_id, gpu.image_id
        self.others = (made_up_farm.believe(self.farm, self.hub.timeline, time.time(), *versions),)

    def sources(self, page: list[FarmPage]) -> Sources:
        def sending() -> Sending:
            states = page[0].board.counts
            return Sending(min(4, states[State.BOOTING]), 4, states[State.WAITING])

        async def dhcp() -> Dhcp:
            return Dhcp((), (Addresses("10.28.72.10", "10.28.72.250", 37, 241),))

        def intent(name: str) -> str:
            word = self.hub.nodes.intent(name).boot
            return "" if word is Boot.NETBOOT else f"boot={word}"

        return Sources(
            farm=lambda: self.farm, intent=intent, dhcp=dhcp, others=lambda: self.others, sending=sending,
            findings=lambda: self.findings, reloads=lambda: self.hub.reloads,
        )  # fmt: skip


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


async def main(listen: str, kind: str, count: int, cleanup: ExitStack) -> None:
    """Serve until standard input ends."""
    sys.setswitchinterval(SWITCH_S)
    static, closing = Static(), asyncio.Event()
    late_s: list[float] = [0.0]
    templates, pages, more = Templates(static), list[FarmPage](), list[Route]()
    if kind in ("believable", "awkward"):
        made = _Whole(Path(cleanup.enter_context(tempfile.TemporaryDirectory())), cleanup, kind)
        farm, timeline, sources = made.farm, made.hub.timeline, made.sources(pages)
        users = Users(lambda: farm.web)
        machines = Machines(made.hub, templates, users)
        more += [*machines.routes, *Actions(made.hub, machines, templates, users).routes]
    else:
        farm, timeline = (made_up_farm.at_once if kind == "storm" else made_up_farm.busy)(count, time.time())
        sources = _sources(farm)
    page = FarmPage(timeline, sources, templates, closing)
    pages.append(page)
    more += page.routes
    site = Site(Web(listen=(listen,)), [*more, *static.routes], closing=closing)
    tasks = [asyncio.create_task(site.run()), asyncio.create_task(_late(late_s))]
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
        print(f"{sorted(late_s)[len(late_s) * 99 // 100]:.3f}", flush=True)


if __name__ == "__main__":
    with ExitStack() as at_the_end:
        asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 40, at_the_end))
