"""The site of a daemon: its pages, put together."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from dhcp.others import Others
from dhcp.store import LeaseStore
from httpimage.gate import Gate
from pxeboot.api.control import Route
from pxeboot.api.dhcp import pools_json
from pxeboot.hub import Hub
from pxeboot.intents import Boot
from pxeboot.serving import Serving
from pxeboot.web.actions import Actions
from pxeboot.web.facts import Addresses, Dhcp, Sending, Sources
from pxeboot.web.farm import FarmPage
from pxeboot.web.machine import Machines
from pxeboot.web.site import Site
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates
from pxeboot.web.users import Users

MOST_ADDRESSES = 8
"""Ranges of addresses that are shown, the fullest; `pxeboot status` has all."""


def site(
    hub: Hub,
    serving: Serving,
    leases: LeaseStore,
    others: Others,
    gate: Gate,
    shared: Callable[[], Mapping[str, object] | None],
    more: Sequence[Route],
) -> Site:
    """Return the site that shows what these know, and answers `more` besides. `gate` is that of root images.

    Call it inside the event loop.
    """
    static, closing, users = Static(), asyncio.Event(), Users(lambda: hub.farm.web)
    templates = Templates(static)
    sources = Sources(
        farm=lambda: hub.farm,
        intent=partial(_intent, hub),
        image=partial(_image, hub),
        dhcp=partial(_dhcp, hub, serving, leases, shared),
        others=lambda: others,
        findings=lambda: hub.findings,
        reloads=lambda: hub.reloads,
        joins=hub.door.status,
        sending=lambda: Sending(gate.running, gate.downloads, gate.waiting),
        looked_up=hub.roots.looked_up,
    )
    machines = Machines(hub, templates, users)
    pages = [
        *FarmPage(hub.timeline, sources, templates, closing).routes,
        *machines.routes,
        *Actions(hub, machines, templates, users).routes,
        *static.routes,
        *more,
    ]
    return Site(hub.farm.web, pages, [users.readers], lambda: hub.farm.web.names, closing)


def _intent(hub: Hub, name: str) -> str:
    intent = hub.nodes.intent(name)
    words = [f"boot={intent.boot}"] if intent.boot is not Boot.NETBOOT else []
    if intent.image:
        words.append(f"image={intent.image.partition('@')[0]}")
    return " ".join(words)


def _image(hub: Hub, name: str) -> str:
    pin = hub.roots.pins.get(name)
    return pin.image_id if pin is not None else hub.roots.boots.booting(name)


async def _dhcp(
    hub: Hub, serving: Serving, leases: LeaseStore, shared: Callable[[], Mapping[str, object] | None]
) -> Dhcp:
    records = tuple(hub.dhcp.leases)
    found = await asyncio.to_thread(pools_json, hub.dhcp.plan, records, leases.clock())
    addresses = [
        Addresses(str(pool["first"]), str(pool["last"]), int(str(pool["used"])), int(str(pool["size"])))
        for pool in found
    ]
    addresses.sort(key=lambda range_: range_.used / max(1, range_.size), reverse=True)
    troubles = [f"interface {name} is not served: {lacks}" for name, lacks in serving.waits.items()]
    if leases.degraded:
        troubles.append(f"no leases are given, because they cannot be stored: {leases.degraded}")
    cluster = shared() or {}
    if cluster.get("trouble"):
        troubles.append(f"leases of cluster {cluster['cluster']} cannot be shared: {cluster['trouble']}")
    troubles += [f"no address is left of {one.first}-{one.last}" for one in addresses if one.used >= one.size]
    return Dhcp(tuple(troubles), tuple(addresses[:MOST_ADDRESSES]))
