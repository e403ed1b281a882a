"""The tracker of other servers, and what is read of packets that met no kernel's checks."""

import struct
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from dhcp import others, wire
from dhcp.frame import udp_packet
from dhcp.options import MessageType, Option
from dhcp.others import Heard, Other, Others, Ours, Standing
from dhcp.overheard import Damaged, Datagram, datagram
from tests.support.dhcp_clients import KNOWN, SERVER, STRANGER, message

ROGUE = IPv4Address("10.77.0.2")
ROGUE_MAC = "52:54:00:aa:bb:cc"
PROXIED = IPv4Address("10.99.0.2")
HEARD = Heard(ROGUE_MAC, ROGUE, 67, "eth1")


def tracker(*own: IPv4Address) -> Others:
    """n1 is `KNOWN`; somebody else is to give out the addresses of 10.99.0.0/16."""
    return Others(
        Ours(
            address=lambda address: address in (SERVER, *own),
            machine={KNOWN: "n1"}.get,
            proxied=lambda address: str(address).startswith("10.99."),
        )
    )


def reply(
    kind: MessageType | None = MessageType.DHCPOFFER,
    mac: str = KNOWN,
    server: IPv4Address | None = ROGUE,
    **fields: Any,
) -> wire.Message:
    """What another server says; `yiaddr` unless it is given."""
    said = {Option.SERVER_IDENTIFIER: server.packed} if server else {}
    options = said | dict(fields.pop("options", {}))
    return message(kind, mac, op=wire.Op.BOOTREPLY, options=options, **fields)


def only(found: Others) -> Other:
    (other,) = found
    return other


ADDRESS = IPv4Address("10.77.0.55")
GIVES_ADDRESS: dict[str, Any] = {
    "yiaddr": ADDRESS,
    "siaddr": ROGUE,
    "options": {
        Option.IP_ADDRESS_LEASE_TIME: (3600).to_bytes(4, "big"),
        Option.SUBNET_MASK: bytes((255, 255, 255, 0)),
        Option.ROUTER: IPv4Address("10.77.0.9").packed + IPv4Address("10.77.0.8").packed,
    },
}
PXE_CLASS = {Option.VENDOR_CLASS_IDENTIFIER: b"PXEClient"}

STANDINGS = [
    pytest.param(reply(**GIVES_ADDRESS), Standing.CONFLICT, "offered n1 the address 10.77.0.55 for 3600 s", id="ours"),
    pytest.param(
        reply(MessageType.DHCPACK, STRANGER, **GIVES_ADDRESS),
        Standing.UNCLEAR,
        f"gave {STRANGER} the address 10.77.0.55 for 3600 s",
        id="a-stranger",
    ),
    pytest.param(
        reply(MessageType.DHCPNAK), Standing.CONFLICT, "refused n1 its address (DHCPNAK)", id="says-no-to-ours"
    ),
    pytest.param(
        reply(MessageType.DHCPNAK, STRANGER),
        Standing.UNCLEAR,
        f"refused {STRANGER} its address (DHCPNAK)",
        id="says-no-to-a-stranger",
    ),
    pytest.param(
        reply(mac=STRANGER, yiaddr=ADDRESS, siaddr=ROGUE, file=b"pxelinux.0"),
        Standing.CONFLICT,
        f"hands out the boot file 'pxelinux.0' from 10.77.0.2 to {STRANGER} and"
        f" offered {STRANGER} the address 10.77.0.55",
        id="boot-file",
    ),
    pytest.param(
        reply(mac=STRANGER, options={Option.BOOTFILE_NAME: b"a\x1b[31m\0"} | PXE_CLASS),
        Standing.CONFLICT,
        f"hands out the boot file 'a\\x1b[31m' to {STRANGER} as a PXE boot server (proxyDHCP)",
        id="proxy",
    ),
    pytest.param(
        reply(mac=STRANGER, options={Option.VENDOR_CLASS_IDENTIFIER: b"HTTPClient"}),
        Standing.CONFLICT,
        f"answers {STRANGER} as a HTTP boot server (proxyDHCP)",
        id="http-without-file",
    ),
    pytest.param(
        reply(MessageType.DHCPACK, server=PROXIED, yiaddr=IPv4Address("10.99.0.55"), siaddr=PROXIED),
        Standing.EXPECTED,
        "gave n1 the address 10.99.0.55",
        id="beside-our-proxy",
    ),
    pytest.param(reply(MessageType.DHCPNAK, server=PROXIED), Standing.EXPECTED, "refused n1 its address (DHCPNAK)",
                 id="says-no-beside-our-proxy"),
    pytest.param(
        reply(server=PROXIED, yiaddr=IPv4Address("10.99.0.55"), file=b"pxelinux.0"),
        Standing.CONFLICT,
        "hands out the boot file 'pxelinux.0' to n1 and offered n1 the address 10.99.0.55",
        id="boot-file-beside-our-proxy",
    ),
    pytest.param(reply(None, server=None, yiaddr=ADDRESS), Standing.CONFLICT, "gave n1 the address 10.77.0.55",
                 id="bootp"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "standing", "words"), STANDINGS)
