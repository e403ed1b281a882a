"""The short way for what a root disk asks ten thousand times: plain READs, straight from the bytes. Pure.

It is taken between requests only (`Session.at_boundary`), and answers what the session would: a `Read` is no more than
these numbers, and its answer begins with `Replies.data`. All else, from its first byte on, is the session's:
tests/unit/test_nbd_steady.py.
"""

from struct import Struct

from nbd import wire
from nbd.replies import EXTENDED, Replies

Reads = list[tuple[int, int, int]]
"""Cookie, offset and length of each."""

_REQUEST = Struct(">QQQI")
_READ = wire.REQUEST_MAGIC << 32 | wire.Cmd.READ
"""How a READ without flags begins: magic, 16 bits of flags, 16 bits of type."""


class Steady:
    """The plain READs of one connection."""

    __slots__ = ("_longest", "_size", "usable")

    def __init__(self, size_bytes: int, replies: Replies, longest: int) -> None:
        """`longest`: what is longer than that many bytes is left to the session."""
        self._size = size_bytes
        self._longest = longest
        self.usable = replies is not EXTENDED
        """Whether this client's requests have the form that is known here."""

    def take(self, data: memoryview) -> tuple[Reads, int]:
        """Return the READs that `data` begins with, and how many bytes they are."""
        reads: Reads = []
        size, longest = self._size, self._longest
        for begin, cookie, offset, length in _REQUEST.iter_unpack(data[: len(data) // 28 * 28]):
            if begin != _READ or not 0 < length <= longest or offset + length > size:
                break
            reads.append((cookie, offset, length))
        return reads, len(reads) * 28
