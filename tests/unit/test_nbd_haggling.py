"""The options: what is agreed on, what is refused and how, and what TLS makes of it."""

import struct

import pytest

from nbd import haggling, replies, wire
from nbd.actions import BlockStatus, Close, ExportInfo, OpenExport, StartTls, TlsMode
from nbd.engine import Phase
from nbd.exports import Refused
from nbd.metadata import ALLOCATION, ALLOCATION_ID, reply_data
from nbd.wire import Cmd, Info, Opt, Rep, TransmissionFlag
from tests.support.nbd_peer import DISK, FLAGS, IMAGE, SIZE, Peer, contexts, cut, go, negotiated, option, reply

STRUCTURED = option(Opt.STRUCTURED_REPLY)
EXTENDED = option(Opt.EXTENDED_HEADERS)
STARTTLS = option(Opt.STARTTLS)
META_ACK = [Rep.META_CONTEXT, Rep.ACK]
FOUND = reply_data(ALLOCATION, ALLOCATION_ID)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        pytest.param([STRUCTURED], [Rep.ACK], id="structured"),
        pytest.param([STRUCTURED, STRUCTURED], [Rep.ACK, Rep.ACK], id="structured-twice"),
        pytest.param([option(Opt.STRUCTURED_REPLY, b"x")], [Rep.ERR_INVALID], id="structured-with-data"),
        pytest.param([EXTENDED], [Rep.ACK], id="extended"),
        pytest.param([EXTENDED, EXTENDED], [Rep.ACK, Rep.ERR_INVALID], id="extended-twice"),
        pytest.param([EXTENDED, STRUCTURED], [Rep.ACK, Rep.ERR_EXT_HEADER_REQD], id="structured-after-extended"),
        pytest.param([STRUCTURED, EXTENDED], [Rep.ACK, Rep.ACK], id="extended-after-structured"),
        pytest.param([option(Opt.EXTENDED_HEADERS, b"x")], [Rep.ERR_INVALID], id="extended-with-data"),
        pytest.param([option(Opt.LIST, b"x")], [Rep.ERR_INVALID], id="list-with-data"),
        pytest.param([STARTTLS], [Rep.ERR_UNSUP], id="no-tls"),
        pytest.param([option(Opt.STARTTLS, b"x")], [Rep.ERR_UNSUP], id="no-tls-with-data"),
        pytest.param([option(Opt.PEEK_EXPORT), option(99)], [Rep.ERR_UNSUP, Rep.ERR_UNSUP], id="unknown"),
    ],
)
def test_an_option_gets_its_answer(options: list[bytes], kinds: list[Rep]) -> None:
    peer = Peer().receive(FLAGS, *options)
    assert peer.kinds() == kinds
    assert peer.receive(go()).session.phase is Phase.TRANSMISSION


@pytest.mark.parametrize(
    ("options", "form"),
    [
        pytest.param([], replies.SIMPLE, id="simple"),
        pytest.param([STRUCTURED], replies.STRUCTURED, id="structured"),
        pytest.param([STRUCTURED, EXTENDED, STRUCTURED], replies.EXTENDED, id="extended"),
    ],
)
def test_replies_have_the_form_that_was_agreed_on(options: list[bytes], form: replies.Replies) -> None:
    assert negotiated(*options).session.replies is form


@pytest.mark.parametrize(
    ("info", "structured", "flags"),
    [
        pytest.param(IMAGE, False, 0x507, id="image"),
        pytest.param(IMAGE, True, 0x587, id="image-structured"),
        pytest.param(DISK, False, 0xD6D, id="disk"),
        pytest.param(DISK, True, 0xDED, id="disk-structured"),
        pytest.param(ExportInfo(SIZE, writable=True), False, 0xD6D, id="disk-without-fast-zero"),
    ],
)
def test_the_flags_say_what_an_export_can_do(info: ExportInfo, structured: bool, flags: int) -> None:
    peer = Peer(exports={"node": info}).receive(FLAGS, *([STRUCTURED] if structured else []), go())
    assert (Opt.GO, Rep.INFO, wire.info_export(SIZE, TransmissionFlag(flags))) in peer.replies


