"""The network interfaces of this machine, as far as the servers need them."""

import fcntl
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface

_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B
_NAME_SIZE = 16
_IFREQ = struct.Struct(f"{_NAME_SIZE}s24x")
_ADDRESS_AT = 20  # struct ifreq: a name of 16 bytes, then sockaddr_in: family, port, address


class NoInterface(OSError):
    """There is no interface of this name, or it has no IPv4 address."""


def interface_address(name: str) -> IPv4Interface:
    """Return the interface's own IPv4 address (its first, if it has several) with its network.

    Raises `NoInterface` if there is none.
    """
    if not 0 < len(name.encode()) < _NAME_SIZE:
        raise NoInterface(f"{name!r} is no name of an interface")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            own, mask = (_ask(sock, request, name) for request in (_SIOCGIFADDR, _SIOCGIFNETMASK))
        except OSError as error:
            exists = name in (known for _, known in socket.if_nameindex())
            text = f"interface {name} has no IPv4 address" if exists else f"there is no interface {name}"
            raise NoInterface(error.errno, text) from None
    return IPv4Interface(f"{own}/{mask}")


def _ask(sock: socket.socket, request: int, name: str) -> IPv4Address:
    answer = fcntl.ioctl(sock, request, _IFREQ.pack(name.encode()))
    return IPv4Address(answer[_ADDRESS_AT : _ADDRESS_AT + 4])
