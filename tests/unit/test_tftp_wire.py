"""The TFTP codec: tables read in both directions, the laws of every codec, and two other people's codecs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import tftp as scapy_tftp
from tftpy import TftpPacketTypes as tftpy_types
from tftpy.TftpPacketFactory import TftpPacketFactory

from tftp import wire

PACKETS = [
    pytest.param("0004 0001", wire.Ack(1), id="ack"),
    pytest.param("0004 ffff", wire.Ack(65535), id="ack-last-number"),
    pytest.param("0003 ffff 6869", wire.Data(65535, b"hi"), id="data-last-number"),
    pytest.param("0003 0001", wire.Data(1, b""), id="data-empty"),
    pytest.param("0005 0001 6e6f00", wire.Error(1, "no"), id="error"),
    pytest.param("0005 ffff 00", wire.Error(65535, ""), id="error-unknown-code"),
    pytest.param("0006 626c6b73697a65 00 38 00", wire.OptionAck({"blksize": "8"}), id="oack"),
    pytest.param("0002 61 00 6f63746574 00", wire.WriteRequest(b"a"), id="wrq"),
    pytest.param("0001 61 00 6e65746173636969 00", wire.ReadRequest(b"a", "netascii"), id="rrq-netascii"),
    pytest.param(
        "0001 61 00 6f63746574 00 6d756c746963617374 00 00",
        wire.ReadRequest(b"a", options={"multicast": ""}),
        id="rrq-ipxe-empty-value",
    ),
    # What real clients send; the ids are those of reference/fixtures.json.
    pytest.param(
        "00 01 62 6f 6f 74 78 36 34 2e 65 66 69 00 6f 63 74 65 74 00 74 73 69 7a 65 00 30 00 62 6c 6b 73 69 7a 65 00 "
        "31 34 36 38 00 77 69 6e 64 6f 77 73 69 7a 65 00 34 00",
        wire.ReadRequest(b"bootx64.efi", "octet", {"tsize": "0", "blksize": "1468", "windowsize": "4"}),
        id="T-EDK2",
    ),
    pytest.param(
        "00 01 62 6f 6f 74 78 36 34 2e 65 66 69 00 6f 63 74 65 74 00 62 6c 6b 73 69 7a 65 00 31 34 36 38 00 "
        "77 69 6e 64 6f 77 73 69 7a 65 00 34 00",
        wire.ReadRequest(b"bootx64.efi", "octet", {"blksize": "1468", "windowsize": "4"}),
        id="T-EDK2-2",
    ),
    pytest.param(
        "00 01 62 6f 6f 74 78 36 34 2e 65 66 69 00 6f 63 74 65 74 00 74 73 69 7a 65 00 30 00 62 6c 6b 73 69 7a 65 00 "
        "31 34 36 38 00",
        wire.ReadRequest(b"bootx64.efi", "octet", {"tsize": "0", "blksize": "1468"}),
        id="T-EDK2-OLD",
    ),
    pytest.param(
        "00 05 00 08 55 73 65 72 20 61 62 6f 72 74 65 64 20 74 68 65 20 74 72 61 6e 73 66 65 72 00",
        wire.Error(wire.ErrorCode.OPTION_REFUSED, "User aborted the transfer"),
        id="T-ABORT",
    ),
    pytest.param(
        "00 01 75 6e 64 69 6f 6e 6c 79 2e 6b 70 78 65 00 6f 63 74 65 74 00 62 6c 6b 73 69 7a 65 00 31 34 33 32 00 "
        "74 73 69 7a 65 00 30 00",
        wire.ReadRequest(b"undionly.kpxe", "octet", {"blksize": "1432", "tsize": "0"}),
        id="T-IPXE",
    ),
    pytest.param(
        "00 01 2f 67 72 75 62 2f 67 72 75 62 2e 63 66 67 00 6f 63 74 65 74 00 62 6c 6b 73 69 7a 65 00 31 30 32 34 00 "
        "74 73 69 7a 65 00 30 00",
        wire.ReadRequest(b"/grub/grub.cfg", "octet", {"blksize": "1024", "tsize": "0"}),
        id="T-GRUB",
    ),
    pytest.param(
        "00 01 49 6d 61 67 65 00 6f 63 74 65 74 00 74 69 6d 65 6f 75 74 00 35 00 74 73 69 7a 65 00 30 00 "
        "62 6c 6b 73 69 7a 65 00 31 34 36 38 00",
        wire.ReadRequest(b"Image", "octet", {"timeout": "5", "tsize": "0", "blksize": "1468"}),
        id="T-UBOOT",
    ),
    pytest.param(
        "00 01 6c 70 78 65 6c 69 6e 75 78 2e 30 ff 00 6f 63 74 65 74 00 74 73 69 7a 65 00 30 00",
        wire.ReadRequest(b"lpxelinux.0\xff", "octet", {"tsize": "0"}),
        id="T-FFNAME",
    ),
]


@pytest.mark.parametrize(("recorded", "packet"), PACKETS)
def test_packet_matches_its_bytes(recorded: str, packet: wire.Packet) -> None:
    assert wire.decode(bytes.fromhex(recorded)) == packet
    assert packet.encode() == bytes.fromhex(recorded)


@pytest.mark.parametrize(
    ("datagram", "packet"),
    [
        pytest.param(b"\0\1a\0OCTET\0BLKSIZE\x008\0", wire.ReadRequest(b"a", "octet", {"blksize": "8"}), id="case"),
        pytest.param(b"\0\1a\0octet\0tsize\0", wire.ReadRequest(b"a"), id="option-without-value"),
        pytest.param(b"\0\1a\0octet\0t\x001\0T\x002\0", wire.ReadRequest(b"a", options={"t": "1"}), id="twice"),
        pytest.param(b"\0\4\0\1junk", wire.Ack(1), id="bytes-after-ack"),
        pytest.param(b"\0\5\0\1no", wire.Error(1, "no"), id="error-without-nul"),
        pytest.param(b"\0\5\0\1", wire.Error(1, ""), id="error-without-text"),
        pytest.param(b"\0\5\0\1no\0junk", wire.Error(1, "no"), id="bytes-after-error"),
        pytest.param(
            b"\0\1a\0octet\0" + b"".join(b"o%d\0v\0" % n for n in range(100)),
            wire.ReadRequest(b"a", options={f"o{n}": "v" for n in range(100)}),
            id="100-options",
        ),
    ],
)
def test_what_clients_get_wrong_is_forgiven(datagram: bytes, packet: wire.Packet) -> None:
    assert wire.decode(datagram) == packet


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0",
        b"\0\1",
        b"\0\4\0",
        b"\0\0\0\1",
        b"\0\7\0\1",
        b"\0\x09\0\1",
        b"\1\0a\0octet\0",
        b"\0\1a\0octet",
        b"\0\1a\0",
        b"\0\1abc",
        b"\0\1\0octet\0",
        b"\0\1\0\0",
        b"\0\1a\0octet\0blksize\x008",
        b"\0\6tsize\x008",
        b"\0\1" + b"A" * 600,
    ],
)
def test_what_is_no_packet_is_refused_without_repeating_it(datagram: bytes) -> None:
    with pytest.raises(wire.MalformedPacket) as refusal:
        wire.decode(datagram)
    assert "AAA" not in str(refusal.value)
    assert "RFC 1350" in str(refusal.value)


@given(st.binary(max_size=600) | st.builds(lambda n, b: bytes((0, n)) + b, st.integers(0, 7), st.binary(max_size=80)))
def test_any_bytes_decode_or_are_refused(datagram: bytes) -> None:
    try:
        packet = wire.decode(datagram)
    except wire.MalformedPacket:
        return
    assert wire.decode(packet.encode()) == packet


U16 = st.integers(0, 65535)
TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=20)
OPTION_NAMES = st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=12).map(str.lower)
OPTIONS = st.dictionaries(OPTION_NAMES, TEXT, max_size=5)
FILENAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
MODES = st.sampled_from(["octet", "netascii", "mail", "x"])
ANY_PACKET: st.SearchStrategy[wire.Packet] = st.one_of(
    st.builds(wire.ReadRequest, FILENAMES, MODES, OPTIONS),
    st.builds(wire.WriteRequest, FILENAMES, MODES, OPTIONS),
    st.builds(wire.Data, U16, st.binary(max_size=100)),
    st.builds(wire.Ack, U16),
    st.builds(wire.Error, U16, TEXT),
    st.builds(wire.OptionAck, OPTIONS),
)


@given(ANY_PACKET)
def test_every_packet_survives_the_wire(packet: wire.Packet) -> None:
    assert wire.decode(packet.encode()) == packet


@pytest.mark.parametrize(("count", "sent"), [(1, 1), (65535, 65535), (65536, 0), (65537, 1), (200_000, 3392)])
def test_block_numbers_wrap_to_zero(count: int, sent: int) -> None:
    assert wire.decode(wire.data_header(count)) == wire.Data(sent, b"")


@pytest.mark.parametrize(
    ("count", "sent"), [(1, 1), (65535, 65535), (65536, 1), (65537, 2), (131070, 65535), (131071, 1)]
)
def test_block_numbers_wrap_to_one_where_that_is_asked_for(count: int, sent: int) -> None:
    assert wire.decode(wire.data_header(count, rollover=1)) == wire.Data(sent, b"")


@given(st.integers(0, 300_000), st.integers(0, 65534), st.sampled_from([0, 1]))
def test_an_ack_says_how_far_it_is_ahead(acked: int, ahead: int, rollover: int) -> None:
    sent = wire.decode(wire.data_header(acked + ahead, rollover))
    assert isinstance(sent, wire.Data)
    assert wire.advance(sent.block, acked, rollover) == ahead


def test_where_numbers_wrap_to_one_zero_is_no_block() -> None:
    assert wire.advance(0, 0, rollover=1) == 0  # of the OACK
    assert wire.advance(0, 65534, rollover=1) is None
    assert wire.advance(0, 65535, rollover=1) is None
    assert wire.advance(65535, 0, rollover=1) == 65535  # and 65535 is not 0
    assert wire.advance(65535, 65535, rollover=1) == 0


# Two judges that share no line with us.


def as_scapy(packet: wire.Packet) -> scapy_tftp.TFTP:
    def options(values: dict[str, str]) -> scapy_tftp.TFTP_Options:
        return scapy_tftp.TFTP_Options(
            options=[scapy_tftp.TFTP_Option(oname=name, value=value) for name, value in values.items()]
        )

    match packet:
        case wire.ReadRequest(filename, mode, asked):
            request = scapy_tftp.TFTP() / scapy_tftp.TFTP_RRQ(filename=filename, mode=mode)
            return request / options(dict(asked)) if asked else request
        case wire.WriteRequest(filename, mode, asked):
            request = scapy_tftp.TFTP() / scapy_tftp.TFTP_WRQ(filename=filename, mode=mode)
            return request / options(dict(asked)) if asked else request
        case wire.Data(block, data):
            return scapy_tftp.TFTP() / scapy_tftp.TFTP_DATA(block=block) / data
        case wire.Ack(block):
            return scapy_tftp.TFTP() / scapy_tftp.TFTP_ACK(block=block)
        case wire.Error(code, message):
            return scapy_tftp.TFTP() / scapy_tftp.TFTP_ERROR(errorcode=code, errormsg=message)
        case wire.OptionAck(accepted):
            return scapy_tftp.TFTP() / scapy_tftp.TFTP_OACK() / options(dict(accepted))


@pytest.mark.parametrize(("recorded", "packet"), PACKETS)
def test_scapy_writes_the_same_bytes(recorded: str, packet: wire.Packet) -> None:
    assert bytes(as_scapy(packet)) == bytes.fromhex(recorded)


@pytest.mark.parametrize(("recorded", "packet"), PACKETS)
def test_scapy_reads_the_same_values(recorded: str, packet: wire.Packet) -> None:
    read = scapy_tftp.TFTP(packet.encode())
    assert read.op == int.from_bytes(bytes.fromhex(recorded)[:2], "big")
    match packet:
        case wire.ReadRequest(filename, mode, options) | wire.WriteRequest(filename, mode, options):
            assert (read.payload.filename, read.payload.mode) == (filename, mode.encode())
        case wire.OptionAck(options):
            pass
        case wire.Data(block, data):
            assert (read.payload.block, bytes(read.payload.payload)) == (block, data)
            return
        case wire.Ack(block):
            assert read.payload.block == block
            return
        case wire.Error(code, message):
            assert (read.payload.errorcode, read.payload.errormsg) == (code, message.encode())
            return
    layer = read.getlayer(scapy_tftp.TFTP_Options)
    seen = {} if layer is None else {o.oname.decode(): o.value.decode() for o in layer.options}
    assert seen == options


def test_tftpy_reads_what_we_write() -> None:
    parse = TftpPacketFactory().parse
    oack = parse(wire.OptionAck({"blksize": "1428", "tsize": "77"}).encode())
    assert isinstance(oack, tftpy_types.TftpPacketOACK)
    assert oack.options == {"blksize": "1428", "tsize": "77"}
    data = parse(wire.Data(65535, b"hi").encode())
    assert (data.blocknumber, data.data) == (65535, b"hi")
    assert parse(wire.Ack(7).encode()).blocknumber == 7
    error = parse(wire.Error(1, "file not found").encode())
    assert (error.errorcode, error.errmsg) == (1, b"file not found")
    request = parse(wire.ReadRequest(b"grub/core.efi", "octet", {"blksize": "1024"}).encode())
    assert (request.filename, request.mode, request.options) == ("grub/core.efi", "octet", {"blksize": "1024"})


def test_we_read_what_tftpy_writes() -> None:
    request = tftpy_types.TftpPacketRRQ()
    request.filename, request.mode, request.options = "grub/core.efi", "octet", {"blksize": 1024, "tsize": 0}
    sent = request.encode().buffer
    assert wire.decode(sent) == wire.ReadRequest(b"grub/core.efi", "octet", {"blksize": "1024", "tsize": "0"})
    ack = tftpy_types.TftpPacketACK()
    ack.blocknumber = 65535
    assert wire.decode(ack.encode().buffer) == wire.Ack(65535)
    data = tftpy_types.TftpPacketDAT()
    data.blocknumber, data.data = 3, b"hi"
    assert wire.decode(data.encode().buffer) == wire.Data(3, b"hi")
    error = tftpy_types.TftpPacketERR()
    error.errorcode = 4
    decoded = wire.decode(error.encode().buffer)
    assert isinstance(decoded, wire.Error)
    assert decoded.code == wire.ErrorCode.ILLEGAL_OPERATION
