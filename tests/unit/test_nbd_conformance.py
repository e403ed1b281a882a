"""nbd: the lines N-01 to N-35 of the reference, the handshake, by bytes alone; those of transmission are in
test_nbd_conformance_transmission. What takes a socket (N-02, N-34, N-66, N-75) is in tests/net."""

import struct
from collections.abc import Mapping

import pytest

from nbd.actions import TlsMode
from tests.support import nbd_talk as talk
from tests.support.nbd_driver import HAGGLED, Disk, Driver, greeted
from tests.support.nbd_talk import (
    ABORT,
    ACK,
    ERR_INVALID,
    ERR_POLICY,
    ERR_SHUTDOWN,
    ERR_TLS_REQD,
    ERR_TOO_BIG,
    ERR_UNKNOWN,
    ERR_UNSUP,
    EXPORT_NAME,
    EXTENDED_HEADERS,
    GO,
    INFO,
    LIST,
    LIST_META_CONTEXT,
    REP_INFO,
    REP_META_CONTEXT,
    REP_SERVER,
    SET_META_CONTEXT,
    STARTTLS,
    STRUCTURED_REPLY,
    Headers,
    choose,
    contexts,
    option,
)

SIZE = 1 << 20
EXPORTS = {
    "": Disk(bytearray(SIZE)),
    "node": Disk(bytearray(SIZE), description="Debian für alle"),
    "é": Disk(bytearray(SIZE)),
    "disk": Disk(bytearray(2 * SIZE), writable=True),
    "secret": Disk(bytearray(SIZE), tls_only=True),
}
STRUCTURED = HAGGLED[Headers.STRUCTURED]
EXTENDED = HAGGLED[Headers.EXTENDED]
CONTEXT = "base:allocation"
HUGE = "n" * 4097


def kinds(driver: Driver, *said: bytes) -> list[tuple[int, int]]:
    """(option, kind) of the answers."""
    return [(answer.option, answer.kind) for answer in driver.haggle(*said)]


def greets() -> Driver:
    return greeted(EXPORTS)


def go_data(name: bytes, length: int | None = None, requests: bytes = b"\0\0") -> bytes:
    """The data of GO, with lengths that may lie."""
    return struct.pack(">I", len(name) if length is None else length) + name + requests


