"""A machine that `pxeboot probe` plays is answered as ever, and no boot of it begins."""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from config.content import Content, NotYours, Once
from config.events import Event, Stage
from config.model import Farm
from dhcp.actions import Action, Datagram, Happened, Store
from dhcp.engine import Server
from dhcp.fast import FastPath
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.wire import Message
from pxeboot.hub import Hub
from pxeboot.played import FOLDER, MOST, MOST_S, Played
from pxeboot.probe.client import Client, Kind, architecture
from tests.support.dhcp_clients import ARRIVAL, SERVER, message
from tests.support.fake_image import add_image
from tests.unit.test_pxeboot_hub import hub_of

MAC, IP = "52:54:00:00:00:0a", IPv4Address("10.77.0.10")
GUEST = "52:54:00:00:00:99"


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    """m1 boots from NBD, and joins with a token of its own."""
    add_image(tmp_path / "images")
    return Farm.model_validate({
        "server": {"interfaces": ["eth1"], "state": tmp_path},
        "dhcp": {"probe": False, "subnets": [
            {"subnet": "10.77.0.0/24", "pool": "10.77.0.200-10.77.0.220", "unknown": "workers"}]},
        "images": {"node": {"path": tmp_path / "images/node"}},
        "clusters": {"prod": {"kubeconfig": "/etc/pxeboot/prod.kubeconfig"}},
        "pools": [{"name": "workers", "image": "node", "cluster": "prod", "root": "nbd",
                   "nodes": [{"name": "m1", "macs": [MAC], "ip": str(IP)}]}],
    })  # fmt: skip


def said(kind: MessageType, mac: str = MAC, client: Kind = Kind.PXE, *, marked: bool = True, **more: Any) -> Message:
    """What `pxeboot probe` says, or, if it is not `marked`, a machine."""
    asks = Client(client, architecture("x64", client), bytes.fromhex(mac.replace(":", "")), marked=marked)
    wants: dict[int, bytes] = {Option.REQUESTED_IP_ADDRESS: IP.packed, Option.SERVER_IDENTIFIER: SERVER.packed}
    options = dict(asks.options(wants=wants if kind is MessageType.DHCPREQUEST else None))
    return message(kind, mac, options=options, **more)


def happened(actions: Sequence[Action | Datagram]) -> list[tuple[Stage, bool]]:
    return [(action.stage, action.played) for action in actions if isinstance(action, Happened)]


def replies(actions: Sequence[Action | Datagram]) -> list[dict[int, bytes]]:
    """What is answered, but for what is echoed."""
    sent = [dict(action.message.options) for action in actions if isinstance(action, Send)]
    for options in sent:
        options.pop(Option.CLIENT_MACHINE_IDENTIFIER, None)
    return sent


@pytest.mark.parametrize("client", [Kind.PXE, Kind.HTTP, Kind.IPXE])
@pytest.mark.parametrize("mac", [MAC, GUEST])
def test_a_probe_is_answered_as_the_machine_would_be_and_is_told_apart(farm: Farm, mac: str, client: Kind) -> None:
    told = {}
    for marked in (True, False):
        server = Server(plan(farm), (), 1e9)
        offered = server.receive(said(MessageType.DHCPDISCOVER, mac, client, marked=marked), ARRIVAL, 1e9)
        assert happened(offered) == [(Stage.DISCOVER, marked)]
        taken = server.receive(said(MessageType.DHCPREQUEST, MAC, client, marked=marked), ARRIVAL, 1e9)
        assert happened(taken) == [(Stage.ADDRESS, marked)]
        told[marked] = replies(offered), replies(taken)
    assert told[True] == told[False]


def test_the_short_way_round_the_engine_takes_no_probe_for_a_machine(farm: Farm) -> None:
    server = Server(plan(farm), (), 1e9)
    fast = FastPath(server)
    for marked in (False, False, True, False):
        asked = said(MessageType.DHCPDISCOVER, marked=marked)
        actions = fast.receive(asked.encode(), ARRIVAL, 1e9)
        assert happened(server.receive(asked, ARRIVAL, 1e9) if actions is None else actions) == [
            (Stage.DISCOVER, marked)
        ]
    assert fast.hits == 2


def test_a_card_is_played_until_its_machine_is_there_or_the_time_is_over() -> None:
    played = Played()
    played.begin("a", 0.0)
    played.begin("b", 0.0)
    assert [played.plays(mac, MOST_S - 1) for mac in "abc"] == [True, True, False]
    played.end("a")
    played.end("c")
    assert [played.plays(mac, 1.0) for mac in "ab"] == [False, True]
    assert not played.plays("b", MOST_S)
    for number in range(MOST):
        played.begin(f"{number}", 1.0)
    assert not played.plays("b", 1.0)
    assert played.plays("0", 1.0)


