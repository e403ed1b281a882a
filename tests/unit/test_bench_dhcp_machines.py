"""The machines that are switched on together: what they say, and what they make of the answers."""

import struct
from ipaddress import IPv4Address

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from bench.dhcp_machines import (
    Reply,
    Room,
    arp_answer,
    in_frame,
    out_of_frame,
    read_reply,
)

SERVER = IPv4Address("10.28.0.1")
FIRST = bytes.fromhex("525400000001")
SECOND = bytes.fromhex("525400000002")
OFFER, ACK, NAK = 2, 5, 6


def answer(mac: bytes, kind: int, address: str = "10.29.0.1", server: IPv4Address = SERVER) -> Reply:
    return Reply(0x5EED0000 + mac[-1], IPv4Address(address), mac, kind, server.packed)


def kind_of(payload: bytes) -> int:
    return dict(item for item in DHCP(payload[240:]).options if len(item) == 2)["message-type"]  # type: ignore[no-any-return]


def boot(room: Room, mac: bytes, address: str, now: float) -> None:
    room.receive(answer(mac, OFFER, address), now)
    room.receive(answer(mac, ACK, address), now)


def test_they_are_switched_on_evenly() -> None:
    room = Room(4, 1.0)
    assert [room.expire(at / 100)[:1] != [] for at in (0, 20, 25, 30, 50, 75, 99, 100)].count(True) == 4


def test_scapy_reads_what_a_machine_says() -> None:
    room = Room(2, 0.0)
    (mac, payload), _ = room.expire(0.0)
    frame = Ether(in_frame(mac, payload))
    assert (frame.src, frame.dst) == ("52:54:00:00:00:01", "ff:ff:ff:ff:ff:ff")
    assert (frame[IP].src, frame[IP].dst, frame[UDP].dport) == ("0.0.0.0", "255.255.255.255", 67)
    assert frame[BOOTP].chaddr[:6] == FIRST
    options: dict[str, object] = dict(item[:2] for item in frame[DHCP].options if isinstance(item, tuple))
    assert options["message-type"] == 1
    assert options["vendor_class_id"] == b"PXEClient:Arch:00007:UNDI:003016"
    assert options["pxe_client_architecture"] == b"\x00\x07"
    assert options["pxe_client_machine_identifier"] == bytes(11) + FIRST


def test_every_other_machine_sets_the_broadcast_flag() -> None:
    flags = [struct.unpack_from("!H", payload, 10)[0] for _, payload in Room(4, 0.0).expire(0.0)]
    assert sorted(flags) == [0, 0, 0x8000, 0x8000]


def test_four_messages_make_a_lease() -> None:
    room = Room(1, 0.0)
    room.expire(0.0)
    ((mac, request),) = room.receive(answer(FIRST, OFFER), 0.5)
    assert (mac, kind_of(request)) == (FIRST, 3)
    assert b"\x32\x04\x0a\x1d\x00\x01\x36\x04\x0a\x1c\x00\x01" in request
    assert room.receive(answer(FIRST, ACK), 0.7) == []
    assert room.deadline is None
    outcome = room.outcome()
    assert (outcome.bound, outcome.last_s, outcome.repeated) == (1, 0.7, 0)


def test_silence_is_answered_as_firmware_does() -> None:
    room = Room(1, 0.0)
    times = []
    while (deadline := room.deadline) is not None and deadline < 130:
        times.append(deadline)
        room.expire(deadline)
    assert times == [0, 4, 12, 28, 60, 64, 72, 88, 120, 124]
    assert room.outcome().repeated > 0


def test_an_answer_that_is_late_by_a_retry_still_counts() -> None:
    room = Room(1, 0.0)
    room.expire(0.0)
    room.expire(4.0)
    room.receive(answer(FIRST, OFFER), 4.1)
    room.receive(answer(FIRST, ACK), 4.2)
    assert (room.outcome().last_s, room.outcome().repeated) == (4.2, 1)


