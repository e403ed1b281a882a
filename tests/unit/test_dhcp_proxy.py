"""dhcp.proxy: beside somebody else's DHCP server, and on port 4011."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from config.events import Stage
from config.model import Farm
from dhcp.actions import Action, Happened
from dhcp.engine import Holder, Server
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.proxy import MOST_HEARD, Heard
from dhcp.pxe import Discovery, MenuLine, Prompt, VendorOptions
from dhcp.replies import EVERYBODY, Destination, Send
from dhcp.request import BOOT_SERVER_PORT, Arrival, Ignored, Reason
from dhcp.wire import decode
from tests.support.dhcp_clients import ARRIVAL, FARM, KNOWN, SERVER, STRANGER, message, recorded

NOW = 1_790_000_000.0
HERE = IPv4Address("10.77.0.61")
OTHER = IPv4Address("10.77.0.2")
AT_4011 = Arrival(SERVER, unicast=True, source_port=4011, port=BOOT_SERVER_PORT, source=HERE)
PXE = {60: b"PXEClient:Arch:00007:UNDI:003016", 93: b"\0\7", 97: bytes(17), 55: bytes((1, 3, 6, 43, 60, 66, 67))}


def server(*, proxy: bool = True, **dhcp: Any) -> Server:
    """A server of 10.77.0.0/24, where somebody else gives the addresses if `proxy`."""
    subnet: dict[str, Any] = {"subnet": "10.77.0.0/24", "unknown": "workers", "routers": ["10.77.0.254"]}
    subnet |= {"proxy": True} if proxy else {"pool": "10.77.0.8-10.77.0.15"}
    return Server(plan(Farm.model_validate(FARM | {"dhcp": {"probe": False, "subnets": [subnet]} | dhcp})), (), NOW)


def sent(actions: list[Action]) -> list[Send]:
    """What is sent."""
    return [action for action in actions if isinstance(action, Send)]


@pytest.mark.parametrize("mac", [KNOWN, STRANGER])
@pytest.mark.parametrize("flags", [0, 0x8000])
def test_a_proxy_offer_has_a_file_and_no_address(mac: str, flags: int) -> None:
    (offer,) = sent(server().receive(recorded("D-OVMF-PXE", mac, flags=flags), ARRIVAL, NOW))
    got = decode(offer.pack().data)
    assert (got.yiaddr, got.ciaddr) == (IPv4Address(0), IPv4Address(0)), "EDK2 knows it by this (Q5)"
    assert got.siaddr == SERVER
    assert got.file == b"grub/x86_64-efi/core.efi"
    assert got.options[53] == bytes((MessageType.DHCPOFFER,))
    assert got.options[54] == SERVER.packed
    assert got.options[60] == b"PXEClient"
    assert got.options[43] == b"\6\1\x08\xff"
    assert {51, 58, 59, 1, 3, 6}.isdisjoint(got.options)
    assert offer.destination == Destination(EVERYBODY, 68)


def test_ipxe_is_not_told_that_there_is_no_proxy() -> None:
    (offer,) = sent(server().receive(recorded("D-IPXE-BIOS"), ARRIVAL, NOW))
    assert Option.IPXE not in offer.message.options


@pytest.mark.parametrize(
    "ask",
    [
        message(MessageType.DHCPDISCOVER, options={55: b"\1\3"}),
        message(MessageType.DHCPDISCOVER, options={60: b"MSFT 5.0"}),
        message(MessageType.DHCPREQUEST, options={50: HERE.packed}),
        message(MessageType.DHCPREQUEST, ciaddr=HERE),
        message(MessageType.DHCPRELEASE, ciaddr=HERE),
        message(MessageType.DHCPDECLINE, options={50: HERE.packed, 54: SERVER.packed}),
        message(MessageType.DHCPINFORM, ciaddr=HERE),
    ],
)
def test_who_does_not_boot_hears_nothing(ask: Any) -> None:
    (ignored,) = server().receive(ask, ARRIVAL, NOW)
    assert isinstance(ignored, Ignored)
    assert ignored.reason is Reason.NO_BOOT


@pytest.mark.parametrize("requested", ["10.77.0.61", "192.0.2.1"])
def test_a_machine_is_never_refused_an_address_of_another_server(requested: str) -> None:
    ask = message(MessageType.DHCPREQUEST, options=PXE | {50: IPv4Address(requested).packed, 54: OTHER.packed})
    assert not sent(server().receive(ask, ARRIVAL, NOW))


def test_whose_address_it_is_is_heard_from_the_machine() -> None:
    asked = server()
    assert asked.who(HERE, NOW) is None
    ask = message(MessageType.DHCPREQUEST, options=PXE | {50: HERE.packed, 54: OTHER.packed})
    assert asked.receive(ask, ARRIVAL, NOW) == [Happened(KNOWN, Stage.ADDRESS, f"{HERE} of {OTHER}")]
    assert asked.who(HERE, NOW) == Holder(KNOWN, "n1", HERE)
    asked.receive(message(MessageType.DHCPREQUEST, STRANGER, ciaddr=IPv4Address("10.77.0.62")), ARRIVAL, NOW)
    assert asked.who(IPv4Address("10.77.0.62"), NOW) == Holder(STRANGER, None, IPv4Address("10.77.0.62"))
    elsewhere = IPv4Address("192.0.2.9")
    asked.receive(message(MessageType.DHCPREQUEST, STRANGER, ciaddr=elsewhere), ARRIVAL, NOW)
    assert asked.who(elsewhere, NOW) is None


def test_what_is_heard_is_bounded() -> None:
    heard = Heard()
    first = IPv4Address("10.0.0.0")
    for n in range(MOST_HEARD + 5):
        heard.learn(first + n, "m")
    assert heard.at(first + 4) is None
    assert heard.at(first + 5) == "m"


@pytest.mark.parametrize("proxy", [True, False])
@pytest.mark.parametrize("source_port", [68, 4011])
def test_port_4011_is_answered_from_there_to_where_it_came_from(proxy: bool, source_port: int) -> None:
    ask = recorded("D-EDK2-4011", ciaddr=HERE)
    arrival = Arrival(SERVER, unicast=True, source_port=source_port, port=BOOT_SERVER_PORT, source=HERE)
    (ack,) = sent(server(proxy=proxy).receive(ask, arrival, NOW))
    got = decode(ack.pack().data)
    assert (ack.source_port, ack.destination) == (BOOT_SERVER_PORT, Destination(HERE, source_port))
    assert got.options[53] == bytes((MessageType.DHCPACK,))
    assert (got.siaddr, got.file) == (SERVER, b"grub/x86_64-efi/core.efi")
    assert got.options[67] == b"grub/x86_64-efi/core.efi\0"
    assert got.options[97] == ask.options[97]
    assert (got.ciaddr, got.yiaddr) == (HERE, IPv4Address(0))
    assert {51, 58, 59}.isdisjoint(got.options)


@pytest.mark.parametrize(
    ("source", "ciaddr"),
    [("192.0.2.1", "10.77.0.61"), ("10.77.0.61", "0.0.0.0"), ("10.77.0.255", "10.77.0.61"), ("0.0.0.0", "10.77.0.61")],
)
def test_port_4011_answers_nobody_else(source: str, ciaddr: str) -> None:
    arrival = Arrival(SERVER, unicast=True, source_port=4011, port=BOOT_SERVER_PORT, source=IPv4Address(source))
    assert not sent(server().receive(recorded("D-EDK2-4011", ciaddr=IPv4Address(ciaddr)), arrival, NOW))


def test_port_4011_gives_no_addresses() -> None:
    asked = server(proxy=False)
    assert not sent(asked.receive(recorded("D-EDK2-PXE"), AT_4011, NOW))
    assert not list(asked.leases)


def test_an_inform_of_who_boots_is_answered_with_the_file() -> None:
    ask = message(MessageType.DHCPINFORM, ciaddr=HERE, options=PXE)
    (ack,) = sent(server().receive(ask, Arrival(SERVER, source=HERE), NOW))
    assert (ack.destination, ack.message.file) == (Destination(HERE, 68), b"grub/x86_64-efi/core.efi")


def test_a_machine_that_we_have_no_file_for_is_said_to_fail() -> None:
    actions = server().receive(recorded("D-UBOOT"), ARRIVAL, NOW)
    assert not sent(actions)
    assert [action.stage for action in actions if isinstance(action, Happened)] == [Stage.DISCOVER, Stage.FAILED]


def test_a_client_whose_quirk_says_so_is_sent_to_port_4011() -> None:
    quirk = {"name": "asks-4011", "match": {"macs": [KNOWN]}, "boot_server": True, "option_43": "none"}
    asked = server(proxy=False, quirks=[quirk])
    (offer,) = sent(asked.receive(recorded("D-EDK2-PXE"), ARRIVAL, NOW))
    assert offer.message.options[60] == b"PXEClient"
    assert {43, 67}.isdisjoint(offer.message.options)
    assert (offer.message.file, offer.message.siaddr) == (b"", SERVER)
    (ack,) = sent(asked.receive(recorded("D-EDK2-4011", ciaddr=IPv4Address("10.77.0.10")), AT_4011, NOW))
    assert ack.message.file == b"grub/x86_64-efi/core.efi"


@pytest.mark.parametrize("kind", [MessageType.DHCPDISCOVER, MessageType.DHCPDECLINE, MessageType.DHCPRELEASE])
def test_a_wish_or_a_refusal_of_an_address_does_not_make_it_somebodys(kind: MessageType) -> None:
    asked = server()
    asked.receive(message(MessageType.DHCPREQUEST, KNOWN, options={50: HERE.packed, 54: OTHER.packed}), ARRIVAL, NOW)
    for fields in ({"options": {50: HERE.packed, 54: OTHER.packed}}, {"ciaddr": HERE}):
        asked.receive(message(kind, STRANGER, **fields), ARRIVAL, NOW)
    assert asked.who(HERE, NOW) == Holder(KNOWN, "n1", HERE)


@pytest.mark.parametrize("kind", [MessageType.DHCPDECLINE, MessageType.DHCPRELEASE])
def test_who_gives_an_address_back_has_it_no_more(kind: MessageType) -> None:
    asked = server()
    asked.receive(message(MessageType.DHCPREQUEST, KNOWN, options={50: HERE.packed, 54: OTHER.packed}), ARRIVAL, NOW)
    asked.receive(message(kind, KNOWN, options={50: HERE.packed, 54: OTHER.packed}), ARRIVAL, NOW)
    assert asked.who(HERE, NOW) is None


def test_what_was_heard_counts_only_where_addresses_are_somebody_elses() -> None:
    asked = server()
    own = IPv4Address("10.77.0.10")
    asked.receive(message(MessageType.DHCPREQUEST, STRANGER, ciaddr=own), ARRIVAL, NOW)
    asked.reload(server(proxy=False).plan)
    holder = asked.who(own, NOW)
    assert holder is not None
    assert holder.node_name == "n1"


def test_a_raspberry_pi_is_offered_what_it_looks_for_though_it_needs_no_file() -> None:
    (offer,) = sent(server().receive(recorded("D-RPI", "b8:27:eb:00:00:07"), ARRIVAL, NOW))
    assert b"Raspberry Pi Boot" in offer.message.options[43]
    assert offer.message.siaddr == SERVER
    assert offer.message.yiaddr == IPv4Address(0)


def test_a_machine_that_is_configured_to_boot_nothing_does_not_fail() -> None:
    asked = server(boot_file="")
    actions = asked.receive(recorded("D-OVMF-PXE"), ARRIVAL, NOW)
    assert not sent(actions)
    assert [type(action) for action in actions] == [Happened, Ignored]


BOOT_SERVERS = {  # whether addresses are another server's, what is asked, and where
    "proxy's OFFER": (True, recorded("D-EDK2-PXE"), ARRIVAL),
    "proxy on 4011": (True, recorded("D-EDK2-4011", ciaddr=HERE), AT_4011),
    "our DHCP server on 4011": (False, recorded("D-EDK2-4011", ciaddr=HERE), AT_4011),
}
MENU = VendorOptions(Discovery(3), menu=(MenuLine(1, b"net"),), prompt=Prompt(5, b"boot")).encode()
CONFIGURED: dict[str, tuple[dict[str, Any], dict[int, bytes | None]]] = {  # what is said, and what is sent of it
    "a menu of one's own": ({"options": {"43": MENU.hex()}}, {43: MENU, 60: b"PXEClient"}),
    "a class of one's own": ({"options": {"60": {"text": "PXEClient:own"}}}, {60: b"PXEClient:own"}),
    "no class": ({"options": {"60": None}}, {60: None}),
    "no iPXE options, nor 66": (
        {"options": {"175": {"hex": "b00101"}}, "never_send": [66, 175]},
        {66: None, 175: None},
    ),
    "never the class nor 43": ({"never_send": [43, 60, 97]}, {43: None, 60: None, 97: None}),
    "what other loaders read": (
        {"options": {"tftp-server-address": ["10.77.0.9"], "209": {"text": "menu.cfg"}}},
        {150: bytes((10, 77, 0, 9)), 209: b"menu.cfg"},
    ),
    "another use, not in always_send": (
        {"options": {"225": {"text": "ours"}, "209": {"text": "menu.cfg"}}},
        {225: None, 209: b"menu.cfg"},
    ),
    "always_send, but for the network": (
        {
            "options": {"2": {"int32": 0}, "119": {"domains": ["a.example"]}, "224": {"text": "ours"}},
            "domain_name_servers": ["10.77.0.53"],
            "always_send": [1, 2, 3, 6, 12, 15, 28, 119, 224],
        },
        {224: b"ours"} | dict.fromkeys((1, 2, 3, 6, 12, 15, 28, 51, 58, 59, 119)),
    ),
}


def told_by(boot_server: str, **fields: Any) -> Send:
    """What a boot server answers to EDK2, with these settings for everybody."""
    proxy, ask, arrival = BOOT_SERVERS[boot_server]
    asking = fields.pop("asking", {})
    (send,) = sent(
        server(proxy=proxy, **fields).receive(replace(ask, options={**ask.options, **asking}), arrival, NOW)
    )
    return send


@pytest.mark.parametrize("boot_server", BOOT_SERVERS)
@pytest.mark.parametrize("said", CONFIGURED)
def test_a_boot_server_says_what_is_configured_of_the_boot_and_nothing_of_the_network(
    boot_server: str, said: str
) -> None:
    settings, expected = CONFIGURED[said]
    got = decode(told_by(boot_server, **settings).pack().data)
    assert {code: got.options.get(code) for code in expected} == expected
    assert (got.file, got.siaddr) == (b"grub/x86_64-efi/core.efi", SERVER)


@pytest.mark.parametrize(
    ("said", "marked"),
    [({}, b"PXEClient"), ({"options": {"60": {"text": "own"}}}, b"own"), ({"options": {"60": None}}, None)],
)
def test_a_proxy_offer_is_marked_as_one_unless_told_otherwise_where_a_quirk_wants_a_file_unmarked(
    said: dict[str, Any], marked: bytes | None
) -> None:
    settings = said | {"architectures": {"uefi-arm64": {"boot_file": "arm.efi"}}}
    ampere = {60: b"PXEClient:Arch:00011:UNDI:003000", 93: b"\0\x0b"}
    assert told_by("proxy's OFFER", asking=ampere, **settings).message.options.get(60) == marked
    assert 60 not in told_by("proxy on 4011", asking=ampere, architectures=settings["architectures"]).message.options


@pytest.mark.parametrize("boot_server", BOOT_SERVERS)
def test_a_boot_servers_options_come_in_the_order_asked_for(boot_server: str) -> None:
    settings = {"options": {"43": MENU.hex(), "209": {"text": "menu.cfg"}, "210": {"text": "p"}}}
    send = told_by(boot_server, asking={55: bytes((6, 209, 67, 43, 1, 66))}, **settings)
    assert [code for code in send.message.options if code in (43, 66, 67, 209, 210)] == [209, 67, 43, 66, 210]


@pytest.mark.parametrize("boot_server", BOOT_SERVERS)
def test_a_boot_server_leaves_out_what_has_no_room_and_keeps_what_boots(boot_server: str) -> None:
    settings = {"options": {"43": MENU.hex(), "210": {"text": "p" * 400}}}
    packed = told_by(boot_server, asking={57: (576).to_bytes(2, "big")}, **settings).pack()
    assert len(packed.data) <= 576 - 28
    assert packed.left_out == (210,)
    assert decode(packed.data).options[43] == MENU


LEVELS = ("dhcp", "shared network", "subnet", "address pool", "tag", "architecture", "node")


@pytest.mark.parametrize("boot_server", BOOT_SERVERS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_boot_server_goes_by_the_most_specific_place(boot_server: str, level: str) -> None:
    proxy, ask, arrival = BOOT_SERVERS[boot_server]

    def says(place: str) -> dict[str, Any]:
        return {"options": {"43": place.encode().hex()}} if LEVELS.index(place) <= LEVELS.index(level) else {}

    subnet: dict[str, Any] = {"subnet": "10.77.0.0/24", "unknown": "workers", "shared_network": "wire"} | says(
        "subnet"
    )
    pools = {"pools": [{"range": "10.77.0.60-10.77.0.62"} | says("address pool")]}
    subnet |= {"proxy": True} if proxy else pools
    dhcp = {"subnets": [subnet], "shared_networks": {"wire": says("shared network")}, "probe": False} | says("dhcp")
    dhcp["architectures"] = {"uefi-x64": says("architecture")}
    node = {"name": "n1", "macs": [KNOWN], "ip": "10.77.0.10", "dhcp": says("node")}
    pool = FARM["pools"][0] | {"nodes": [node]}
    made = FARM | {"dhcp": dhcp, "pools": [pool], "tags": {"all": {"dhcp": says("tag")}}}
    (send,) = sent(Server(plan(Farm.model_validate(made)), (), NOW).receive(ask, arrival, NOW))
    told = "subnet" if proxy and level == "address pool" else level  # another server has the pools
    assert send.message.options[43] == told.encode()
