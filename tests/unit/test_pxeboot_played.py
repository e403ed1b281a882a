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
from dhcp.actions import Action, Datagram, Happened, Left, Store
from dhcp.engine import Server
from dhcp.fast import FastPath
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.telling import event_of
from dhcp.wire import Message
from pxeboot.hub import MISLED, MOST_PLAYED, Hub
from pxeboot.played import AFTER_S, FOLDER, JUST_S, MOST, MOST_JUST, MOST_S, Played
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
        if isinstance(action, Happened | Left) and (event := event_of(action)) is not None:
            hub.report(event)


def asks(hub: Hub, kind: MessageType, *, marked: bool, client: Kind = Kind.PXE) -> None:
    """Have m1, or who plays it, ask for its address."""
    asked = said(kind, client=client, marked=marked)
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


MENU = f"grub/grub.cfg-01-{MAC.replace(':', '-')}"
KERNEL_LOADED = [Stage.DISCOVER, Stage.ADDRESS, Stage.KERNEL]


def starts(hub: Hub) -> None:
    """Boot m1 as far as its kernel."""
    asks(hub, MessageType.DHCPDISCOVER, marked=False)
    asks(hub, MessageType.DHCPREQUEST, marked=False)
    hub.report(Event(IP, Stage.KERNEL, "vmlinuz"))


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is long ago that a machine was given its address."""
    monkeypatch.setattr("pxeboot.played.JUST_S", 0.0)


@pytest.mark.usefixtures("long_ago")
def test_who_plays_a_machine_leaves_its_boot_its_join_and_its_root_alone(farm: Farm, tmp_path: Path) -> None:
    async def boots(hub: Hub, *, marked: bool) -> str:
        asks(hub, MessageType.DHCPDISCOVER, marked=marked)
        asks(hub, MessageType.DHCPREQUEST, marked=marked)
        found = await fetch(hub, MENU)
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
        assert not hub.accept(IP, "probe", ""), "a probe posts what is no stage"
        assert (hub.door.status(), story(hub), hub.timeline.changes) == (joins, before, named)
        assert (hub.answered.of(MAC), hub.roots.boots.pins.get("m1")) == (kept, pin)

        once, looked_at = (text.partition("/node.cpio")[0].rpartition("/")[2] for text in (booted, played))
        assert looked_at == FOLDER
        assert booted.replace(once, FOLDER) == played, "it is told what the machine would be"
        archive = f"images/{pin.image_id}/01-{MAC.replace(':', '-')}/{{}}/node.cpio"
        look = await fetch(hub, archive.format(FOLDER))
        assert isinstance(look, Once), "that it is there can be seen"
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


@pytest.mark.usefixtures("long_ago")
@pytest.mark.parametrize("how", ["its initrd asks for its address", "it reports a stage"])
def test_a_boot_that_was_taken_for_a_probe_goes_on_when_the_machine_is_heard(
    farm: Farm, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    with hub_of(farm, tmp_path) as hub:
        starts(hub)
        asks(hub, MessageType.DHCPREQUEST, marked=True)
        assert f"`pxeboot probe` plays {MAC}: it has {IP}, boots" in caplog.text, "whoever sends no DHCPDISCOVER, too"
        assert [record.levelname for record in caplog.records] == ["WARNING"], "the machine's story stands still"
        hub.report(Event(IP, Stage.INITRD, "initrd.img"))
        assert story(hub) == KERNEL_LOADED
        if how.startswith("its initrd"):
            asks(hub, MessageType.DHCPDISCOVER, marked=False, client=Kind.PLAIN)
            asks(hub, MessageType.DHCPREQUEST, marked=False, client=Kind.PLAIN)
            assert story(hub) == KERNEL_LOADED, "a system that asks begins nothing"
            hub.report(Event(IP, Stage.NETWORK, "up"))
        else:
            assert hub.accept(IP, "network", "up")
        assert story(hub) == [*KERNEL_LOADED, Stage.NETWORK]
        assert hub.accept(IP, "failed", "no root")
        assert story(hub)[-1] is Stage.FAILED


@pytest.mark.usefixtures("long_ago")
def test_a_machine_that_is_not_on_its_way_is_played_without_a_warning(
    farm: Farm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with hub_of(farm, tmp_path) as hub:
        asks(hub, MessageType.DHCPREQUEST, marked=True)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage().partition(", boots")[0]) == (
        "INFO", f"`pxeboot probe` plays {MAC}: it has {IP}")  # fmt: skip


def test_between_its_address_and_its_archive_a_machine_is_not_played(
    farm: Farm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One forged packet would give it a menu that it cannot boot."""

    async def run(hub: Hub) -> None:
        starts(hub)
        asks(hub, MessageType.DHCPREQUEST, marked=True)
        found = await fetch(hub, MENU)
        assert found is not None
        assert not isinstance(found, Once)
        assert f"/{FOLDER}/node.cpio" not in found.pread(1 << 20, 0).decode()
        assert "it counts as that machine" in caplog.text
        assert hub.timeline.get("m1").boots[-1].steps[-1].stage is Stage.KERNEL  # type: ignore[union-attr]

    with hub_of(farm, tmp_path) as hub:
        asyncio.run(run(hub))


