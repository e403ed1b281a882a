"""A READ, cut into the pieces that it is answered in. Pure.

A short one is one piece. A longer one is sent a piece at a time, so that it needs no more memory: with structured
replies each is a chunk of its own, so that an error can be told in the middle; else, or where the client wants it
whole (DF), the pieces follow each other with nothing between. Then an error in the middle is told after zeros for the
rest, or, in simple replies, by hanging up (READ, Simple reply message).
"""

from dataclasses import dataclass

from nbd.actions import Read
from nbd.replies import Replies
from nbd.wire import Errno

PIECE_BYTES = 1 << 18
"""The most that is read at once."""


def is_short(asked: Read) -> bool:
    """Return whether it is answered in one piece."""
    return asked.length <= PIECE_BYTES


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a READ's data, and what stands before and behind it."""

    offset: int
    length: int
    head: bytes
    tail: bytes
    may_fail: bool
    """Whether an error can be told instead of it."""


class Pieces:
    """What is left of a READ."""

    __slots__ = ("_at", "_replies", "asked", "broken", "failed")

    def __init__(self, asked: Read, replies: Replies) -> None:
        self.asked = asked
        self.failed = False
        """Whether a piece was answered with an error, after which nothing may follow."""
        self.broken = False
        """Whether the rest is zeros and then an error: a chunk that was begun has to be finished with padding."""
        self._replies = replies
        self._at = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.failed or self._at == self.asked.length

    @property
    def is_short(self) -> bool:
        """Whether it is one piece: then others may come before it."""
        return is_short(self.asked)

    @property
    def at_start(self) -> bool:
        """Whether no piece was begun."""
        return self._at == 0

    def advance(self) -> None:
        """Go on to the next piece."""
        self._at += min(self.asked.length - self._at, PIECE_BYTES)

    def fail(self, piece: Piece) -> bytes | None:
        """Return what is sent instead of `piece`, whose data cannot be read; None if only hanging up is left."""
        if piece.may_fail:
            self.failed = True
            return self._error()
        if not self._replies.chunked:
            return None
        self.broken = True
        return piece.head + bytes(piece.length) + (self._error() if piece.tail else b"")

    def piece(self) -> Piece:
        """Return the next piece."""
        asked, replies, at = self.asked, self._replies, self._at
        cookie, offset = asked.cookie, asked.offset + at
        length = min(asked.length - at, PIECE_BYTES)
        is_last = at + length == asked.length
        if length == asked.length:
            return Piece(offset, length, replies.data(cookie, offset, length), b"", True)
        if replies.chunked and not asked.whole:
            head = replies.data(cookie, offset, length, done=is_last, start=asked.offset)
            return Piece(offset, length, head, b"", True)
        head = b"" if at else replies.data(cookie, offset, asked.length, done=not replies.chunked)
        tail = b""
        if is_last and replies.chunked:  # a chunk that says it is the last one could not be followed by an error
            tail = self._error() if self.broken else replies.ok(cookie, asked.offset)
        return Piece(offset, length, head, tail, at == 0)

    def _error(self) -> bytes:
        return self._replies.error(self.asked.cookie, Errno.EIO, "", self.asked.offset)
