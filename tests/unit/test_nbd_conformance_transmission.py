"""nbd: the lines N-40 to N-76 of the reference, transmission, by bytes alone, with each form of headers."""

import itertools
import struct
from collections.abc import Callable

import pytest

from tests.support import nbd_talk as talk
from tests.support.nbd_driver import Disk, Driver, greeted, transmitting
from tests.support.nbd_talk import (
    BLOCK_STATUS,
    CACHE,
    DF,
    DISC,
    EINVAL,
    ENOSPC,
    ENOTSUP,
    EPERM,
    FAST_ZERO,
    FLUSH,
    FUA,
    MOST,
    NO_HOLE,
    PAYLOAD_LEN,
    READ,
    REQ_ONE,
    RESIZE,
    TRIM,
    WRITE,
    WRITE_ZEROES,
    Headers,
    choose,
    option,
)

SIZE = 1 << 20
CONTEXT = "base:allocation"
FORMS = pytest.mark.parametrize("headers", Headers)
CHUNKED = pytest.mark.parametrize("headers", [Headers.STRUCTURED, Headers.EXTENDED])


def image() -> bytearray:
    """64 KiB of data, 192 KiB of hole, over and over; the last page has data."""
    content = bytearray()
    while len(content) < SIZE:
        content += bytes(range(256)) * 256 + bytes(192 << 10)
    content[-4096:] = b"\xff" * 4096
    return content


NODE = Disk(image())


def node(headers: Headers, *queries: str) -> Driver:
    """Connected to an image."""
    return transmitting({"node": NODE, "big": Disk(bytearray(MOST + 4096))}, "node", headers, *queries)


def writable(headers: Headers, *queries: str, fast_zero: bool = False) -> Driver:
    """Connected to a disk that can be written."""
    return transmitting({"disk": Disk(image(), writable=True, fast_zero=fast_zero)}, "disk", headers, *queries)


def error(driver: Driver, kind: int, offset: int = 0, length: int = 0, flags: int = 0, payload: bytes = b"") -> int:
    """The error that the one reply to a command tells, after which the next command is in step."""
    (chunk,) = driver.ask(kind, offset, length, flags, payload)
    assert chunk.done
    assert talk.content(driver.ask(READ, 512, 512, cookie=2**64 - 1), 512, 512) == node_content(512, 512)
    return chunk.error


def node_content(offset: int, length: int) -> bytes:
    """What is there before anything is written."""
    return bytes(NODE.content[offset : offset + length])


def flags_of(name: str, disk: Disk, before: bytes) -> int:
    """The transmission flags that GO tells."""
    found = greeted({name: disk}).haggle(before + choose(name))
    return int(struct.unpack(">HQH", found[-2].data)[2])


@pytest.mark.parametrize(
    ("writable", "more"),
    [
        pytest.param(False, talk.READ_ONLY, id="read-only"),
        pytest.param(
            True, talk.SEND_FUA | talk.SEND_TRIM | talk.SEND_WRITE_ZEROES | talk.SEND_FAST_ZERO, id="writable"
        ),
    ],
)
@pytest.mark.parametrize(("before", "df"), [(b"", 0), (option(8), talk.SEND_DF), (option(11), talk.SEND_DF)])
def test_n_50_to_n_54_the_flags_are_those_of_what_there_is(writable: bool, more: int, before: bytes, df: int) -> None:
    told = flags_of("x", Disk(bytearray(SIZE), writable), before)
    always = talk.HAS_FLAGS | talk.SEND_FLUSH | talk.CAN_MULTI_CONN | talk.SEND_CACHE
    assert told == always | more | df


@FORMS
@pytest.mark.parametrize("cookie", [0, 1, 0x0123456789ABCDEF, 2**64 - 1])
def test_n_60_the_cookie_comes_back(headers: Headers, cookie: int) -> None:
    driver = node(headers, *([CONTEXT] if headers is not Headers.SIMPLE else []))
    for kind in range(12):
        if kind not in {DISC, WRITE}:
            assert driver.ask(kind, 0, 512, cookie=cookie)
    if headers is not Headers.SIMPLE or cookie:
        assert driver.ask(WRITE, 0, payload=b"x" * 512, cookie=cookie)[0].error == EPERM


