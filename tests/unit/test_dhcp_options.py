"""dhcp.options: values ⇄ bytes, with dhcp.frame and scapy's IP and UDP beside them."""

import doctest
from ipaddress import IPv4Address, IPv4Network
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

from config.dhcpoptions import OWN_OPTIONS
from config.optiontable import CATALOGUE
from dhcp import frame, options, plan, replies
from dhcp.options import (
    ClientFqdn,
    FqdnFlags,
    Option,
    client_fqdn,
    encode_client_fqdn,
    encode_domain_search,
    encode_static_routes,
    has_default_route,
    sub_options,
)


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


def fqdn(flags: int, name: str) -> bytes:
    return bytes((flags, 0, 0)) + bytes.fromhex(name)


@pytest.mark.parametrize(
    ("value", "flags", "name"),
    [
        pytest.param(fqdn(5, "036e6231 046661726d 00"), FqdnFlags.S | FqdnFlags.E, "nb1.farm", id="dns-form"),
        pytest.param(fqdn(4, "034e4231"), FqdnFlags.E, "nb1", id="part-of-a-name"),
        pytest.param(fqdn(0, b"NB1.farm.".hex()), FqdnFlags(0), "nb1.farm", id="text"),
        pytest.param(fqdn(0xF8, b"nb1".hex()), FqdnFlags.N, "nb1", id="reserved-flags"),
        pytest.param(fqdn(4, "00"), FqdnFlags.E, "", id="root"),
        pytest.param(fqdn(1, ""), FqdnFlags.S, "", id="asks-for-a-name"),
        pytest.param(fqdn(4, "3f" + b"a".hex() * 63), FqdnFlags.E, "a" * 63, id="longest-label"),
    ],
)
def test_a_clients_name_is_read_in_both_forms(value: bytes, flags: FqdnFlags, name: str) -> None:
    assert client_fqdn(value) == ClientFqdn(flags, name)


HOSTILE = [
    b"nb\0",
    b"\0nb",
    b"nb\n",
    b"nb\r\nX",
    b"$(id)",
    b"`id`",
    b"../../x",
    b"a/b",
    b"a b",
    b"-nb",
    b"nb-",
    b"n\xc3\xa9",
]
HOSTILE += [b"\xff\xfe", b"a" * 64, b"a_b", b"a;b", b"a'b", b"..", b".nb", b"a..b", b"%r", b"\x1b[2J", b"b" * 252]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_none(name: bytes) -> None:
    framed = bytes((len(name),)) + name + b"\0"
    assert client_fqdn(bytes((0, 0, 0)) + name) is None
    assert client_fqdn(bytes((4, 0, 0)) + framed) is None


@pytest.mark.parametrize(
    "value",
    [
        *(None, b"", b"\4", b"\4\0"),
        pytest.param(fqdn(4, "046e6231"), id="a-label-that-leads-outside"),
        pytest.param(fqdn(4, "c000"), id="a-pointer"),
        pytest.param(fqdn(4, "036e6231 00 036e6232 00"), id="two-names"),
        pytest.param(fqdn(4, "3f" * 256), id="too-long"),
        pytest.param(fqdn(0, b".".join([b"a" * 60] * 5).hex()), id="too-long-in-all"),
    ],
)
def test_an_option_81_without_a_name_that_dns_takes_is_absent(value: bytes | None) -> None:
    assert client_fqdn(value) is None


@given(st.binary(max_size=300), st.integers(0, 255))
def test_any_option_81_is_a_safe_name_or_nothing(data: bytes, flags: int) -> None:
    found = client_fqdn(bytes((flags, 0, 0)) + data)
    name = found.name if found else ""
    assert len(name) <= 253
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


@given(names.filter(lambda name: "" not in name.split(".") and len(name) < 200), st.integers(0, 15).map(FqdnFlags))
def test_a_clients_name_is_answered_in_its_own_form(name: str, asked: FqdnFlags) -> None:
    answer = encode_client_fqdn(asked, name)
    assert answer[1:3] == b"\xff\xff"
    flags = FqdnFlags(answer[0])
    assert flags & FqdnFlags.N
    assert not flags & FqdnFlags.S, "no DNS update is made, so S is 0 where N is 1"
    assert bool(flags & FqdnFlags.O) == bool(asked & FqdnFlags.S), "O: the client's S is overridden"
    assert flags & FqdnFlags.E == asked & FqdnFlags.E
    read = client_fqdn(answer)
    assert read is None or read.name == name


def test_one_list_names_what_is_the_protocols_own() -> None:
    named = {Option.REQUESTED_IP_ADDRESS, Option.SUBNET_SELECTION, Option.RAPID_COMMIT, Option.SUBNET_MASK}
    assert named <= OWN_OPTIONS


@pytest.mark.parametrize("option", Option)
def test_every_option_that_we_use_is_in_the_catalogue(option: Option) -> None:
    assert option in CATALOGUE