@pytest.mark.parametrize("fetches", ["by HTTP", "by TFTP"])
def test_a_machine_that_was_given_a_probes_menu_says_so_and_boots_the_next_time(
    farm: Farm, tmp_path: Path, caplog: pytest.LogCaptureFixture, fetches: str
) -> None:
    async def run(hub: Hub) -> None:
        asks(hub, MessageType.DHCPREQUEST, marked=True)
        name = f"images/{'a' * 64}/01-{MAC.replace(':', '-')}/{FOLDER}/node.cpio"
        if fetches == "by HTTP":
            look = await fetch(hub, name)
            assert isinstance(look, Once)
            assert story(hub) == [], "to look is what a probe does"
            with pytest.raises(NotYours):
                await look.take(lambda: True)
        else:
            assert await hub.door.lookup_by_tftp(name, IP) is None
        assert story(hub) == [Stage.FAILED]
        assert f"m1: {MISLED}" in caplog.text
        found = await fetch(hub, MENU)
        assert found is not None
        assert not isinstance(found, Once)
        assert f"/{FOLDER}/node.cpio" not in found.pread(1 << 20, 0).decode()
        starts(hub)
        assert story(hub)[-3:] == KERNEL_LOADED

    with hub_of(farm, tmp_path) as hub:
        asyncio.run(run(hub))


@pytest.mark.parametrize("mac", [MAC, GUEST])
def test_a_probe_that_gives_its_address_back_says_who_it_is(farm: Farm, mac: str) -> None:
    def gives_back(*, marked: bool) -> list[Event | None]:
        asks = Client(Kind.PXE, architecture("x64", Kind.PXE), bytes.fromhex(mac.replace(":", "")), marked=marked)
        server = Server(plan(farm), (), 1e9)
        offer = next(
            a for a in server.receive(said(MessageType.DHCPDISCOVER, mac), ARRIVAL, 1e9) if isinstance(a, Send)
        )
        address = offer.message.yiaddr
        wants: dict[int, bytes] = {
            Option.REQUESTED_IP_ADDRESS: address.packed,
            Option.SERVER_IDENTIFIER: SERVER.packed,
        }
        ask = message(MessageType.DHCPREQUEST, mac, options=dict(asks.options(wants=wants)))
        server.receive(ask, ARRIVAL, 1e9)
        options = {Option.SERVER_IDENTIFIER: SERVER.packed, **dict([asks.machine_identifier])}
        back = message(MessageType.DHCPRELEASE, mac, ciaddr=address, options=options)
        return [event_of(a) for a in server.receive(back, ARRIVAL, 1e9) if isinstance(a, Happened | Left)]

    assert gives_back(marked=False) == []
    (event,) = gives_back(marked=True)
    assert event is not None
    assert (event.peer, event.played, event.boots) == (mac, True, False)


def test_a_card_is_played_a_little_longer_than_the_probe_has_its_address() -> None:
    played = Played()
    played.leave("a", 0.0)
    assert not played.plays("a", 0.0)
    assert played.begin("a", 0.0)
    played.leave("a", 10.0)
    assert played.plays("a", 10.0 + AFTER_S - 0.1), "what it broke off may be told late"
    assert not played.plays("a", 10.0 + AFTER_S)


def test_a_machine_is_played_when_its_address_is_a_minute_old_and_few_are_remembered() -> None:
    played = Played()
    played.boots("a", 0.0)
    assert not played.begin("a", JUST_S - 0.1)
    assert not played.plays("a", JUST_S - 0.1)
    assert played.begin("a", JUST_S)
    played.boots("a", JUST_S)
    assert not played.plays("a", JUST_S)
    for number in range(MOST_JUST):
        played.boots(f"{number}", JUST_S)
    assert played.begin("a", JUST_S), "it is forgotten"


@pytest.mark.parametrize("kind", [MessageType.DHCPDISCOVER, MessageType.DHCPREQUEST])
def test_who_makes_macs_up_fills_no_log_where_addresses_are_somebody_elses(
    farm: Farm, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: MessageType
) -> None:
    caplog.set_level("INFO")
    subnet = {"subnet": "10.77.0.0/24", "unknown": "workers", "proxy": True}
    proxied = Farm.model_validate(farm.model_dump() | {"dhcp": {"subnets": [subnet]}})
    with hub_of(proxied, tmp_path) as hub:
        for number in range(3 * MOST_PLAYED):
            asked = said(kind, f"52:54:00:00:01:{number:02x}")
            actions = hub.dhcp.receive(asked, ARRIVAL, 1e9)
            assert len(happened(actions)) == 1
            tell(hub, actions)
        assert len(caplog.records) == MOST_PLAYED
