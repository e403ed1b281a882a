"""Conditional requests: preconditions in their order, and If-Range (RFC 9110 section 13). Pure."""

import re
from dataclasses import dataclass
from enum import Enum

from httpimage.dates import parse_date

_ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\U0010ffff]*)"')
_SEPARATOR = re.compile(r"[ \t]*(?:,[ \t]*)*")


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one version of a file from another."""

    etag: str
    """The strong entity tag, without its quotes."""
    modified_s: int | None
    """Last-Modified in whole seconds since 1970, never later than the answer's Date; None if none is sent."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The precondition headers of one request, as text; None where absent."""

    if_match: str | None = None
    if_unmodified_since: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None


class Decision(Enum):
    """What the preconditions of a GET or HEAD come to."""

    PROCEED = "answer as if there were none"
    NOT_MODIFIED = "304"
    PRECONDITION_FAILED = "412"


def evaluate(conditions: Conditions, validators: Validators) -> Decision:
    """Decide a GET or HEAD of an existing file, in the order of RFC 9110 section 13.2.2.

    If-Unmodified-Since counts only without If-Match, If-Modified-Since only without If-None-Match, and a date
    that cannot be read is ignored (sections 13.1.3 and 13.1.4).
    """
    modified_s = validators.modified_s
    if conditions.if_match is not None:
        if not _matches(conditions.if_match, validators.etag, weak=False):
            return Decision.PRECONDITION_FAILED
    elif conditions.if_unmodified_since is not None and modified_s is not None:
        since = parse_date(conditions.if_unmodified_since)
        if since is not None and modified_s > since:
            return Decision.PRECONDITION_FAILED
    if conditions.if_none_match is not None:
        if _matches(conditions.if_none_match, validators.etag, weak=True):
            return Decision.NOT_MODIFIED
    elif conditions.if_modified_since is not None and modified_s is not None:
        since = parse_date(conditions.if_modified_since)
        if since is not None and modified_s <= since:
            return Decision.NOT_MODIFIED
    return Decision.PROCEED


def range_applies(if_range: str | None, validators: Validators, now_s: int) -> bool:
    """Tell whether Range is to be obeyed: there is no If-Range, or it names exactly this version.

    An entity tag must be equal and neither weak. A date must equal Last-Modified, which is strong only if it is
    at least a second older than `now_s`, the Date of our answer (RFC 9110 sections 13.1.5 and 8.8.2.2). Anything
    else means the whole file: two versions spliced together are worse than a download begun again.
    """
    if if_range is None:
        return True
    tag = _ENTITY_TAG.fullmatch(if_range)
    if tag is not None:
        return tag[1] is None and tag[2] == validators.etag
    date = parse_date(if_range)
    return date is not None and date == validators.modified_s and date < now_s


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    """Tell whether `etag` is in the list, or the list is `*` (RFC 9110 section 8.8.3.2).

    `weak` lets tags marked `W/` count. A text that is no list of entity tags holds none.
    """
    if header == "*":
        return True
    found = False
    place = _skip(header, 0)
    while place < len(header):
        tag = _ENTITY_TAG.match(header, place)
        if tag is None:
            return False
        found = found or (tag[2] == etag and (weak or tag[1] is None))
        place = _skip(header, tag.end())
        if place < len(header) and "," not in header[tag.end() : place]:
            return False
    return found


def _skip(header: str, place: int) -> int:
    """Return where the next element begins: past blanks, commas and empty elements (RFC 9110 section 5.6.1.2)."""
    match = _SEPARATOR.match(header, place)
    return match.end() if match else place
