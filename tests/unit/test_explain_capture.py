"""pxeboot.explain.capture and .compare: captures that scapy wrote are read, and their requests explained."""

import struct
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from ipaddress import IPv4Address
from tempfile import NamedTemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import CookedLinux, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import PcapNgWriter, PcapWriter

from config.marks import Marks
from config.model import Farm
from dhcp.engine import Server
from dhcp.plan import plan
from dhcp.wire import Message, Op
from pxeboot.explain import capture
from pxeboot.explain.capture import Capture, NoCapture
from pxeboot.explain.compare import Compared, compare, differences
from pxeboot.explain.explanation import Desk
from tests.support.dhcp_clients import ARRIVAL, FARM, KNOWN, SERVER, STRANGER, farm, recorded

NOW = 1_000_000.0
OTHER = IPv4Address("10.77.0.2")
DISCOVER = recorded("D-OVMF-PXE", flags=0x8000)


class Kept(BytesIO):
    """A file that its writer cannot close."""

    def close(self) -> None:
        self.flush()


def udp(
    message: Message, src: str = "0.0.0.0", dst: str = "255.255.255.255", ports: tuple[int, int] = (68, 67)
) -> Packet:
    return IP(src=src, dst=dst) / UDP(sport=ports[0], dport=ports[1]) / Raw(message.encode())


def ethernet(packet: Packet) -> Packet:
    return Ether(src="52:54:00:12:34:56", dst="ff:ff:ff:ff:ff:ff") / packet


def pcap(*packets: Packet, linktype: int = 1, endianness: str = "<", nano: bool = False) -> bytes:
    file = Kept()
    writer = PcapWriter(file, linktype=linktype, endianness=endianness, nano=nano)
    for i, packet in enumerate(packets):
        packet.time = 1000 + i / 4
        writer.write(packet)
    writer.flush()
    return file.getvalue()


def pcapng(*packets: Packet) -> bytes:
    with NamedTemporaryFile() as file:
        writer = PcapNgWriter(file.name)
        for i, packet in enumerate(packets):
            packet.time = 1000 + i / 4
            writer.write(packet)
        writer.close()
        return file.read()


def cooked_2(packet: Packet) -> bytes:
    """A frame of `tcpdump -i any` of today: SLL2."""
    return struct.pack("!HHIHBB8s", 0x0800, 0, 3, 1, 0, 6, b"\x52\x54\0\x12\x34\x56") + bytes(packet)


