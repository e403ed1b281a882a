"""netascii (T-02): the whole text at once, or any piece of it, is the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.content import Made
from tftp.netascii import Netascii, to_netascii


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", b""),
        (b"a\n", b"a\r\n"),
        (b"a\r", b"a\r\0"),
        (b"a\r\n", b"a\r\0\r\n"),
        (b"\n\n", b"\r\n\r\n"),
        (b"\0", b"\0"),
    ],
)
def test_line_ends_are_converted(octets: bytes, text: bytes) -> None:
    assert to_netascii(octets) == text


def plainly(octets: bytes) -> bytes:
    return b"".join({10: b"\r\n", 13: b"\r\0"}.get(byte, bytes((byte,))) for byte in octets)


@given(
    st.lists(st.sampled_from(list(b"\n\ra")), max_size=60).map(bytes),
    st.integers(0, 130),
    st.integers(0, 130),
    st.integers(1, 20),
)
def test_any_piece_is_the_piece_of_the_whole(octets: bytes, offset: int, length: int, piece_bytes: int) -> None:
    converted = Netascii(Made("f", octets, etag=""), piece_bytes)
    whole = plainly(octets)
    assert converted.size_bytes == len(whole)
    assert converted.pread(length, offset) == whole[offset : offset + length]


class Changing:
    """A file that somebody rewrites while it is read."""

    def __init__(self, *versions: bytes) -> None:
        self.versions = list(versions)
        self.size_bytes = len(versions[0])
        self.closed = False

    def pread(self, length: int, offset: int) -> bytes:
        version = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        return version[offset : offset + length]

    def close(self) -> None:
        self.closed = True


def test_an_original_that_changes_reads_as_truncated() -> None:
    converted = Netascii(original := Changing(b"a\nb", b"a\n\n"))
    assert converted.size_bytes == 4
    assert converted.pread(4, 0) == b""
    converted.close()
    assert original.closed
