"""The commands: what is carried out, what is refused with which error, and that the next one is in step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbd import replies, wire
from nbd.actions import (
    MAX_WRITE_PIECE_BYTES,
    Action,
    BlockStatus,
    Cache,
    Close,
    ExportInfo,
    Flush,
    Read,
    Trim,
    Write,
    WriteZeroes,
)
from nbd.metadata import ALLOCATION, ALLOCATION_ID
from nbd.transmission import command_flags, transmission_flags
from nbd.wire import Cmd, CmdFlag, Errno, ExtendedRequest, Opt, Request, TransmissionFlag
from tests.support.nbd_peer import DISK, FLAGS, IMAGE, SIZE, Peer, contexts, cut, go, option

MAX = wire.MAX_PAYLOAD_BYTES
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = CmdFlag
FORMS = {
    replies.SIMPLE: [],
    replies.STRUCTURED: [option(Opt.STRUCTURED_REPLY), contexts("node", ALLOCATION)],
    replies.EXTENDED: [option(Opt.EXTENDED_HEADERS), contexts("node", ALLOCATION)],
}
ALL = list(FORMS)
CHUNKED = [replies.STRUCTURED, replies.EXTENDED]


def opened(info: ExportInfo, form: replies.Replies = replies.SIMPLE) -> Peer:
    """Return a peer that has opened an export, with replies of this form."""
    return Peer(exports={"node": info}).receive(FLAGS, *FORMS[form], go()).forget()


def sent(
    form: replies.Replies, kind: int, offset: int = 0, length: int = 0, flags: int = 0, payload: bytes = b""
) -> bytes:
    """Return a command with the cookie 5; a WRITE as the form wants it."""
    if payload:
        length = len(payload)
    if form is replies.EXTENDED:
        extra = PAYLOAD_LEN if kind == Cmd.WRITE else 0
        return ExtendedRequest(kind, 5, offset, length, flags | extra).encode() + payload
    return Request(kind, 5, offset, length, flags).encode() + payload


READS = [
    pytest.param(Cmd.READ, 512, 1024, 0, Read(5, 512, 1024, whole=False), id="read"),
    pytest.param(Cmd.READ, SIZE - 1, 1, 0, Read(5, SIZE - 1, 1, whole=False), id="read-last-byte"),
    pytest.param(Cmd.READ, SIZE, 0, 0, Errno.OK, id="read-nothing"),
    pytest.param(Cmd.READ, SIZE, 1, 0, Errno.EINVAL, id="read-past-the-end"),
    pytest.param(Cmd.READ, SIZE + 1, 0, 0, Errno.EINVAL, id="read-nothing-past-the-end"),
    pytest.param(Cmd.READ, 2**64 - 512, 1024, 0, Errno.EINVAL, id="read-offset-wraps"),
    pytest.param(Cmd.READ, 0, 2**32 - 1, 0, Errno.EINVAL, id="read-4-gib"),
    pytest.param(Cmd.READ, 0, 512, 0x8000, Errno.EINVAL, id="read-unknown-flag"),
    pytest.param(Cmd.READ, 0, 512, NO_HOLE, Errno.EINVAL, id="read-unfitting-flag"),
    pytest.param(Cmd.READ, 0, 0, 0x8000, Errno.EINVAL, id="read-nothing-unknown-flag"),
    pytest.param(Cmd.FLUSH, 0, 0, 0x8000, Errno.EINVAL, id="flush-unknown-flag"),
    pytest.param(Cmd.CACHE, 0, 4096, 0, Cache(5, 0, 4096), id="cache"),
    pytest.param(Cmd.CACHE, 0, 0, 0, Errno.OK, id="cache-nothing"),
    pytest.param(Cmd.CACHE, SIZE, 4096, 0, Errno.EINVAL, id="cache-past-the-end"),
    pytest.param(Cmd.CACHE, 0, 4096, 0x8000, Errno.EINVAL, id="cache-unknown-flag"),
    pytest.param(Cmd.BLOCK_STATUS, SIZE, 512, 0, Errno.EINVAL, id="block-status-past-the-end"),
    pytest.param(Cmd.BLOCK_STATUS, 0, 512, DF, Errno.EINVAL, id="block-status-unfitting-flag"),
    pytest.param(Cmd.BLOCK_STATUS, 0, 0, 0, Errno.EINVAL, id="block-status-of-nothing"),
    pytest.param(Cmd.RESIZE, 0, 512, 0, Errno.EINVAL, id="resize"),
    pytest.param(999, 0, 512, 0, Errno.EINVAL, id="unknown-command"),
    pytest.param(999, 0, 512, 0xFFDF, Errno.EINVAL, id="unknown-command-with-flags"),
    pytest.param(Cmd.DISC, 0, 0, 0, Close(None), id="disc"),
]
IMAGES_ONLY = [
    pytest.param(Cmd.FLUSH, 0, 0, 0, Errno.OK, id="flush-of-what-nobody-wrote"),
    pytest.param(Cmd.READ, 0, 512, FUA, Errno.EINVAL, id="read-fua-not-offered"),
    pytest.param(Cmd.CACHE, 0, 512, FUA, Errno.EINVAL, id="cache-fua-not-offered"),
    pytest.param(Cmd.TRIM, 0, 4096, 0, Errno.EPERM, id="trim"),
    pytest.param(Cmd.TRIM, SIZE, 4096, 0x8000, Errno.EPERM, id="trim-wrong-in-every-way"),
    pytest.param(Cmd.WRITE_ZEROES, 0, 4096, 0, Errno.EPERM, id="write-zeroes"),
    pytest.param(Cmd.WRITE_ZEROES, 0, 2**32 - 1, FAST_ZERO, Errno.EPERM, id="write-zeroes-4-gib"),
]
DISKS_ONLY = [
    pytest.param(Cmd.READ, 0, 512, FUA, Read(5, 0, 512, whole=False), id="read-fua"),
    pytest.param(Cmd.FLUSH, 0, 0, 0, Flush(5), id="flush"),
    pytest.param(Cmd.FLUSH, 512, 99, FUA, Flush(5, 512), id="flush-of-a-range-that-means-nothing"),
    pytest.param(Cmd.CACHE, 0, 512, FUA, Cache(5, 0, 512), id="cache-fua"),
    pytest.param(Cmd.TRIM, 0, SIZE, 0, Trim(5, 0, SIZE, fua=False), id="trim"),
    pytest.param(Cmd.TRIM, 0, 512, FUA, Trim(5, 0, 512, fua=True), id="trim-fua"),
    pytest.param(Cmd.TRIM, 0, 0, 0, Errno.OK, id="trim-nothing"),
    pytest.param(Cmd.TRIM, SIZE, 1, 0, Errno.EINVAL, id="trim-past-the-end"),
    pytest.param(Cmd.TRIM, 0, 512, NO_HOLE, Errno.EINVAL, id="trim-unfitting-flag"),
    pytest.param(
        Cmd.WRITE_ZEROES,
        4096,
        SIZE - 4096,
        0,
        WriteZeroes(5, 4096, SIZE - 4096, no_hole=False, fast=False, fua=False),
        id="write-zeroes",
    ),
    pytest.param(
        Cmd.WRITE_ZEROES,
        0,
        512,
        FUA | NO_HOLE | FAST_ZERO,
        WriteZeroes(5, 0, 512, no_hole=True, fast=True, fua=True),
        id="write-zeroes-with-all-flags",
    ),
    pytest.param(Cmd.WRITE_ZEROES, 1, SIZE, 0, Errno.ENOSPC, id="write-zeroes-past-the-end"),
    pytest.param(Cmd.WRITE_ZEROES, 2**64 - 1, 512, 0, Errno.ENOSPC, id="write-zeroes-wraps"),
    pytest.param(Cmd.WRITE_ZEROES, 0, 512, DF, Errno.EINVAL, id="write-zeroes-unfitting-flag"),
]


def answered(info: ExportInfo, form: replies.Replies, command: bytes, expected: Errno | Action) -> None:
    """Check what becomes of a command, and that the next one is understood."""
    peer = opened(info, form).receive(command + sent(form, Cmd.READ, 0, 512))
    if isinstance(expected, Close):
        assert peer.done == [expected]
        return
    following = Read(5, 0, 512, whole=False)
    assert peer.done == ([following] if isinstance(expected, Errno) else [expected, following])
    if isinstance(expected, Errno):
        assert error_of(peer.sent) == expected
    else:
        assert peer.sent == b""


def error_of(data: bytes) -> int:
    """Return the error that a reply tells, which must be all of `data`."""
    match data[:4].hex():
        case "67446698":
            assert len(data) == 16
            return int.from_bytes(data[4:8])
        case "668e33ef":
            kind, payload = int.from_bytes(data[6:8]), data[20:]
            assert int.from_bytes(data[16:20]) == len(payload)
        case magic:
            assert magic == "6e8a278c"
            kind, payload = int.from_bytes(data[6:8]), data[32:]
            assert int.from_bytes(data[24:32]) == len(payload)
    assert data[4:6] == b"\0\1"  # done
    return int.from_bytes(payload[:4]) if kind == wire.Chunk.ERROR else 0


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize(("kind", "offset", "length", "flags", "expected"), READS + IMAGES_ONLY)
def test_a_command_to_an_image(
    form: replies.Replies, kind: int, offset: int, length: int, flags: int, expected: Errno | Action
) -> None:
    answered(IMAGE, form, sent(form, kind, offset, length, flags), expected)


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize(("kind", "offset", "length", "flags", "expected"), READS + DISKS_ONLY)
def test_a_command_to_a_disk(
    form: replies.Replies, kind: int, offset: int, length: int, flags: int, expected: Errno | Action
) -> None:
    answered(DISK, form, sent(form, kind, offset, length, flags), expected)


@pytest.mark.parametrize("form", ALL)
def test_zeroes_that_are_to_be_fast_are_refused_where_they_are_not(form: replies.Replies) -> None:
    slow = ExportInfo(SIZE, writable=True)
    answered(slow, form, sent(form, Cmd.WRITE_ZEROES, 0, 512, FAST_ZERO), Errno.ENOTSUP)


@pytest.mark.parametrize("form", ALL)
def test_a_read_in_one_piece_is_offered_with_chunks_only(form: replies.Replies) -> None:
    expected = Read(5, 0, 512, whole=True) if form.chunked else Errno.EINVAL
    answered(IMAGE, form, sent(form, Cmd.READ, 0, 512, DF), expected)


@pytest.mark.parametrize("form", CHUNKED)
@pytest.mark.parametrize("one", [False, True])
def test_block_status_is_asked_of_the_chosen_contexts(form: replies.Replies, one: bool) -> None:
    asked = BlockStatus(5, 512, SIZE - 512, req_one=one, contexts=(ALLOCATION_ID,))
    answered(IMAGE, form, sent(form, Cmd.BLOCK_STATUS, 512, SIZE - 512, REQ_ONE if one else 0), asked)


def test_block_status_without_structured_replies_is_invalid() -> None:
    answered(IMAGE, replies.SIMPLE, sent(replies.SIMPLE, Cmd.BLOCK_STATUS, 0, 512), Errno.EINVAL)


def test_a_read_of_32_mib_is_granted_and_one_byte_more_is_not() -> None:
    large = ExportInfo(64 << 20)
    answered(large, replies.SIMPLE, sent(replies.SIMPLE, Cmd.READ, 0, MAX), Read(5, 0, MAX, whole=False))
    answered(large, replies.SIMPLE, sent(replies.SIMPLE, Cmd.READ, 0, MAX + 1), Errno.EINVAL)


def test_extended_headers_reach_beyond_4_gib() -> None:
    form, size = replies.EXTENDED, 1 << 40
    info = ExportInfo(size, writable=True)
    answered(info, form, sent(form, Cmd.TRIM, 0, size), Trim(5, 0, size, fua=False))
    status = BlockStatus(5, 0, size, req_one=False, contexts=(ALLOCATION_ID,))
    answered(info, form, sent(form, Cmd.BLOCK_STATUS, 0, size), status)
    zeroes = WriteZeroes(5, 0, size, no_hole=False, fast=False, fua=False)
    answered(info, form, sent(form, Cmd.WRITE_ZEROES, 0, size), zeroes)
    answered(info, form, sent(form, Cmd.CACHE, 0, size), Cache(5, 0, MAX))  # a hint: the first 32 MiB
    answered(info, form, sent(form, Cmd.READ, 0, 1 << 33), Errno.EINVAL)
    answered(info, form, sent(form, Cmd.TRIM, 1, 2**64 - 1), Errno.EINVAL)


# Payloads


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize("step", [1000, 10**6])
@pytest.mark.parametrize(
    "length", [1, MAX_WRITE_PIECE_BYTES, MAX_WRITE_PIECE_BYTES + 1, 3 * MAX_WRITE_PIECE_BYTES + 5000]
)
def test_a_write_comes_in_pieces_that_are_the_same_however_it_arrives(
    form: replies.Replies, step: int, length: int
) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    command = sent(form, Cmd.WRITE, 512, flags=FUA, payload=data[:length])
    peer = opened(DISK, form).receive(*cut(command + sent(form, Cmd.FLUSH), step))
    *pieces, flush = peer.done
    assert flush == Flush(5)
    writes = [piece for piece in pieces if isinstance(piece, Write)]
    assert b"".join(write.data for write in writes) == data[:length]
    assert [write.offset for write in writes] == [512 + i * MAX_WRITE_PIECE_BYTES for i in range(len(writes))]
    assert [write.last for write in writes] == [False] * (len(writes) - 1) + [True]
    assert all(write.fua and write.start == 512 and len(write.data) <= MAX_WRITE_PIECE_BYTES for write in writes)
    assert peer.sent == b""


REFUSED_WRITES = [
    pytest.param(IMAGE, 0, 0, Errno.EPERM, id="read-only"),
    pytest.param(IMAGE, SIZE, 0x8000, Errno.EPERM, id="read-only-and-wrong-in-every-way"),
    pytest.param(DISK, SIZE - 1, 0, Errno.ENOSPC, id="past-the-end"),
    pytest.param(DISK, 2**64 - 1, 0, Errno.ENOSPC, id="offset-wraps"),
    pytest.param(DISK, 0, NO_HOLE, Errno.EINVAL, id="unfitting-flag"),
]


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize(("info", "offset", "flags", "error"), REFUSED_WRITES)
@pytest.mark.parametrize("step", [1000, 10**6])
def test_a_refused_write_is_answered_after_its_payload(
    form: replies.Replies, info: ExportInfo, offset: int, flags: int, error: Errno, step: int
) -> None:
    command = sent(form, Cmd.WRITE, offset, flags=flags, payload=b"\xaa" * 100_000)
    peer = opened(info, form).receive(*cut(command[:-1], step))
    assert peer.sent == b""
    assert not peer.session.at_boundary
    peer.receive(command[-1:] + sent(form, Cmd.READ, 0, 512))
    assert error_of(peer.sent) == error
    assert peer.done == [Read(5, 0, 512, whole=False)]


@pytest.mark.parametrize("form", ALL)
def test_a_write_of_nothing_has_nothing_to_wait_for(form: replies.Replies) -> None:
    answered(DISK, form, sent(form, Cmd.WRITE, 0, 0), Errno.OK)
    answered(IMAGE, form, sent(form, Cmd.WRITE, 0, 0), Errno.EPERM)


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize("info", [IMAGE, DISK])
def test_more_payload_than_32_mib_ends_the_connection(form: replies.Replies, info: ExportInfo) -> None:
    peer = opened(info, form).receive(sent(form, Cmd.WRITE, 0, MAX + 1))
    assert peer.done == [Close(f"command 1 with {MAX + 1} bytes of data")]


def test_a_write_without_payload_len_brings_its_payload_all_the_same() -> None:
    """It breaks a rule of extended headers; QEMU's client does so, and its server takes it."""
    peer = opened(DISK, replies.EXTENDED).receive(ExtendedRequest(Cmd.WRITE, 5, 0, 4).encode() + b"data")
    assert peer.done == [Write(5, 0, b"data", last=True, fua=False, start=0)]


