"""The request that machines send most, read at a glance: one range of an image's file. Pure.

Anything that is not exactly this is None, and goes the long way, which knows all of HTTP. What both ways answer is the
same, byte for byte.
"""

import re
from dataclasses import dataclass

MOST_BYTES = 1024
"""A longer request is not looked at."""

_VALUE = rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?"
_REQUEST = re.compile(
    rb"GET (?P<target>/[A-Za-z0-9/._~-]+) HTTP/1\.1\r\n"
    rb"(?:(?:Host: (?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?)"
    rb"|Range: bytes=(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})"
    rb"|Connection: [Kk]eep-[Aa]live"
    rb"|(?:User-Agent|Accept|Accept-Encoding): " + _VALUE + rb")\r\n)+\r\n"
)
_BODY = re.compile(rb"\n(?:content-length|transfer-encoding|upgrade|expect)[ \t]*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """Bytes `first` to `last`, both included, of what `target` is."""

    target: str
    first: int
    last: int


def understand(data: bytes) -> Asked | None:
    """Return what is asked for, if `data` is one whole request of the plainest kind and nothing else.

    >>> understand(b"GET /images/a/root.squashfs HTTP/1.1\\r\\nHost: a\\r\\nRange: bytes=0-9\\r\\n\\r\\n")
    Asked(target='/images/a/root.squashfs', first=0, last=9)
    """
    if len(data) > MOST_BYTES:
        return None
    match = _REQUEST.fullmatch(data)
    if match is None or match["host"] is None or match["first"] is None:
        return None
    lines = data.split(b"\r\n")
    if len({line.partition(b":")[0] for line in lines}) != len(lines) - 1:
        return None  # a header that stands there twice; the last two lines are both empty
    first, last = int(match["first"]), int(match["last"])
    return Asked(match["target"].decode(), first, last) if first <= last else None


def is_plain(data: bytes) -> bool:
    """Tell whether `data` is one whole head, of a request without a body, as far as a parser could keep anything."""
    return (
        data.startswith((b"GET ", b"HEAD "))
        and data.find(b"\r\n\r\n") == len(data) - 4
        and data.count(b"\n") == data.count(b"\r\n")
        and _BODY.search(data) is None
    )
