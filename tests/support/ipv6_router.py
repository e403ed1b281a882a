"""A router that says at once that it has no IPv6 for anybody: python -m tests.support.ipv6_router INTERFACE.

iPXE asks for one whenever its card comes up, and waits 16 s for an answer before it boots over IPv4.
"""

import socket
import struct
import sys

IPV6 = 0x86DD
ICMPV6 = 58
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
OURS = bytes.fromhex("fe80000000000000000000fffe000001")
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
ALL_NODES_MAC = bytes.fromhex("333300000001")
OUR_MAC = bytes.fromhex("020000000001")
HOPS = 255


def advertisement() -> bytes:
    """Return the frame: no prefix, no DHCPv6, a router for no time at all (RFC 4861 section 4.2)."""
    body = struct.pack("!BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, HOPS, 0, 0, 0, 0)
    pseudo = OURS + ALL_NODES + struct.pack("!II", len(body), ICMPV6)
    body = body[:2] + checksum(pseudo + body) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, HOPS) + OURS + ALL_NODES
    return ALL_NODES_MAC + OUR_MAC + struct.pack("!H", IPV6) + header + body


def checksum(data: bytes) -> bytes:
    """Return the Internet checksum of data of an even length (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def main(interface: str) -> None:
    """Answer every solicitation until we are ended."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV6)) as wire:
        wire.bind((interface, IPV6))
        while True:
            frame = wire.recv(2048)
            if frame[20:21] == bytes([ICMPV6]) and frame[54:55] == bytes([ROUTER_SOLICITATION]):
                wire.send(advertisement())


if __name__ == "__main__":
    main(sys.argv[1])
