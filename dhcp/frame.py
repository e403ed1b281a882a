"""An IPv4 packet with a UDP datagram in it, for a client that has no address to be asked for (RFC 791, RFC 768)."""

import struct
from ipaddress import IPv4Address

_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_PROTOCOL_UDP = 17
_TIME_TO_LIVE = 64


def udp_packet(
    source: IPv4Address, source_port: int, destination: IPv4Address, destination_port: int, data: bytes, ident: int
) -> bytes:
    """Return the IP packet that carries `data`. DF is clear, because it confuses old ROMs; `ident` is 16 bits."""
    udp_length = _UDP.size + len(data)
    pseudo_header = source.packed + destination.packed + struct.pack("!HH", _PROTOCOL_UDP, udp_length)
    bare_udp = _UDP.pack(source_port, destination_port, udp_length, 0)
    udp_sum = checksum(pseudo_header + bare_udp + data) or 0xFFFF  # 0 would say "not computed"
    udp = _UDP.pack(source_port, destination_port, udp_length, udp_sum)
    fields = (0x45, 0, _IP.size + udp_length, ident, 0, _TIME_TO_LIVE, _PROTOCOL_UDP)
    ip_sum = checksum(_IP.pack(*fields, 0, source.packed, destination.packed))
    return _IP.pack(*fields, ip_sum, source.packed, destination.packed) + udp + data


def checksum(data: bytes) -> int:
    """Return the Internet checksum: the complement of the one's complement sum of 16-bit words (RFC 1071).

    >>> hex(checksum(bytes.fromhex("0001f203f4f5f6f7")))
    '0x220d'
    """
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
