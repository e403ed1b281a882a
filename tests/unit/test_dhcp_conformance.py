"""dhcp: lines of the reference that no other test shows by itself, a row each, with its number."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from config.model import Farm
from dhcp import wire
from dhcp.engine import Server
from dhcp.leases import OFFER_HOLD_S, Lease, State
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import EVERYBODY, Destination, Send
from dhcp.request import Arrival, Reason
from dhcp.wire import Flags, Message
from tests.support.dhcp_clients import (
    ARRIVAL,
    FARM,
    KNOWN,
    OWN_ADDRESS,
    SERVER,
    STRANGER,
    UNICAST,
    recorded,
)
from tests.unit.test_dhcp_engine import (
    NOBODY,
    NOW,
    OTHER,
    ack,
    answer,
    bound,
    discover,
    init_reboot,
    offer,
    renewing,
    selecting,
    sent,
    serving,
)

RELAY = IPv4Address("10.77.0.254")
CHADDR = bytes.fromhex(KNOWN.replace(":", ""))


def send_of(ask: Message, arrival: Arrival = ARRIVAL, server: Server | None = None) -> Send:
    """The answer to a message."""
    send = sent((server or serving()).receive(ask, arrival, NOW))
    assert send is not None
    return send


def reply_to(ask: Message, arrival: Arrival = ARRIVAL, server: Server | None = None) -> Message:
    """The answer as it arrives."""
    return wire.decode(send_of(ask, arrival, server).pack().data)


OFFERED = discover()
ACKED = selecting(OWN_ADDRESS)
REFUSED = selecting(NOBODY)
KINDS = pytest.mark.parametrize(
    ("ask", "kind"),
    [
        pytest.param(OFFERED, MessageType.DHCPOFFER, id="offer"),
        pytest.param(ACKED, MessageType.DHCPACK, id="ack"),
        pytest.param(REFUSED, MessageType.DHCPNAK, id="nak"),
    ],
)


@pytest.mark.parametrize("giaddr", ["0.0.0.0", "10.77.0.254"])
@pytest.mark.parametrize("flags", [0, 0x8000, 0x8001])
def test_d_01_an_offer_repeats_what_identifies_and_nothing_else(flags: int, giaddr: str) -> None:
    ask = replace(discover(), xid=0xDEADBEEF, flags=flags, giaddr=IPv4Address(giaddr), hops=3, secs=77)
    got = reply_to(ask)
    assert (got.op, got.xid, got.chaddr, got.htype) == (wire.Op.BOOTREPLY, ask.xid, ask.chaddr, ask.htype)
    assert (got.giaddr, got.flags, got.hops, got.secs) == (ask.giaddr, flags, 0, 0)
    assert got.yiaddr == OWN_ADDRESS
    assert got.options[53] == bytes((MessageType.DHCPOFFER,))
    assert got.options[54] == SERVER.packed
    assert len(got.options[51]) == 4


@KINDS
def test_d_02_no_reply_carries_what_only_a_client_says(ask: Message, kind: MessageType) -> None:
    said = {50: ask.options.get(50, OWN_ADDRESS.packed), 55: bytes(range(1, 255)), 57: b"\5\xdc"}
    got = reply_to(replace(ask, options={**ask.options, **said}))
    assert got.options[53] == bytes((kind,))
    assert {50, 55, 57}.isdisjoint(got.options)


@KINDS
@pytest.mark.parametrize("client_id", [None, b"\1\2\3\4\5\6\7", b"\xff" + b"duid" * 6, b"\0"])
def test_d_03_a_client_id_comes_back_if_and_only_if_it_was_sent(
    ask: Message, kind: MessageType, client_id: bytes | None
) -> None:
    said = {} if client_id is None else {61: client_id}
    got = reply_to(replace(ask, options={**ask.options, **said, 55: b"\1\3\x3d"}))
    assert got.options[53] == bytes((kind,))
    assert got.options.get(61) == client_id


A, B, C = (IPv4Address(f"10.77.0.{n}") for n in (11, 12, 13))
CHOICES = [
    pytest.param((bound(STRANGER, A), bound(STRANGER, B, NOW - 1)), C, A, id="D-04-its-lease"),
    pytest.param((bound(STRANGER, B, NOW - 1),), C, B, id="D-04-the-one-it-had"),
    pytest.param((Lease(B, STRANGER, int(NOW) - 9, State.RELEASED),), C, B, id="D-04-the-one-it-gave-back"),
    pytest.param((bound(STRANGER, B, NOW - 9), bound(OTHER, B)), C, C, id="D-04-the-one-it-wants"),
    pytest.param((bound(OTHER, B, NOW - 1),), B, B, id="D-51-anothers-that-is-over"),
    pytest.param((), IPv4Address("10.77.0.99"), None, id="D-04-one-of-the-pool"),
    pytest.param((bound(OTHER, C),), C, None, id="D-51-not-anothers-before-it-is-over"),
]


@pytest.mark.parametrize(("records", "wanted", "expected"), CHOICES)
def test_an_address_is_chosen_in_the_order_of_the_rfc(
    records: tuple[Lease, ...], wanted: IPv4Address, expected: IPv4Address | None
) -> None:
    found = answer(serving(*records).receive(discover(STRANGER, options={50: wanted.packed}), ARRIVAL, NOW))
    assert isinstance(found, tuple)
    assert found[1] == expected if expected is not None else found[1] != wanted


def test_d_05_an_offer_stands_for_its_minute() -> None:
    server = serving(subnets=[{"subnet": "10.77.0.0/24", "pool": "10.77.0.8-10.77.0.8"}])
    assert answer(server.receive(discover(STRANGER), ARRIVAL, NOW)) == offer(NOBODY)
    for later in (0, 1, OFFER_HOLD_S - 1):
        assert answer(server.receive(discover(OTHER), ARRIVAL, NOW + later)) == Reason.POOL_EMPTY
    assert answer(server.receive(discover(OTHER), ARRIVAL, NOW + OFFER_HOLD_S)) == offer(NOBODY)


@pytest.mark.parametrize("relayed", [False, True])
def test_d_13_a_refusal_says_only_what_it_may(relayed: bool) -> None:
    giaddr = RELAY if relayed else wire.NO_ADDRESS
    said = {61: b"\1\2", 82: b"\1\1a", 118: IPv4Address("10.77.0.0").packed, 55: b"\1\3\6", 60: b"PXEClient"}
    for ask in (selecting(NOBODY), init_reboot("10.1.2.3"), renewing(NOBODY)):
        send = send_of(replace(ask, giaddr=giaddr, options={**ask.options, **said}))
        got = wire.decode(send.pack().data)
        assert got.options[53] == bytes((MessageType.DHCPNAK,))
        assert set(got.options) <= {53, 54, 56, 60, 61, 82}
        assert (got.yiaddr, got.ciaddr, got.siaddr) == (wire.NO_ADDRESS,) * 3
        assert (got.file, got.sname) == (b"", b"")
        assert bool(got.flags & Flags.BROADCAST) is relayed
        assert send.destination == (Destination(RELAY, 67) if relayed else Destination(EVERYBODY, 68))


WAYS = [
    pytest.param(discover(), Destination(OWN_ADDRESS, 68, CHADDR), id="D-14-by-link-address-without-arp"),
    pytest.param(discover(flags=0x8000), Destination(EVERYBODY, 68), id="D-14-broadcast-flag"),
    pytest.param(discover(giaddr=RELAY), Destination(RELAY, 67), id="Q19-relay-port-67"),
    pytest.param(discover(giaddr=RELAY, flags=0x8000), Destination(RELAY, 67), id="Q19-relay-before-the-flag"),
    pytest.param(replace(ACKED, giaddr=RELAY), Destination(RELAY, 67), id="Q19-an-ack"),
    pytest.param(renewing(OWN_ADDRESS), Destination(OWN_ADDRESS, 68), id="D-10-ciaddr"),
    pytest.param(replace(renewing(OWN_ADDRESS), flags=0x8000), Destination(OWN_ADDRESS, 68), id="D-14-ciaddr-first"),
    pytest.param(replace(renewing(OWN_ADDRESS), giaddr=RELAY), Destination(RELAY, 67), id="D-14-relay-before-ciaddr"),
    pytest.param(discover(ciaddr=NOBODY), Destination(OWN_ADDRESS, 68, CHADDR), id="D-15-an-offer-heeds-no-ciaddr"),
]


@pytest.mark.parametrize(("ask", "destination"), WAYS)
def test_a_reply_goes_where_the_rfc_says(ask: Message, destination: Destination) -> None:
    send = send_of(ask, UNICAST if ask.ciaddr != wire.NO_ADDRESS else ARRIVAL)
    assert send.destination == destination
    assert send.message.flags == ask.flags


def test_q_19_a_relays_option_comes_back_byte_for_byte_behind_everything_else() -> None:
    information = bytes.fromhex("01 04 65746830 02 06 525400000001 97 00 0b 04 0a4d0001".replace(" ", ""))
    for ask in (recorded("D-OVMF-PXE", giaddr=RELAY), replace(ACKED, giaddr=RELAY), replace(REFUSED, giaddr=RELAY)):
        data = send_of(replace(ask, options={**ask.options, 82: information})).pack().data
        assert data.rstrip(b"\0").endswith(bytes((82, len(information))) + information + b"\xff")


SPLIT = {61: b"\xff" + b"i" * 299, 43: b"v" * 300, 77: b"u" * 300, 81: b"\1\0\0" + b"n" * 297}
SPLIT |= {code: bytes((code,)) * 300 for code in (119, 121, 124, 125)}


@pytest.mark.parametrize("code", SPLIT)
def test_d_27_d_28_a_long_option_is_joined_and_split(code: int) -> None:
    value = SPLIT[code]
    data = discover(options={code: value}).encode()
    assert bytes((code, 255)) + value[:255] + bytes((code, 45)) + value[255:] in data
    assert wire.decode(data).options[code] == value
    reply = serving().receive(wire.decode(data), ARRIVAL, NOW)
    assert answer(reply) == offer(OWN_ADDRESS)


@pytest.mark.parametrize("asked", [b"\1\3\6\x0f", b"\x0f\6\3\1", b"\3\1", b"\6\x63\xff\0\1"])
def test_d_24_options_come_in_the_order_asked_for_and_1_before_3(asked: bytes) -> None:
    got = [code for code in reply_to(discover(options={55: asked})).options if code in (1, 3, 6, 15)]
    assert [code for code in got if code != 1] == [code for code in asked if code in (3, 6, 15)]
    assert got[0] == 1


def listed(*nodes: dict[str, Any], **dhcp: Any) -> Server:
    subnet = {"subnet": "10.77.0.0/24", "pool": "10.77.0.8-10.77.0.11"}
    pools = [FARM["pools"][0] | {"nodes": [{"name": f"x{n}"} | node for n, node in enumerate(nodes)]}]
    whole = FARM | {"dhcp": {"probe": False, "subnets": [subnet]} | dhcp, "pools": pools}
    return Server(plan(Farm.model_validate(whole)), (), NOW)


@pytest.mark.parametrize("ip", ["10.77.0.9", "10.77.0.200"], ids=["in-the-pool", "outside"])
@pytest.mark.parametrize(
    ("known_by", "ask"),
    [
        ({"macs": [KNOWN]}, discover()),
        ({"client_id": "ff:01:02"}, discover(options={61: b"\xff\1\2"})),
    ],
    ids=["by-mac", "by-client-id"],
)
def test_d_37_a_listed_address_is_its_machines_and_nobody_elses_while_it_is_away(
    ip: str, known_by: dict[str, Any], ask: Message
) -> None:
    server = listed(known_by | {"ip": ip})
    for n in range(8):
        other = discover(f"02:00:00:00:01:0{n}", options={50: IPv4Address(ip).packed})
        found = answer(server.receive(other, ARRIVAL, NOW))
        assert found != offer(ip)
        refused = answer(server.receive(selecting(ip, f"02:00:00:00:01:0{n}"), ARRIVAL, NOW))
        assert refused == (MessageType.DHCPNAK, wire.NO_ADDRESS)
    assert answer(server.receive(ask, ARRIVAL, NOW)) == offer(ip)


def test_d_44_our_own_the_routers_and_the_networks_addresses_are_offered_to_nobody() -> None:
    subnet = {"subnet": "10.77.0.0/29", "pool": "10.77.0.0-10.77.0.7", "routers": ["10.77.0.6"]}
    server = Server(
        plan(Farm.model_validate(FARM | {"dhcp": {"probe": False, "subnets": [subnet]}, "pools": []})), (), NOW
    )
    server.own_addresses([SERVER, IPv4Address("10.77.0.2")])
    asks = [
        discover(f"02:00:00:00:01:{n:02x}", options={50: IPv4Address(f"10.77.0.{n % 8}").packed}) for n in range(16)
    ]
    found = [answer(server.receive(ask, ARRIVAL, NOW)) for ask in asks]
    assert {each[1] for each in found if isinstance(each, tuple)} == {IPv4Address(f"10.77.0.{n}") for n in (3, 4, 5)}


def test_d_45_a_repeated_request_is_one_lease_with_one_answer() -> None:
    server = serving()
    address = send_of(discover(STRANGER), server=server).message.yiaddr
    first = server.receive(selecting(address, STRANGER), ARRIVAL, NOW)
    assert server.receive(selecting(address, STRANGER), ARRIVAL, NOW) == first
    assert answer(first) == ack(address)
    assert len(server.leases) == 1


def test_d_52_a_renewal_in_the_first_quarter_has_the_same_end_in_reply_and_record() -> None:
    server = serving(bound(STRANGER, expires=NOW + 86400))
    for later in (1, 3600, 21000):
        actions = server.receive(renewing(NOBODY, STRANGER), UNICAST, NOW + later)
        reply = sent(actions)
        assert reply is not None
        assert int.from_bytes(reply.message.options[51], "big") == 86400 - later
    assert list(server.leases) == [bound(STRANGER, expires=NOW + 86400)], "the store knows it to be on disk"


@pytest.mark.parametrize("name", ["D-EDK2-PXE", "D-EDK2-HTTP", "D-IPXE-BIOS", "D-UBOOT", "D-IPCONFIG"])
def test_d_55_the_boot_options_of_dhcpv6_are_not_here(name: str) -> None:
    asked = {55: bytes(range(1, 255)), 57: b"\5\xdc"}
    got = reply_to(recorded(name, options=asked)).options
    assert len(got[59]) == 4, "in DHCPv4, 59 is the rebinding time"
    assert 62 not in got
    assert not got.get(60, b"").startswith((b"http", b"tftp", b"\0\0"))
    assert got.get(61) == recorded(name).options.get(61)


def test_p_10_an_http_client_gets_no_more_than_its_buffer_holds() -> None:
    many = {
        "domain_name_servers": [f"10.77.1.{n}" for n in range(1, 60)],
        "options": {224: "ab" * 250, 225: "cd" * 250},
    }
    server = serving(**many)
    send = send_of(recorded("D-EDK2-HTTP", options={57: b"\xff\xff", 82: b"x" * 255}), server=server)
    data = send.pack().data
    assert len(data) <= 1472
    got = wire.decode(data)
    assert got.options[60].startswith(b"HTTPClient")
    assert (got.file or got.options[67].rstrip(b"\0")).startswith(b"http://")


def test_p_12_no_message_is_answered_twice_by_our_server_and_our_proxy() -> None:
    beside = {"subnet": "10.78.0.0/24", "proxy": True, "unknown": "workers"}
    server = serving(subnets=[FARM["dhcp"]["subnets"][0], beside])
    for mac in (KNOWN, STRANGER):
        for ask in (recorded("D-OVMF-PXE", mac), recorded("D-IPXE-BIOS", mac), discover(mac)):
            for address in ("10.77.0.1", "10.78.0.1"):
                actions = server.receive(ask, Arrival(IPv4Address(address)), NOW)
                sends = [action for action in actions if isinstance(action, Send)]
                assert len(sends) <= 1
                is_proxy = address == "10.78.0.1"
                assert all((send.message.yiaddr == wire.NO_ADDRESS) is is_proxy for send in sends)
                assert all((Option.IP_ADDRESS_LEASE_TIME in send.message.options) is not is_proxy for send in sends)