@FORMS
def test_n_61_n_62_n_64_a_read_is_answered_in_the_form_that_was_agreed(headers: Headers) -> None:
    """The parser holds it to that form, errors too."""
    driver = node(headers)
    for offset, length in ((0, 1), (0, 512), (511, 1026), (SIZE - 1, 1), (0, SIZE), (4097, 3 << 18)):
        assert talk.content(driver.ask(READ, offset, length), offset, length) == node_content(offset, length)
    assert driver.ask(READ, SIZE, 1)[0].error == EINVAL


@FORMS
def test_n_40_n_44_a_read_of_32_mib_is_served(headers: Headers) -> None:
    driver = transmitting({"big": Disk(bytearray(MOST + 4096))}, "big", headers)
    assert talk.content(driver.ask(READ, 4096, MOST), 4096, MOST) == bytes(MOST)
    assert driver.ask(READ, 0, MOST + 1)[0].error == EINVAL
    assert talk.content(driver.ask(READ, 0, 512), 0, 512) == bytes(512)


INVALID = [
    pytest.param(READ, 0, MOST + 1, 0, EINVAL, id="N-43-read-of-32-mib-and-1"),
    pytest.param(READ, 0, 2**32 - 1, 0, EINVAL, id="N-43-read-of-4-gib"),
    pytest.param(READ, SIZE, 1, 0, EINVAL, id="N-70-read-past-the-end"),
    pytest.param(READ, SIZE - 1, 2, 0, EINVAL, id="N-70-read-over-the-end"),
    pytest.param(READ, 2**63, 512, 0, EINVAL, id="N-70-read-far-past-the-end"),
    pytest.param(READ, 2**64 - 512, 1024, 0, EINVAL, id="N-71-read-wraps"),
    pytest.param(READ, 2**64 - 1, 1, 0, EINVAL, id="N-71-read-wraps-to-0"),
    pytest.param(READ, 0, 512, FAST_ZERO, EINVAL, id="N-70-read-fast-zero"),
    pytest.param(READ, 0, 512, NO_HOLE, EINVAL, id="N-70-read-no-hole"),
    pytest.param(READ, 0, 512, REQ_ONE, EINVAL, id="N-70-read-req-one"),
    pytest.param(READ, 0, 512, 0x8000, EINVAL, id="N-70-read-unknown-flag"),
    pytest.param(CACHE, SIZE, 512, 0, EINVAL, id="N-70-cache-past-the-end"),
    pytest.param(CACHE, 2**64 - 512, 1024, 0, EINVAL, id="N-71-cache-wraps"),
    pytest.param(CACHE, 0, 512, DF, EINVAL, id="N-55-cache-df"),
    pytest.param(CACHE, 0, 512, 0x4000, EINVAL, id="N-55-cache-unknown-flag"),
    pytest.param(FLUSH, 0, 0, REQ_ONE, EINVAL, id="N-70-flush-req-one"),
    pytest.param(BLOCK_STATUS, 0, 512, 0, EINVAL, id="N-72-block-status-without-a-context"),
    pytest.param(RESIZE, 0, 512, 0, EINVAL, id="N-70-resize"),
    pytest.param(9, 0, 512, 0, EINVAL, id="N-70-unknown-command"),
    pytest.param(0xFFFF, 2**64 - 1, 2**32 - 1, 0, EINVAL, id="N-70-unknown-command-65535"),
]


@FORMS
@pytest.mark.parametrize(("kind", "offset", "length", "flags", "expected"), INVALID)
@pytest.mark.parametrize("connect", [node, writable])
def test_a_request_is_refused_and_the_next_one_is_in_step(
    headers: Headers,
    kind: int,
    offset: int,
    length: int,
    flags: int,
    expected: int,
    connect: Callable[[Headers], Driver],
) -> None:
    assert error(connect(headers), kind, offset, length, flags) == expected


