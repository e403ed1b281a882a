"""ARP as far as it tells whether an address is in use: the probe and the answers to it (RFC 826, RFC 5227). Pure."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

ETHERTYPE = 0x0806
ETHERNET = 1
"""The hardware type; a link of another one is not probed."""
EVERYBODY = b"\xff" * 6
_IPV4 = 0x0800
_REQUEST = 1
_REPLY = 2
_NOBODY = bytes(6)
_PACKET = struct.Struct("!HHBBH6s4s6s4s")

FILTER = (
    (0x28, 0, 0, 6),  # ldh [6]: the operation
    (0x15, 4, 0, _REPLY),  # jeq #2: take it
    (0x20, 0, 0, 24),  # ld [24]: the target's address
    (0x07, 0, 0, 0),  # tax
    (0x20, 0, 0, 14),  # ld [14]: the sender's
    (0x1D, 0, 1, 0),  # jeq x: the same, an announcement; take it
    (0x06, 0, 0, 0xFFFF),  # ret: all of it
    (0x06, 0, 0, 0),  # ret: nothing
)
"""A classic BPF program for a packet socket that has a probe out: answers and announcements, but none of the
questions that a network is full of. Instructions of code, jump if true, jump if false, operand."""
NOTHING = ((0x06, 0, 0, 0),)
"""For a packet socket that has none out."""


class MalformedPacket(ValueError):
    """The bytes are no ARP packet for IPv4 on Ethernet."""


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP packet for IPv4 on Ethernet; `sender` and `target` are addresses, with the `_mac` of each."""

    op: int
    sender_mac: bytes
    sender: IPv4Address
    target_mac: bytes
    target: IPv4Address

    def encode(self) -> bytes:
        """Return what follows the Ethernet header."""
        return _PACKET.pack(
            *(ETHERNET, _IPV4, 6, 4, self.op),
            *(self.sender_mac, self.sender.packed, self.target_mac, self.target.packed),
        )


def probe(mac: bytes, address: IPv4Address) -> bytes:
    """Return the request that asks who has `address` and changes nobody's ARP table (RFC 5227 section 1.1)."""
    return Arp(_REQUEST, mac, IPv4Address(0), _NOBODY, address).encode()


def decode(packet: bytes) -> Arp:
    """Return the ARP packet that follows an Ethernet header; padding after it is left out.

    Raises `MalformedPacket`.
    """
    if len(packet) < _PACKET.size:
        raise MalformedPacket(f"{len(packet)} bytes, expected {_PACKET.size} (RFC 826)")
    htype, ptype, hlen, plen, op, sender_mac, sender, target_mac, target = _PACKET.unpack_from(packet)
    if (htype, ptype, hlen, plen) != (ETHERNET, _IPV4, 6, 4):
        raise MalformedPacket(f"not IPv4 on Ethernet: {packet[:6].hex(' ')}")
    return Arp(op, sender_mac, IPv4Address(sender), target_mac, IPv4Address(target))
