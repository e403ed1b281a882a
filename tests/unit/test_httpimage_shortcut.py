"""The short way takes only what the long way understands to be the same: aiohttp's parser is the judge."""

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from hypothesis import given
from hypothesis import strategies as st

from httpimage.names import host_is_valid
from httpimage.ranges import Span, Spans, select
from httpimage.shortcut import Asked, is_plain, understand

TARGET = "/images/0a/root.squashfs"
PLAIN = f"GET {TARGET} HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: x\r\nRange: bytes=5-9\r\n\r\n".encode()
HARMLESS = (
    b"Host: 10.0.0.1:8080",
    b"Range: bytes=0-0",
    b"User-Agent: Mozilla/5.0 (a; b)",
    b"Accept: */*",
    b"Accept-Encoding: identity",
    b"Connection: keep-alive",
    b"Connection: Keep-Alive",
)
OTHERS = (
    b"Connection: close",
    b"If-Range: \"x\"",
    b"If-Match: *",
    b"Content-Length: 0",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"Host: ",
    b"Range: bytes=3-2",
    b"Range: bytes=0-",
    b"Range: bytes=-5",
    b"Range: bytes=0-1,3-4",
    b"range: bytes=0-1",
    b"Range : bytes=0-1",
    b" folded: x",
)  # fmt: skip


class Nobody(BaseProtocol):
    """A protocol without a connection."""


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def parsed(data: bytes, loop: asyncio.AbstractEventLoop) -> RawRequestMessage | None:
    """What aiohttp makes of `data`; None unless it is exactly one request."""
    parser = HttpRequestParser(Nobody(loop), loop, 65536)
    try:
        messages, upgraded, tail = parser.feed_data(data)
    except HttpProcessingError:
        return None
    if len(messages) != 1 or upgraded or tail:
        return None
    message, payload = messages[0]
    assert payload.is_eof()
    return message


def judge(data: bytes, loop: asyncio.AbstractEventLoop) -> None:
    """Fail if the short way takes a request that means something else, or needs more than an answer."""
    asked = understand(data)
    if asked is None:
        return
    message = parsed(data, loop)
    assert message is not None
    assert (message.method, message.version, message.path) == ("GET", (1, 1), asked.target)
    assert (message.should_close, message.upgrade, message.chunked) == (False, False, False)
    assert host_is_valid(message.headers.getall("Host", []), required=True)
    [header] = message.headers.getall("Range")
    assert select(header, 10**18) == Spans((Span(asked.first, asked.last),))
    assert {name.lower() for name in message.headers} <= {
        *("host", "range", "user-agent", "accept", "accept-encoding", "connection")
    }


def test_the_plain_request_is_taken() -> None:
    assert understand(PLAIN) == Asked(TARGET, 5, 9)
    assert is_plain(PLAIN)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN[:-1], id="not whole"),
        pytest.param(PLAIN + b"G", id="more behind it"),
        pytest.param(PLAIN + PLAIN, id="two"),
        pytest.param(b"\r\n" + PLAIN, id="an empty line before it"),
        pytest.param(PLAIN.replace(b"GET", b"HEAD"), id="method"),
        pytest.param(PLAIN.replace(b"1.1", b"1.0"), id="version"),
        pytest.param(PLAIN.replace(b"Host: 10.0.0.1\r\n", b""), id="no host"),
        pytest.param(PLAIN.replace(b"Range: bytes=5-9\r\n", b""), id="no range"),
        pytest.param(PLAIN.replace(b"5-9", b"5-4"), id="backwards"),
        pytest.param(PLAIN.replace(b"5-9", b"5-" + b"9" * 19), id="too many digits"),
        pytest.param(PLAIN.replace(b"/images", b"//images").replace(b"0a", b"%30a"), id="encoded"),
        pytest.param(PLAIN.replace(b"squashfs", b"squashfs?x"), id="query"),
        pytest.param(PLAIN.replace(b"Host: 10.0.0.1", b"Host: 10.0.0.1\r\nHost: 10.0.0.1"), id="two hosts"),
        pytest.param(PLAIN.replace(b"\r\nUser", b"\nUser"), id="bare LF"),
        pytest.param(PLAIN.replace(b"User-Agent: x", b"User-Agent: " + b"x" * 1024), id="long"),
        pytest.param(PLAIN.replace(b"User-Agent: x", b"User-Agent: \x00"), id="NUL"),
        *(pytest.param(PLAIN.replace(b"User-Agent: x", other), id=other.decode()) for other in OTHERS),
    ],
)
def test_anything_unusual_goes_the_long_way(data: bytes) -> None:
    assert understand(data) is None


@given(st.lists(st.sampled_from(HARMLESS + OTHERS), max_size=6), st.booleans())
def test_what_is_taken_means_the_same_to_aiohttp(
    loop: asyncio.AbstractEventLoop, lines: list[bytes], ends: bool
) -> None:
    judge(b"\r\n".join([f"GET {TARGET} HTTP/1.1".encode(), *lines, b"\r\n" if ends else b""]), loop)


@given(place=st.integers(0, len(PLAIN)), removed=st.integers(0, 3), added=st.binary(max_size=3))
def test_a_small_change_is_understood_as_aiohttp_does(
    loop: asyncio.AbstractEventLoop, place: int, removed: int, added: bytes
) -> None:
    judge(PLAIN[:place] + added + PLAIN[place + removed :], loop)


@given(st.binary(max_size=200))
def test_any_bytes_are_looked_at_in_peace(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    judge(data, loop)
    is_plain(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\r\nGET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\ncontent-length : 9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_a_parser_that_may_hold_something_is_not_passed_by(data: bytes) -> None:
    assert not is_plain(data)