@FORMS
@pytest.mark.parametrize(
    ("kind", "offset", "length", "flags"),
    [
        pytest.param(TRIM, 0, 4096, 0, id="trim"),
        pytest.param(TRIM, 0, 2**32 - 1, 0, id="trim-4-gib"),
        pytest.param(WRITE_ZEROES, 0, 4096, 0, id="write-zeroes"),
        pytest.param(WRITE_ZEROES, SIZE, 4096, NO_HOLE, id="write-zeroes-past-the-end"),
    ],
)
def test_n_51_a_read_only_export_refuses_what_changes_it(
    headers: Headers, kind: int, offset: int, length: int, flags: int
) -> None:
    assert error(node(headers), kind, offset, length, flags) == EPERM


@FORMS
@pytest.mark.parametrize("length", [1, 512, 1 << 18, (1 << 18) + 1])
@pytest.mark.parametrize("offset", [0, SIZE, 2**64 - 1])
def test_n_51_a_read_only_export_refuses_a_write_after_its_payload(headers: Headers, length: int, offset: int) -> None:
    driver = node(headers)
    assert error(driver, WRITE, offset, payload=talk.request(READ, 9, 0, 512) + b"x" * length) == EPERM
    assert NODE.content == image()


@FORMS
def test_n_44_a_write_of_32_mib_is_taken_and_a_longer_one_ends_the_connection(headers: Headers) -> None:
    driver = node(headers)
    assert error(driver, WRITE, payload=bytes(MOST)) == EPERM
    said = talk.request(WRITE, 1, 0, MOST + 1, PAYLOAD_LEN, extended=headers is Headers.EXTENDED)
    assert driver.say(said) == b""
    assert driver.closed is not None


@CHUNKED
@pytest.mark.parametrize("length", [1, 512, 65536, 65537, SIZE])
def test_n_65_a_read_with_df_comes_in_one_piece(headers: Headers, length: int) -> None:
    driver = node(headers)
    found = driver.ask(READ, 0, length, DF)
    assert sum(chunk.kind != talk.NONE for chunk in found) == 1
    assert found[0].kind == talk.OFFSET_DATA
    assert talk.content(found, 0, length) == node_content(0, length)


def test_n_52_df_is_not_granted_without_chunks() -> None:
    assert error(node(Headers.SIMPLE), READ, 0, 512, DF) == EINVAL


@FORMS
@pytest.mark.parametrize("kind", [READ, CACHE, TRIM, WRITE_ZEROES, BLOCK_STATUS])
@pytest.mark.parametrize("offset", [0, SIZE])
def test_n_67_a_command_of_no_length_is_answered(headers: Headers, kind: int, offset: int) -> None:
    assert error(writable(headers), kind, offset, 0) in {0, EINVAL}


@FORMS
def test_n_67_a_write_of_no_length_is_answered(headers: Headers) -> None:
    assert error(writable(headers), WRITE, 0) in {0, EINVAL}


@FORMS
def test_n_68_flush_and_fua_on_every_command(headers: Headers) -> None:
    driver = writable(headers, *([CONTEXT] if headers is not Headers.SIMPLE else []))
    assert error(driver, FLUSH, 0, 0, FUA) == 0
    for kind in (CACHE, TRIM, WRITE_ZEROES):
        assert error(driver, kind, 4096, 512, FUA) == 0
    assert error(driver, WRITE, 4096, flags=FUA, payload=b"x" * 512) == 0
    assert talk.content(driver.ask(READ, 4096, 512, FUA), 4096, 512) == b"x" * 512
    if headers is not Headers.SIMPLE:
        assert error(driver, BLOCK_STATUS, 0, 512, FUA) == 0
    assert driver.disk is not None
    assert driver.disk.flushed == 1


@FORMS
@pytest.mark.parametrize("connect", [node, writable])
def test_n_69_disc_is_not_answered_and_what_follows_is_nothing(
    headers: Headers, connect: Callable[[Headers], Driver]
) -> None:
    driver = connect(headers)
    extended = headers is Headers.EXTENDED
    read = talk.request(READ, 1, 0, 512, extended=extended)
    said = driver.say(read + talk.request(DISC, 2, extended=extended) + read)
    assert talk.content(talk.chunks(said, headers, {1: 512}), 0, 512) == node_content(0, 512)
    assert driver.closed is not None
    assert driver.closed.reason is None


