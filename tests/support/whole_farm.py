"""A site's hub with a whole made-up farm, in a folder: pages of machines and pools, too."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from config.load import load
from dhcp.others import Other
from dhcp.store import LeaseStore
from pxeboot.api.control import Route
from pxeboot.exports.pin_store import PinStore
from pxeboot.hub import Hub
from pxeboot.intent_store import IntentStore
from pxeboot.intents import Boot
from pxeboot.joining.store import BootStore
from pxeboot.nbdkit.second import Second
from pxeboot.selftest.findings import Finding
from pxeboot.stuck import State
from pxeboot.web.actions import Actions
from pxeboot.web.facts import Addresses, Dhcp, Sending, Sources
from pxeboot.web.farm import FarmPage
from pxeboot.web.machine import Machines
from pxeboot.web.templates import Templates
from pxeboot.web.users import Users
from tests.support import awkward_farm, made_up_farm
from tests.support.fake_image import add_image


class Whole:
    """A hub with the believable or the awkward farm, in a folder."""

    def __init__(self, folder: Path, cleanup: ExitStack, kind: str) -> None:
        """Make the farm `kind` in `folder`."""
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
        """Return what its page is made of; `page` holds that page, once it is there."""

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

    def routes(self, templates: Templates) -> Sequence[Route]:
        """Return the pages of machines and pools."""
        users = Users(lambda: self.farm.web)
        machines = Machines(self.hub, templates, users)
        return [*machines.routes, *Actions(self.hub, machines, templates, users).routes]