def test_info_and_go_tell_the_same_and_each_thing_once() -> None:
    asked = (Info.BLOCK_SIZE, Info.NAME, Info.DESCRIPTION, Info.NAME, 77)
    peer = Peer().receive(FLAGS, STRUCTURED, go("disk", *asked, number=Opt.INFO))
    told = [(kind, data) for _, kind, data in peer.replies[1:]]
    assert told == [
        (Rep.INFO, wire.info_export(SIZE, TransmissionFlag(0xDED))),
        (Rep.INFO, wire.info_name("disk")),
        (Rep.INFO, wire.info_description("of m1")),
        (Rep.INFO, wire.info_block_size(1, 4096, 32 << 20)),
        (Rep.ACK, b""),
    ]
    peer.forget().receive(go("disk", *asked))
    assert [(kind, data) for _, kind, data in peer.replies] == told


def test_an_export_without_a_description_has_none() -> None:
    assert Peer().receive(FLAGS, go("node", Info.DESCRIPTION)).kinds() == [Rep.INFO, Rep.ACK]


@pytest.mark.parametrize(
    ("tls", "why", "kind"),
    [
        pytest.param(TlsMode.NONE, Refused.UNKNOWN, Rep.ERR_UNKNOWN, id="unknown"),
        pytest.param(TlsMode.NONE, Refused.POLICY, Rep.ERR_POLICY, id="policy"),
        pytest.param(TlsMode.OFFERED, Refused.TLS_REQUIRED, Rep.ERR_TLS_REQD, id="tls-required"),
        pytest.param(TlsMode.NONE, Refused.TLS_REQUIRED, Rep.ERR_POLICY, id="tls-required-where-there-is-none"),
    ],
)
def test_the_client_is_told_why_it_gets_no_export(tls: TlsMode, why: Refused, kind: Rep) -> None:
    peer = Peer(tls, {"secret": why, "node": IMAGE})
    peer.receive(FLAGS, go("secret", number=Opt.INFO), go("secret"))
    assert peer.kinds() == [kind, kind]
    assert peer.receive(go()).session.phase is Phase.TRANSMISSION
    by_name = Peer(tls, {"secret": why}).receive(FLAGS, option(Opt.EXPORT_NAME, b"secret"))
    assert by_name.done == [OpenExport("secret", keep=True), Close(None)]
    assert by_name.kinds() == []


def test_export_name_ends_a_connection_with_extended_headers() -> None:
    peer = Peer().receive(FLAGS, EXTENDED, option(Opt.EXPORT_NAME, b"node"))
    assert peer.done == [Close("EXPORT_NAME with extended headers")]


# Metadata contexts

LIST_SET = [Opt.LIST_META_CONTEXT, Opt.SET_META_CONTEXT]


@pytest.mark.parametrize(
    ("queries", "listed", "selected"),
    [
        pytest.param([], True, False, id="nothing-asked"),
        pytest.param(["base:allocation"], True, True, id="exactly"),
        pytest.param(["base:"], True, False, id="wildcard"),
        pytest.param(["base:other"], False, False, id="unknown-leaf"),
        pytest.param(["qemu:dirty-bitmap:x", "x:"], False, False, id="unknown-namespace"),
        pytest.param(["x:", "base:allocation", "base:allocation"], True, True, id="twice-among-others"),
    ],
)
def test_contexts_are_found_by_query(queries: list[str], listed: bool, selected: bool) -> None:
    peer = Peer().receive(FLAGS, STRUCTURED).forget()
    peer.receive(contexts("node", *queries, number=Opt.LIST_META_CONTEXT))
    assert peer.replies == [
        *([(Opt.LIST_META_CONTEXT, Rep.META_CONTEXT, reply_data(ALLOCATION, 0))] if listed else []),
        (Opt.LIST_META_CONTEXT, Rep.ACK, b""),
    ]
    peer.forget().receive(contexts("node", *queries))
    assert peer.replies == [
        *([(Opt.SET_META_CONTEXT, Rep.META_CONTEXT, FOUND)] if selected else []),
        (Opt.SET_META_CONTEXT, Rep.ACK, b""),
    ]