@pytest.mark.parametrize("kind", [Cmd.READ, Cmd.TRIM, Cmd.FLUSH, Cmd.BLOCK_STATUS, 999])
def test_a_payload_that_the_command_does_not_have_is_read_past(kind: int) -> None:
    form = replies.EXTENDED
    answered(DISK, form, sent(form, kind, 0, 600, PAYLOAD_LEN) + bytes(600), Errno.EINVAL)
    peer = opened(DISK, form).receive(sent(form, kind, 0, MAX + 1, PAYLOAD_LEN))
    assert peer.done == [Close(f"command {int(kind)} with {MAX + 1} bytes of data")]


@pytest.mark.parametrize("form", [replies.SIMPLE, replies.STRUCTURED])
def test_payload_len_is_an_unknown_flag_without_extended_headers(form: replies.Replies) -> None:
    answered(DISK, form, sent(form, Cmd.READ, 0, 512, PAYLOAD_LEN), Errno.EINVAL)
    answered(DISK, form, sent(form, Cmd.WRITE, 0, flags=PAYLOAD_LEN, payload=b"x"), Errno.EINVAL)


@pytest.mark.parametrize("form", ALL)
def test_another_magic_ends_the_connection(form: replies.Replies) -> None:
    other = replies.SIMPLE if form is replies.EXTENDED else replies.EXTENDED
    peer = opened(IMAGE, form).receive(sent(other, Cmd.READ, 0, 512) + bytes(8))
    assert peer.closed is not None
    assert "magic" in str(peer.closed.reason)


