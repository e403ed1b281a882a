"""ARP packets against scapy's, and what of them counts."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP

from dhcp import arp

MAC = bytes.fromhex("525400123456")
ADDRESS = IPv4Address("10.77.0.9")


def made(**fields: object) -> ARP:
    """Return scapy's packet; what it would look up on this machine is given."""
    return ARP(**{"hwsrc": "02:00:00:00:00:02", "psrc": "10.0.0.1", "pdst": "10.0.0.2", **fields})


def test_a_probe_names_no_sender_address_as_scapy_reads_it() -> None:
    read = ARP(arp.probe(MAC, ADDRESS))
    assert (read.op, read.hwtype, read.ptype, read.hwlen, read.plen) == (1, 1, 0x0800, 6, 4)
    assert (read.hwsrc, read.psrc) == ("52:54:00:12:34:56", "0.0.0.0")
    assert (read.hwdst, read.pdst) == ("00:00:00:00:00:00", str(ADDRESS))
    assert len(read) == 28


def test_an_answer_that_scapy_makes_is_read_with_its_padding() -> None:
    answer = ARP(op=2, hwsrc="52:54:00:12:34:56", psrc=str(ADDRESS), hwdst="02:00:00:00:00:01", pdst="0.0.0.0")
    assert arp.decode(bytes(answer) + bytes(18)) == arp.Arp(
        2, MAC, ADDRESS, bytes.fromhex("020000000001"), IPv4Address(0)
    )


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        pytest.param(b"", "0 bytes", id="empty"),
        pytest.param(bytes(27), "27 bytes", id="short"),
        pytest.param(bytes(made(hwtype=32)), "not IPv4 on Ethernet", id="infiniband"),
        pytest.param(bytes(made(ptype=0x86DD)), "not IPv4 on Ethernet", id="ipv6"),
        pytest.param(bytes.fromhex("0001080014 04") + bytes(60), "not IPv4 on Ethernet", id="long-hardware-address"),
    ],
)
def test_what_is_no_arp_for_ipv4_is_refused(packet: bytes, said: str) -> None:
    with pytest.raises(arp.MalformedPacket, match=said):
        arp.decode(packet)


@given(st.binary(max_size=64))
def test_any_bytes_decode_or_are_refused(packet: bytes) -> None:
    try:
        read = arp.decode(packet)
    except arp.MalformedPacket:
        return
    assert read.encode() == packet[:28]


def taken(program: tuple[tuple[int, int, int, int], ...], packet: bytes) -> int:
    """Run a classic BPF program as the kernel does; only the instructions that we use."""
    at = a = x = 0
    while True:
        code, if_true, if_false, k = program[at]
        at += 1
        match code:
            case 0x28:
                a = int.from_bytes(packet[k : k + 2], "big")
            case 0x20:
                a = int.from_bytes(packet[k : k + 4], "big")
            case 0x07:
                x = a
            case 0x15:
                at += if_true if a == k else if_false
            case 0x1D:
                at += if_true if a == x else if_false
            case 0x06:
                return k
            case _:
                raise AssertionError(hex(code))


@pytest.mark.parametrize(
    ("packet", "passes"),
    [
        pytest.param(made(op=2, psrc="10.0.0.1", pdst="10.0.0.2"), True, id="answer"),
        pytest.param(made(op=2, psrc="10.0.0.1", pdst="0.0.0.0"), True, id="answer-to-a-probe"),
        pytest.param(made(op=1, psrc="10.0.0.1", pdst="10.0.0.1"), True, id="announcement"),
        pytest.param(made(op=1, psrc="10.0.0.1", pdst="10.0.0.2"), False, id="question"),
        pytest.param(made(op=1, psrc="0.0.0.0", pdst="10.0.0.2"), False, id="probe"),
        pytest.param(made(op=3, psrc="10.0.0.1", pdst="10.0.0.2"), False, id="reverse"),
    ],
)
def test_the_filter_passes_answers_and_announcements(packet: ARP, passes: bool) -> None:
    assert bool(taken(arp.FILTER, bytes(packet))) == passes
    assert not taken(arp.NOTHING, bytes(packet))
