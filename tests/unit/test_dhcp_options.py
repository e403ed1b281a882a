"""dhcp.options: values ⇄ bytes, with dhcp.frame and scapy's IP and UDP beside them."""

import doctest
from ipaddress import IPv4Address, IPv4Network
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

from dhcp import frame, options, plan, replies
from dhcp.options import encode_domain_search, encode_static_routes, has_default_route, sub_options


@pytest.mark.parametrize("module", [options, frame, plan, replies])
def test_the_examples_in_the_documentation_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("value", "address"), [(b"\n\0\0\1", "10.0.0.1"), (b"", None), (b"\n\0\0", None), (None, None)]
)
def test_an_address_has_four_bytes(value: bytes | None, address: str | None) -> None:
    assert options.address(value) == (IPv4Address(address) if address else None)


@pytest.mark.parametrize(
    ("value", "number"), [(b"\x05\xc0", 1472), (b"", None), (b"\1", None), (b"\0\0\1", None), (None, None)]
)
def test_a_number_of_another_length_is_absent(value: bytes | None, number: int | None) -> None:
    assert options.number(value, 2) == number


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", {}),
        ("0102ab", {}),
        ("01", {}),
        ("0100", {1: b""}),
        ("01026162 0b040a000001", {1: b"ab", 11: b"\n\0\0\1"}),
        ("01026162 0b", {}),
    ],
)
def test_a_relays_option_is_read_whole_or_not_at_all(value: str, found: dict[int, bytes]) -> None:
    assert sub_options(bytes.fromhex(value)) == found


@given(st.binary(max_size=64))
def test_any_bytes_of_a_relay_are_read(value: bytes) -> None:
    sub_options(value)


def read_names(data: bytes) -> list[str]:
    """A plain reader of option 119 (RFC 1035 section 4.1.4), the encoder's oracle."""
    names, at = [], 0
    while at < len(data):
        labels, here, jumped = [], at, False
        while data[here]:
            if data[here] >= 0xC0:
                at = at if jumped else here + 2
                here, jumped = int.from_bytes(data[here : here + 2], "big") & 0x3FFF, True
                continue
            labels.append(data[here + 1 : here + 1 + data[here]].decode())
            here += 1 + data[here]
        at = at if jumped else here + 1
        names.append(".".join(labels))
    return names


names = st.lists(st.text("abc-", min_size=1, max_size=63), min_size=1, max_size=3).map(".".join)


@given(st.lists(names, max_size=8))
def test_search_domains_are_read_back(domains: list[str]) -> None:
    assert read_names(encode_domain_search(domains)) == domains


@pytest.mark.parametrize("name", ["", "a..b", "a" * 64, "ü.example", ".".join(["a" * 60] * 5)])
def test_what_dns_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        encode_domain_search([name])


@pytest.mark.parametrize(
    ("to", "encoded"),
    [
        ("0.0.0.0/0", "00 c0000201"),
        ("10.0.0.0/8", "08 0a c0000201"),
        ("10.17.0.0/16", "10 0a11 c0000201"),
        ("10.27.129.0/25", "19 0a1b8100 c0000201"),
        ("10.198.122.47/32", "20 0ac67a2f c0000201"),
    ],
)
def test_a_route_has_only_the_octets_its_prefix_covers(to: str, encoded: str) -> None:
    routes = encode_static_routes([(IPv4Network(to), IPv4Address("192.0.2.1"))])
    assert routes == bytes.fromhex(encoded)
    behind_another = encode_static_routes([(IPv4Network("10.0.0.0/9"), IPv4Address("192.0.2.1"))]) + routes
    assert has_default_route(behind_another) == (to == "0.0.0.0/0")


@given(st.binary(max_size=600), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1).map(IPv4Address))
def test_scapy_finds_our_frames_in_order(data: bytes, ident: int, to: IPv4Address) -> None:
    packet = frame.udp_packet(IPv4Address("10.77.0.1"), 67, to, 68, data, ident)
    judge = IP(packet)
    assert (judge.src, judge.dst, judge.id, judge.ttl) == ("10.77.0.1", str(to), ident, 64)
    assert not judge.flags.DF
    assert (judge[UDP].sport, judge[UDP].dport) == (67, 68)
    assert bytes(judge[UDP].payload) == data
    sums = judge.chksum, judge[UDP].chksum
    del judge.chksum, judge[UDP].chksum
    again = IP(bytes(judge))
    assert (again.chksum, again[UDP].chksum) == sums