REFUSED = [  # an option that is answered with an error, and the connection goes on
    pytest.param(option(GO, go_data(HUGE.encode())), ERR_INVALID, id="N-01-name-of-4097-bytes"),
    pytest.param(option(INFO, go_data(HUGE.encode())), ERR_INVALID, id="N-01-name-of-4097-bytes-info"),
    pytest.param(option(GO, go_data(HUGE[1:].encode())), ERR_UNKNOWN, id="N-01-name-of-4096-bytes"),
    pytest.param(option(GO, go_data(b"no\0de")), ERR_INVALID, id="N-01-name-with-a-nul"),
    pytest.param(option(GO, go_data(b"\xff\xfe")), ERR_INVALID, id="N-01-name-that-is-not-utf8"),
    pytest.param(option(GO, go_data(b"\xed\xa0\x80")), ERR_INVALID, id="N-01-name-with-a-surrogate"),
    pytest.param(STRUCTURED + contexts(HUGE), ERR_INVALID, id="N-01-name-of-4097-bytes-set-meta-context"),
    pytest.param(STRUCTURED + contexts("node", "base:" + HUGE), ERR_INVALID, id="N-01-query-of-4102-bytes"),
    pytest.param(STRUCTURED + contexts("node", "base:\0"), ERR_INVALID, id="N-01-query-with-a-nul"),
    *(
        pytest.param(option(number, bytes(length)), ERR_UNSUP, id=f"N-11-unknown-option-{number:#x}-of-{length}")
        for number in (0, 4, 12, 99, 2**31, 2**32 - 1)
        for length in (0, 1, 4096)
    ),
    pytest.param(option(99, bytes(1 << 20)), ERR_TOO_BIG, id="N-12-unknown-option-of-1-mib"),
    pytest.param(option(GO, bytes(1 << 20)), ERR_TOO_BIG, id="N-12-go-of-1-mib"),
    pytest.param(option(LIST, b"x"), ERR_INVALID, id="N-15-list-with-data"),
    pytest.param(option(GO), ERR_INVALID, id="N-17-no-data"),
    pytest.param(option(GO, b"\0\0\0\0\0"), ERR_INVALID, id="N-17-five-bytes"),
    pytest.param(option(GO, go_data(b"node", 99)), ERR_INVALID, id="N-17-name-past-the-end"),
    pytest.param(option(GO, go_data(b"node", 5)), ERR_INVALID, id="N-17-name-into-the-count"),
    pytest.param(option(GO, go_data(b"node", 2**32 - 1)), ERR_INVALID, id="N-17-name-of-4-gib"),
    pytest.param(option(GO, go_data(b"node", requests=b"\0\1")), ERR_INVALID, id="N-17-fewer-items-than-counted"),
    pytest.param(option(GO, go_data(b"node", requests=b"\0\0\0\3")), ERR_INVALID, id="N-17-more-items-than-counted"),
    pytest.param(option(GO, go_data(b"node", requests=b"\xff\xff")), ERR_INVALID, id="N-17-65535-items"),
    pytest.param(choose("other"), ERR_UNKNOWN, id="N-19-unknown-export"),
    pytest.param(choose("other", 3, number=INFO), ERR_UNKNOWN, id="N-19-unknown-export-info"),
    pytest.param(choose("../../etc/shadow"), ERR_UNKNOWN, id="N-19-traversal"),
    pytest.param(option(STRUCTURED_REPLY, b"x"), ERR_INVALID, id="N-24-structured-reply-with-data"),
    pytest.param(contexts("node", CONTEXT), ERR_INVALID, id="N-25-set-without-structured-replies"),
    pytest.param(contexts("node", number=LIST_META_CONTEXT), ERR_INVALID, id="N-25-list-without-structured-replies"),
    pytest.param(STRUCTURED + option(SET_META_CONTEXT), ERR_INVALID, id="N-25-no-data"),
    pytest.param(STRUCTURED + option(SET_META_CONTEXT, b"\0\0\0\4node"), ERR_INVALID, id="N-25-no-count"),
    pytest.param(
        STRUCTURED + option(SET_META_CONTEXT, b"\0\0\0\4node\0\0\0\1"),
        ERR_INVALID,
        id="N-25-fewer-queries-than-counted",
    ),
    pytest.param(
        STRUCTURED + option(SET_META_CONTEXT, b"\0\0\0\4node\0\0\0\0\0\0\0\1x"),
        ERR_INVALID,
        id="N-25-more-queries-than-counted",
    ),
    pytest.param(
        STRUCTURED + option(SET_META_CONTEXT, b"\0\0\0\4node\0\0\0\1\0\0\0\x09base:x"),
        ERR_INVALID,
        id="N-25-query-past-the-end",
    ),
    pytest.param(
        STRUCTURED + option(LIST_META_CONTEXT, b"\xff\xff\xff\xffnode\0\0\0\0"), ERR_INVALID, id="N-25-name-of-4-gib"
    ),
    pytest.param(
        STRUCTURED + option(LIST_META_CONTEXT, b"\0\0\0\4node\xff\xff\xff\xff"),
        ERR_INVALID,
        id="N-25-4-billion-queries",
    ),
    *(
        pytest.param(STRUCTURED + contexts("node", CONTEXT, query), ERR_INVALID, id=f"N-25-no-namespace-{query!r}")
        for query in ("", "base", "allocation")
    ),
    pytest.param(option(EXTENDED_HEADERS, b"x"), ERR_INVALID, id="N-27-extended-headers-with-data"),
    pytest.param(option(STARTTLS), ERR_UNSUP, id="N-30-starttls-where-there-is-none"),
]


@pytest.mark.parametrize(("said", "kind"), REFUSED)
def test_an_option_is_refused_and_the_next_one_is_in_step(said: bytes, kind: int) -> None:
    driver = greets()
    *before, answer = driver.haggle(said)
    assert answer.kind == kind
    assert [found.kind for found in before] in ([], [ACK])
    assert driver.closed is None
    assert kinds(driver, choose("node")) == [(GO, REP_INFO), (GO, ACK)]


@pytest.mark.parametrize(("said", "kind"), REFUSED)
def test_a_refused_option_is_refused_in_any_pieces(said: bytes, kind: int) -> None:
    driver = greets()
    step = 1 if len(said) < 10000 else 4099
    answers = driver.haggle(*(said[i : i + step] for i in range(0, len(said), step)), choose("node"))
    assert [answer.kind for answer in answers][-3:] == [kind, REP_INFO, ACK]


def test_n_04_the_greeting_offers_fixed_newstyle_and_no_zeroes_and_nothing_else() -> None:
    assert Driver(EXPORTS).out() == b"NBDMAGIC" + b"IHAVEOPT" + b"\x00\x03"


