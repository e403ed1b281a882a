"""dhcp.request: who asks, and from which wire."""

import re
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import pytest

from config.model import Farm
from dhcp.engine import Server
from dhcp.options import MessageType
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.request import Arrival, Ignored, Reason
from dhcp.wire import Message, decode
from tests.support.dhcp_clients import ARRIVAL, KNOWN, SERVER, STRANGER, message

NOW = 1_790_000_000.0
NODE_UUID = UUID("33221100-5544-7766-8899-aabbccddeeff")
RELAY = IPv4Address("10.77.0.254")
PORT_1 = b"\1\4eth1"
SWITCH_A = b"\2\2\xaa\xbb"


def farm_of(*nodes: dict[str, Any], **dhcp: Any) -> Farm:
    """A farm of these machines; each gets a name and the next address."""
    listed = [{"name": f"n{i}", "ip": f"10.77.0.{10 + i}"} | node for i, node in enumerate(nodes)]
    subnets = [{"subnet": "10.77.0.0/24", "pool": "10.77.0.100-10.77.0.110", "unknown": "workers"}]
    return Farm.model_validate(
        {
            "dhcp": {"probe": False, "subnets": subnets} | dhcp,
            "images": {"i": {"path": "/i"}},
            "pools": [{"name": "workers", "image": "i", "nodes": listed}],
        }
    )


def offered(made: Farm, **fields: Any) -> str:
    """The address that a stranger's MAC is offered."""
    return str(answer(Server(plan(made), (), NOW), message(MessageType.DHCPDISCOVER, STRANGER, **fields)).yiaddr)


def answer(server: Server, ask: Message, arrival: Arrival = ARRIVAL, now: float = NOW) -> Message:
    """What the server sends."""
    (send,) = (action for action in server.receive(ask, arrival, now) if isinstance(action, Send))
    return decode(send.pack().data)


@pytest.mark.parametrize(
    ("node", "options"),
    [
        ({"client_id": "01:02:03"}, {61: b"\1\2\3"}),
        ({"client_id": "rack1-7"}, {61: b"rack1-7"}),
        ({"client_id": "rack1-7"}, {61: b"\0rack1-7"}),
        ({"serial": "CZ3007"}, {61: b"\0CZ3007"}),
        ({"uuid": str(NODE_UUID)}, {97: b"\0" + NODE_UUID.bytes}),
        ({"uuid": str(NODE_UUID)}, {97: b"\0" + NODE_UUID.bytes_le}),
    ],
)
def test_a_machine_is_known_by_more_than_its_cards(node: dict[str, Any], options: dict[int, bytes]) -> None:
    assert offered(farm_of(node), options=options) == "10.77.0.10"
    other = {code: value[:-1] + b"!" for code, value in options.items()}
    assert offered(farm_of(node), options=other) != "10.77.0.10"


def test_a_machine_is_known_by_the_port_it_is_at() -> None:
    made = farm_of({"circuit_id": "eth1", "remote_id": "aa:bb"}, {"circuit_id": "eth1"}, {"remote_id": "aa:bb"})
    for sent, address in (
        (PORT_1 + SWITCH_A, "10.77.0.10"),
        (PORT_1 + b"\2\2\xaa\xcc", "10.77.0.11"),
        (b"\1\4eth2" + SWITCH_A, "10.77.0.12"),
    ):
        assert offered(made, giaddr=RELAY, options={82: sent}) == address
    assert offered(made, options={82: PORT_1}) != "10.77.0.11", "only a relay is believed (RFC 3046 section 2.1)"


def test_a_mac_counts_before_everything_else() -> None:
    made = farm_of({"client_id": "01:02:03"}, {"macs": [STRANGER]})
    assert offered(made, options={61: b"\1\2\3"}) == "10.77.0.11"


def test_a_zero_uuid_is_nobodys() -> None:
    assert offered(farm_of({"uuid": "00000000-0000-0000-0000-000000000000"}), options={97: bytes(17)}) != "10.77.0.10"


def test_one_machine_keeps_its_address_though_its_client_id_changes() -> None:
    server = Server(plan(farm_of()), (), NOW)
    ids: list[dict[int, bytes]] = [
        {},
        {61: b"\1" + bytes.fromhex(STRANGER.replace(":", ""))},
        {61: b"\xff" + bytes(18)},
    ]
    addresses = {answer(server, message(MessageType.DHCPDISCOVER, STRANGER, options=o)).yiaddr for o in ids}
    assert len(addresses) == 1


def test_where_it_is_asked_for_a_client_is_its_client_id() -> None:
    server = Server(plan(farm_of(match_client_id=True)), (), NOW)

    def gets(mac: str, client_id: bytes) -> IPv4Address:
        return answer(server, message(MessageType.DHCPDISCOVER, mac, options={61: client_id})).yiaddr

    first = gets(STRANGER, b"\xffone")
    assert gets(STRANGER, b"\xfftwo") != first
    assert gets("02:00:00:00:00:77", b"\xffone") == first, "whichever card asks"