FORMS: dict[str, Callable[[Packet], bytes]] = {
    "pcap, little endian": lambda packet: pcap(ethernet(packet)),
    "pcap, big endian": lambda packet: pcap(ethernet(packet), endianness=">"),
    "pcap with nanoseconds": lambda packet: pcap(ethernet(packet), nano=True),
    "pcapng": lambda packet: pcapng(ethernet(packet)),
    "Linux cooked": lambda packet: pcap(CookedLinux(proto=0x0800) / packet, linktype=113),
    "Linux cooked, version 2": lambda packet: pcap(Raw(cooked_2(packet)), linktype=276),
    "bare IP": lambda packet: pcap(packet, linktype=101),
    "a VLAN": lambda packet: pcap(Ether(dst="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=7) / packet),
    "two VLAN tags": lambda packet: pcap(Ether() / Dot1Q(vlan=7, type=0x8100) / Dot1Q(vlan=8) / packet),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_recorded_discover_is_read_from_every_form_of_capture(form: str) -> None:
    found = capture.read(FORMS[form](udp(DISCOVER)))
    assert [one.message for one in found.messages] == [DISCOVER]
    (one,) = found.messages
    assert (one.number, one.time_s, found.frames, found.damaged) == (1, 1000.0, 1, 0)
    assert (str(one.datagram.destination), one.datagram.destination_port) == ("255.255.255.255", 67)


def test_a_big_endian_pcapng_and_its_own_time_are_read() -> None:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack(">II", kind, 12 + len(body)) + body + struct.pack(">I", 12 + len(body))

    frame = bytes(ethernet(udp(DISCOVER)))
    section = block(0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = struct.pack(">HH3sxHHB3x", 2, 3, b"lan", 9, 1, 3)  # its name, and milliseconds
    interface = block(1, struct.pack(">HHI", 1, 0, 65535) + options)
    packet = block(6, struct.pack(">IIIII", 0, 0, 5000, len(frame), len(frame)) + frame)
    simple = block(3, struct.pack(">I", len(frame)) + frame)
    found = capture.read(section + interface + block(5, b"statistics") + packet + simple)
    assert [one.message for one in found.messages] == [DISCOVER, DISCOVER]
    assert [one.time_s for one in found.messages] == [5.0, 0.0]


def test_frames_are_counted_and_what_is_no_dhcp_is_passed_over() -> None:
    other = ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=53, dport=5353) / Raw(b"x"))
    found = capture.read(pcap(other, Ether(type=0x86DD) / Raw(b"six"), ethernet(udp(DISCOVER))))
    assert [one.number for one in found.messages] == [3]
    assert (found.frames, found.damaged) == (3, 0)


def test_damaged_frames_are_counted() -> None:
    whole = bytes(ethernet(udp(DISCOVER)))
    found = capture.read(pcap(Raw(whole[:200]), Raw(whole[:-1]), ethernet(udp(DISCOVER))))
    assert (len(found.messages), found.damaged) == (1, 2)


def test_link_types_that_are_not_read_are_named() -> None:
    found = capture.read(pcap(Raw(b"radio"), linktype=105))
    assert (found.messages, found.unknown_links) == ((), (105,))


def test_a_file_that_is_no_capture_is_refused() -> None:
    for data in (b"", b"hello world", b"\xd4\xc3\xb2\xa1", b"\x0a\x0d\x0d\x0a" + bytes(20)):
        with pytest.raises(NoCapture):
            capture.read(data)


HEADS = (b"", b"\xd4\xc3\xb2\xa1", pcap(ethernet(udp(DISCOVER))), pcapng(ethernet(udp(DISCOVER)))[:48])


@given(head=st.sampled_from(HEADS), data=st.binary(max_size=400), cut=st.integers(0, 500))
def test_any_bytes_are_read_or_refused(head: bytes, data: bytes, cut: int) -> None:
    try:
        found = capture.read(head[:cut] + data)
    except NoCapture:
        return
    assert found.frames >= len(found.messages) + found.damaged


def test_a_capture_that_was_cut_anywhere_is_read_as_far_as_it_goes() -> None:
    whole = pcap(ethernet(udp(DISCOVER)), ethernet(udp(DISCOVER)))
    for size in range(24, len(whole)):
        assert len(capture.read(whole[:size]).messages) == (size >= 24 + (len(whole) - 24) // 2)


def answer(**fields: object) -> Message:
    """Return another server's DHCPOFFER to `DISCOVER`."""
    said = {53: b"\2", 54: OTHER.packed, 51: (600).to_bytes(4, "big"), 1: bytes((255, 255, 255, 0))}
    header = {"op": Op.BOOTREPLY, "xid": DISCOVER.xid, "chaddr": DISCOVER.chaddr, "yiaddr": IPv4Address("10.77.0.99")}
    return Message(**header | fields, options=said)  # type: ignore[arg-type]


def explained(
    *packets: Packet, macs: tuple[str, ...] = (), settings: Farm | None = None
) -> tuple[tuple[Compared, ...], Capture]:
    made = settings or farm()
    found = capture.read(pcap(*map(ethernet, packets)))
    desk = Desk(Server(plan(made), (), NOW), made, Marks(), {})
    return compare(desk, found.messages, NOW, lambda _: SERVER, macs)[0], found


def test_a_recorded_discover_is_answered_as_it_would_be() -> None:
    ((one,), _) = explained(udp(DISCOVER))
    assert one.explanation.boots
    assert one.explanation.answer is not None
    assert str(one.explanation.answer.send.message.yiaddr) == "10.77.0.10"
    assert (one.real, one.took, one.would_take) == ((), (), ())


def test_a_real_offer_is_compared_with_ours_and_it_is_said_which_one_is_taken() -> None:
    offer = udp(answer(), "10.77.0.2", ports=(67, 68))
    ((one,), _) = explained(udp(DISCOVER), offer)
    (real,) = one.real
    assert (real.server, real.captured.number) == ("10.77.0.2", 2)
    differs = {difference.name: difference for difference in real.differs}
    assert (differs["yiaddr"].theirs, differs["yiaddr"].ours) == ("10.77.0.99", "10.77.0.10")
    assert (differs["51 dhcp-lease-time"].theirs, differs["51 dhcp-lease-time"].ours) == ("600 s", "86400 s")
    assert differs["67 boot-file-name"].theirs == ""
    assert "1 subnet-mask" not in differs
    assert not one.took[-1].ok
    assert one.would_take[0].what.startswith("takes 10.77.0.10 from 10.77.0.1")


def test_our_own_offer_in_a_capture_differs_in_nothing() -> None:
    desk = Desk(Server(plan(farm()), (), NOW), farm(), Marks(), {})
    first = desk.explain(DISCOVER, replace(ARRIVAL, source_port=68), NOW)
    assert first.answer is not None
    ours = first.answer.send.message
    ((one,), _) = explained(udp(DISCOVER), udp(ours, "10.77.0.1", ports=(67, 68)))
    assert one.real[0].differs == ()
    assert one.took == one.explanation.steps


def test_an_answer_belongs_to_the_request_before_it() -> None:
    again = replace(DISCOVER, secs=4)
    ((first, second), _) = explained(udp(DISCOVER), udp(again), udp(answer(), "10.77.0.2", ports=(67, 68)))
    assert (len(first.real), len(second.real)) == (0, 1)


def test_what_was_captured_twice_counts_once() -> None:
    offer = udp(answer(), "10.77.0.2", ports=(67, 68))
    ((first, _), _) = explained(udp(DISCOVER), udp(DISCOVER), offer, offer)
    assert len(first.real) == 1


def test_requests_of_one_machine_are_chosen_by_its_mac() -> None:
    both = (udp(DISCOVER), udp(recorded("D-EDK2-PXE", STRANGER)))
    assert len(explained(*both)[0]) == 2
    assert [one.explanation.name for one in explained(*both, macs=(KNOWN,))[0]] == ["n1"]


def test_a_whole_exchange_is_explained_in_its_order() -> None:
    asked = recorded("D-EDK2-PXE", STRANGER, flags=0x8000)
    desk = Desk(Server(plan(farm()), (), NOW), farm(), Marks(), {})
    first = desk.explain(asked, ARRIVAL, NOW)
    assert first.answer is not None
    address = first.answer.send.message.yiaddr
    taken = {53: b"\3", 54: SERVER.packed, 50: address.packed}
    request = replace(asked, options={**asked.options, **taken})
    ((_, second), _) = explained(udp(asked), udp(request))
    assert second.explanation.answer is not None
    assert second.explanation.answer.kind == "DHCPACK"
    assert second.explanation.answer.send.message.yiaddr == address


def test_a_request_that_may_be_of_any_network_is_left_over() -> None:
    found = capture.read(pcap(ethernet(udp(DISCOVER))))
    desk = Desk(Server(plan(farm()), (), NOW), farm(), Marks(), {})
    compared, nowhere = compare(desk, found.messages, NOW, lambda _: None)
    assert (compared, len(nowhere)) == ((), 1)


def test_nothing_differs_from_no_answer() -> None:
    assert differences(answer(), None) == ()
    assert FARM  # the farm that all of these are answered from
