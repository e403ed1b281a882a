"""DHCP messages: bytes ⇄ `Message` (RFC 2131 section 2; options RFC 2132 section 2; long options RFC 3396).

`Message.options` holds every option by its number, whole: instances that the sender split are joined, and what
lay in `file` and `sname` (option overload, 52) is with the others. Padding, END and option 52 itself are how a
message is packed, not what it says, so they never appear there.
"""

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address

MAGIC_COOKIE = bytes((99, 130, 83, 99))
NO_ADDRESS = IPv4Address(0)

PAD = 0
OVERLOAD = 52
RELAY_AGENT_INFORMATION = 82
BOOT_SERVER_NAME = 66
END = 255

SMALLEST = 300
"""Bytes that a message is padded to: BOOTP's fixed size, which old ROMs and relays insist on (RFC 1542 2.1)."""
_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_OPTIONS_AT = _HEADER.size + len(MAGIC_COOKIE)
_LONGEST_INSTANCE = 255


class MalformedPacket(ValueError):
    """The datagram is no DHCP message; it is dropped."""


class Op(IntEnum):
    """`op`: who is talking."""

    BOOTREQUEST = 1
    BOOTREPLY = 2


class Flags(IntFlag):
    """`flags`; the other fifteen bits are reserved, and ignored."""

    BROADCAST = 0x8000


@dataclass(frozen=True, slots=True)
class Packed:
    """A message's bytes, and the numbers of the options that had no room."""

    data: bytes
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One BOOTP or DHCP message. `chaddr` holds `hlen` bytes; `sname` and `file` end before their first NUL."""

    op: Op
    xid: int
    chaddr: bytes
    htype: int = 1
    hops: int = 0
    secs: int = 0
    flags: int = 0
    ciaddr: IPv4Address = NO_ADDRESS
    yiaddr: IPv4Address = NO_ADDRESS
    siaddr: IPv4Address = NO_ADDRESS
    giaddr: IPv4Address = NO_ADDRESS
    sname: bytes = b""
    file: bytes = b""
    options: Mapping[int, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the message as one datagram, as long as it needs to be; at least 300 bytes."""
        return self._assemble(self.file, self.sname, encode_options(self.options))

    def pack(self, size_limit: int, needed: Collection[int] = (), *, overload: bool = True) -> Packed:
        """Return the message in at most `size_limit` bytes (at least 300).

        Options that do not fit move to an unused `file` or `sname` (option 52), unless `overload` is false. GRUB
        ignores `file` when it sees option 52, so this is done only when it must be. What fits nowhere is left
        out, those that are not `needed` first, the last ones before the first. Option 82 stays last and in the
        options field (RFC 3046 section 2.2).
        """
        if _OPTIONS_AT + sum(_size(value) for value in self.options.values()) + 1 <= size_limit:
            return Packed(self.encode())
        order = sorted(self.options, key=lambda code: (code not in needed, code == RELAY_AGENT_INFORMATION))
        room = {"options": size_limit - _OPTIONS_AT - 1}
        if overload:
            room["options"] -= 3
            room |= {} if self.file else {"file": 127}
            room |= {} if self.sname and BOOT_SERVER_NAME not in self.options else {"sname": 63}
        places: dict[str, dict[int, bytes]] = {place: {} for place in room}
        for code in order:
            size = _size(self.options[code])
            allowed = ("options",) if code == RELAY_AGENT_INFORMATION else tuple(room)
            place = next((place for place in allowed if size <= room[place]), None)
            if place is not None:
                room[place] -= size
                places[place][code] = self.options[code]
        kept = {code for place in places.values() for code in place}
        left_out = tuple(code for code in self.options if code not in kept)
        inside = {code: value for code, value in self.options.items() if code in places["options"]}
        file, sname, used = self.file, self.sname, 0
        if places.get("file"):
            file, used = encode_options(places["file"]) + bytes((END,)), used | 1
        if places.get("sname"):
            sname, used = encode_options(places["sname"]) + bytes((END,)), used | 2
        if used:
            relay = inside.pop(RELAY_AGENT_INFORMATION, None)
            inside[OVERLOAD] = bytes((used,))
            if relay is not None:
                inside[RELAY_AGENT_INFORMATION] = relay
        return Packed(self._assemble(file, sname, encode_options(inside)), left_out)

    def _assemble(self, file: bytes, sname: bytes, options: bytes) -> bytes:
        header = _HEADER.pack(
            self.op,
            self.htype,
            len(self.chaddr),
            self.hops,
            self.xid,
            self.secs,
            self.flags,
            self.ciaddr.packed,
            self.yiaddr.packed,
            self.siaddr.packed,
            self.giaddr.packed,
            self.chaddr,
            sname,
            file,
        )
        return (header + MAGIC_COOKIE + options + bytes((END,))).ljust(SMALLEST, b"\0")