def test_an_infiniband_client_is_its_client_id_and_hears_by_broadcast() -> None:
    server = Server(plan(farm_of()), (), NOW)
    ask = message(MessageType.DHCPDISCOVER, htype=32, chaddr=b"", options={61: b"\xff\0\0\0\1guid"})
    (send,) = (action for action in server.receive(ask, ARRIVAL, NOW) if isinstance(action, Send))
    assert str(send.destination.address) == "255.255.255.255"
    other = message(MessageType.DHCPDISCOVER, htype=32, chaddr=b"", options={61: b"\xff\0\0\0\1other"})
    assert answer(server, other).yiaddr != send.message.yiaddr
    (ignored,) = server.receive(message(MessageType.DHCPDISCOVER, htype=32, chaddr=b""), ARRIVAL, NOW)
    assert isinstance(ignored, Ignored)
    assert ignored.reason is Reason.NO_MACHINE


@pytest.mark.parametrize(("length", "digits"), [(28, "[0-9a-f]{56}"), (29, "-[0-9a-f]{32}"), (255, "-[0-9a-f]{32}")])
def test_a_client_without_a_hardware_address_gets_a_label_of_its_own_for_a_name(length: int, digits: str) -> None:
    server = Server(plan(farm_of()), (), NOW)

    def named(last: bytes) -> str:
        option_61 = (b"\xff" + bytes(length))[: length - 1] + last
        ask = message(MessageType.DHCPDISCOVER, htype=32, chaddr=b"", options={61: option_61})
        return answer(server, ask).options[12].decode()

    name = named(b"\1")
    assert re.fullmatch(f"node-id{digits}", name), "RFC 1035 section 2.3.4: 63 characters at most"
    assert name == named(b"\1") != named(b"\2")


WIRE = [
    {"subnet": "10.77.0.0/24", "pool": "10.77.0.100-10.77.0.100", "shared_network": "wire"},
    {"subnet": "10.78.0.0/24", "pool": "10.78.0.100-10.78.0.101", "shared_network": "wire", "routers": ["10.78.0.1"]},
    {"subnet": "10.79.0.0/24", "pool": "10.79.0.100-10.79.0.101"},
]


def test_on_a_shared_wire_a_full_pool_is_followed_by_the_next_network() -> None:
    server = Server(plan(farm_of(subnets=WIRE)), (), NOW)
    got = [
        answer(server, message(MessageType.DHCPDISCOVER, f"02:00:00:00:01:0{n}", options={55: b"\1\3"}))
        for n in range(3)
    ]
    assert str(got[0].yiaddr) == "10.77.0.100"
    assert {str(offer.yiaddr) for offer in got[1:]} == {"10.78.0.100", "10.78.0.101"}
    assert got[1].options[3] == IPv4Address("10.78.0.1").packed, "with the options of that network"
    (full,) = server.receive(message(MessageType.DHCPDISCOVER, "02:00:00:00:01:09"), ARRIVAL, NOW)
    assert isinstance(full, Ignored)
    assert full.reason is Reason.POOL_EMPTY


def test_a_machines_own_address_may_be_of_any_network_on_its_wire() -> None:
    server = Server(plan(farm_of({"macs": [KNOWN], "ip": "10.78.0.9"}, subnets=WIRE)), (), NOW)
    offer = answer(server, message(MessageType.DHCPDISCOVER, KNOWN))
    assert str(offer.yiaddr) == "10.78.0.9"
    taken = message(MessageType.DHCPREQUEST, KNOWN, options={50: offer.yiaddr.packed, 54: SERVER.packed})
    assert answer(server, taken).options[53] == bytes((MessageType.DHCPACK,))


@pytest.mark.parametrize(
    ("giaddr", "options", "network"),
    [
        ("0.0.0.0", {}, "10.77.0"),
        ("10.79.0.1", {}, "10.79.0"),
        ("10.79.0.1", {118: IPv4Address("10.78.0.0").packed}, "10.77.0"),  # the same wire as 10.78
        ("0.0.0.0", {118: IPv4Address("10.79.0.0").packed}, "10.79.0"),
        ("10.77.0.254", {118: IPv4Address("10.77.0.0").packed, 82: b"\5\4\x0a\x4f\0\0"}, "10.79.0"),
        ("0.0.0.0", {118: b"xx"}, "10.77.0"),
    ],
)
def test_the_relay_then_the_client_chooses_the_network(giaddr: str, options: dict[int, bytes], network: str) -> None:
    server = Server(plan(farm_of(subnets=WIRE)), (), NOW)
    ask = message(MessageType.DHCPDISCOVER, STRANGER, giaddr=IPv4Address(giaddr), options=options)
    got = answer(server, ask)
    assert str(got.yiaddr).startswith(network) or (network == "10.77.0" and str(got.yiaddr).startswith("10.78.0"))
    assert got.options.get(118) == options.get(118), "it comes back (RFC 3011)"


def test_a_relay_that_says_it_is_us_is_not_answered() -> None:
    server = Server(plan(farm_of()), (), NOW)
    server.own_addresses([SERVER, IPv4Address("10.77.0.3")])
    (ignored,) = server.receive(message(MessageType.DHCPDISCOVER, giaddr=IPv4Address("10.77.0.3")), ARRIVAL, NOW)
    assert isinstance(ignored, Ignored)
    assert ignored.reason is Reason.BAD_RELAY


def test_pools_have_their_ranges_and_some_endings_may_be_left_out() -> None:
    subnets = [{"subnet": "10.76.0.0/15", "pools": [{"range": "10.76.255.254-10.77.0.1"}]}]
    made = plan(farm_of(subnets=subnets, exclude_first_last=True))
    (pool,) = made.networks[0].pools
    assert [str(IPv4Address(n)) for n in range(pool.first, pool.last + 1) if IPv4Address(n) in pool] == [
        "10.76.255.254",
        "10.77.0.1",
    ]
