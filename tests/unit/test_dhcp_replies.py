"""dhcp.replies: what a reply says, to which client, and where it goes."""

from ipaddress import IPv4Address
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP

from dhcp import wire
from dhcp.engine import Server
from dhcp.options import MessageType
from dhcp.plan import plan
from dhcp.replies import EVERYBODY, Destination, Send
from dhcp.request import Arrival
from dhcp.wire import Message
from tests.support.dhcp_clients import (
    ARRIVAL,
    FARM,
    KNOWN,
    OWN_ADDRESS,
    RECORDED,
    SERVER,
    STRANGER,
    UNICAST,
    farm,
    message,
    recorded,
)

NOW = 1_790_000_000.0
DISCOVER, REQUEST = MessageType.DHCPDISCOVER, MessageType.DHCPREQUEST
RELAY = IPv4Address("10.77.0.254")
X64 = b"grub/x86_64-efi/core.efi"


def reply_to(ask: Message, arrival: Arrival = ARRIVAL, *, server: dict[str, Any] | None = None, **dhcp: Any) -> Send:
    settings = farm(**dhcp)
    if server is not None:
        settings = type(settings).model_validate(FARM | {"server": server, "dhcp": FARM["dhcp"] | dhcp})
    actions = Server(plan(settings), (), NOW).receive(ask, arrival, NOW)
    return next(action for action in actions if isinstance(action, Send))


def subnet(**options: Any) -> dict[str, Any]:
    return {"subnets": [FARM["dhcp"]["subnets"][0] | options]}


def test_ovmf_finds_the_same_truth_in_every_field() -> None:
    reply = reply_to(recorded("D-OVMF-PXE", flags=0x8000))
    offer = reply.message
    assert reply.destination == Destination(EVERYBODY, 68)
    assert (offer.siaddr, offer.sname, offer.file) == (SERVER, b"10.77.0.1", X64)
    assert (offer.options[66], offer.options[67]) == (b"10.77.0.1\0", X64 + b"\0")
    assert offer.options[54] == SERVER.packed
    assert offer.options[60] == b"PXEClient"
    assert offer.options[97] == bytes(17)
    data = reply.pack().data
    assert RECORDED["R-PXE-43-MIN"] in data, "so that it does not ask port 4011"
    assert 52 not in [code for code, _ in wire.options_in(data[240:])], "GRUB reads no `file` beside an option 52"


def test_an_http_client_gets_a_url() -> None:
    reply = reply_to(recorded("D-EDK2-HTTP", flags=0x8000), server={"http_port": 8080})
    url = b"http://10.77.0.1:8080/" + X64
    assert (reply.message.file, reply.message.options[67]) == (url, url + b"\0")
    assert reply.message.options[60] == b"HTTPClient\0"
    assert {43, 66}.isdisjoint(reply.message.options)


@pytest.mark.parametrize("garbage", [0, 255, 52, 82, 234])
def test_a_garbage_byte_in_the_request_list_harms_nothing(garbage: int) -> None:
    asked = RECORDED["D-EDK2-HTTP"]
    at = asked.index(0xEA)
    ask = recorded("D-EDK2-HTTP")
    field = wire.decode(ask.encode()[:240] + asked[4:at] + bytes((garbage,)) + asked[at + 1 :])
    assert reply_to(field).message == reply_to(ask).message


def test_ipxe_gets_the_file_of_its_architecture_and_waits_for_nobody() -> None:
    reply = reply_to(recorded("D-IPXE-BIOS"))
    assert reply.message.file == b"grub/i386-pc/core.0"
    assert bytes.fromhex("af03b00101") in reply.pack().data
    own = bytes.fromhex(KNOWN.replace(":", ""))
    assert reply.message.options[61] == b"\1" + own, "echoed as it came (RFC 6842)"
    assert reply.destination == Destination(OWN_ADDRESS, 68, own), "no ARP for who has no address yet"


def test_klibc_and_others_get_just_an_address() -> None:
    offer = reply_to(recorded("D-IPCONFIG", flags=0x8000)).message
    assert {43, 60, 66, 67, 97, 175}.isdisjoint(offer.options)
    assert (offer.file, offer.sname) == (b"", b"")
    assert offer.yiaddr == reply_to(recorded("D-OVMF-PXE")).message.yiaddr, "one machine, one address"
    assert offer.options[12] == b"n1"


def test_a_u_boot_without_file_still_gets_its_address() -> None:
    reply = reply_to(recorded("D-UBOOT"))
    assert (reply.message.yiaddr, reply.message.file) == (OWN_ADDRESS, b"")
    assert 300 <= len(reply.pack().data) <= 576


def test_an_unknown_machine_is_named_after_its_mac() -> None:
    offer = reply_to(message(DISCOVER, STRANGER, options={55: b"\x0c"})).message
    assert offer.options[12] == b"node-020000000099"


@pytest.mark.parametrize("identifier", [b"", bytes(16), b"\1" + bytes(16), bytes(18)])
def test_a_machine_identifier_of_another_form_is_ignored(identifier: bytes) -> None:
    offer = reply_to(recorded("D-OVMF-PXE", options={97: identifier})).message
    assert 97 not in offer.options
    assert offer.file == X64