def test_a_server_is_known_by_what_it_says(said: wire.Message, standing: Standing, words: str) -> None:
    found = tracker()
    text = found.heard(said, HEARD, 1000.0)
    other = only(found)
    assert (other.standing, other.words()) == (standing, words)
    assert (other.mac, other.interface, other.count, other.first_seen) == (ROGUE_MAC, "eth1", 1, 1000.0)
    name = f"{other.server_id} ({ROGUE_MAC}) on eth1"
    assert text == (None if standing is Standing.EXPECTED else f"another DHCP server, {name}, {words}")


def test_what_it_gave_is_kept_whole() -> None:
    found = tracker()
    found.heard(reply(**GIVES_ADDRESS), HEARD, 1000.0)
    given = only(found).address
    assert given is not None
    assert (given.machine, given.mac, given.time) == ("n1", KNOWN, 1000.0)
    assert (given.address, given.lease_s, str(given.subnet_mask)) == (ADDRESS, 3600, "255.255.255.0")
    assert (str(given.router), given.next_server) == ("10.77.0.9", ROGUE)
    assert only(found).machines == ("n1",)


@pytest.mark.parametrize(
    ("said", "source"),
    [
        pytest.param(reply(server=SERVER, yiaddr=ADDRESS), ROGUE, id="our-answer-through-a-relay"),
        pytest.param(reply(server=None, yiaddr=ADDRESS), SERVER, id="our-bootp"),
        pytest.param(reply(server=ROGUE, yiaddr=ADDRESS), SERVER, id="our-answer-under-a-relays-name"),
        pytest.param(message(MessageType.DHCPOFFER, KNOWN), ROGUE, id="an-offer-in-a-request"),
        pytest.param(reply(MessageType.DHCPDISCOVER), ROGUE, id="a-discover-in-a-reply"),
        pytest.param(reply(options={Option.DHCP_MESSAGE_TYPE: b"\2\2"}), ROGUE, id="a-type-of-two-bytes"),
    ],
)
def test_what_is_ours_or_no_answer_is_nobodys(said: wire.Message, source: IPv4Address) -> None:
    found = tracker()
    assert found.heard(said, replace(HEARD, source=source), 0.0) is None
    assert not len(found)


def test_it_is_said_once_an_hour_and_at_once_when_it_gets_worse() -> None:
    found = tracker()
    stranger = reply(mac=STRANGER, yiaddr=ADDRESS)
    assert found.heard(stranger, HEARD, 0.0)
    assert not found.heard(stranger, HEARD, 3599.0)
    assert found.heard(reply(yiaddr=ADDRESS), HEARD, 3599.5)
    assert not found.heard(reply(yiaddr=ADDRESS), HEARD, 3601.0)
    assert found.heard(reply(yiaddr=ADDRESS), HEARD, 7200.0)
    assert only(found).count == 5
    assert (only(found).first_seen, only(found).last_seen) == (0.0, 7200.0)


def test_a_machine_that_chose_another_server_names_it_and_its_mac_comes_later() -> None:
    found = tracker()
    request = message(
        MessageType.DHCPREQUEST,
        KNOWN,
        options={Option.SERVER_IDENTIFIER: ROGUE.packed, Option.REQUESTED_IP_ADDRESS: ADDRESS.packed},
    )
    said = found.chosen(request, "eth1", 5.0)
    assert said == "another DHCP server, 10.77.0.2 (its MAC was not seen) on eth1, was chosen by n1"
    found.heard(reply(yiaddr=ADDRESS), HEARD, 6.0)
    found.chosen(request, "eth1", 7.0)
    other = only(found)
    assert (other.mac, other.count, other.last_seen, other.standing) == (ROGUE_MAC, 3, 7.0, Standing.CONFLICT)
    assert other.words() == "offered n1 the address 10.77.0.55 and was chosen by n1"
    assert found.chosen(request, "eth2", 8.0), "on another link it may be another server"
    assert len(found) == 2