@pytest.mark.parametrize("bit", range(2, 32))
def test_n_05_a_client_flag_that_was_not_offered_ends_the_connection(bit: int) -> None:
    driver = greeted(EXPORTS, flags=3 | 1 << bit)
    assert driver.closed is not None
    assert driver.say(choose("node")) == b""


def test_n_03_an_oldstyle_client_gets_the_greeting_and_the_end() -> None:
    driver = Driver(EXPORTS)
    assert driver.say(talk.request(talk.READ, 1, 0, 512)) == talk.GREETING
    assert driver.closed is not None


@pytest.mark.parametrize(("flags", "zeroes"), [(0, 124), (1, 124), (2, 0), (3, 0)])
def test_n_06_export_name_is_followed_by_zeroes_unless_they_were_waived(flags: int, zeroes: int) -> None:
    said = greeted(EXPORTS, flags=flags).say(option(EXPORT_NAME, b"node"))
    size, transmission = struct.unpack_from(">QH", said)
    assert size == SIZE
    assert transmission & (talk.HAS_FLAGS | talk.READ_ONLY) == talk.HAS_FLAGS | talk.READ_ONLY
    assert said[10:] == bytes(zeroes)


def test_n_06_no_zeroes_ever_follow_go() -> None:
    assert kinds(greeted(EXPORTS, flags=1), choose("node")) == [(GO, REP_INFO), (GO, ACK)]


@pytest.mark.parametrize("flags", [0, 2])
@pytest.mark.parametrize("said", [option(LIST), choose("node"), option(STARTTLS), option(ABORT), option(99)])
@pytest.mark.parametrize("tls", TlsMode)
def test_n_07_without_fixed_newstyle_only_export_name_is_valid(flags: int, said: bytes, tls: TlsMode) -> None:
    driver = greeted(EXPORTS, tls, flags)
    assert driver.say(said) == b""
    assert driver.closed is not None


@pytest.mark.parametrize("number", [*range(2, 13), 2**31, 2**32 - 1])
def test_n_10_every_option_but_export_name_is_answered_under_its_own_number(number: int) -> None:
    assert {answer.option for answer in greets().haggle(option(number))} == {number}


@pytest.mark.parametrize("said", [option(LIST), choose("node"), STRUCTURED, option(99), option(STARTTLS), option(GO)])
def test_n_13_a_server_that_ends_refuses_all_options_but_abort(said: bytes) -> None:
    driver = greets()
    driver.session.stopping()
    assert [answer.kind for answer in driver.haggle(said)] == [ERR_SHUTDOWN]
    assert kinds(driver, option(ABORT)) == [(ABORT, ACK)]


def test_n_13_a_server_that_ends_opens_nothing_for_export_name() -> None:
    driver = greets()
    driver.session.stopping()
    assert driver.say(option(EXPORT_NAME, b"node")) == b""
    assert driver.closed is not None
    assert driver.opened == []


@pytest.mark.parametrize("data", [b"", b"farewell", bytes(5000)])
def test_n_14_abort_is_acknowledged_and_then_all_is_over(data: bytes) -> None:
    driver = greets()
    assert kinds(driver, option(ABORT, data) + choose("node")) == [(ABORT, ACK)]
    assert driver.closed is not None
    assert driver.closed.reason is None


def test_n_15_list_tells_each_export_and_then_that_this_was_all() -> None:
    *servers, last = greets().haggle(option(LIST))
    names = ["node", "é", "disk", "secret"]
    assert [(found.kind, found.data) for found in servers] == [
        (REP_SERVER, struct.pack(">I", len(name.encode())) + name.encode()) for name in names
    ]
    assert last.kind == ACK


def test_n_15_a_list_of_nothing_is_one_ack() -> None:
    assert kinds(greeted({}), option(LIST)) == [(LIST, ACK)]


@pytest.mark.parametrize(
    ("name", "tls"),
    [
        pytest.param("other", TlsMode.NONE, id="unknown"),
        pytest.param("no\0de", TlsMode.NONE, id="nul"),
        pytest.param(HUGE, TlsMode.NONE, id="4097-bytes"),
        pytest.param("secret", TlsMode.OFFERED, id="N-32-tls-only"),
        pytest.param("node", TlsMode.REQUIRED, id="N-31-forcedtls"),
    ],
)
def test_n_16_an_export_name_that_cannot_be_served_ends_the_connection_without_a_byte(name: str, tls: TlsMode) -> None:
    driver = greeted(EXPORTS, tls)
    assert driver.say(option(EXPORT_NAME, name.encode()), choose("node")) == b""
    assert driver.closed is not None
    assert driver.disk is None


