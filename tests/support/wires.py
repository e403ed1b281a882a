"""More wires between two hosts of a segment: a second one, and VLANs on one, whatever the kernel can do.

serving (eth2) ─── client (eth0)
serving (eth1.100) ── tagged frames on eth1 and the bridge ── client (eth0.100)
"""

import sys
from pathlib import Path

from tests.support.segment import Host, Segment


def second_wire(segment: Segment, name: str = "eth2", client: Host | None = None) -> Host:
    """Join the segment's server and a host by a wire of their own; return the host.

    The server's end is called `name`, is switched off and has no address; the host's is eth0. Its card on the
    segment is switched off.
    """
    host = client or segment.host(interface="unused")
    if client is None:
        host.run("ip", "link", "set", "unused", "down")
    segment.server.run(*("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", host.namespace))
    host.run("ip", "link", "set", "eth0", "up")
    host.interface = "eth0"
    return host


def bring_up(host: Host, interface: str, *addresses: str) -> None:
    """Give an interface its addresses (ADDRESS/LENGTH) and switch it on."""
    for address in addresses:
        host.run("ip", "address", "add", address, "brd", "+", "dev", interface)
    host.run("ip", "link", "set", interface, "up")


def add_vlan(host: Host, parent: str, number: int, folder: Path) -> str:
    """Add a VLAN to an interface, switched on, and return its name.

    Where the kernel has no VLANs, a program of ours puts the tags on and takes them off between a tap of that name
    and `parent`: what is on the wire, and how the interface looks to a server, is the same.
    """
    name = f"{parent}.{number}"
    made = host.run(
        *("ip", "link", "add", "link", parent, "name", name, "type", "vlan", "id", str(number)), check=False
    )
    if made.returncode:
        host.run("ip", "tuntap", "add", "dev", name, "mode", "tap")
        with (folder / f"{host.namespace}-{name}").open("w") as log:
            host.popen(sys.executable, "-m", "tests.support.wires", parent, name, str(number), stdout=log, stderr=log)
    host.run("ip", "link", "set", name, "up")
    return name


def _tag(parent: str, name: str, number: int) -> None:
    """Move frames between the tap `name` and VLAN `number` of `parent`, for ever."""
    import fcntl
    import os
    import select
    import socket
    import struct

    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))  # TUNSETIFF, IFF_TAP | IFF_NO_PI
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x8100))
    wire.setsockopt(263, 8, 1)  # PACKET_AUXDATA: the kernel takes the tag off and tells it beside the frame
    wire.bind((parent, 0x0003))
    tag = struct.pack("!HH", 0x8100, number)
    while True:
        ready, _, _ = select.select([tap, wire.fileno()], [], [])
        if tap in ready:
            frame = os.read(tap, 65536)
            wire.send(frame[:12] + tag + frame[12:])
        if wire.fileno() in ready:
            frame, control, _, source = wire.recvmsg(65536, 64)
            tags = [struct.unpack_from("=IIIHHHH", value)[5] for _, kind, value in control if kind == 8]
            if source[2] != socket.PACKET_OUTGOING and tags and tags[0] & 0xFFF == number:
                os.write(tap, frame)


if __name__ == "__main__":
    _tag(sys.argv[1], sys.argv[2], int(sys.argv[3]))
