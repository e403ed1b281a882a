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

_REQUEST, _EXTENDED_REQUEST = Struct(">QQQI"), Struct(">QQQQ")
"""Of a READ: how it begins (magic, 16 bits of flags, 16 bits of type), cookie, offset, length."""


class Steady:
    """The plain READs of one connection."""

    __slots__ = ("_begin", "_layout", "_longest", "_size", "request_bytes")

    def __init__(self, size_bytes: int, replies: Replies, longest: int) -> None:
        """`longest`: what is longer than that many bytes is left to the session."""
        self._size = size_bytes
        self._longest = longest
        is_extended = replies is EXTENDED
        self._layout = _EXTENDED_REQUEST if is_extended else _REQUEST
        self.request_bytes = self._layout.size
        """How long a request is."""
        magic = wire.EXTENDED_REQUEST_MAGIC if is_extended else wire.REQUEST_MAGIC
        self._begin = magic << 32 | wire.Cmd.READ

    def take(self, data: memoryview) -> tuple[Reads, int]:
        """Return the READs that `data` begins with, and how many bytes they are."""
        reads: Reads = []
        size, longest, read, layout = self._size, self._longest, self._begin, self._layout
        whole = len(data) // layout.size * layout.size
        for begin, cookie, offset, length in layout.iter_unpack(data[:whole]):
            if begin != read or not 0 < length <= longest or offset + length > size:
                break
            reads.append((cookie, offset, length))
        return reads, len(reads) * layout.size
