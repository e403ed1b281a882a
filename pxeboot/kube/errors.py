"""What goes wrong between us and the API server, as one family of exceptions whose text is fit for a log. Pure."""

import re

from pxeboot.controller.token import hide_tokens

_LONGEST = 300


class Unavailable(Exception):
    """A request was not answered as it should be. `status` is the HTTP status, `retry_after_s` what it asked for."""

    def __init__(self, reason: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(printable(reason))
        self.status = status
        self.retry_after_s = retry_after_s


class Held(Unavailable):
    """Not sent: the API failed just now, and nobody may ask it again before `retry_after_s`."""


class Conflict(Unavailable):
    """The object is not as we last saw it (409 Conflict): somebody changed it, or it is another of that name."""


class AlreadyExists(Conflict):
    """An object of that name is there already (409 AlreadyExists)."""


def refusal(status: int, reason: str, message: str, retry_after_s: float | None, *, secret: bool) -> Unavailable:
    """Return the exception for an answer that is an error. `reason` and `message` are the API's.

    `secret`: the request was about a Secret; then its message is left out, for validation quotes values.
    """
    word = reason if re.fullmatch("[A-Za-z]{1,60}", reason) else ""
    text = f"HTTP {status}" + (f": {message}" if message and not secret else f" {word}" if word else "")
    if status == 409:
        return (AlreadyExists if word == "AlreadyExists" else Conflict)(text, status, retry_after_s)
    return Unavailable(text, status, retry_after_s)


def retry_after(value: str) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110 section 10.2.3); None without one, or for a date.

    >>> retry_after("3"), retry_after("Wed, 21 Oct 2026 07:28:00 GMT")
    (3.0, None)
    """
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def printable(text: str) -> str:
    """Return `text` on one line of bounded length, without the secrets of tokens.

    >>> printable("no\\x1b[31m such\\nthing: abcdef.0123456789abcdef")
    'no\\\\x1b[31m such\\\\nthing: abcdef.<hidden>'
    """
    hidden = hide_tokens(text[: 10 * _LONGEST])
    plain = "".join(char if char.isprintable() else repr(char)[1:-1] for char in hidden)
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 4] + " ..."