@pytest.mark.parametrize("number", LIST_SET)
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(b"", Rep.ERR_INVALID, id="no-data"),
        pytest.param(struct.pack(">I4s", 5, b"node"), Rep.ERR_INVALID, id="name-past-the-end"),
        pytest.param(struct.pack(">I4sI", 4, b"node", 1), Rep.ERR_INVALID, id="fewer-queries"),
        pytest.param(struct.pack(">I4sIII", 4, b"node", 2**32 - 1, 0, 0), Rep.ERR_INVALID, id="4-gib-queries"),
        pytest.param(struct.pack(">I4sII3s", 4, b"node", 1, 4, b"x:y"), Rep.ERR_INVALID, id="query-past-the-end"),
        pytest.param(struct.pack(">I4sII3sx", 4, b"node", 1, 3, b"x:y"), Rep.ERR_INVALID, id="bytes-left-over"),
        pytest.param(struct.pack(">I4sII3s", 4, b"node", 1, 3, b"x:\xff"), Rep.ERR_INVALID, id="not-utf8"),
        pytest.param(struct.pack(">I4sII3s", 4, b"node", 1, 3, b"xyz"), Rep.ERR_INVALID, id="no-namespace"),
        pytest.param(bytes(haggling.MAX_OPTION_BYTES + 1), Rep.ERR_TOO_BIG, id="too-big"),
    ],
)
def test_a_lying_query_is_refused_and_unselects(number: Opt, data: bytes, kind: Rep) -> None:
    chosen = contexts("node", ALLOCATION)
    peer = Peer().receive(FLAGS, STRUCTURED, chosen).forget().receive(option(number, data))
    assert peer.kinds() == [kind]
    peer.receive(go()).forget().receive(wire.Request(Cmd.BLOCK_STATUS, 1, 0, 512).encode())
    assert bool(peer.commands) == (number == Opt.LIST_META_CONTEXT)  # SET replaces, also when it fails (N-26)


@pytest.mark.parametrize("number", LIST_SET)
def test_contexts_need_structured_replies(number: Opt) -> None:
    peer = Peer().receive(FLAGS, contexts("node", ALLOCATION, number=number))
    assert peer.kinds() == [Rep.ERR_INVALID]


@pytest.mark.parametrize(
    ("options", "opened", "counts"),
    [
        pytest.param([contexts("node", ALLOCATION)], "node", True, id="same-export"),
        pytest.param([contexts("/node", ALLOCATION)], "node", True, id="same-but-for-a-slash"),
        pytest.param([contexts("node", ALLOCATION)], "disk", False, id="another-export"),
        pytest.param([contexts("disk", ALLOCATION), contexts("node", "x:")], "disk", False, id="replaced"),
        pytest.param([contexts("disk"), contexts("node", ALLOCATION)], "node", True, id="the-last-one"),
    ],
)
def test_contexts_count_for_the_export_they_were_chosen_for(options: list[bytes], opened: str, counts: bool) -> None:
    peer = negotiated(STRUCTURED, *options, name=opened).receive(wire.Request(Cmd.BLOCK_STATUS, 7, 0, 512).encode())
    asked = BlockStatus(7, 0, 512, req_one=False, contexts=(ALLOCATION_ID,))
    assert peer.commands == ([asked] if counts else [])


# TLS

SECURE = [FLAGS, STARTTLS]


def test_tls_begins_afresh() -> None:
    """What was agreed on before TLS may have been put there by another (CVE-2021-3716)."""
    peer = Peer(TlsMode.OFFERED).receive(FLAGS, STRUCTURED, contexts("node", ALLOCATION), STARTTLS)
    assert peer.kinds() == [Rep.ACK, *META_ACK, Rep.ACK]
    assert peer.done == [StartTls()]
    assert peer.session.secure
    assert peer.session.replies is replies.SIMPLE
    peer.receive(STRUCTURED, go()).forget().receive(wire.Request(Cmd.BLOCK_STATUS, 1, 0, 512).encode())
    assert not peer.commands


def test_extended_headers_are_forgotten_by_tls() -> None:
    assert Peer(TlsMode.OFFERED).receive(FLAGS, EXTENDED, STARTTLS, go()).session.replies is replies.SIMPLE


@pytest.mark.parametrize("mode", [TlsMode.OFFERED, TlsMode.REQUIRED])
def test_tls_is_begun_once(mode: TlsMode) -> None:
    peer = Peer(mode).receive(*SECURE, STARTTLS)
    assert peer.kinds() == [Rep.ACK, Rep.ERR_INVALID]
    assert peer.done == [StartTls()]


