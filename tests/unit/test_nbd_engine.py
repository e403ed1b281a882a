"""The session of one connection: what it answers, however the bytes are cut."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbd import haggling, wire
from nbd.actions import Action, Close, ListExports, OpenExport, Read, TlsMode, Write
from nbd.engine import Session
from nbd.exports import Refused
from nbd.metadata import ALLOCATION
from nbd.wire import Cmd, CmdFlag, Info, Opt, Rep
from tests.support.nbd_peer import (
    FLAGS,
    GREETING,
    IMAGE,
    SIZE,
    Peer,
    contexts,
    cut,
    go,
    negotiated,
    option,
    reply,
)

MAX = wire.MAX_PAYLOAD_BYTES
EXPORT_INFO = wire.info_export(SIZE, wire.TransmissionFlag(0x507))


ACK = reply(Opt.GO, Rep.ACK)

CONVERSATIONS = [
    pytest.param(
        # nbd-client 3.24 as it attaches Debian's root: flags 0x3, GO without information requests.
        bytes.fromhex("00000003 49484156454f5054 00000007 0000000a 00000004 6e6f6465 0000"),
        reply(Opt.GO, Rep.INFO, EXPORT_INFO) + ACK,
        [OpenExport("node", keep=True)],
        id="nbd-client",
    ),
    pytest.param(
        FLAGS + go("/node", Info.NAME, Info.BLOCK_SIZE, 77),
        reply(Opt.GO, Rep.INFO, EXPORT_INFO)
        + reply(Opt.GO, Rep.INFO, wire.info_name("node"))
        + reply(Opt.GO, Rep.INFO, wire.info_block_size(1, 4096, 32 << 20))
        + ACK,
        [OpenExport("node", keep=True)],
        id="leading-slash-and-all-information",
    ),
    pytest.param(
        FLAGS + go("", number=Opt.INFO) + go(""),
        reply(Opt.INFO, Rep.INFO, EXPORT_INFO) + reply(Opt.INFO, Rep.ACK) + reply(Opt.GO, Rep.INFO, EXPORT_INFO) + ACK,
        [OpenExport("", keep=False), OpenExport("", keep=True)],
        id="info-then-go-tell-the-same",
    ),
    pytest.param(
        FLAGS + option(Opt.EXPORT_NAME, b"node"),
        struct.pack(">QH", SIZE, 0x507),
        [OpenExport("node", keep=True)],
        id="export-name-without-zeroes",
    ),
    pytest.param(
        struct.pack(">I", 1) + option(Opt.EXPORT_NAME, b"node"),
        struct.pack(">QH", SIZE, 0x507) + bytes(124),
        [OpenExport("node", keep=True)],
        id="export-name-with-zeroes",
    ),
    pytest.param(
        struct.pack(">I", 0) + option(Opt.EXPORT_NAME),
        struct.pack(">QH", SIZE, 0x507) + bytes(124),
        [OpenExport("", keep=True)],
        id="newstyle-that-is-not-fixed",
    ),
    pytest.param(
        FLAGS + option(Opt.EXPORT_NAME, b"other"),
        b"",
        [OpenExport("other", keep=True), Close(None)],
        id="export-name-unknown-ends",
    ),
    pytest.param(
        FLAGS + option(Opt.LIST) + option(Opt.ABORT, b"farewell"),
        reply(Opt.LIST, Rep.SERVER, wire.server_data("node"))
        + reply(Opt.LIST, Rep.SERVER, wire.server_data("é"))
        + reply(Opt.LIST, Rep.ACK)
        + reply(Opt.ABORT, Rep.ACK),
        [ListExports(), Close(None)],
        id="list-then-abort",
    ),
    pytest.param(
        FLAGS + option(99, b"who knows") + option(Opt.STARTTLS) + go(),
        reply(99, Rep.ERR_UNSUP) + reply(Opt.STARTTLS, Rep.ERR_UNSUP) + reply(Opt.GO, Rep.INFO, EXPORT_INFO) + ACK,
        [OpenExport("node", keep=True)],
        id="unknown-options-lose-no-step",
    ),
]


@pytest.mark.parametrize(("received", "answer", "done"), CONVERSATIONS)
@pytest.mark.parametrize(
    "cutting",
    [
        pytest.param(lambda data: [data], id="whole"),
        pytest.param(lambda data: cut(data, 1), id="one-at-a-time"),
        pytest.param(lambda data: [data[:7], data[7:]], id="in-two"),
    ],
)
def test_a_conversation(
    received: bytes, answer: bytes, done: list[Action], cutting: Callable[[bytes], list[bytes]]
) -> None:
    peer = Peer().receive(*cutting(received))
    assert peer.sent == GREETING + answer
    assert peer.done == done


@pytest.mark.parametrize(("received", "answer", "done"), CONVERSATIONS)
def test_trailing_data_belong_to_what_follows(received: bytes, answer: bytes, done: list[Action]) -> None:
    """A client that does not wait for answers: after a chosen export comes a DISC, otherwise nothing matters."""
    chosen = isinstance(done[-1], OpenExport)
    peer = Peer().receive(received + wire.Request(Cmd.DISC, 1).encode())
    assert peer.sent == GREETING + answer
    assert peer.done == ([*done, Close(None)] if chosen else done)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(b"", Rep.ERR_INVALID, id="no-data"),
        pytest.param(struct.pack(">I", 99) + b"node\0\0", Rep.ERR_INVALID, id="name-past-the-end"),
        pytest.param(struct.pack(">I4sHH", 4, b"node", 2, 0), Rep.ERR_INVALID, id="wrong-count"),
        pytest.param(struct.pack(">I4sH", 4, b"no\0e", 0), Rep.ERR_INVALID, id="nul"),
        pytest.param(struct.pack(">I4097sH", 4097, b"a" * 4097, 0), Rep.ERR_INVALID, id="4097-bytes"),
        pytest.param(struct.pack(">I4096sH", 4096, b"a" * 4096, 0), Rep.ERR_UNKNOWN, id="4096-bytes"),
        pytest.param(struct.pack(">I16sH", 16, b"../../etc/shadow", 0), Rep.ERR_UNKNOWN, id="traversal"),
        pytest.param(bytes(haggling.MAX_OPTION_BYTES + 1), Rep.ERR_TOO_BIG, id="too-big"),
        pytest.param(bytes(1 << 20), Rep.ERR_TOO_BIG, id="far-too-big"),
    ],
)
def test_a_bad_option_is_answered_and_the_connection_stays_usable(data: bytes, kind: Rep) -> None:
    stream = option(Opt.GO, data) + go()
    peer = Peer().receive(FLAGS, *cut(stream, 4000))
    assert [found for _, found, _ in peer.replies] == [kind, Rep.INFO, Rep.ACK]


@pytest.mark.parametrize(
    ("received", "why"),
    [
        pytest.param(struct.pack(">I", 7), "client flags 0x7", id="unknown-client-flag"),
        pytest.param(struct.pack(">I", 0) + option(Opt.LIST), "fixed newstyle", id="option-without-fixed-newstyle"),
        pytest.param(FLAGS + b"GET / HTTP/1.1\r\n\r\n", "magic", id="http"),
        pytest.param(FLAGS + wire.OptionHeader(Opt.GO, 64 << 20).encode(), "67108864 bytes", id="option-of-64-mib"),
        pytest.param(FLAGS + wire.OptionHeader(99, 2**32 - 1).encode(), "4294967295 bytes", id="option-of-4-gib"),
        pytest.param(FLAGS + option(Opt.EXPORT_NAME, b"\xff"), "UTF-8", id="export-name-not-utf8"),
        pytest.param(FLAGS + option(Opt.EXPORT_NAME, b"a" * 5000), "5000 bytes", id="export-name-too-long"),
        pytest.param(
            FLAGS + wire.OptionHeader(Opt.EXPORT_NAME, 1 << 20).encode(), "1048576 bytes", id="export-name-of-1-mib"
        ),
        pytest.param(FLAGS + option(99) * 2001, "2000 options", id="endless-options"),
        pytest.param(FLAGS + go() + b"\0" * 28, "magic 0x0", id="request-magic"),
        pytest.param(
            FLAGS + go() + wire.Request(Cmd.WRITE, 1, 0, MAX + 1).encode(), "33554433 bytes", id="huge-write"
        ),
    ],
)
def test_what_ends_the_connection(received: bytes, why: str) -> None:
    peer = Peer().receive(received)
    assert peer.closed is not None
    assert peer.closed.reason is not None
    assert why in peer.closed.reason
    answered = len(peer.sent), len(peer.done)
    peer.receive(go(), bytes(100))
    assert (len(peer.sent), len(peer.done)) == answered


def test_a_client_that_chooses_nothing_is_dropped_after_ten_seconds() -> None:
    session = Session()
    session.start(100.0)
    assert session.deadline == 110.0
    session.receive(FLAGS + option(99), 109.0)
    assert session.expire(109.9) == []
    assert session.expire(110.0) == [Close("no export chosen within 10 s")]
    assert session.receive(go(), 111.0) == []


def test_a_client_with_an_export_has_no_deadline() -> None:
    peer = negotiated()
    assert peer.session.deadline is None
    assert peer.session.expire(1e9) == []


def test_answers_that_come_after_the_end_change_nothing() -> None:
    session = Session()
    session.start(0.0)
    session.receive(FLAGS + go(), 0.0)
    session.expire(11.0)
    assert session.export_opened(IMAGE) == session.export_refused(Refused.UNKNOWN) == session.exports_listed([]) == []


def test_nothing_is_answered_while_the_export_is_being_opened() -> None:
    session = Session()
    session.start(0.0)
    assert session.receive(FLAGS + go(), 0.0) == [OpenExport("node", keep=True)]
    assert session.receive(wire.Request(Cmd.READ, 1, 0, 512).encode(), 0.0) == []
    assert session.export_opened(IMAGE)[1:] == [Read(1, 0, 512, whole=False)]


@settings(max_examples=150)
@given(
    data=st.binary(max_size=300),
    prefix=st.sampled_from([b"", FLAGS, FLAGS + option(Opt.STRUCTURED_REPLY), FLAGS + go(), FLAGS + go("disk")]),
    tls=st.sampled_from(TlsMode),
)
def test_any_bytes_are_answered_or_end_the_connection(data: bytes, prefix: bytes, tls: TlsMode) -> None:
    peer = Peer(tls).receive(prefix, data)
    for action in peer.done:
        if isinstance(action, Read):
            assert action.offset + action.length <= SIZE


def command(kind: int, offset: int, length: int, flags: int, extended: bool) -> bytes:
    """A command, with a payload where it has one."""
    payload = bytes(length) if kind == Cmd.WRITE or (extended and flags & CmdFlag.PAYLOAD_LEN) else b""
    if extended:
        return wire.ExtendedRequest(kind, 9, offset, length, flags).encode() + payload
    return wire.Request(kind, 9, offset, length, flags).encode() + payload


NAMES = st.sampled_from(["", "node", "/node", "disk", "x"])
AGREED = [
    b"",
    option(Opt.STRUCTURED_REPLY),
    option(Opt.STRUCTURED_REPLY) + contexts("disk", ALLOCATION),
    option(Opt.EXTENDED_HEADERS) + contexts("disk", ALLOCATION),
]
STREAM = st.lists(
    st.one_of(
        st.builds(option, st.integers(0, 12).filter(lambda number: number != Opt.STARTTLS), st.binary(max_size=40)),
        st.builds(go, NAMES, st.integers(0, 4), number=st.sampled_from([6, 7])),
        st.builds(contexts, NAMES, st.sampled_from([ALLOCATION, "base:", "x:"]), number=st.sampled_from([9, 10])),
        st.builds(
            command,
            st.integers(0, 9),
            st.sampled_from([0, 512, SIZE - 100, SIZE, 2**64 - 1]),
            st.integers(0, 200),
            st.integers(0, 63),
            st.booleans(),
        ),
    ),
    max_size=8,
).map(b"".join)


@settings(max_examples=300)
@given(
    stream=STREAM,
    cuts=st.lists(st.integers(1, 60), max_size=20),
    agreed=st.sampled_from(AGREED),
    chosen=st.sampled_from([b"", go(), go("disk")]),
)
def test_the_same_bytes_in_any_pieces_get_the_same_answers(
    stream: bytes, cuts: list[int], agreed: bytes, chosen: bytes
) -> None:
    whole = FLAGS + agreed + chosen + stream
    pieces, rest = [], whole
    for size in cuts:
        pieces.append(rest[:size])
        rest = rest[size:]
    at_once, in_pieces, one_by_one = (
        Peer().receive(whole),
        Peer().receive(*pieces, rest),
        Peer().receive(*cut(whole, 1)),
    )
    assert in_pieces.sent == one_by_one.sent == at_once.sent
    assert in_pieces.done == one_by_one.done == at_once.done
    # Bounded: no more than a fixed answer for each whole header.
    assert len(at_once.sent) <= len(GREETING) + 40 * len(whole)
    assert sum(len(action.data) for action in at_once.done if isinstance(action, Write)) <= len(whole)


@given(data=st.binary(max_size=200), tail=st.binary(max_size=60))
def test_what_has_been_answered_does_not_depend_on_what_comes_behind(data: bytes, tail: bytes) -> None:
    first = Peer().receive(FLAGS, go("disk"), data)
    both = Peer().receive(FLAGS, go("disk"), data + tail)
    if first.closed is None:
        assert both.sent[: len(first.sent)] == first.sent
        assert both.done[: len(first.done)] == first.done


@pytest.mark.parametrize("extended", [False, True])
def test_no_more_than_one_piece_of_a_write_is_kept(extended: bool) -> None:
    peer = negotiated(*([option(Opt.EXTENDED_HEADERS)] if extended else []), name="disk")
    for piece in cut(command(Cmd.WRITE, 0, SIZE, 0, extended), 1 << 16):
        peer.receive(piece)
        assert peer.session.buffered <= (1 << 18) + 32
    assert [action.last for action in peer.done if isinstance(action, Write)] == [False, False, False, True]


def test_a_long_option_is_not_kept() -> None:
    peer = Peer().receive(FLAGS)
    for piece in cut(option(Opt.GO, bytes(1 << 20)), 1 << 16):
        peer.receive(piece)
        assert peer.session.buffered == 0