@pytest.mark.parametrize("server", [SERVER.packed, bytes(4), b"\1\2\3", b""])
def test_a_request_for_us_or_nobody_names_no_server(server: bytes) -> None:
    found = tracker()
    request = message(MessageType.DHCPREQUEST, KNOWN, options={Option.SERVER_IDENTIFIER: server})
    assert found.chosen(request, "eth1", 0.0) is None
    assert not len(found)


def test_a_request_that_chose_the_server_beside_our_proxy_is_expected() -> None:
    found = tracker()
    options = {Option.SERVER_IDENTIFIER: PROXIED.packed, Option.REQUESTED_IP_ADDRESS: PROXIED.packed}
    assert found.chosen(message(MessageType.DHCPREQUEST, KNOWN, options=options), "eth1", 0.0) is None
    assert only(found).standing is Standing.EXPECTED


def test_two_servers_with_one_identifier_are_two_and_those_in_conflict_come_first() -> None:
    found = tracker()
    found.heard(reply(mac=STRANGER, yiaddr=ADDRESS), HEARD, 2.0)
    found.heard(reply(yiaddr=ADDRESS), replace(HEARD, mac="52:54:00:00:00:07"), 1.0)
    assert [other.mac for other in found] == ["52:54:00:00:00:07", ROGUE_MAC]


def test_a_relay_and_a_boot_server_are_named_as_such() -> None:
    found = tracker()
    found.heard(reply(yiaddr=ADDRESS, giaddr=IPv4Address("10.77.0.254")), HEARD, 0.0)
    assert only(found).name == f"10.77.0.2 ({ROGUE_MAC}) on eth1 through the relay 10.77.0.254"
    found = tracker()
    found.heard(reply(MessageType.DHCPACK), replace(HEARD, port=4011), 0.0)
    assert only(found).words() == "answers on UDP port 4011"
    found = tracker()
    found.heard(reply(MessageType.DHCPACK), HEARD, 0.0)
    assert only(found).words() == "answers clients"


def test_servers_that_somebody_makes_up_neither_use_up_memory_nor_the_log_nor_hide_the_first() -> None:
    found = tracker()
    said = [found.heard(reply(yiaddr=ADDRESS), HEARD, 0.0)]
    for number in range(500):
        made_up = IPv4Address(0x0A4D0100 + number)
        said.append(found.heard(reply(server=made_up, yiaddr=ADDRESS), replace(HEARD, source=made_up), 1.0))
        options = {Option.SERVER_IDENTIFIER: IPv4Address(0x0B000000 + number).packed}
        said.append(found.chosen(message(MessageType.DHCPREQUEST, KNOWN, options=options), "eth1", 1.0))
    assert len(found) == others.MOST_SERVERS
    assert found.unlisted == 1001 - others.MOST_SERVERS
    assert len([text for text in said if text]) == others.MOST_SAID
    assert ROGUE in [other.server_id for other in found]
    late = reply(server=IPv4Address("10.77.9.9"), yiaddr=ADDRESS)
    assert found.heard(late, HEARD, 1.0 + others.SILENT_S), "the silent make room"
    assert only(found).server_id == IPv4Address("10.77.9.9")


def test_one_server_that_answers_many_machines_is_one_record_of_few_names() -> None:
    found = Others(Ours(lambda _: False, lambda mac: f"n-{mac}", lambda _: False))
    for number in range(100):
        found.heard(reply(mac=f"02:00:00:00:00:{number:02x}", yiaddr=ADDRESS), HEARD, 0.0)
    assert (only(found).ours, len(only(found).machines)) == (100, others.MOST_MACHINES)


def test_a_server_that_was_silent_for_a_day_is_forgotten() -> None:
    found = tracker()
    found.heard(reply(yiaddr=ADDRESS), HEARD, 0.0)
    found.expire(others.FORGOTTEN_S - 1)
    assert only(found).count == 1
    found.expire(others.FORGOTTEN_S)
    assert not len(found)


