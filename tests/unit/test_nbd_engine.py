"""The session of one connection: what it answers, however the bytes are cut."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbd import engine, haggling, wire
from nbd.actions import Action, Cache, Close, ExportInfo, ListExports, OpenExport, Read, Send
from nbd.exports import Refused
from nbd.wire import Cmd, Errno, Info, Opt, Rep

SIZE = 1 << 20
INFO = ExportInfo(SIZE)
MAX = wire.MAX_PAYLOAD_BYTES
GREETING = wire.Greeting(wire.HandshakeFlag(3)).encode()
FLAGS = struct.pack(">I", 3)
EXPORT_INFO = wire.info_export(SIZE, wire.TransmissionFlag(0x507))


def option(number: int, data: bytes = b"") -> bytes:
    return wire.OptionHeader(number, len(data)).encode() + data


def go(name: str = "node", *requests: int, number: int = Opt.GO) -> bytes:
    return option(number, wire.InfoRequest(name, requests).encode())


def reply(number: int, kind: int, data: bytes = b"") -> bytes:
    return wire.OptionReply(number, kind, data).encode()


@dataclass
class Peer:
    """A client and a transport in one: opens the exports `node` and the default one, and reads zeros."""

    session: engine.Session = field(default_factory=engine.Session)
    sent: bytes = b""
    done: list[Action] = field(default_factory=list)
    """All actions but Send."""

    def __post_init__(self) -> None:
        self.carry_out(self.session.start(0.0))

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.sent += action.data
                continue
            self.done.append(action)
            match action:
                case OpenExport(name):
                    known = name in ("", "node")
                    self.carry_out(
                        self.session.export_opened(INFO) if known else self.session.export_refused(Refused.UNKNOWN)
                    )
                case ListExports():
                    self.carry_out(self.session.exports_listed(["node", "é"]))
                case Read(cookie, _, length):
                    self.sent += wire.SimpleReply(cookie).encode() + bytes(length)
                case Cache(cookie):
                    self.sent += wire.SimpleReply(cookie).encode()
                case _:
                    pass

    def receive(self, *pieces: bytes) -> "Peer":
        for piece in pieces:
            self.carry_out(self.session.receive(piece, 1.0))
        return self

    @property
    def closed(self) -> Close | None:
        last = self.done[-1] if self.done else None
        return last if isinstance(last, Close) else None

    @property
    def replies(self) -> list[tuple[int, int, bytes]]:
        """(option, type, data) of every option reply after the greeting."""
        replies, rest = [], self.sent[len(GREETING) :]
        while rest:
            end = 20 + int.from_bytes(rest[16:20])
            parsed = wire.OptionReply.decode(rest[:end])
            replies.append((parsed.option, parsed.type, parsed.data))
            rest = rest[end:]
        return replies


def negotiated() -> Peer:
    """A peer in transmission, with nothing in `sent`."""
    peer = Peer().receive(FLAGS, go())
    peer.sent, peer.done = b"", []
    return peer


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
        reply(99, Rep.ERR_UNSUP)
        + reply(Opt.STARTTLS, Rep.ERR_UNSUP)
        + reply(Opt.GO, Rep.INFO, EXPORT_INFO)
        + ACK,
        [OpenExport("node", keep=True)],
        id="unknown-options-lose-no-step",
    ),
]


@pytest.mark.parametrize(("received", "answer", "done"), CONVERSATIONS)
@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(lambda data: [data], id="whole"),
        pytest.param(lambda data: [data[i : i + 1] for i in range(len(data))], id="one-at-a-time"),
        pytest.param(lambda data: [data[:7], data[7:]], id="in-two"),
    ],
)
def test_a_conversation(
    received: bytes, answer: bytes, done: list[Action], cut: Callable[[bytes], list[bytes]]
) -> None:
    peer = Peer().receive(*cut(received))
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
    peer = Peer().receive(FLAGS, *(stream[i : i + 4000] for i in range(0, len(stream), 4000)))
    assert [found for _, found, _ in peer.replies] == [kind, Rep.INFO, Rep.ACK]


def test_list_with_data_is_invalid() -> None:
    assert Peer().receive(FLAGS, option(Opt.LIST, b"x")).replies[0][:2] == (Opt.LIST, Rep.ERR_INVALID)


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


REQUESTS = [
    pytest.param(wire.Request(Cmd.READ, 5, 512, 1024), Read(5, 512, 1024, whole=False), id="read"),
    pytest.param(wire.Request(Cmd.READ, 5, SIZE - 1, 1), Read(5, SIZE - 1, 1, whole=False), id="read-last-byte"),
    pytest.param(wire.Request(Cmd.READ, 5, SIZE, 0), Errno.OK, id="read-nothing"),
    pytest.param(wire.Request(Cmd.READ, 5, SIZE, 1), Errno.EINVAL, id="read-past-the-end"),
    pytest.param(wire.Request(Cmd.READ, 5, 2**64 - 512, 1024), Errno.EINVAL, id="read-offset-wraps"),
    pytest.param(wire.Request(Cmd.READ, 5, 0, 2**32 - 1), Errno.EINVAL, id="read-4-gib"),
    pytest.param(wire.Request(Cmd.READ, 5, 0, 512, wire.CmdFlag.DF), Errno.EINVAL, id="read-df-not-offered"),
    pytest.param(wire.Request(Cmd.FLUSH, 5), Errno.OK, id="flush"),
    pytest.param(wire.Request(Cmd.FLUSH, 5, flags=0x8000), Errno.EINVAL, id="flush-unknown-flag"),
    pytest.param(wire.Request(Cmd.CACHE, 5, 0, 4096), Cache(5, 0, 4096), id="cache"),
    pytest.param(wire.Request(Cmd.CACHE, 5, SIZE, 4096), Errno.EINVAL, id="cache-past-the-end"),
    pytest.param(wire.Request(Cmd.CACHE, 5, 0, 4096, wire.CmdFlag.FUA), Errno.EINVAL, id="cache-flag"),
    pytest.param(wire.Request(Cmd.TRIM, 5, 0, 4096), Errno.EPERM, id="trim"),
    pytest.param(wire.Request(Cmd.WRITE_ZEROES, 5, 0, 2**32 - 1), Errno.EPERM, id="write-zeroes"),
    pytest.param(wire.Request(Cmd.BLOCK_STATUS, 5, 0, 4096), Errno.EINVAL, id="block-status"),
    pytest.param(wire.Request(999, 5), Errno.EINVAL, id="unknown-command"),
    pytest.param(wire.Request(Cmd.DISC, 5), Close(None), id="disc"),
]


@pytest.mark.parametrize(("request_", "expected"), REQUESTS)
def test_a_request_is_answered(request_: wire.Request, expected: Errno | Action) -> None:
    peer = negotiated().receive(request_.encode())
    if isinstance(expected, Errno):
        assert peer.sent == wire.SimpleReply(5, expected).encode()
        assert peer.done == []
    else:
        assert peer.done == [expected]


def test_a_read_of_32_mib_is_granted_and_one_byte_more_is_not() -> None:
    session = engine.Session()
    session.start(0.0)
    session.receive(FLAGS + go(), 0.0)
    session.export_opened(ExportInfo(64 << 20))
    assert session.receive(wire.Request(Cmd.READ, 1, 0, MAX).encode(), 0.0) == [Read(1, 0, MAX, whole=False)]
    refusal = Send(wire.SimpleReply(2, Errno.EINVAL).encode())
    assert session.receive(wire.Request(Cmd.READ, 2, 0, MAX + 1).encode(), 0.0) == [refusal]


@pytest.mark.parametrize("length", [0, 1, 4096, 100_000])
@pytest.mark.parametrize("step", [1000, 10**6])
def test_a_write_is_refused_after_its_payload(length: int, step: int) -> None:
    stream = wire.Request(Cmd.WRITE, 1, 0, length).encode() + b"\xaa" * length
    stream += wire.Request(Cmd.FLUSH, 2).encode()
    peer = negotiated().receive(*(stream[i : i + step] for i in range(0, len(stream), step)))
    assert peer.sent == wire.SimpleReply(1, Errno.EPERM).encode() + wire.SimpleReply(2).encode()


def test_a_write_is_not_answered_before_its_payload_has_come() -> None:
    assert negotiated().receive(wire.Request(Cmd.WRITE, 1, 0, 10).encode() + bytes(9)).sent == b""


def test_a_client_that_chooses_nothing_is_dropped_after_ten_seconds() -> None:
    session = engine.Session()
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
    session = engine.Session()
    session.start(0.0)
    session.receive(FLAGS + go(), 0.0)
    session.expire(11.0)
    assert session.export_opened(INFO) == session.export_refused(Refused.UNKNOWN) == session.exports_listed([]) == []


def test_nothing_is_answered_while_the_export_is_being_opened() -> None:
    session = engine.Session()
    session.start(0.0)
    assert session.receive(FLAGS + go(), 0.0) == [OpenExport("node", keep=True)]
    assert session.receive(wire.Request(Cmd.READ, 1, 0, 512).encode(), 0.0) == []
    assert session.export_opened(INFO)[1:] == [Read(1, 0, 512, whole=False)]


@settings(max_examples=150)
@given(data=st.binary(max_size=300), prefix=st.sampled_from([b"", FLAGS, FLAGS + go()]))
def test_any_bytes_are_answered_or_end_the_connection(data: bytes, prefix: bytes) -> None:
    peer = Peer().receive(prefix, data)
    for action in peer.done:
        if isinstance(action, Read):
            assert action.offset + action.length <= SIZE


STREAM = st.lists(
    st.one_of(
        st.builds(option, st.integers(0, 12), st.binary(max_size=40)),
        st.builds(go, st.sampled_from(["", "node", "/node", "x"]), st.integers(0, 4), number=st.sampled_from([6, 7])),
        st.builds(
            lambda kind, offset, length, flags: (
                wire.Request(kind, 9, offset, length, flags).encode() + (bytes(length) if kind == Cmd.WRITE else b"")
            ),
            st.integers(0, 9),
            st.sampled_from([0, 512, SIZE - 100, SIZE, 2**64 - 1]),
            st.integers(0, 200),
            st.integers(0, 2),
        ),
    ),
    max_size=8,
).map(b"".join)


@settings(max_examples=150)
@given(stream=STREAM, cuts=st.lists(st.integers(1, 60), max_size=20), chosen=st.booleans())
def test_the_same_bytes_in_any_pieces_get_the_same_answers(stream: bytes, cuts: list[int], chosen: bool) -> None:
    whole = FLAGS + (go() if chosen else b"") + stream
    pieces, rest = [], whole
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    at_once, cut_up = Peer().receive(whole), Peer().receive(*pieces, rest)
    assert cut_up.sent == at_once.sent
    assert cut_up.done == at_once.done
    # Bounded: no more than a fixed answer for each whole header, and what was read.
    reads = sum(action.length for action in at_once.done if isinstance(action, Read))
    assert len(at_once.sent) <= len(GREETING) + reads + 20 * len(whole)
