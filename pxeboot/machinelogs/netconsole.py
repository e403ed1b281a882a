"""Messages of the kernel's netconsole, plain and extended (Documentation/networking/netconsole.rst). Pure.

Plain ones are text. Extended ones begin with a header, `LEVEL,SEQUENCE,MICROSECONDS,CONTINUED[,KEY=VALUE...];`, the
kernel's release before it if it is told to, and may be in fragments, `ncfrag=OFFSET/LENGTH`.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field

from pxeboot.messages import Severity

MOST_FRAGMENTED = 8
"""Messages of one machine that may lack fragments; the oldest is given up for another."""
MOST_MACHINES = 256
"""Machines of which fragments are kept; whoever was silent longest is given up."""
MOST_PIECES = 32
"""Fragments of one message; the kernel cuts one into ten at most, and none overlaps another."""
LONGEST = 8192
"""Bytes of one message: the kernel's own limit (CONSOLE_EXT_LOG_MAX)."""
_READ = 2048
"""Bytes of a message that are looked at: four times what is kept, which the kernel's escapes take of each byte."""
_HEADER = re.compile(
    rb"(?:[^,;\s]{1,64},)?(?P<level>[0-9]{1,4}),(?P<sequence>[0-9]{1,20}),[0-9]{1,20},[-c](?:,(?P<more>[^;\n]*))?;"
)
_FRAGMENT = re.compile(rb"(?:^|,)ncfrag=([0-9]{1,5})/([0-9]{1,5})(?:,|$)")
_WRITER = re.compile(r"(?P<program>[A-Za-z0-9_.@/-]{1,48})(?:\[[0-9]{1,10}\])?: ")


@dataclass(frozen=True, slots=True)
class Record:
    """One message."""

    severity: Severity
    program: str
    """The program that wrote it into the kernel's log; "" if the kernel did."""
    text: str


@dataclass(slots=True)
class _Whole:
    """A message of which fragments came."""

    length: int
    pieces: dict[int, bytes] = field(default_factory=dict)

    def add(self, offset: int, piece: bytes) -> bytes | None:
        """Take a fragment; return the message if it is whole."""
        self.pieces[offset] = piece
        if len(self.pieces) > MOST_PIECES or sum(map(len, self.pieces.values())) > self.length:
            self.pieces = {offset: piece}  # they overlap: no kernel sent all of them
        at, parts = 0, []
        while at < self.length:
            piece = self.pieces.get(at, b"")
            if not piece:
                return None
            parts.append(piece)
            at += len(piece)
        return b"".join(parts)[: self.length]


class Assembly:
    """Puts fragments together."""

    def __init__(self) -> None:
        """Begin with none."""
        self._machines: OrderedDict[str, OrderedDict[int, _Whole]] = OrderedDict()

    def take(self, machine: str, datagram: bytes) -> list[Record]:
        """Return the messages of a datagram, or those that it completes; none as long as fragments are missing."""
        header = _HEADER.match(datagram)
        if header is None:
            lines = datagram.decode("utf-8", "replace").replace("\0", "").splitlines()
            return [Record(Severity.INFORMATIONAL, "", line) for line in lines if line.strip()]
        body = datagram[header.end() :]
        fragment = _FRAGMENT.search(header["more"] or b"")
        if fragment is not None:
            whole = self._fragment(machine, int(header["sequence"]), int(fragment[1]), int(fragment[2]), body)
            if whole is None:
                return []
            body = whole
        # What follows in lines that begin with a blank are properties, such as the device.
        text = body.partition(b"\n")[0][:_READ].decode("utf-8", "replace")
        if not text.strip():
            return []
        return [_record(int(header["level"]), _unescaped(text))]

    def _fragment(self, machine: str, sequence: int, offset: int, length: int, piece: bytes) -> bytes | None:
        if not 0 < length <= LONGEST or offset + len(piece) > length or not piece:
            return None
        pending = self._machines.pop(machine, None) or OrderedDict()
        self._machines[machine] = pending
        if len(self._machines) > MOST_MACHINES:
            self._machines.popitem(last=False)
        message = pending.get(sequence)
        if message is None or message.length != length:
            message = pending[sequence] = _Whole(length)
            if len(pending) > MOST_FRAGMENTED:
                pending.popitem(last=False)
        whole = message.add(offset, piece)
        if whole is not None:
            del pending[sequence]
            if not pending:
                del self._machines[machine]
        return whole


def _record(level: int, text: str) -> Record:
    severity = Severity(level & 7)
    if level >> 3:  # a facility: a program wrote it
        writer = _WRITER.match(text)
        if writer is not None:
            return Record(severity, writer["program"], text[writer.end() :])
        return Record(severity, "user", text)
    return Record(severity, "", text)


def _unescaped(text: str) -> str:
    r"""Return a text without the escapes that the kernel puts into extended ones.

    >>> _unescaped(r"a\x09b \xc3\xa9 c\x5cd")
    'a\tb é c\\d'
    """
    if "\\x" not in text:
        return text
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes((int(found[1], 16),)), text.encode())
    return raw.decode("utf-8", "replace")
