"""Range header text and a length → the spans of bytes to send (RFC 9110 section 14). Pure."""

import re
from dataclasses import dataclass

MAX_RANGES = 16
"""More ranges than this in one request are not served one by one: the whole file is sent (RFC 9110 section 17.15)."""

_MAX_POSITION = 2**63 - 1
_RANGE_SPEC = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")
_OWS = " \t"


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first_pos` to `last_pos` of a file, both included."""

    first_pos: int
    last_pos: int

    @property
    def length(self) -> int:
        """How many bytes it is."""
        return self.last_pos - self.first_pos + 1

    def content_range(self, complete_length: int) -> str:
        """Return the value of Content-Range (RFC 9110 section 14.4).

        >>> Span(0, 4).content_range(10)
        'bytes 0-4/10'
        """
        return f"bytes {self.first_pos}-{self.last_pos}/{complete_length}"


@dataclass(frozen=True, slots=True)
class Whole:
    """Send the whole file with status 200: the header is absent, malformed, of another unit, or asks too much."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Send these spans with status 206: at least one, none overlapping another, each inside the file."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class NotSatisfiable:
    """Answer 416: every range lies past the end."""


Selection = Whole | Spans | NotSatisfiable


def select(header: str | None, complete_length: int) -> Selection:
    """Return what a Range header asks of a file of `complete_length` bytes (RFC 9110 sections 14.1.1 to 14.2).

    A header that does not follow the grammar is ignored, as one of an unknown unit is. Ranges are kept in the
    order asked for, except those that are joined. The work is bounded by `MAX_RANGES`, whatever the text.

    >>> select("bytes=2-", 10)
    Spans(spans=(Span(first_pos=2, last_pos=9),))
    >>> select("bytes=10-", 10)
    NotSatisfiable()
    """
    if header is None:
        return Whole()
    unit, equals, ranges = header.partition("=")
    if not equals or unit.lower() != "bytes":
        return Whole()
    specs = [spec for element in ranges.split(",") if (spec := element.strip(_OWS))]
    if not specs or len(specs) > MAX_RANGES:
        return Whole()
    spans: list[Span] = []
    for spec in specs:
        match = _RANGE_SPEC.fullmatch(spec)
        if match is None:
            return Whole()
        first, last, suffix = match.groups()
        if suffix is not None:
            first_pos, last_pos = max(0, complete_length - _position(suffix)), complete_length - 1
            if complete_length == 0 and _position(suffix) > 0:
                return Whole()  # satisfiable, but no Content-Range can say "no bytes of 0"
        else:
            first_pos, last_pos = _position(first), _position(last) if last else _MAX_POSITION
            if last_pos < first_pos:
                return Whole()
        if first_pos < complete_length:
            _join(spans, Span(first_pos, min(last_pos, complete_length - 1)))
    return Spans(tuple(spans)) if spans else NotSatisfiable()


def _position(digits: str) -> int:
    """Return the number; one of 20 digits or more is as good as the largest file there can be."""
    significant = digits.lstrip("0")
    return min(int(significant or "0"), _MAX_POSITION) if len(significant) < 20 else _MAX_POSITION


def _join(spans: list[Span], span: Span) -> None:
    """Add `span` to `spans`, as one with those it overlaps or touches, at the place of the first of them.

    So no byte is sent twice (RFC 9110 section 15.3.7.2).
    """
    near = [other for other in spans if span.first_pos <= other.last_pos + 1 and other.first_pos <= span.last_pos + 1]
    if not near:
        spans.append(span)
        return
    place = spans.index(near[0])
    joined = Span(min(span.first_pos, *(s.first_pos for s in near)), max(span.last_pos, *(s.last_pos for s in near)))
    spans[:] = [*spans[:place], joined, *(other for other in spans[place:] if other not in near)]