@FORMS
def test_n_70_a_write_past_the_end_has_no_space(headers: Headers) -> None:
    for offset in (SIZE, SIZE - 1, 2**64 - 512):
        assert error(writable(headers), WRITE, offset, payload=b"x" * 1024) == ENOSPC


@FORMS
@pytest.mark.parametrize(
    ("kind", "offset", "length", "flags", "expected"),
    [
        pytest.param(TRIM, SIZE, 512, 0, EINVAL, id="N-70-trim-past-the-end"),
        pytest.param(TRIM, 2**64 - 512, 1024, 0, EINVAL, id="N-71-trim-wraps"),
        pytest.param(TRIM, 0, 512, NO_HOLE, EINVAL, id="N-70-trim-no-hole"),
        pytest.param(TRIM, 0, 512, 0x100, EINVAL, id="N-70-trim-unknown-flag"),
        pytest.param(TRIM, 0, SIZE, 0, 0, id="N-45-trim-of-all"),
        pytest.param(WRITE_ZEROES, SIZE, 512, 0, ENOSPC, id="N-73-past-the-end"),
        pytest.param(WRITE_ZEROES, 2**64 - 512, 1024, 0, ENOSPC, id="N-71-write-zeroes-wraps"),
        pytest.param(WRITE_ZEROES, 0, 512, DF, EINVAL, id="N-70-write-zeroes-df"),
        pytest.param(WRITE_ZEROES, 0, 512, NO_HOLE, 0, id="N-73-no-hole"),
    ],
)
def test_what_a_writable_export_does(
    headers: Headers, kind: int, offset: int, length: int, flags: int, expected: int
) -> None:
    driver = writable(headers)
    (chunk,) = driver.ask(kind, offset, length, flags)
    assert chunk.error == expected


@FORMS
@pytest.mark.parametrize("fast_zero", [False, True])
def test_n_73_fast_zero_is_fast_or_fails(headers: Headers, fast_zero: bool) -> None:
    """And fails where it would not be faster than a write."""
    driver = writable(headers, fast_zero=fast_zero)
    (chunk,) = driver.ask(WRITE_ZEROES, 0, 4096, FAST_ZERO)
    assert chunk.error in ({0} if fast_zero else {ENOTSUP})
    expected = bytes(4096) if fast_zero else node_content(0, 4096)
    assert talk.content(driver.ask(READ, 0, 4096), 0, 4096) == expected


@FORMS
@pytest.mark.parametrize("length", [1, 511, 4096, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 600_001])
def test_n_76_what_is_written_is_read(headers: Headers, length: int) -> None:
    driver = writable(headers)
    payload = bytes(255 - n % 251 for n in range(length))
    assert [chunk.error for chunk in driver.ask(WRITE, 4097, payload=payload)] == [0]
    expected = node_content(0, 4097) + payload + node_content(4097 + length, SIZE)
    assert talk.content(driver.ask(READ, 0, SIZE), 0, SIZE) == expected


@FORMS
def test_a_write_is_not_answered_before_its_last_byte(headers: Headers) -> None:
    driver = writable(headers)
    flags, extended = (PAYLOAD_LEN, True) if headers is Headers.EXTENDED else (0, False)
    said = talk.request(WRITE, 3, 0, 0, flags, b"y" * 700_000, extended=extended)
    assert driver.say(said[:-1]) == b""
    assert len(talk.chunks(driver.say(said[-1:]), headers)) == 1


@CHUNKED
@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        pytest.param(
            0, SIZE - 4096, [(65536, 0), (196608, 3)] * 3 + [(65536, 0), (196608 - 4096, 3)], id="all-but-end"
        ),
        pytest.param(0, 512, [(512, 0)], id="one-sector"),
        pytest.param(65536 - 512, 1024, [(512, 0), (512, 3)], id="over-an-edge"),
        pytest.param(SIZE - 1, 1, [(1, 0)], id="last-byte"),
    ],
)
def test_n_72_block_status_tells_of_the_whole_range_in_order(
    headers: Headers, offset: int, length: int, expected: list[tuple[int, int]]
) -> None:
    """The last extent may reach past the range."""
    (chunk,) = node(headers, CONTEXT).ask(BLOCK_STATUS, offset, length)
    assert chunk.done
    found = chunk.extents[1]
    assert found[:-1] == expected[:-1]
    assert found[-1][1] == expected[-1][1]
    assert found[-1][0] >= expected[-1][0]
    assert sum(size for size, _ in found[:-1]) < length
    assert offset + sum(size for size, _ in found) <= SIZE
    assert all(one[1] != other[1] for one, other in itertools.pairwise(found))