def decode(data: bytes) -> Message:
    """Return the message in a datagram. Bytes after END, and an option that runs past its field, are ignored.

    Raises `MalformedPacket` if it has no room for the fixed fields, no magic cookie, an `op` that is neither 1
    nor 2, or an `hlen` above 16.
    """
    if len(data) < _OPTIONS_AT:
        raise MalformedPacket(f"{len(data)} bytes, and a DHCP message has at least {_OPTIONS_AT}")
    op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file = _HEADER.unpack_from(
        data
    )
    if data[_HEADER.size : _OPTIONS_AT] != MAGIC_COOKIE:
        raise MalformedPacket("no magic cookie before the options (RFC 2131 section 3)")
    if op not in (Op.BOOTREQUEST, Op.BOOTREPLY):
        raise MalformedPacket(f"op is {op}; 1 is a request and 2 a reply")
    if hlen > len(chaddr):
        raise MalformedPacket(f"hlen is {hlen}, and chaddr has {len(chaddr)} bytes")
    parts: dict[int, list[bytes]] = {}
    _collect(data[_OPTIONS_AT:], parts)
    overload = parts.pop(OVERLOAD, [])
    used = overload[0][0] if overload and len(overload[0]) == 1 and overload[0][0] in (1, 2, 3) else 0
    if used & 1:
        _collect(file, parts)
        file = b""
    if used & 2:
        _collect(sname, parts)
        sname = b""
    parts.pop(OVERLOAD, None)  # an overload inside an overload means nothing
    return Message(
        op=Op(op),
        htype=htype,
        hops=hops,
        xid=xid,
        secs=secs,
        flags=flags,
        ciaddr=IPv4Address(ciaddr),
        yiaddr=IPv4Address(yiaddr),
        siaddr=IPv4Address(siaddr),
        giaddr=IPv4Address(giaddr),
        chaddr=chaddr[:hlen],
        sname=sname.partition(b"\0")[0],
        file=file.partition(b"\0")[0],
        options={code: b"".join(values) for code, values in parts.items()},
    )


def options_in(area: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, value) of each instance in an options field, up to END or to the first one that is cut."""
    at, size = 0, len(area)
    while at < size and area[at] != END:
        if area[at] == PAD:
            at += 1
            continue
        if at + 2 > size or at + 2 + area[at + 1] > size:
            return
        yield area[at], area[at + 2 : at + 2 + area[at + 1]]
        at += 2 + area[at + 1]


def _collect(area: bytes, into: dict[int, list[bytes]]) -> None:
    for code, value in options_in(area):
        into.setdefault(code, []).append(value)


def _size(value: bytes) -> int:
    """The bytes that an option takes, with the two that head each of its instances."""
    return len(value) + 2 * max(1, -(-len(value) // _LONGEST_INSTANCE))


def encode_options(options: Mapping[int, bytes]) -> bytes:
    """Return an options field without END; what is longer than 255 bytes as several in a row (RFC 3396 section 5)."""
    out = bytearray()
    for code, value in options.items():
        for start in range(0, len(value) or 1, _LONGEST_INSTANCE):
            part = value[start : start + _LONGEST_INSTANCE]
            out += bytes((code, len(part))) + part
    return bytes(out)