def test_a_refused_machine_begins_anew() -> None:
    room = Room(1, 0.0)
    room.expire(0.0)
    room.receive(answer(FIRST, OFFER), 0.1)
    ((_, said),) = room.receive(answer(FIRST, NAK), 0.2)
    assert kind_of(said) == 1
    assert room.outcome().refused == 1


def test_a_machine_hears_only_its_own_server_and_its_own_transaction() -> None:
    room = Room(2, 0.0)
    room.expire(0.0)
    room.receive(answer(FIRST, OFFER), 0.1)
    assert room.receive(answer(FIRST, ACK, server=IPv4Address("10.28.0.9")), 0.2) == []
    assert room.receive(Reply(1, SERVER, FIRST, ACK, SERVER.packed), 0.2) == []
    assert room.outcome().bound == 0


def test_a_machine_without_a_lease_is_never_ready() -> None:
    room = Room(2, 0.0)
    room.expire(0.0)
    boot(room, FIRST, "10.29.0.1", 0.1)
    outcome = room.outcome()
    assert (outcome.bound, outcome.machines, outcome.last_s) == (1, 2, float("inf"))


def test_an_address_that_two_have_is_seen() -> None:
    room = Room(2, 0.0)
    room.expire(0.0)
    boot(room, FIRST, "10.29.0.1", 0.1)
    boot(room, SECOND, "10.29.0.1", 0.1)
    assert (room.outcome().offered_twice, room.outcome().given_twice) == (1, 1)


def test_the_machine_that_has_an_address_answers_arp_for_it() -> None:
    room = Room(2, 0.0)
    room.expire(0.0)
    question = bytes(
        Ether(src="02:00:00:00:00:09", dst="ff:ff:ff:ff:ff:ff")
        / ARP(op=1, hwsrc="02:00:00:00:00:09", psrc=str(SERVER), pdst="10.29.0.1")
    )
    assert arp_answer(question, room) is None
    boot(room, SECOND, "10.29.0.1", 0.1)
    said = arp_answer(question, room)
    assert said is not None
    frame = Ether(said)
    assert (frame.src, frame.dst) == ("52:54:00:00:00:02", "02:00:00:00:00:09")
    assert (frame[ARP].op, frame[ARP].hwsrc, frame[ARP].psrc) == (2, "52:54:00:00:00:02", "10.29.0.1")
    assert (frame[ARP].hwdst, frame[ARP].pdst) == ("02:00:00:00:00:09", str(SERVER))


def test_a_reply_is_read_as_scapy_writes_it() -> None:
    packet = (
        Ether(dst="52:54:00:00:00:01")
        / IP(src=str(SERVER), dst="10.29.0.1")
        / UDP(sport=67, dport=68)
        / BOOTP(op=2, xid=7, yiaddr="10.29.0.1", chaddr=FIRST)
        / DHCP(options=["pad", ("message-type", "offer"), ("server_id", str(SERVER)), "end"])
    )
    payload = out_of_frame(bytes(packet))
    assert payload is not None
    assert read_reply(payload) == Reply(7, IPv4Address("10.29.0.1"), FIRST, OFFER, SERVER.packed)


@pytest.mark.parametrize("cut", range(0, 300, 7))
def test_a_reply_that_is_cut_short_is_no_error(cut: int) -> None:
    options = DHCP(options=[("message-type", "ack"), ("server_id", str(SERVER)), "end"])
    read_reply(bytes(BOOTP(op=2, xid=7, chaddr=FIRST) / options)[:cut])


@pytest.mark.parametrize("frame", [b"", bytes(60), bytes(Ether() / IP() / UDP(sport=67, dport=69) / bytes(300))])
def test_other_frames_are_left_alone(frame: bytes) -> None:
    assert out_of_frame(frame) is None
    assert arp_answer(frame, Room(1, 0.0)) is None
