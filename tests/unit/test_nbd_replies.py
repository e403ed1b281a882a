"""The answers to commands, byte for byte, and what becomes of extents."""

import errno
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbd.actions import BlockStatus
from nbd.exports import Extent
from nbd.replies import (
    EXTENDED,
    MAX_EXTENTS,
    SIMPLE,
    STRUCTURED,
    Replies,
    error_number,
    most_extents,
    settle,
)
from nbd.wire import Errno


def data(length: int) -> Extent:
    return Extent(length, hole=False, zero=False)


def hole(length: int) -> Extent:
    return Extent(length, hole=True, zero=True)


COOKIE = 0x1122334455667788
ASKED = BlockStatus(COOKIE, 4096, 8192, req_one=False, contexts=(1,))

ANSWERS = [
    pytest.param(lambda on: on.data(COOKIE, 4096, 512), {
        SIMPLE: "67446698 00000000 1122334455667788",
        STRUCTURED: "668e33ef 0001 0001 1122334455667788 00000208 0000000000001000",
        EXTENDED: "6e8a278c 0001 0001 1122334455667788 0000000000001000 0000000000000208 0000000000001000",
    }, id="data"),
    pytest.param(lambda on: on.data(COOKIE, 8192, 512, done=False, start=4096), {
        STRUCTURED: "668e33ef 0000 0001 1122334455667788 00000208 0000000000002000",
        EXTENDED: "6e8a278c 0000 0001 1122334455667788 0000000000001000 0000000000000208 0000000000002000",
    }, id="data-in-the-middle"),
    pytest.param(lambda on: on.hole(COOKIE, 8192, 512, start=4096), {
        SIMPLE: "67446698 00000000 1122334455667788" + 512 * "00",
        STRUCTURED: "668e33ef 0001 0002 1122334455667788 0000000c 0000000000002000 00000200",
        EXTENDED: "6e8a278c 0001 0002 1122334455667788 0000000000001000 000000000000000c 0000000000002000 00000200",
    }, id="hole"),
    pytest.param(lambda on: on.hole(COOKIE, 8192, 512, done=False), {
        STRUCTURED: "668e33ef 0000 0002 1122334455667788 0000000c 0000000000002000 00000200",
        EXTENDED: "6e8a278c 0000 0002 1122334455667788 0000000000002000 000000000000000c 0000000000002000 00000200",
    }, id="hole-in-the-middle"),
    pytest.param(lambda on: on.ok(COOKIE, 4096), {
        SIMPLE: "67446698 00000000 1122334455667788",
        STRUCTURED: "668e33ef 0001 0000 1122334455667788 00000000",
        EXTENDED: "6e8a278c 0001 0000 1122334455667788 0000000000001000 0000000000000000",
    }, id="ok"),
    pytest.param(lambda on: on.error(COOKIE, Errno.EINVAL, "no", 4096), {
        SIMPLE: "67446698 00000016 1122334455667788",
        STRUCTURED: "668e33ef 0001 8001 1122334455667788 00000008 00000016 0002 6e6f",
        EXTENDED: "6e8a278c 0001 8001 1122334455667788 0000000000001000 0000000000000008 00000016 0002 6e6f",
    }, id="error"),
    pytest.param(lambda on: on.error(COOKIE, Errno.EIO), {
        STRUCTURED: "668e33ef 0001 8001 1122334455667788 00000006 00000005 0000",
        EXTENDED: "6e8a278c 0001 8001 1122334455667788 0000000000000000 0000000000000006 00000005 0000",
    }, id="error-without-words"),
    pytest.param(lambda on: on.block_status(ASKED, [data(4096), hole(1 << 33)]), {
        SIMPLE: "67446698 00000016 1122334455667788",
        STRUCTURED: "668e33ef 0001 0005 1122334455667788 00000014 00000001 00001000 00000000 fffff000 00000003",
        EXTENDED: "6e8a278c 0001 0006 1122334455667788 0000000000001000 0000000000000028 00000001 00000002"
        "0000000000001000 0000000000000000 0000000200000000 0000000000000003",
    }, id="block-status"),
    pytest.param(lambda on: on.status(COOKIE, 0, 7, [Extent(512, False, True)], done=False), {
        SIMPLE: "67446698 00000016 1122334455667788",
        STRUCTURED: "668e33ef 0000 0005 1122334455667788 0000000c 00000007 00000200 00000002",
        EXTENDED: "6e8a278c 0000 0006 1122334455667788 0000000000000000 0000000000000018 00000007 00000001"
        "0000000000000200 0000000000000002",
    }, id="status-in-the-middle"),
    pytest.param(lambda on: on.block_status(ASKED, []), {
        STRUCTURED: "668e33ef 0001 8001 1122334455667788 00000024 00000005 001e"
        "6e6f7468696e67206973206b6e6f776e206f6620746869732072616e6765",
    }, id="block-status-of-which-nothing-is-known"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_an_answer_matches_its_bytes(answer: Callable[[Replies], bytes], expected: dict[Replies, str]) -> None:
    for form, recorded in expected.items():
        assert answer(form).hex(" ") == bytes.fromhex(recorded).hex(" ")


@pytest.mark.parametrize("form", [SIMPLE, STRUCTURED, EXTENDED])
def test_the_head_of_a_read_has_the_size_that_is_told(form: Replies) -> None:
    assert len(form.data(1, 2, 3)) == form.head_size


@pytest.mark.parametrize("form", [STRUCTURED, EXTENDED])
def test_each_context_has_a_chunk_and_the_last_one_is_the_end(form: Replies) -> None:
    answer = form.block_status(BlockStatus(1, 0, 512, req_one=False, contexts=(1, 2)), [data(512)])
    first, second = answer[: len(answer) // 2], answer[len(answer) // 2 :]
    assert (first[4:6], second[4:6]) == (b"\0\0", b"\0\1")
    assert first[6:8] == second[6:8]


def test_an_extent_that_32_bits_cannot_tell_is_the_last_one() -> None:
    """What came behind it would be told at a wrong place."""
    asked = BlockStatus(1, 0, 2**32 - 1, req_one=False, contexts=(1,))
    answer = STRUCTURED.block_status(asked, [data(2**32 - 2048), hole(4096)])
    assert answer[24:] == (2**32 - 4096).to_bytes(4) + bytes(4)


def test_a_long_message_is_cut() -> None:
    assert len(STRUCTURED.error(1, Errno.EIO, "ü" * 9000)) <= 20 + 6 + 4096


# Extents

EXTENTS = [
    pytest.param([data(512)], False, [data(512)], id="a-part"),
    pytest.param([data(512), data(512), hole(512)], False, [data(1024), hole(512)], id="neighbours-differ"),
    pytest.param([data(512), hole(0), data(512)], False, [data(1024)], id="none-is-empty"),
    pytest.param([data(512), hole(9000), data(512)], False, [data(512), hole(9000)], id="only-the-last-goes-past"),
    pytest.param([data(8192), hole(512)], False, [data(8192)], id="none-behind-the-range"),
    pytest.param([data(512), hole(512)], True, [data(512)], id="one"),
    pytest.param([hole(512), hole(9000)], True, [hole(8192)], id="one-ends-with-the-range"),
    pytest.param([], True, [], id="nothing"),
]


@pytest.mark.parametrize(("extents", "one", "settled"), EXTENTS)
def test_extents_are_told_as_the_specification_wants(extents: list[Extent], one: bool, settled: list[Extent]) -> None:
    assert settle(extents, 8192, one) == settled


@given(
    extents=st.lists(st.builds(Extent, st.integers(0, 3000), st.booleans(), st.booleans())),
    length=st.integers(1, 9000),
    one=st.booleans(),
)
def test_whatever_an_export_says_the_rules_hold(extents: list[Extent], length: int, one: bool) -> None:
    settled = settle(extents, length, one)
    assert bool(settled) == any(extent.length for extent in extents)
    assert all(extent.length for extent in settled)
    assert sum(extent.length for extent in settled[:-1]) < length
    for first, second in pairwise(settled):
        assert (first.hole, first.zero) != (second.hole, second.zero)
    if one:
        assert sum(extent.length for extent in settled) <= length
    states = [(extent.hole, extent.zero) for extent in extents for _ in range(extent.length)]
    told = [(extent.hole, extent.zero) for extent in settled for _ in range(extent.length)]
    assert told == states[: len(told)]


def test_the_number_of_extents_is_bounded() -> None:
    extents = [data(512), hole(512)] * MAX_EXTENTS
    assert len(settle(extents, 1 << 40, False)) == MAX_EXTENTS
    assert most_extents(ASKED) == MAX_EXTENTS
    assert most_extents(BlockStatus(1, 0, 512, req_one=True, contexts=(1,))) == 1


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EPERM, Errno.EPERM),
        (errno.EROFS, Errno.EPERM),
        (errno.ENOSPC, Errno.ENOSPC),
        (errno.EDQUOT, Errno.ENOSPC),
        (errno.EFBIG, Errno.ENOSPC),
        (errno.EINVAL, Errno.EINVAL),
        (errno.ENOMEM, Errno.EIO),
        (errno.ESTALE, Errno.EIO),
        (errno.EIO, Errno.EIO),
        (None, Errno.EIO),
    ],
)
def test_an_error_of_the_disk_becomes_one_of_the_protocol(number: int | None, told: Errno) -> None:
    assert error_number(OSError(number, "x") if number is not None else OSError("x")) == told