def test_a_clock_that_is_set_back_silences_nothing() -> None:
    found = tracker()
    assert found.heard(reply(yiaddr=ADDRESS), HEARD, 2e9)
    found.expire(1e9)
    assert found.heard(reply(yiaddr=ADDRESS), HEARD, 1e9)
    assert not found.heard(reply(yiaddr=ADDRESS), HEARD, 1e9 + 1)


@given(st.binary(max_size=400), st.booleans())
def test_no_message_is_too_odd(options: bytes, request: bool) -> None:
    head = reply(yiaddr=ADDRESS, file=b"\xff\0").encode()[:240]
    odd = wire.decode(head + bytes((53, 1, 2)) + options)
    found = tracker()
    if request:
        found.chosen(odd, "eth1", 0.0)
    else:
        found.heard(odd, HEARD, 0.0)
    for other in found:
        assert other.words()
        assert other.name


# What was read from the link.

SENT = Datagram(ROGUE, 67, IPv4Address("255.255.255.255"), 68, b"an offer")
PACKET = udp_packet(ROGUE, 67, IPv4Address("255.255.255.255"), 68, b"an offer", 7)


def scapy_packet(**ip: Any) -> bytes:
    return bytes(IP(src="10.77.0.2", dst="255.255.255.255", **ip) / UDP(sport=67, dport=68) / Raw(b"an offer"))


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(PACKET, id="as-we-make-it"),
        pytest.param(PACKET.ljust(60, b"\xee"), id="padded-to-the-least-of-ethernet"),
        pytest.param(scapy_packet(flags="DF"), id="unfragmentable"),
        pytest.param(bytes(IP(scapy_packet(options=[b"\x01\x01\x01\x01"]))), id="with-ip-options"),
        pytest.param(PACKET[:26] + bytes(2) + PACKET[28:], id="without-udp-checksum"),
    ],
)
def test_a_sound_packet_is_read(packet: bytes) -> None:
    assert datagram(packet) == SENT


def changed(at: int, value: bytes, *, header_sum: bool = True) -> bytes:
    """PACKET with bytes changed, and a header checksum that is right again unless `header_sum` is false."""
    packet = bytearray(PACKET)
    packet[at : at + len(value)] = value
    if header_sum:
        again = IP(bytes(packet[:20]))
        del again.chksum
        packet[:20] = bytes(again)[:20]
    return bytes(packet)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        pytest.param(b"", "0 bytes", id="empty"),
        pytest.param(PACKET[:19], "19 bytes", id="cut-in-the-ip-header"),
        pytest.param(PACKET[:-1], "36 of 35", id="cut-at-the-end"),
        pytest.param(changed(0, b"\x65"), "version 6", id="ipv6"),
        pytest.param(changed(0, b"\x44", header_sum=False), "a header of 16", id="short-header"),
        pytest.param(changed(0, b"\x4f", header_sum=False), "a header of 60", id="header-beyond-the-end"),
        pytest.param(changed(6, b"\x20\0"), "a fragment", id="first-fragment"),
        pytest.param(changed(6, b"\0\1"), "a fragment", id="later-fragment"),
        pytest.param(changed(9, b"\x06"), "protocol 6", id="tcp"),
        pytest.param(changed(8, b"\x01", header_sum=False), "the header's checksum", id="header-checksum"),
        pytest.param(changed(24, struct.pack("!H", 17)), "a UDP length of 17", id="udp-length-too-long"),
        pytest.param(changed(24, struct.pack("!H", 7)), "a UDP length of 7", id="udp-length-too-short"),
        pytest.param(changed(35, b"!"), "the UDP checksum", id="udp-checksum"),
    ],
)
def test_a_damaged_packet_is_not_believed(packet: bytes, why: str) -> None:
    with pytest.raises(Damaged, match=why):
        datagram(packet)


def test_a_checksum_that_no_card_made_yet_is_not_missed() -> None:
    assert datagram(changed(26, b"\x12\x34"), summed=False) == SENT


@given(st.binary(max_size=80))
def test_any_bytes_are_a_datagram_or_damaged(packet: bytes) -> None:
    try:
        datagram(packet, summed=False)
    except Damaged:
        return
