"""multipart/byteranges, with the standard library's mail parser as the oracle (reference H-08)."""

from email import message_from_bytes, policy

from hypothesis import given
from hypothesis import strategies as st

from httpimage.multipart import frame
from httpimage.ranges import Span


def body_of(content: bytes, spans: tuple[Span, ...]) -> bytes:
    framed = frame(spans, len(content), "application/efi", "b0undary")
    body = b"".join(part.head + content[part.span.first_pos : part.span.last_pos + 1] for part in framed.parts)
    assert len(body + framed.tail) == framed.length
    return body + framed.tail


def test_two_parts_look_like_the_example_of_the_rfc() -> None:
    assert body_of(b"0123456789", (Span(0, 1), Span(8, 9))) == (
        b"--b0undary\r\nContent-Type: application/efi\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n"
        b"--b0undary\r\nContent-Type: application/efi\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n"
        b"--b0undary--\r\n"
    )


@given(st.lists(st.integers(0, 99), min_size=2, max_size=16))
def test_another_parser_finds_the_same_parts(places: list[int]) -> None:
    content = b"abcdefghij" * 10
    spans = tuple(Span(place, min(place + 7, 99)) for place in places)
    head = b"Content-Type: multipart/byteranges; boundary=b0undary\r\n\r\n"
    message = message_from_bytes(head + body_of(content, spans), policy=policy.HTTP)
    parts = [part for part in message.walk() if not part.is_multipart()]
    assert [part.get_payload(decode=True) for part in parts] == [content[s.first_pos : s.last_pos + 1] for s in spans]
    assert [part["Content-Range"] for part in parts] == [s.content_range(100) for s in spans]
