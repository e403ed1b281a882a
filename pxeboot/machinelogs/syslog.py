"""Messages of syslog, by RFC 5424 and by what RFC 3164 found in use. Pure.

Any datagram is a message (RFC 3164 section 4.3): what has no priority has that of `user.notice`, and what looks like
neither format is text.
"""

import re
from dataclasses import dataclass

from pxeboot.messages import Severity

DEFAULT = Severity.NOTICE
"""Of a message that says no priority (RFC 3164 section 4.3.3)."""
_HIGHEST = 191
_PRIORITY = re.compile(r"<(0|[1-9][0-9]{0,2})>")
_HEADER = re.compile(r"1 (?P<time>\S+) (?P<host>\S+) (?P<app>\S+) (?P<proc>\S+) (?P<msgid>\S+) ?(?P<rest>.*)", re.S)
"""RFC 5424 section 6, up to the structured data."""
_ELEMENT = re.compile(r'\[[^\]" =]+(?: [^\]" =]+="(?:[^"\\]|\\.)*")*\]', re.S)
_TIME = re.compile(r"[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} ")
_ISO_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T\S+ ")
_TAG = re.compile(r"(?P<tag>[A-Za-z0-9_./@-]{1,48})(?:\[[0-9]{1,10}\])?: ?")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,255} ")


@dataclass(frozen=True, slots=True)
class Record:
    """One message."""

    severity: Severity
    program: str
    """Who wrote it; "" if the message does not say."""
    text: str


def parse(datagram: bytes) -> Record:
    """Return the message of a datagram. Its time and host are left out: we know both better.

    >>> parse(b"<34>1 2026-11-22T05:00:00Z m1 sshd 7 - - no keys")
    Record(severity=<Severity.CRITICAL: 2>, program='sshd', text='no keys')
    >>> parse(b"<13>Nov 22 05:00:00 m1 kubelet[9]: starting")
    Record(severity=<Severity.NOTICE: 5>, program='kubelet', text='starting')
    """
    text = datagram.decode("utf-8", "replace").strip("\0\r\n ")
    severity = DEFAULT
    priority = _PRIORITY.match(text)
    if priority is not None and int(priority[1]) <= _HIGHEST:
        severity = Severity(int(priority[1]) & 7)
        text = text[priority.end() :]
        if (header := _HEADER.fullmatch(text)) is not None:
            program = header["app"][:48] if header["app"] != "-" else ""
            return Record(severity, program, _without_data(header["rest"]).removeprefix("\ufeff"))
    return _bsd(severity, text)


def _without_data(rest: str) -> str:
    """Return what follows the structured data (RFC 5424 section 6.3)."""
    if rest.startswith("-"):
        return rest[1:].removeprefix(" ")
    at = 0
    while (element := _ELEMENT.match(rest, at)) is not None:
        at = element.end()
    return rest[at:].removeprefix(" ")


def _bsd(severity: Severity, text: str) -> Record:
    time = _TIME.match(text) or _ISO_TIME.match(text)
    if time is not None:
        text = text[time.end() :]
    tag = _TAG.match(text)
    if tag is None and time is not None and (host := _HOST.match(text)) is not None:
        # The host is there after a time only; without a tag behind it, a first word may as well be text.
        after = _TAG.match(text, host.end())
        if after is not None:
            return Record(severity, after["tag"], text[after.end() :])
    if tag is None:
        return Record(severity, "", text)
    return Record(severity, tag["tag"], text[tag.end() :])
