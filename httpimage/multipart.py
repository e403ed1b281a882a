"""The frame around several ranges: multipart/byteranges (RFC 9110 section 14.6). Pure."""

from dataclasses import dataclass

from httpimage.ranges import Span


@dataclass(frozen=True, slots=True)
class Part:
    """One range: `head` goes out first, then the bytes of `span`."""

    head: bytes
    span: Span


@dataclass(frozen=True, slots=True)
class Byteranges:
    """A whole body: every part in order, then `tail`."""

    parts: tuple[Part, ...]
    tail: bytes

    @property
    def length(self) -> int:
        """The value of Content-Length."""
        return sum(len(part.head) + part.span.length for part in self.parts) + len(self.tail)


def frame(spans: tuple[Span, ...], complete_length: int, content_type: str, boundary: str) -> Byteranges:
    """Return the body that carries `spans`. `boundary` must not occur in the file: take a long random one."""
    parts = []
    for number, span in enumerate(spans):
        head = (
            f"{'' if number == 0 else chr(13) + chr(10)}--{boundary}\r\n"
            f"Content-Type: {content_type}\r\n"
            f"Content-Range: {span.content_range(complete_length)}\r\n\r\n"
        )
        parts.append(Part(head.encode("ascii"), span))
    return Byteranges(tuple(parts), f"\r\n--{boundary}--\r\n".encode("ascii"))
