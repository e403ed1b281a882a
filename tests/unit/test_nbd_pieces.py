"""A long READ leaves in pieces, and each client gets to know of an error in the way that it can."""

import pytest

from nbd.actions import Read
from nbd.pieces import PIECE_BYTES, Pieces
from nbd.replies import SIMPLE, STRUCTURED, Replies
from nbd.wire import Errno

OFFSET = 4096


def sent(pieces: Pieces, broken_at: int | None = None) -> bytes | None:
    """What is sent when the data are x's, and the piece number `broken_at` cannot be read; None: hung up."""
    out, number = b"", 0
    while not pieces.is_over:
        piece = pieces.piece()
        if number == broken_at:
            instead = pieces.fail(piece)
            if instead is None:
                return None
            out += instead
        elif pieces.broken:
            out += piece.head + bytes(piece.length) + piece.tail
        else:
            out += piece.head + b"x" * piece.length + piece.tail
        pieces.advance()
        number += 1
    return out


def asked(length: int, whole: bool = False) -> Read:
    return Read(7, OFFSET, length, whole)


@pytest.mark.parametrize("length", [1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_simple_reply_is_a_header_and_the_data(length: int) -> None:
    assert sent(Pieces(asked(length), SIMPLE)) == SIMPLE.data(7, OFFSET, length) + b"x" * length


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("replies", [SIMPLE, STRUCTURED])
def test_a_short_one_is_one_piece(replies: Replies, whole: bool) -> None:
    pieces = Pieces(asked(512, whole), replies)
    assert pieces.is_short
    assert sent(pieces) == replies.data(7, OFFSET, 512) + b"x" * 512
    assert sent(Pieces(asked(512, whole), replies), 0) == replies.error(7, Errno.EIO, "", OFFSET)


def test_a_long_structured_one_is_a_chunk_for_each_piece() -> None:
    middle = OFFSET + PIECE_BYTES
    first = STRUCTURED.data(7, OFFSET, PIECE_BYTES, done=False) + b"x" * PIECE_BYTES
    second = STRUCTURED.data(7, middle, 10, done=True) + b"x" * 10
    assert sent(Pieces(asked(PIECE_BYTES + 10), STRUCTURED)) == first + second
    failed = first + STRUCTURED.error(7, Errno.EIO, "", OFFSET)
    assert sent(Pieces(asked(PIECE_BYTES + 10), STRUCTURED), 1) == failed


def test_a_long_one_that_is_wanted_whole_is_one_chunk_and_an_end() -> None:
    length = 2 * PIECE_BYTES + 10
    head = STRUCTURED.data(7, OFFSET, length, done=False)
    assert sent(Pieces(asked(length, whole=True), STRUCTURED)) == head + b"x" * length + STRUCTURED.ok(7, OFFSET)


@pytest.mark.parametrize("broken_at", [1, 2])
def test_a_chunk_that_was_begun_is_finished_with_zeros_before_its_error(broken_at: int) -> None:
    length, good = 2 * PIECE_BYTES + 10, broken_at * PIECE_BYTES
    head = STRUCTURED.data(7, OFFSET, length, done=False)
    expected = head + b"x" * good + bytes(length - good) + STRUCTURED.error(7, Errno.EIO, "", OFFSET)
    assert sent(Pieces(asked(length, whole=True), STRUCTURED), broken_at) == expected


def test_a_simple_reply_that_fails_in_the_middle_hangs_up() -> None:
    assert sent(Pieces(asked(2 * PIECE_BYTES), SIMPLE), 1) is None
    assert sent(Pieces(asked(2 * PIECE_BYTES), SIMPLE), 0) == SIMPLE.error(7, Errno.EIO, "", OFFSET)