@pytest.mark.parametrize("mode", [TlsMode.OFFERED, TlsMode.REQUIRED])
def test_starttls_with_data_is_invalid(mode: TlsMode) -> None:
    peer = Peer(mode).receive(FLAGS, option(Opt.STARTTLS, b"x"))
    assert peer.kinds() == [Rep.ERR_INVALID]
    assert peer.done == []


@pytest.mark.parametrize("mode", [TlsMode.OFFERED, TlsMode.REQUIRED])
@pytest.mark.parametrize("behind", [go(), STRUCTURED, b"\x16"])
def test_plaintext_behind_starttls_ends_the_connection(mode: TlsMode, behind: bytes) -> None:
    peer = Peer(mode).receive(FLAGS, STARTTLS + behind)
    assert peer.done == [Close("plaintext after STARTTLS")]
    assert peer.kinds() == []


def test_nothing_is_received_while_the_handshake_is_made() -> None:
    peer = Peer(TlsMode.OFFERED).receive(FLAGS)
    peer.session.receive(STARTTLS, 1.0)
    assert peer.session.phase is Phase.SECURING
    assert peer.session.receive(go(), 1.0) == [Close("plaintext after STARTTLS")]
    assert peer.session.secured() == []


def test_a_handshake_that_was_not_asked_for_changes_nothing() -> None:
    peer = Peer(TlsMode.OFFERED).receive(FLAGS)
    assert peer.session.secured() == []
    assert not peer.session.secure


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(go(), id="go"),
        pytest.param(go(number=Opt.INFO), id="info"),
        pytest.param(option(Opt.LIST), id="list"),
        pytest.param(STRUCTURED, id="structured"),
        pytest.param(EXTENDED, id="extended"),
        pytest.param(contexts("node", ALLOCATION), id="set-meta-context"),
        pytest.param(option(99), id="unknown"),
        pytest.param(option(99, bytes(1 << 20)), id="unknown-and-too-big"),
        pytest.param(option(Opt.GO, b"garbage"), id="garbage"),
    ],
)
def test_where_tls_is_required_nothing_is_told_without_it(sent: bytes) -> None:
    peer = Peer(TlsMode.REQUIRED).receive(FLAGS, *cut(sent, 4000))
    assert peer.kinds() == [Rep.ERR_TLS_REQD]
    assert peer.done == []
    assert peer.receive(STARTTLS).receive(go()).session.phase is Phase.TRANSMISSION


def test_where_tls_is_required_export_name_ends_the_connection() -> None:
    for flags in (FLAGS, bytes(4)):
        peer = Peer(TlsMode.REQUIRED).receive(flags, option(Opt.EXPORT_NAME, b"node"))
        assert peer.done == [Close(None)]
        assert peer.kinds() == []


def test_where_tls_is_required_a_client_may_give_up() -> None:
    peer = Peer(TlsMode.REQUIRED).receive(FLAGS, option(Opt.ABORT))
    assert peer.kinds() == [Rep.ACK]
    assert peer.done == [Close(None)]


def test_where_tls_is_offered_it_is_not_needed() -> None:
    assert Peer(TlsMode.OFFERED).receive(FLAGS, STRUCTURED, go()).session.phase is Phase.TRANSMISSION


# The end


@pytest.mark.parametrize(
    "sent", [go(), go(number=Opt.INFO), option(Opt.LIST), STRUCTURED, STARTTLS, option(99), option(99, bytes(20000))]
)
def test_a_server_that_stops_says_so(sent: bytes) -> None:
    peer = Peer(TlsMode.OFFERED).receive(FLAGS)
    peer.session.stopping()
    assert peer.receive(sent).kinds() == [Rep.ERR_SHUTDOWN]
    assert peer.done == []


def test_a_server_that_stops_ends_export_name_and_acknowledges_abort() -> None:
    for sent, kinds in ((option(Opt.EXPORT_NAME, b"node"), []), (option(Opt.ABORT), [Rep.ACK])):
        peer = Peer().receive(FLAGS)
        peer.session.stopping()
        assert peer.receive(sent).kinds() == kinds
        assert peer.done == [Close(None)]


def test_abort_is_acknowledged_whatever_comes_with_it() -> None:
    peer = Peer().receive(FLAGS, *cut(option(Opt.ABORT, bytes(100_000)), 4096))
    assert (peer.sent[-20:], peer.done) == (reply(Opt.ABORT, Rep.ACK), [Close(None)])