@pytest.mark.parametrize("said", [option(EXPORT_NAME), choose("")])
def test_n_16_the_empty_name_is_the_default_export(said: bytes) -> None:
    driver = greets()
    driver.say(said)
    assert driver.disk is EXPORTS[""]


@pytest.mark.parametrize("number", [INFO, GO])
def test_n_17_unknown_information_requests_are_ignored(number: int) -> None:
    answers = greets().haggle(choose("node", 4, 77, 65535, number=number))
    assert [answer.data[:2] for answer in answers] == [b"\0\0", b""]


INFO_REQUESTS = [(), (0,), (1,), (2,), (3,), (0, 1, 2, 3), (3, 2, 1, 0), (3, 3, 3, 1, 1), tuple(range(500))]


@pytest.mark.parametrize("requests", INFO_REQUESTS, ids=str)
@pytest.mark.parametrize("before", [b"", STRUCTURED, EXTENDED], ids=["simple", "structured", "extended"])
@pytest.mark.parametrize("name", ["", "node", "disk"])
def test_n_18_n_20_n_21_info_and_go_tell_the_same_each_thing_once(
    requests: tuple[int, ...], before: bytes, name: str
) -> None:
    driver = greets()
    driver.haggle(before)
    *infos, last = driver.haggle(choose(name, *requests, number=INFO))
    assert last.kind == ACK
    told = {int.from_bytes(info.data[:2]): info.data[2:] for info in infos}
    assert len(told) == len(infos)
    assert len(told[0]) == 10
    assert int.from_bytes(told[0][:8]) == len(EXPORTS[name].content)
    if 1 in requests:
        assert told[1].decode() == name
    if 2 in requests and name == "node":
        assert told[2].decode() == "Debian für alle"
    if 3 in requests:  # N-22, N-40, N-41
        minimum, preferred, most = struct.unpack(">III", told[3])
        assert (minimum, preferred, most) == (1, 4096, talk.MOST)
    *again, last = driver.haggle(choose(name, *requests))
    assert [info.data for info in again] == [info.data for info in infos]
    assert (last.option, last.kind) == (GO, ACK)
    assert [found.keep for found in driver.opened] == [False, True]


def test_n_22_n_42_nobody_has_to_ask_for_block_sizes() -> None:
    assert kinds(greets(), choose("node")) == [(GO, REP_INFO), (GO, ACK)]


def test_n_23_transmission_starts_right_after_the_ack() -> None:
    said = greets().say(choose("node") + talk.request(talk.READ, 5, 0, 512))
    assert said[-528:] == struct.pack(">IIQ", 0x67446698, 0, 5) + bytes(512)


def test_n_24_structured_replies_can_be_asked_for_twice() -> None:
    assert kinds(greets(), STRUCTURED * 2) == [(STRUCTURED_REPLY, ACK)] * 2


@pytest.mark.parametrize(
    ("queries", "listed", "chosen"),
    [
        pytest.param([], 1, 0, id="none-lists-all-and-sets-none"),
        pytest.param([CONTEXT], 1, 1, id="by-name"),
        pytest.param(["base:"], 1, 0, id="wildcard-lists-and-sets-none"),
        pytest.param(["base:other"], 0, 0, id="unknown-leaf"),
        pytest.param(["qemu:dirty-bitmap:x", "x-us:", ":", "bases:allocation"], 0, 0, id="unknown-namespaces"),
        pytest.param(["base:allocation "], 0, 0, id="trailing-space"),
        pytest.param(["BASE:ALLOCATION"], 0, 0, id="other-case"),
        pytest.param(["x:y", CONTEXT, CONTEXT, "base:z"], 1, 1, id="twice-among-others"),
        pytest.param(["base:", CONTEXT], 1, 1, id="wildcard-and-name"),
    ],
)
@pytest.mark.parametrize("before", [STRUCTURED, EXTENDED], ids=["structured", "extended"])
def test_n_25_metadata_contexts(queries: list[str], listed: int, chosen: int, before: bytes) -> None:
    driver = greets()
    driver.haggle(before)
    for number, expected in ((LIST_META_CONTEXT, listed), (SET_META_CONTEXT, chosen)):
        *found, last = driver.haggle(contexts("node", *queries, number=number))
        assert (last.option, last.kind) == (number, ACK)
        assert [(answer.kind, answer.data[4:]) for answer in found] == [
            (REP_META_CONTEXT, CONTEXT.encode())
        ] * expected
        if number == LIST_META_CONTEXT:
            assert all(answer.data[:4] == bytes(4) for answer in found)
    assert not any(action.keep for action in driver.opened)


