"""A UDP datagram in an IPv4 packet that was read from the link, with the suspicion that a kernel has (RFC 791, 768).

What a packet socket reads has met no firewall and no check: truncated packets, fragments and wrong checksums come
through, and would otherwise be believed.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from dhcp.frame import checksum

_IP = struct.Struct("!BxHxxHxBxx4s4s")
_UDP = struct.Struct("!HHHH")
_PROTOCOL_UDP = 17
_FRAGMENT = 0x3FFF
"""More fragments follow (0x2000), or where this one lies in the datagram."""


class Damaged(ValueError):
    """The packet holds no whole, sound datagram; it is dropped."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram."""

    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    data: bytes


def datagram(packet: bytes, *, summed: bool = True) -> Datagram:
    """Return the datagram in an IPv4 packet; bytes behind it (Ethernet's padding) are ignored.

    `summed` is false for a packet of this very machine, whose UDP checksum was to be made by the card it never
    reached. A checksum of 0 says that its sender made none. Raises `Damaged`.
    """
    if len(packet) < _IP.size:
        raise Damaged(f"{len(packet)} bytes, and an IPv4 header has {_IP.size}")
    first, total, fragment, protocol, source, destination = _IP.unpack_from(packet)
    header = (first & 15) * 4
    if first >> 4 != 4 or header < _IP.size or not header + _UDP.size <= total <= len(packet):
        raise Damaged(f"version {first >> 4}, a header of {header} bytes, {total} of {len(packet)} bytes")
    if fragment & _FRAGMENT:
        raise Damaged("a fragment")
    if protocol != _PROTOCOL_UDP:
        raise Damaged(f"protocol {protocol}, no UDP")
    if checksum(packet[:header]):
        raise Damaged("the header's checksum is wrong")
    source_port, destination_port, length, udp_sum = _UDP.unpack_from(packet, header)
    if not _UDP.size <= length <= total - header:
        raise Damaged(f"a UDP length of {length} in {total - header} bytes")
    udp = packet[header : header + length]
    if summed and udp_sum and checksum(source + destination + struct.pack("!HH", _PROTOCOL_UDP, length) + udp):
        raise Damaged("the UDP checksum is wrong")
    return Datagram(IPv4Address(source), source_port, IPv4Address(destination), destination_port, udp[_UDP.size :])