def test_options_come_in_the_order_asked_for_and_the_mask_before_the_router() -> None:
    ask = message(DISCOVER, options={55: bytes((15, 3, 6, 99, 12, 15, 1, 28))})
    assert list(reply_to(ask).message.options) == [53, 54, 51, 58, 59, 1, 15, 3, 6, 12, 28]


def test_who_asks_for_nothing_in_particular_gets_all_there_is() -> None:
    assert list(reply_to(message(DISCOVER)).message.options) == [53, 54, 51, 58, 59, 1, 3, 6, 12, 15, 28]


def test_an_option_by_number_is_sent_unasked_and_wins() -> None:
    settings = subnet(options={209: "2f61", 43: "0102", 60: {"hex": "41"}, 67: "6f776e"})
    plain = reply_to(message(DISCOVER, options={55: b"\1"}), **settings).message
    assert plain.options[209] == b"/a"
    assert {43, 60, 67}.isdisjoint(plain.options)
    pxe = reply_to(recorded("D-OVMF-PXE"), **settings).message
    assert (pxe.options[43], pxe.options[60], pxe.options[67], pxe.file) == (b"\1\2", b"A", b"own", b"own")


def test_an_empty_list_takes_away_what_the_subnet_said() -> None:
    settings = FARM | {"tags": {"all": {"dhcp": {"routers": []}}}}
    made = plan(type(farm()).model_validate(settings))
    actions = Server(made, (), NOW).receive(message(DISCOVER), ARRIVAL, NOW)
    assert 3 not in next(action for action in actions if isinstance(action, Send)).message.options


def test_static_routes_bring_the_default_route_with_them() -> None:
    routes = subnet(static_routes=[{"to": "10.0.0.0/8", "via": "10.77.0.253"}])
    offer = reply_to(message(DISCOVER), **routes).message
    assert offer.options[121].hex() == "080a0a4d00fd" + "000a4d00fe"
    routes["subnets"][0]["static_routes"] += [{"to": "0.0.0.0/0", "via": "10.77.0.253"}]
    assert reply_to(message(DISCOVER), **routes).message.options[121].hex() == "080a0a4d00fd" + "000a4d00fd"


@pytest.mark.parametrize(
    ("subnets", "server", "expected"),
    [
        ({}, {}, "10.77.0.1"),
        ({}, {"address": "10.77.0.5"}, "10.77.0.5"),
        (subnet(next_server="10.77.0.6"), {"address": "10.77.0.5"}, "10.77.0.6"),
    ],
)
def test_the_next_server_is_the_most_specific(subnets: dict[str, Any], server: dict[str, Any], expected: str) -> None:
    reply = reply_to(recorded("D-OVMF-PXE"), server=server, **subnets).message
    assert str(reply.siaddr) == expected
    assert reply.options[66] == expected.encode() + b"\0"
    assert reply.options[54] == SERVER.packed, "who grants the lease is another question"


@pytest.mark.parametrize(
    ("maximum", "limit"),
    [(None, 548), (b"\x02\x40", 548), (b"\0\x40", 548), (b"\5\xc0", 1444), (b"\xff\0", 1472), (b"\0", 548)],
)
def test_a_reply_is_no_longer_than_its_client_allows(maximum: bytes | None, limit: int) -> None:
    options = {} if maximum is None else {57: maximum}
    assert reply_to(message(DISCOVER, options=options)).size_limit == limit


def test_a_long_reply_leaves_out_the_least_needed() -> None:
    crowd = subnet(domain_search=[f"{n}.{'x' * 30}.example" for n in range(4)], options={"200": "aa" * 250})
    reply = reply_to(recorded("D-OVMF-PXE", options={82: b"\1\4eth0"}), **crowd)
    assert reply.pack().left_out == ()
    reply = reply_to(recorded("D-UBOOT", options={93: b"\0\7"}), **crowd)
    packed = reply.pack()
    assert packed.left_out == (200,)
    assert wire.decode(packed.data).file == X64


def test_a_renewal_is_answered_to_the_address_in_use() -> None:
    reply = reply_to(message(REQUEST, ciaddr=OWN_ADDRESS), UNICAST)
    assert reply.destination == Destination(OWN_ADDRESS, 68)
    assert (reply.message.ciaddr, reply.message.yiaddr) == (OWN_ADDRESS, OWN_ADDRESS)


def test_an_offer_has_no_ciaddr_whatever_the_client_says() -> None:
    reply = reply_to(message(DISCOVER, ciaddr=IPv4Address("192.0.2.9")))
    assert reply.message.ciaddr == wire.NO_ADDRESS
    assert reply.destination.address == OWN_ADDRESS


def test_a_long_hardware_address_is_answered_by_broadcast() -> None:
    reply = reply_to(message(DISCOVER, chaddr=bytes(range(16))))
    assert reply.destination == Destination(EVERYBODY, 68)
    assert reply.message.options[12] == b"node-" + bytes(range(16)).hex().encode()


