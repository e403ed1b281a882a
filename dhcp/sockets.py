"""The sockets that serve DHCP on one interface: ports 67 and 4011, frames to clients without an address, ARP."""

import errno
import socket
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from config import interfaces
from dhcp import arp
from dhcp.request import BOOT_SERVER_PORT, SERVER_PORT

_RECEIVE_BUFFER = 1 << 20
_SEND_BUFFER = 1 << 20
# <linux/in.h> and <asm-generic/socket.h>; Python 3.11 has no names for these.
IP_PKTINFO = 8
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DONT = 0
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
PKTINFO = struct.Struct("@i4s4s")
"""in_pktinfo: interface index, our address, destination of the header."""
_SOCK_FILTER = struct.Struct("@HBBI")
_SOCK_FPROG = struct.Struct("@HP")


class CannotServe(OSError):
    """DHCP cannot be served on an interface; the text says why, and names the port."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """The open sockets of one interface."""

    interface: str
    index: int
    udp: socket.socket
    """Port 67."""
    boot: socket.socket
    """Port 4011, where PXE clients look for a boot server."""
    packets: socket.socket
    """For clients that have no address yet; receives nothing."""
    arp: socket.socket
    """For probes; receives nothing until a filter lets it."""

    def close(self) -> None:
        """Close them all."""
        for sock in (self.udp, self.boot, self.packets, self.arp):
            sock.close()


def open_sockets(interface: str) -> Sockets:
    """Bind UDP ports 67 and 4011 on one interface. Needs CAP_NET_BIND_SERVICE and CAP_NET_RAW.

    Raises `CannotServe`, which names the socket, if a port is taken, if we lack the privilege, and if the interface
    is missing or has no IPv4 address.
    """
    try:
        interfaces.interface_address(interface)
        index = socket.if_nametoindex(interface)
    except OSError as error:
        raise CannotServe(error.errno, f"cannot serve DHCP: {error.strerror or error}") from None
    opened: list[socket.socket] = []
    place = ""
    try:
        for port in (SERVER_PORT, BOOT_SERVER_PORT):
            place = f"UDP port {port} on {interface}"
            opened.append(_udp(interface, port))
        place = f"a packet socket on {interface}"
        opened.append(_packets())
        place = f"a socket for ARP on {interface}"
        opened.append(_arp(interface))
    except OSError as error:
        for sock in opened:
            sock.close()
        raise CannotServe(error.errno, f"cannot serve DHCP: {place}: {_why(error)}") from None
    return Sockets(interface, index, *opened)


def attach_filter(sock: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Have `sock` receive only what a classic BPF program (as `arp.FILTER`) takes."""
    code = array("B", b"".join(_SOCK_FILTER.pack(*instruction) for instruction in program))
    at, _ = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _SOCK_FPROG.pack(len(program), at))


def _udp(interface: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        try:  # beyond what net.core.rmem_max allows, which a farm that is switched on at once fills
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:  # needs CAP_NET_ADMIN
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)  # DF confuses PXE ROMs
        sock.bind(("0.0.0.0", port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _packets() -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    sock.setblocking(False)
    return sock


def _arp(interface: str) -> socket.socket:
    sock = _packets()
    try:
        attach_filter(sock, arp.NOTHING)
        sock.bind((interface, arp.ETHERTYPE))
    except BaseException:
        sock.close()
        raise
    return sock


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program has it (is there a dnsmasq, dhcpd or another pxeboot?)"
        case errno.EPERM | errno.EACCES:
            return "not permitted; it needs root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW"
        case _:
            return error.strerror or str(error)