STATUS = talk.request(talk.BLOCK_STATUS, 9, 0, 4096)
CHOSEN = contexts("node", CONTEXT)


@pytest.mark.parametrize(
    ("said", "there"),
    [
        pytest.param(CHOSEN + choose("node"), True, id="chosen"),
        pytest.param(CHOSEN * 2 + choose("node"), True, id="chosen-twice"),
        pytest.param(CHOSEN + choose("node", number=INFO) + choose("node"), True, id="info-between"),
        pytest.param(CHOSEN + contexts("node", number=LIST_META_CONTEXT) + choose("node"), True, id="list-between"),
        pytest.param(CHOSEN + option(EXPORT_NAME, b"node"), True, id="export-name"),
        pytest.param(CHOSEN + choose("/node"), True, id="the-same-export-otherwise-written"),
        pytest.param(CHOSEN + STRUCTURED + choose("node"), True, id="structured-replies-again"),
        pytest.param(CHOSEN + contexts("node") + choose("node"), False, id="replaced-by-none"),
        pytest.param(CHOSEN + contexts("node", "base:x") + choose("node"), False, id="replaced-by-no-match"),
        pytest.param(CHOSEN + option(SET_META_CONTEXT) + choose("node"), False, id="replaced-by-a-malformed-one"),
        pytest.param(CHOSEN + contexts("other", CONTEXT) + choose("node"), False, id="replaced-by-an-unknown-export"),
        pytest.param(CHOSEN + contexts("node", HUGE) + choose("node"), False, id="replaced-by-one-too-long"),
        pytest.param(
            CHOSEN + option(SET_META_CONTEXT, bytes(1 << 20)) + choose("node"), False, id="replaced-by-one-of-1-mib"
        ),
        pytest.param(CHOSEN + choose("é"), False, id="another-export"),
        pytest.param(contexts("é", CONTEXT) + choose("node"), False, id="for-another-export"),
        pytest.param(CHOSEN + contexts("é", CONTEXT) + choose("node"), False, id="moved-to-another-export"),
    ],
)
def test_n_26_contexts_count_for_the_export_that_they_were_last_set_for(said: bytes, there: bool) -> None:
    driver = greets()
    driver.say(STRUCTURED + said)
    (chunk,) = talk.chunks(driver.say(STATUS), Headers.STRUCTURED)
    assert (chunk.error == 0) is there
    assert chunk.error in {0, talk.EINVAL}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(EXTENDED, [ACK], id="alone"),
        pytest.param(STRUCTURED + EXTENDED, [ACK, ACK], id="after-structured"),
        pytest.param(EXTENDED + CHOSEN, [ACK, REP_META_CONTEXT, ACK], id="then-contexts"),
    ],
)
def test_n_27_extended_headers_are_granted(said: bytes, expected: list[int]) -> None:
    driver = greets()
    assert [answer.kind for answer in driver.haggle(said)] == expected
    driver.say(choose("node"))
    answer = driver.say(talk.request(talk.READ, 1, 4096, 512, extended=True))
    (chunk,) = talk.chunks(answer, Headers.EXTENDED)
    assert (chunk.at, talk.content([chunk], 4096, 512)) == (4096, bytes(512))


def test_n_27_extended_headers_cannot_be_used_with_export_name() -> None:
    driver = greets()
    assert driver.say(EXTENDED, option(EXPORT_NAME, b"node"))[20:] == b""
    assert driver.closed is not None


@pytest.mark.parametrize("again", [STRUCTURED, EXTENDED], ids=["structured", "extended"])
def test_n_27_what_follows_extended_headers_takes_nothing_away(again: bytes) -> None:
    """A second request may be refused or granted; the headers stay extended."""
    driver = greets()
    first, second = driver.haggle(EXTENDED, again)
    assert first.kind == ACK
    assert second.kind in {ACK, ERR_INVALID, talk.ERROR_BIT + 10}
    driver.say(choose("node"))
    assert talk.chunks(driver.say(talk.request(talk.FLUSH, 1, extended=True)), Headers.EXTENDED)


def test_n_28_the_two_thousand_and_first_option_ends_the_connection() -> None:
    driver = greets()
    assert len(driver.haggle(option(99) * 2000)) == 2000
    assert driver.closed is None
    assert driver.say(option(99)) == b""
    assert driver.closed is not None


