"""netascii: the same text with other line ends (RFC 764, which RFC 1350 section 5 refers to)."""

from bisect import bisect_right
from typing import Protocol


class Readable(Protocol):
    """What `config.content.OpenFile` and `Made` share, and a `Netascii` of either."""

    @property
    def size_bytes(self) -> int:
        """Its length."""

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to `length` bytes from `offset`; shorter only at the end. May block; raises `OSError`."""

    def close(self) -> None:
        """Give it back."""


def to_netascii(octets: bytes) -> bytes:
    r"""Return `octets` with LF as CR LF and a bare CR as CR NUL. Each byte is converted for itself.

    >>> to_netascii(b"a\nb\rc")
    b'a\r\nb\r\x00c'
    """
    return octets.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


class Netascii:
    """`original` as netascii, readable at any offset.

    The size and the place of every piece are counted once, so that a block can be read again without keeping what
    was converted. Making one and `pread` read the original: they may block, and raise `OSError`.
    """

    def __init__(self, original: Readable, piece_bytes: int = 64 * 1024) -> None:
        self._original = original
        self._piece_bytes = piece_bytes
        self._starts = [0]  # of each piece in the converted text, then of the end
        for number in range(-(-original.size_bytes // piece_bytes)):
            self._starts.append(self._starts[-1] + len(self._piece(number)))

    @property
    def size_bytes(self) -> int:
        """The length of the converted text."""
        return self._starts[-1]

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to `length` bytes of the converted text from `offset`; shorter only at the end."""
        end = min(offset + length, self.size_bytes)
        if offset >= end:
            return b""
        first = bisect_right(self._starts, offset) - 1
        after = bisect_right(self._starts, end - 1)
        converted = b"".join(self._piece(number) for number in range(first, after))
        if len(converted) != self._starts[after] - self._starts[first]:
            return b""  # the original changed under us: as good as truncated
        return converted[offset - self._starts[first] : end - self._starts[first]]

    def close(self) -> None:
        """Close the original."""
        self._original.close()

    def _piece(self, number: int) -> bytes:
        return to_netascii(self._original.pread(self._piece_bytes, number * self._piece_bytes))
