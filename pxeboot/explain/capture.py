"""Reads the DHCP messages out of a capture file: pcap of either byte order, and pcapng. Pure: bytes in.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html and draft-ietf-opsawg-pcapng. Frames are Ethernet (with
or without VLAN tags), Linux cooked (`tcpdump -i any`, both versions) or bare IPv4. A capture is somebody else's data:
what is cut, damaged or no DHCP is counted, and nothing raises but for a file that is no capture at all.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dhcp import wire
from dhcp.overheard import Damaged, Datagram, datagram
from dhcp.wire import Message

_PORTS = frozenset((67, 68, 4011))
_MAGIC = {
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
}
_SECTION = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDER = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_INTERFACE_BLOCK, _SIMPLE_BLOCK, _ENHANCED_BLOCK, _SECTION_BLOCK = 1, 3, 6, 0x0A0D0D0A
_TIME_RESOLUTION = 9
_ETHERNET, _COOKED, _COOKED_2, _RAW = 1, 113, 276, (101, 228, 12, 14)
_IPV4 = 0x0800
_VLAN_TAGS = (0x8100, 0x88A8, 0x9100)


class NoCapture(ValueError):
    """The file is neither pcap nor pcapng."""


@dataclass(frozen=True, slots=True)
class Captured:
    """One DHCP message of a capture."""

    number: int
    """Of its frame, from 1, as other programs count them."""
    time_s: float
    """Seconds since 1970; 0 where the capture does not say."""
    datagram: Datagram
    message: Message


@dataclass(frozen=True, slots=True)
class Capture:
    """What is in a file."""

    messages: tuple[Captured, ...]
    frames: int
    """All there are."""
    damaged: int
    """Frames to or from a DHCP port that hold no whole message."""
    unknown_links: tuple[int, ...] = ()
    """Link types that are not read, by their number; their frames are passed over."""
    cut: bool = False
    """Whether the file ends in the middle of something."""


@dataclass(frozen=True, slots=True)
class _Frame:
    link: int
    time_s: float
    data: bytes


def read(data: bytes) -> Capture:
    """Return the DHCP messages in a capture file. Raises `NoCapture`."""
    frames = _pcapng(data) if data[:4] == _SECTION else _pcap(data)
    messages, damaged, number, unknown, cut = [], 0, 0, set(), False
    for frame in frames:
        if frame is None:
            cut = True
            break
        number += 1
        if frame.link not in (_ETHERNET, _COOKED, _COOKED_2, *_RAW):
            unknown.add(frame.link)
            continue
        packet = _packet(frame)
        if packet is None or not _is_dhcp(packet):
            continue
        try:
            # The card makes the checksum of what this very machine sent, so a capture has it wrong.
            found = datagram(packet, summed=False)
            messages.append(Captured(number, frame.time_s, found, wire.decode(found.data)))
        except (Damaged, wire.MalformedPacket):
            damaged += 1
    return Capture(tuple(messages), number, damaged, tuple(sorted(unknown)), cut)


def _pcap(data: bytes) -> Iterator[_Frame | None]:
    """The frames; None behind them when the capture was stopped in the middle of one."""
    if data[:4] not in _MAGIC or len(data) < 24:
        raise NoCapture("it is neither pcap nor pcapng")
    order, unit = _MAGIC[data[:4]]
    (link,) = struct.unpack_from(f"{order}I", data, 20)
    record = struct.Struct(f"{order}IIII")
    at = 24
    while at + record.size <= len(data):
        seconds, fraction, size, _ = record.unpack_from(data, at)
        at += record.size
        if at + size > len(data):
            yield None
            return
        yield _Frame(link & 0x0FFFFFFF, seconds + fraction * unit, data[at : at + size])
        at += size
    if at < len(data):
        yield None


def _pcapng(data: bytes) -> Iterator[_Frame | None]:
    """As `_pcap`."""
    order, at = "<", 0
    links: list[tuple[int, float]] = []
    while at + 12 <= len(data):
        if data[at : at + 4] == _SECTION:
            if data[at + 8 : at + 12] not in _BYTE_ORDER:
                raise NoCapture("it begins like pcapng, and has no byte order")
            order = _BYTE_ORDER[data[at + 8 : at + 12]]
            links = []
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if size < 12 or at + size > len(data):
            yield None
            return
        body = data[at + 8 : at + size - 4]
        at += size
        if kind == _INTERFACE_BLOCK and len(body) >= 8:
            links.append((struct.unpack_from(f"{order}H", body)[0], _unit(body[8:], order)))
        elif kind == _ENHANCED_BLOCK and len(body) >= 20:
            interface, high, low, length, _ = struct.unpack_from(f"{order}IIIII", body)
            if interface < len(links):
                link, unit = links[interface]
                yield _Frame(link, ((high << 32) + low) * unit, body[20 : 20 + length])
        elif kind == _SIMPLE_BLOCK and len(body) >= 4 and links:
            yield _Frame(links[0][0], 0.0, body[4 : 4 + struct.unpack_from(f"{order}I", body)[0]])
    if at < len(data):
        yield None


def _unit(options: bytes, order: str) -> float:
    """The seconds that a timestamp of an interface counts: if_tsresol, else a millionth."""
    at = 0
    while at + 4 <= len(options):
        code, size = struct.unpack_from(f"{order}HH", options, at)
        if code == _TIME_RESOLUTION and size == 1 and at + 4 < len(options):
            value = options[at + 4]
            return float(2.0 ** -(value & 0x7F) if value & 0x80 else 10.0**-value)
        at += 4 + size + -size % 4
    return 1e-6


def _packet(frame: _Frame) -> bytes | None:
    """Return the IPv4 packet in a frame; None if there is none."""
    data = frame.data
    if frame.link in _RAW:
        return data if data[:1] and data[0] >> 4 == 4 else None
    at = {_ETHERNET: 12, _COOKED: 14, _COOKED_2: 0}[frame.link]
    behind = {_ETHERNET: 14, _COOKED: 16, _COOKED_2: 20}[frame.link]
    kind = int.from_bytes(data[at : at + 2], "big")
    while kind in _VLAN_TAGS:
        kind = int.from_bytes(data[behind + 2 : behind + 4], "big")
        behind += 4
    return data[behind:] if kind == _IPV4 else None


def _is_dhcp(packet: bytes) -> bool:
    """Whether it is UDP to or from a port of DHCP, as far as its first bytes tell."""
    header = (packet[0] & 15) * 4 if packet else 0
    if len(packet) < header + 4 or header < 20 or packet[9] != 17:
        return False
    ports = struct.unpack_from("!HH", packet, header)
    return not _PORTS.isdisjoint(ports)
