"""A READ, cut into the pieces that it is answered in. Pure.

A short one is one piece. A longer one is sent a piece at a time, so that it needs no more memory: with structured
replies each is a chunk of its own, so that an error can be told in the middle; else, or where the client wants it
whole (DF), the pieces follow each other with nothing between, and an error in the middle can only be told by hanging
up.
"""

from dataclasses import dataclass

from nbd.actions import Read
from nbd.replies import Replies

PIECE_BYTES = 1 << 18
"""The most that is read at once."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a READ's data, and what stands before and behind it."""

    offset: int
    length: int
    head: bytes
    tail: bytes
    is_first: bool
    may_fail: bool
    """Whether an error can be told instead of it."""


class Pieces:
    """What is left of a READ."""

    __slots__ = ("_at", "_replies", "asked", "failed", "next")

    def __init__(self, asked: Read, replies: Replies) -> None:
        self.asked = asked
        self.failed = False
        """Whether a piece that a thread read was answered with an error, after which nothing may follow."""
        self._replies = replies
        self._at = 0
        self.next: Piece | None = self._piece()
        """The next piece; None if there is none."""

    def advance(self) -> None:
        """Go on to the next piece."""
        self._at += min(self.asked.length - self._at, PIECE_BYTES)
        self.next = self._piece() if self._at < self.asked.length else None

    def _piece(self) -> Piece:
        asked, replies, at = self.asked, self._replies, self._at
        cookie, offset = asked.cookie, asked.offset + at
        length = min(asked.length - at, PIECE_BYTES)
        is_last = at + length == asked.length
        if length == asked.length:
            return Piece(offset, length, replies.data(cookie, offset, length), b"", True, True)
        if replies.chunked and not asked.whole:
            head = replies.data(cookie, offset, length, done=is_last, start=asked.offset)
            return Piece(offset, length, head, b"", at == 0, True)
        head = b"" if at else replies.data(cookie, offset, asked.length, done=not replies.chunked)
        # A chunk that says it is the last one could not be followed by anything, so another one says it.
        tail = replies.ok(cookie, asked.offset) if is_last and replies.chunked else b""
        return Piece(offset, length, head, tail, at == 0, at == 0)