NOTHING: Mapping[str, Disk] = {}
BEFORE_TLS = [option(LIST), choose("node"), choose("other"), choose("node", number=INFO), STRUCTURED, EXTENDED, CHOSEN]


@pytest.mark.parametrize("said", [*BEFORE_TLS, option(99), option(2**32 - 1, b"x"), option(GO), option(LIST, b"x")])
def test_n_31_forcedtls_answers_nothing_but_that_it_wants_tls(said: bytes) -> None:
    driver = greeted(EXPORTS, TlsMode.REQUIRED)
    (answer,) = driver.haggle(said)
    assert answer.kind == ERR_TLS_REQD
    assert driver.opened == []
    assert kinds(driver, option(STARTTLS)) == [(STARTTLS, ACK)]


def test_n_31_forcedtls_lets_a_client_abort() -> None:
    driver = greeted(EXPORTS, TlsMode.REQUIRED)
    assert kinds(driver, option(ABORT)) == [(ABORT, ACK)]
    assert driver.closed is not None


@pytest.mark.parametrize("tls", [TlsMode.REQUIRED, TlsMode.OFFERED])
def test_n_31_n_32_starttls_once_then_everything_and_never_again(tls: TlsMode) -> None:
    driver = greeted(EXPORTS, tls)
    assert kinds(driver, option(STARTTLS)) == [(STARTTLS, ACK)]
    assert kinds(driver, option(STARTTLS)) == [(STARTTLS, ERR_INVALID)]
    assert kinds(driver, choose("secret", number=INFO), choose("secret"))[-1] == (GO, ACK)


@pytest.mark.parametrize("number", [INFO, GO])
def test_n_32_selectivetls_wants_tls_for_some_exports_only(number: int) -> None:
    driver = greeted(EXPORTS, TlsMode.OFFERED)
    assert kinds(driver, choose("secret", 3, number=number)) == [(number, ERR_TLS_REQD)]
    for said in (option(LIST), STRUCTURED, choose("other"), option(99), option(GO)):
        assert ERR_TLS_REQD not in [answer.kind for answer in driver.haggle(said)]
    assert kinds(driver, choose("node"))[-1] == (GO, ACK)


@pytest.mark.parametrize("said", [option(LIST), choose("node"), option(99), STRUCTURED, choose("secret"), CHOSEN])
def test_n_30_notls_never_asks_for_tls(said: bytes) -> None:
    found = [answer.kind for answer in greeted({**EXPORTS, "secret": EXPORTS["node"]}).haggle(said)]
    assert ERR_TLS_REQD not in found
    assert ERR_POLICY not in found


@pytest.mark.parametrize("tls", [TlsMode.REQUIRED, TlsMode.OFFERED])
@pytest.mark.parametrize("injected", [choose("disk"), option(LIST)[:9], option(STARTTLS), b"\x16\x03\x01"])
def test_n_33_what_was_sent_before_tls_is_never_answered_after_it(injected: bytes, tls: TlsMode) -> None:
    """Plain bytes behind STARTTLS may be someone else's (CVE-2021-3716): no client sends before it has the ACK."""
    driver = greeted(EXPORTS, tls)
    assert driver.say(option(STARTTLS) + injected) == b""
    assert driver.closed is not None
    assert driver.opened == []


@pytest.mark.parametrize("headers", [Headers.STRUCTURED, Headers.EXTENDED])
def test_n_33_what_was_agreed_before_tls_is_forgotten(headers: Headers) -> None:
    driver = greeted(EXPORTS, TlsMode.OFFERED)
    driver.haggle(HAGGLED[headers], CHOSEN, option(STARTTLS))
    assert [answer.kind for answer in driver.haggle(CHOSEN)] == [ERR_INVALID]
    driver.say(choose("node"))
    assert driver.ask(talk.READ, 0, 512)[0].kind == talk.SIMPLE
    assert driver.ask(talk.BLOCK_STATUS, 0, 512)[0].error == talk.EINVAL


def test_n_33_starttls_with_data_is_an_error() -> None:
    driver = greeted(EXPORTS, TlsMode.OFFERED)
    assert kinds(driver, option(STARTTLS, b"x")) == [(STARTTLS, ERR_INVALID)]
    assert kinds(driver, option(STARTTLS)) == [(STARTTLS, ACK)]
    assert kinds(driver, choose("secret"))[-1] == (GO, ACK)