def relayed(ask: Message, information: str = "", **fields: Any) -> Message:
    options = dict(ask.options) | ({82: bytes.fromhex(information)} if information else {})
    return wire.Message(ask.op, ask.xid, ask.chaddr, giaddr=fields.pop("giaddr", RELAY), options=options, **fields)


def test_a_relays_option_comes_back_byte_for_byte_and_last() -> None:
    information = "0104 65746830 0206 525400000001 9700"
    reply = reply_to(relayed(recorded("D-OVMF-PXE"), information, flags=0x8000, hops=2))
    assert reply.destination == Destination(RELAY, 67)
    assert (reply.message.giaddr, reply.message.flags, reply.message.hops) == (RELAY, 0x8000, 0)
    data = reply.pack().data.rstrip(b"\0")
    assert data.endswith(bytes.fromhex("52 10" + information) + b"\xff")


def test_a_relay_chooses_the_network() -> None:
    assert str(reply_to(relayed(message(DISCOVER, STRANGER))).message.yiaddr).startswith("10.77.0.")
    far = relayed(message(DISCOVER, STRANGER), giaddr=IPv4Address("10.78.0.254"))
    assert str(reply_to(far).message.yiaddr).startswith("10.78.0.10")
    selected = relayed(message(DISCOVER, STRANGER), "0504 0a4e0000")
    assert str(reply_to(selected).message.yiaddr).startswith("10.78.0.10")
    direct = relayed(message(DISCOVER, STRANGER), "0504 0a4e0000", giaddr=wire.NO_ADDRESS)
    assert str(reply_to(direct).message.yiaddr).startswith("10.77.0."), "a client's own option 82 has no effect"


def test_a_relay_may_stand_in_for_us() -> None:
    offer = reply_to(relayed(message(DISCOVER), "0b04 0a4d00fe")).message
    assert offer.options[54] == RELAY.packed
    ask = message(REQUEST, options={50: OWN_ADDRESS.packed, 54: RELAY.packed})
    assert reply_to(relayed(ask, "0b04 0a4d00fe")).message.options[53] == b"\5"


def test_a_relay_that_says_so_is_answered_at_its_own_port() -> None:
    arrival = Arrival(SERVER, unicast=True, source_port=4067)
    assert reply_to(relayed(message(DISCOVER), "1300"), arrival).destination == Destination(RELAY, 4067)
    assert reply_to(relayed(message(DISCOVER)), arrival).destination == Destination(RELAY, 67)


def test_a_nak_says_little_and_everybody_hears_it() -> None:
    ask = message(REQUEST, options={50: b"\n\1\1\1", 61: b"\xffid", 93: b"\0\7", 60: b"PXEClient"})
    reply = reply_to(ask)
    assert reply.destination == Destination(EVERYBODY, 68)
    nak = reply.message
    assert set(nak.options) == {53, 54, 56, 61}
    assert nak.yiaddr == nak.ciaddr == nak.siaddr == wire.NO_ADDRESS
    assert (nak.file, nak.sname) == (b"", b"")
    reply = reply_to(relayed(ask, "0102 6162"))
    assert reply.destination == Destination(RELAY, 67)
    assert reply.message.flags == 0x8000
    assert list(reply.message.options) == [53, 54, 56, 61, 82]


def test_scapy_reads_our_offer_as_it_is_meant() -> None:
    settings = subnet(
        mtu=1400,
        ntp_servers=["10.77.0.7"],
        log_servers=["10.77.0.8"],
        static_routes=[{"to": "10.128.0.0/9", "via": "10.77.0.253"}],
    )
    ask = recorded("D-OVMF-PXE", options={55: bytes((1, 3, 6, 7, 12, 15, 26, 28, 42, 121)), 57: b"\5\xc0"})
    judge = BOOTP(reply_to(ask, **settings).pack().data)
    assert (judge.yiaddr, judge.siaddr) == ("10.77.0.10", "10.77.0.1")
    said = {option[0]: option[1:] for option in judge[DHCP].options if isinstance(option, tuple)}
    assert said["message-type"] == (2,)
    assert said["server_id"] == ("10.77.0.1",)
    assert (said["renewal_time"], said["rebinding_time"], said["lease_time"]) == ((43200,), (75600,), (86400,))
    assert said["subnet_mask"] == ("255.255.255.0",)
    assert said["router"] == ("10.77.0.254",)
    assert said["name_server"] == ("10.77.0.1", "10.77.0.2")
    assert said["log_server"] == ("10.77.0.8",)
    assert said["hostname"] == (b"n1",)
    assert said["domain"] == (b"farm.example",)
    assert said["interface-mtu"] == (1400,)
    assert said["broadcast_address"] == ("10.77.0.255",)
    assert said["NTP_server"] == ("10.77.0.7",)
    assert said["classless_static_routes"] == (["10.128.0.0/9:10.77.0.253", "0.0.0.0/0:10.77.0.254"],)
    assert said["vendor_class_id"] == (b"PXEClient",)
    assert said["tftp_server_name"] == (b"10.77.0.1\0",)
    assert said["boot-file-name"] == (X64 + b"\0",)