@CHUNKED
@pytest.mark.parametrize(("offset", "length"), [(0, 512), (0, SIZE), (65535, 2), (SIZE - 1, 1)])
def test_n_72_req_one_is_one_extent_no_longer_than_the_range(headers: Headers, offset: int, length: int) -> None:
    (chunk,) = node(headers, CONTEXT).ask(BLOCK_STATUS, offset, length, REQ_ONE)
    ((size, _),) = chunk.extents[1]
    assert size == min(length, 65536 - offset % 65536)


@CHUNKED
@pytest.mark.parametrize(("offset", "length"), [(SIZE, 1), (0, SIZE + 1), (2**64 - 512, 1024)])
def test_n_72_block_status_past_the_end_is_invalid(headers: Headers, offset: int, length: int) -> None:
    assert error(node(headers, CONTEXT), BLOCK_STATUS, offset, length) == EINVAL


@CHUNKED
def test_n_45_block_status_may_ask_for_more_than_a_payload(headers: Headers) -> None:
    driver = transmitting({"big": Disk(bytearray(2 * MOST))}, "big", headers, CONTEXT)
    (chunk,) = driver.ask(BLOCK_STATUS, 0, 2 * MOST)
    assert chunk.extents[1] == [(2 * MOST, 3)]
    assert driver.ask(CACHE, 0, 2 * MOST)[0].error == 0


@FORMS
def test_n_74_a_wrong_magic_ends_the_connection(headers: Headers) -> None:
    driver = node(headers)
    said = talk.request(READ, 1, 0, 512, extended=headers is not Headers.EXTENDED)
    assert driver.say(said + bytes(32)) == b""
    assert driver.closed is not None
    assert driver.closed.reason is not None


def test_n_27_lengths_of_64_bits_are_not_cut_off() -> None:
    driver = writable(Headers.EXTENDED, CONTEXT)
    for kind, expected in (
        (READ, EINVAL),
        (CACHE, EINVAL),
        (TRIM, EINVAL),
        (BLOCK_STATUS, EINVAL),
        (WRITE_ZEROES, ENOSPC),
    ):
        assert error(driver, kind, 0, 2**32 + 512) == expected
        assert error(driver, kind, 0, 2**64 - 1) == expected
        assert error(driver, kind, 2**64 - 1, 2**64 - 1) == expected
    assert driver.disk is not None
    assert driver.disk.content == NODE.content


@pytest.mark.parametrize("kind", [READ, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, 99])
def test_n_27_a_payload_that_does_not_belong_there_is_dropped_and_refused(kind: int) -> None:
    driver = writable(Headers.EXTENDED, CONTEXT)
    payload = talk.request(DISC, 1, extended=True) * 100
    (chunk,) = driver.ask(kind, 0, 0, PAYLOAD_LEN, payload)
    assert chunk.error == EINVAL
    assert talk.content(driver.ask(READ, 0, 512), 0, 512) == node_content(0, 512)


def test_n_27_a_payload_that_does_not_belong_there_and_is_huge_ends_the_connection() -> None:
    driver = writable(Headers.EXTENDED)
    assert driver.say(talk.request(READ, 1, 0, 2**40, PAYLOAD_LEN, extended=True)) == b""
    assert driver.closed is not None


@FORMS
def test_pipelined_requests_are_all_answered(headers: Headers) -> None:
    driver = node(headers)
    extended = headers is Headers.EXTENDED
    reads = {cookie: 512 * (cookie % 5 + 1) for cookie in range(300)}
    said = b"".join(talk.request(READ, n, n * 1000, length, extended=extended) for n, length in reads.items())
    found = talk.chunks(driver.say(said), headers, reads)
    for cookie, length in reads.items():
        own = [chunk for chunk in found if chunk.cookie == cookie]
        assert talk.content(own, cookie * 1000, length) == node_content(cookie * 1000, length)