# Boundaries


@pytest.mark.parametrize("form", ALL)
def test_it_is_known_whether_a_request_has_begun(form: replies.Replies) -> None:
    peer = opened(DISK, form)
    assert peer.session.at_boundary
    command = sent(form, Cmd.WRITE, 0, payload=bytes(10))
    for byte in cut(command[:-1], 1):
        peer.receive(byte)
        assert not peer.session.at_boundary
    peer.receive(command[-1:])
    assert peer.session.at_boundary
    peer.receive(sent(form, Cmd.DISC))
    assert not peer.session.at_boundary


def test_there_is_no_boundary_before_an_export_was_chosen() -> None:
    peer = Peer()
    assert not peer.session.at_boundary
    peer.receive(FLAGS)
    assert not peer.session.at_boundary


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize("info", [IMAGE, DISK])
@settings(max_examples=100)
@given(
    kind=st.integers(0, 9),
    offset=st.sampled_from([0, 1, 512, SIZE - 1, SIZE, SIZE + 1, 2**64 - 1]),
    length=st.sampled_from([0, 1, 512, SIZE, SIZE + 1, MAX, MAX + 1, 2**32 - 1]),
    flags=st.integers(0, 0xFFFF),
)
def test_what_comes_out_can_be_carried_out(
    form: replies.Replies, info: ExportInfo, kind: int, offset: int, length: int, flags: int
) -> None:
    peer = opened(info, form).receive(sent(form, kind, offset, length, flags), bytes(4096))
    for action in peer.commands:
        assert info.writable or isinstance(action, Read | Cache | BlockStatus)
        match action:
            case Write(_, start, data):
                assert 0 < len(data) <= SIZE - start
            case Read() | Cache() | BlockStatus() | Trim() | WriteZeroes():
                assert 0 < action.length <= SIZE - action.offset
            case _:
                assert isinstance(action, Flush)


@pytest.mark.parametrize("form", ALL)
def test_no_flag_is_allowed_that_the_client_was_not_told_of(form: replies.Replies) -> None:
    for info in (IMAGE, DISK):
        told, allowed = transmission_flags(info, form), command_flags(info, form)
        assert bool(told & TransmissionFlag.SEND_DF) == bool(allowed[Cmd.READ] & DF)
        for flags in allowed.values():
            assert bool(told & TransmissionFlag.SEND_FUA) == bool(flags & FUA)
