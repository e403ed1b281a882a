"""dhcp.wire: bytes ⇄ messages, with scapy as the judge in both directions."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP, DHCPOptions

from dhcp import wire
from dhcp.wire import Flags, MalformedPacket, Message, Op
from tests.support.dhcp_clients import RECORDED, recorded

HEADER = Message(Op.BOOTREQUEST, 0x1234, bytes.fromhex("525400123456")).encode()[:236]
COOKIE = wire.MAGIC_COOKIE

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
text = st.binary(max_size=63).map(lambda value: value.partition(b"\0")[0])
codes = st.integers(1, 254).filter(lambda code: code != wire.OVERLOAD)
messages = st.builds(
    Message,
    op=st.sampled_from(Op),
    xid=st.integers(0, 2**32 - 1),
    chaddr=st.binary(max_size=16),
    htype=st.integers(0, 255),
    hops=st.integers(0, 255),
    secs=st.integers(0, 65535),
    flags=st.integers(0, 65535),
    ciaddr=addresses,
    yiaddr=addresses,
    siaddr=addresses,
    giaddr=addresses,
    sname=text,
    file=text,
    options=st.dictionaries(codes, st.binary(max_size=600), max_size=8),
)


opaque = codes.filter(
    lambda code: isinstance(DHCPOptions.get(code, ""), str)
)  # to scapy; it knows what the others mean
judged = st.builds(
    replace,
    messages,
    chaddr=st.binary(min_size=6, max_size=6),
    options=st.dictionaries(opaque, st.binary(max_size=600), max_size=8),
)


def decode_options(field: str, file: bytes = b"", sname: bytes = b"") -> dict[int, bytes]:
    header = HEADER[:44] + sname.ljust(64, b"\0") + file.ljust(128, b"\0")
    return dict(wire.decode(header + COOKIE + bytes.fromhex(field)).options)


@given(messages)
def test_what_is_encoded_decodes_to_the_same(message: Message) -> None:
    assert wire.decode(message.encode()) == message


@given(st.binary(max_size=700), st.booleans())
def test_any_bytes_decode_or_are_refused(datagram: bytes, with_header: bool) -> None:
    try:
        message = wire.decode(HEADER + COOKIE + datagram if with_header else datagram)
    except MalformedPacket:
        assert not with_header
        return
    assert wire.decode(message.encode()) == message


@given(messages, st.integers(300, 1472), st.sets(codes), st.booleans())
def test_a_packed_message_fits_and_says_what_it_left_out(
    message: Message, size_limit: int, needed: set[int], overload: bool
) -> None:
    packed = message.pack(size_limit, needed, overload=overload)
    assert len(packed.data) <= size_limit
    decoded = wire.decode(packed.data)
    kept = {code: value for code, value in message.options.items() if code not in packed.left_out}
    assert decoded.options == kept
    if len(message.encode()) <= size_limit:
        assert packed == wire.Packed(message.encode())
    if wire.BOOT_SERVER_NAME not in message.options or not overload:
        assert decoded.sname == message.sname
    assert decoded.file == message.file
    assert (decoded.xid, decoded.chaddr, decoded.yiaddr) == (message.xid, message.chaddr, message.yiaddr)


@pytest.mark.parametrize(
    ("datagram", "complaint"),
    [
        pytest.param(b"", "0 bytes", id="empty"),
        pytest.param(HEADER + COOKIE[:3], "at least 240", id="cookie-cut"),
        pytest.param(HEADER + b"\0" * 64, "magic cookie", id="no-cookie"),
        pytest.param(b"\7" + HEADER[1:] + COOKIE, "op is 7", id="op"),
        pytest.param(HEADER[:2] + b"\x11" + HEADER[3:] + COOKIE, "hlen is 17", id="hlen"),
    ],
)
def test_what_is_no_dhcp_message_is_refused(datagram: bytes, complaint: str) -> None:
    with pytest.raises(MalformedPacket, match=complaint):
        wire.decode(datagram)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        pytest.param("350101ff", {53: b"\1"}, id="one"),
        pytest.param("3501010c03616263", {53: b"\1", 12: b"abc"}, id="no-end"),
        pytest.param("000035010100ff0c0161", {53: b"\1"}, id="pads-and-bytes-after-end"),
        pytest.param("3501010c", {53: b"\1"}, id="no-length"),
        pytest.param("3501010c0461", {53: b"\1"}, id="runs-past-the-end"),
        pytest.param("3500ff", {53: b""}, id="empty-value"),
        pytest.param("3d02aabb3501013d01ccff", {53: b"\1", 61: b"\xaa\xbb\xcc"}, id="joined"),
        pytest.param("340101ff", {}, id="overload-of-an-empty-field"),
        pytest.param("340104350101ff", {53: b"\1"}, id="overload-of-no-field"),
        pytest.param("34020101350101ff", {53: b"\1"}, id="overload-of-wrong-length"),
        pytest.param("3400350101ff", {53: b"\1"}, id="overload-without-value"),
        pytest.param("00" * 1000 + "350101ff", {53: b"\1"}, id="a-thousand-pads"),
    ],
)
def test_an_options_field_is_read(field: str, options: dict[int, bytes]) -> None:
    assert decode_options(field) == options


@pytest.mark.parametrize(
    ("used", "options"),
    [
        (1, {53: b"\1", 12: b"ab", 61: b"x"}),
        (2, {53: b"\1", 61: b"y", 15: b"d"}),
        (3, {53: b"\1", 12: b"ab", 61: b"xy", 15: b"d"}),
    ],
)
def test_options_in_file_come_before_those_in_sname(used: int, options: dict[int, bytes]) -> None:
    file = bytes.fromhex("0c026162 3d0178 340103 ff")  # an overload inside an overload means nothing
    sname = bytes.fromhex("3d0179 0f0164")
    assert decode_options(f"350101 3401{used:02x} ff", file, sname) == options


def test_a_long_option_leaves_as_instances_in_a_row() -> None:
    data = Message(Op.BOOTREPLY, 1, b"\2" * 6, options={119: b"a" * 255 + b"b" * 3}).encode()
    assert data[240:] == b"\x77\xff" + b"a" * 255 + b"\x77\x03bbb" + b"\xff"


def test_a_message_has_at_least_300_bytes() -> None:
    assert len(Message(Op.BOOTREPLY, 1, b"\2" * 6).encode()) == 300


def test_a_crowded_message_overloads_the_unused_fields_and_keeps_82_last() -> None:
    options = {53: b"\2", 66: b"10.0.0.1\0", 15: b"d" * 100, 119: b"s" * 50, 3: b"r" * 120}
    options |= {12: b"h" * 20, 82: b"\1\2ab"}
    message = Message(Op.BOOTREPLY, 1, b"\2" * 6, sname=b"10.0.0.1", options=options)
    packed = message.pack(548)
    decoded = wire.decode(packed.data)
    assert packed.left_out == ()
    assert decoded.options == options
    assert (decoded.file, decoded.sname) == (b"", b"10.0.0.1")
    field = packed.data[240:]
    assert field.endswith(b"\x34\x01\x01" + b"\x52\x04\1\2ab" + b"\xff")


def test_the_boot_file_is_never_overloaded_away() -> None:
    options = {53: b"\2", 15: b"d" * 180, 119: b"s" * 100, 121: b"r" * 60}
    message = Message(Op.BOOTREPLY, 1, b"\2" * 6, file=b"boot", options=options)
    packed = message.pack(548)
    assert packed.left_out == ()
    assert wire.decode(packed.data).file == b"boot"


@pytest.mark.parametrize(("needed", "left_out"), [((), (15,)), ((15,), (119,)), ((15, 119), (15,))])
def test_what_is_needed_is_left_out_last(needed: tuple[int, ...], left_out: tuple[int, ...]) -> None:
    options = {53: b"\2", 119: b"s" * 200, 15: b"d" * 120}
    message = Message(Op.BOOTREPLY, 1, b"\2" * 6, sname=b"a", file=b"boot", options=options)
    assert message.pack(548, needed).left_out == left_out


def test_a_relays_option_that_does_not_fit_is_left_out() -> None:
    options = {53: b"\2", 82: b"x" * 400}
    assert Message(Op.BOOTREPLY, 1, b"\2" * 6, options=options).pack(548, (53, 82)).left_out == (82,)


@pytest.mark.parametrize("name", [name for name, field in RECORDED.items() if field.startswith(COOKIE)])
def test_a_recorded_client_is_read_as_scapy_reads_it(name: str) -> None:
    message = recorded(name)
    judge = BOOTP(HEADER + RECORDED[name])
    assert scapy_options(judge) == message.options
    assert wire.decode(message.encode()) == message


@settings(max_examples=60)
@given(judged)
def test_scapy_reads_our_packets_alike(message: Message) -> None:
    judge = BOOTP(message.encode())
    assert (judge.op, judge.htype, judge.hlen, judge.hops) == (message.op, message.htype, 6, message.hops)
    assert (judge.xid, judge.secs, int(judge.flags)) == (message.xid, message.secs, message.flags)
    addresses = (judge.ciaddr, judge.yiaddr, judge.siaddr, judge.giaddr)
    assert addresses == tuple(map(str, (message.ciaddr, message.yiaddr, message.siaddr, message.giaddr)))
    assert judge.chaddr[:6] == message.chaddr
    assert (judge.sname.rstrip(b"\0"), judge.file.rstrip(b"\0")) == (message.sname, message.file)
    assert scapy_options(judge) == message.options


@settings(max_examples=60)
@given(judged)
def test_we_read_scapys_packets_alike(message: Message) -> None:
    fields = {name: str(getattr(message, name)) for name in ("ciaddr", "yiaddr", "siaddr", "giaddr")}
    fields |= {name: getattr(message, name) for name in ("op", "xid", "htype", "hops", "secs", "flags")}
    fields |= {name: getattr(message, name) for name in ("chaddr", "sname", "file")}
    options = [
        (code, value[start : start + 255])
        for code, value in message.options.items()
        for start in range(0, len(value) or 1, 255)
    ]
    judge = BOOTP(**fields) / DHCP(options=[*options, "end"])
    assert wire.decode(bytes(judge).ljust(300, b"\0")) == message


def scapy_options(judge: Any) -> dict[int, bytes]:
    """Options by number, each joined, as scapy found them: it is asked for one option's bytes at a time."""
    out: dict[int, bytes] = {}
    if DHCP not in judge:
        return out
    for option in judge[DHCP].options:
        if option in ("end", "pad") or isinstance(option, (bytes, str)):
            continue
        encoded = bytes(DHCP(options=[option]))
        out[encoded[0]] = out.get(encoded[0], b"") + encoded[2 : 2 + encoded[1]]
    return out


def test_the_broadcast_flag_is_the_first_bit() -> None:
    assert recorded("D-OVMF-PXE", flags=Flags.BROADCAST).encode()[10] == 0x80
