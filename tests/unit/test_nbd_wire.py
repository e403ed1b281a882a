"""Every NBD message against its bytes, both ways."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbd import wire

MESSAGES = [
    pytest.param("4e42444d41474943 49484156454f5054 0003", wire.Greeting(wire.HandshakeFlag(3)), id="greeting"),
    pytest.param("49484156454f5054 00000007 0000000a", wire.OptionHeader(wire.Opt.GO, 10), id="option-go"),
    pytest.param("49484156454f5054 ffffffff ffffffff", wire.OptionHeader(2**32 - 1, 2**32 - 1), id="option-unknown"),
    pytest.param(
        "0003e889045565a9 00000007 00000003 0000000c 0000 0000000000200000 0507",
        wire.OptionReply(wire.Opt.GO, wire.Rep.INFO, wire.info_export(2 << 20, wire.TransmissionFlag(0x507))),
        id="reply-info-export",
    ),
    pytest.param(
        "0003e889045565a9 00000003 00000002 00000008 00000004 6e6f6465",
        wire.OptionReply(wire.Opt.LIST, wire.Rep.SERVER, wire.server_data("node")),
        id="reply-server",
    ),
    pytest.param(
        "0003e889045565a9 00000063 80000001 00000000",
        wire.OptionReply(99, wire.Rep.ERR_UNSUP),
        id="reply-unsup",
    ),
    pytest.param(
        "25609513 0000 0000 1122334455667788 0000000000001000 00000400",
        wire.Request(wire.Cmd.READ, 0x1122334455667788, 4096, 1024),
        id="request-read",
    ),
    pytest.param(
        "25609513 0001 0001 0000000000000000 ffffffffffffffff ffffffff",
        wire.Request(wire.Cmd.WRITE, 0, 2**64 - 1, 2**32 - 1, wire.CmdFlag.FUA),
        id="request-write-fua",
    ),
    pytest.param(
        "21e41c71 0020 0001 1122334455667788 0000000000001000 0000000000000400",
        wire.ExtendedRequest(wire.Cmd.WRITE, 0x1122334455667788, 4096, 1024, wire.CmdFlag.PAYLOAD_LEN),
        id="request-write-extended",
    ),
    pytest.param(
        "21e41c71 0000 0004 0000000000000007 0000000000000000 ffffffffffffffff",
        wire.ExtendedRequest(wire.Cmd.TRIM, 7, 0, 2**64 - 1),
        id="request-trim-extended",
    ),
    pytest.param("67446698 00000000 1122334455667788", wire.SimpleReply(0x1122334455667788), id="reply-ok"),
    pytest.param("67446698 00000016 0000000000000007", wire.SimpleReply(7, wire.Errno.EINVAL), id="reply-einval"),
]
Message = wire.Greeting | wire.OptionHeader | wire.OptionReply | wire.Request | wire.SimpleReply


@pytest.mark.parametrize(("recorded", "message"), MESSAGES)
def test_message_matches_its_bytes(recorded: str, message: Message) -> None:
    assert type(message).decode(bytes.fromhex(recorded)) == message
    assert message.encode() == bytes.fromhex(recorded)


@pytest.mark.parametrize(("recorded", "message"), MESSAGES)
def test_a_message_cut_short_is_refused(recorded: str, message: Message) -> None:
    data = bytes.fromhex(recorded)
    for length in range(len(data)):
        with pytest.raises(wire.MalformedPacket):
            type(message).decode(data[:length])


@pytest.mark.parametrize(("recorded", "message"), MESSAGES)
def test_another_magic_is_refused(recorded: str, message: Message) -> None:
    data = bytes.fromhex(recorded)
    with pytest.raises(wire.MalformedPacket, match="magic"):
        type(message).decode(bytes([data[0] ^ 1]) + data[1:])


INFO_REQUESTS = [
    pytest.param("00000000 0000", wire.InfoRequest(""), id="default-export"),
    pytest.param("00000004 6e6f6465 0000", wire.InfoRequest("node"), id="as-nbd-client-asks"),
    pytest.param(
        "00000003 c3a978 0002 0003 9999", wire.InfoRequest("éx", (wire.Info.BLOCK_SIZE, 0x9999)), id="block-size"
    ),
]


@pytest.mark.parametrize(("recorded", "request_"), INFO_REQUESTS)
def test_information_request_matches_its_bytes(recorded: str, request_: wire.InfoRequest) -> None:
    assert wire.InfoRequest.decode(bytes.fromhex(recorded)) == request_
    assert request_.encode() == bytes.fromhex(recorded)


@pytest.mark.parametrize(
    ("recorded", "why"),
    [
        pytest.param("00000000 00", "at least 6", id="too-short"),
        pytest.param("00000005 6e6f6465 0000", "a name of 5 bytes", id="name-past-the-end"),
        pytest.param("ffffffff 6e6f6465 0000", "a name of 4294967295 bytes", id="name-of-4-gib"),
        pytest.param("00000004 6e6f6465 0001", "1 information requests", id="fewer-than-promised"),
        pytest.param("00000004 6e6f6465 0000 0003", "0 information requests", id="more-than-promised"),
        pytest.param("00000002 6e00 0000", "NUL", id="nul"),
        pytest.param("00000002 c328 0000", "UTF-8", id="not-utf8"),
        pytest.param("00001001" + "61" * 4097 + "0000", "4097 bytes", id="name-too-long"),
    ],
)
def test_a_lying_information_request_is_refused(recorded: str, why: str) -> None:
    with pytest.raises(wire.MalformedPacket, match=why):
        wire.InfoRequest.decode(bytes.fromhex(recorded))


def test_a_name_of_4096_bytes_is_lawful() -> None:
    assert wire.decode_name(b"a" * 4096) == "a" * 4096


def test_the_answers_that_have_no_header() -> None:
    flags = wire.TransmissionFlag.HAS_FLAGS | wire.TransmissionFlag.READ_ONLY
    assert wire.export_name_reply(4096, flags, zeroes=False) == bytes.fromhex("0000000000001000 0003")
    assert wire.export_name_reply(4096, flags, zeroes=True) == bytes.fromhex("0000000000001000 0003") + bytes(124)


def test_information_matches_its_bytes() -> None:
    assert wire.info_name("node") == bytes.fromhex("0001 6e6f6465")
    assert wire.info_description("für m1") == bytes.fromhex("0002 66c3bc72206d31")
    assert wire.info_block_size(1, 4096, 1 << 25) == bytes.fromhex("0003 00000001 00001000 02000000")


DECODERS = (
    wire.Greeting.decode,
    wire.OptionHeader.decode,
    wire.OptionReply.decode,
    wire.InfoRequest.decode,
    wire.Request.decode,
    wire.ExtendedRequest.decode,
    wire.SimpleReply.decode,
)


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.binary(max_size=80))
def test_any_bytes_decode_or_are_refused(decode: Callable[[bytes], Message | wire.InfoRequest], data: bytes) -> None:
    try:
        message = decode(data)
    except wire.MalformedPacket:
        return
    assert decode(message.encode()) == message


def test_a_description_is_a_string_of_the_specification() -> None:
    assert len(wire.info_description("ü" * 5000)) <= 2 + wire.MAX_STRING_BYTES