def tell(hub: Hub, actions: Sequence[Action | Datagram]) -> None:
    """Report as the transport does."""
    for action in actions:
        if isinstance(action, Happened):
            hub.report(Event(action.mac, action.stage, action.detail, played=action.played))


def asks(hub: Hub, kind: MessageType, *, marked: bool) -> None:
    """Have m1, or who plays it, ask for its address."""
    asked = said(kind, marked=marked)
    actions = hub.dhcp.receive(asked, ARRIVAL, 1e9)
    hub.answered.note(asked.encode(), ARRIVAL, actions, 1e9)
    assert not any(isinstance(action, Store) for action in actions)
    tell(hub, actions)


async def fetch(hub: Hub, name: str) -> Content | Once | None:
    found = await hub.door.lookup(name, IP)
    await asyncio.sleep(0)  # what threads told
    return found


def story(hub: Hub) -> list[Stage]:
    machine = hub.timeline.get("m1")
    return [] if machine is None else [step.stage for step in machine.boots[-1].steps]


def test_who_plays_a_machine_leaves_its_boot_its_join_and_its_root_alone(farm: Farm, tmp_path: Path) -> None:
    menu = f"grub/grub.cfg-01-{MAC.replace(':', '-')}"

    async def boots(hub: Hub, *, marked: bool) -> str:
        asks(hub, MessageType.DHCPDISCOVER, marked=marked)
        asks(hub, MessageType.DHCPREQUEST, marked=marked)
        found = await fetch(hub, menu)
        assert found is not None
        assert not isinstance(found, Once)
        hub.report(Event(IP, Stage.MENU, "read"))
        return found.pread(1 << 20, 0).decode()

    async def run(hub: Hub) -> None:
        booted = await boots(hub, marked=False)
        joins, before = hub.door.status(), [Stage.DISCOVER, Stage.ADDRESS, Stage.MENU]
        assert (joins["joins"], story(hub)) == ({"open": 1}, before)
        kept, pin = hub.answered.of(MAC), hub.roots.boots.pins.get("m1")
        assert kept is not None
        assert pin is not None
        named = hub.timeline.changes

        played = await boots(hub, marked=True)
        hub.report(Event(IP, Stage.FETCH, "root.squashfs"))
        assert hub.accept(IP, "failed", "the probe says so")
        assert (hub.door.status(), story(hub), hub.timeline.changes) == (joins, before, named)
        assert (hub.answered.of(MAC), hub.roots.boots.pins.get("m1")) == (kept, pin)

        once, looked_at = (text.partition("/node.cpio")[0].rpartition("/")[2] for text in (booted, played))
        assert looked_at == FOLDER
        assert booted.replace(once, FOLDER) == played, "it is told what the machine would be"
        archive = f"images/{pin.image_id}/01-{MAC.replace(':', '-')}/{{}}/node.cpio"
        look = await fetch(hub, archive.format(FOLDER))
        assert isinstance(look, Once), "that it is there can be seen"
        with pytest.raises(NotYours):
            await look.take(lambda: True)
        assert isinstance(await fetch(hub, archive.format(once)), Once), "and the machine can still fetch its own"
        assert await fetch(hub, "intent/started") is None, "a boot of `once` is not used up"

        await boots(hub, marked=False)
        assert len(hub.timeline.get("m1").boots) == 2  # type: ignore[union-attr]
        hub.report(Event(IP, Stage.KERNEL, "vmlinuz"))
        assert story(hub) == [*before, Stage.KERNEL], "from its own question on, the machine counts"

    with hub_of(farm, tmp_path) as hub:
        asyncio.run(run(hub))


def test_a_probe_that_only_asks_is_no_machine_and_stands_in_the_log(
    farm: Farm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with hub_of(farm, tmp_path) as hub:
        tell(hub, hub.dhcp.receive(said(MessageType.DHCPDISCOVER, GUEST), ARRIVAL, 1e9))
        asks(hub, MessageType.DHCPDISCOVER, marked=True)
        hub.report(Event(IP, Stage.KERNEL, "vmlinuz"))
        assert story(hub) == [Stage.KERNEL], "a machine that boots just now, and of whom somebody asks, goes on"
        assert len(hub.timeline) == 1
    assert f"`pxeboot probe` plays {GUEST}: UEFI x64 (PXEClient), asks for an address" in caplog.text
