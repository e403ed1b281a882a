"""The network interfaces of this machine, as far as the servers need them; read by ioctl, which no sandbox forbids."""

import errno
import fcntl
import socket
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Interface

# <linux/sockios.h>
_SIOCGIFCONF = 0x8912
_SIOCGIFFLAGS = 0x8913
_SIOCGIFNETMASK = 0x891B
_SIOCGIFMTU = 0x8921
_SIOCGIFHWADDR = 0x8927
_SIOCGIFINDEX = 0x8933
# <linux/if.h>
_IFF_UP = 0x1
_IFF_RUNNING = 0x40
_NAME_SIZE = 16
_UNION_SIZE = 8 + 2 * struct.calcsize("@L")  # its largest member, struct ifmap, has two longs
_IFREQ = struct.Struct(f"{_NAME_SIZE}s{_UNION_SIZE}s")
_SOCKADDR_IN = struct.Struct("=H2x4s")  # family, port, address
_SOCKADDR = struct.Struct("=H6s")  # family, then as many bytes as an Ethernet address has
_INT = struct.Struct("=i")
_IFCONF = struct.Struct("@iP")


class NoInterface(OSError):
    """There is no interface of this name, or it has no IPv4 address."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface as it is now."""

    name: str
    index: int
    """The kernel's number for it: another one when it was deleted and made again under the same name."""
    up: bool
    """Whether it was switched on."""
    carrier: bool
    """Whether there is a wire with something at its end."""
    addresses: tuple[IPv4Interface, ...]
    """Its IPv4 addresses with their networks, the primary one first."""
    mac: str
    """Six hex pairs with colons; empty if its addresses are not Ethernet's."""
    mtu: int


def interface_address(name: str) -> IPv4Interface:
    """Return the interface's own IPv4 address (its first, if it has several) with its network.

    Raises `NoInterface` if there is none.
    """
    return interface_addresses(name)[0]


def interface_addresses(name: str) -> tuple[IPv4Interface, ...]:
    """Return all IPv4 addresses of an interface with their networks, the primary one first.

    Raises `NoInterface` if there is none.
    """
    if not _can_be_a_name(name):
        raise NoInterface(f"{name!r} is no name of an interface")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        found = _addresses(sock).get(name)
        if found:
            return found
        exists = _index(sock, name) is not None
    text = f"interface {name} has no IPv4 address" if exists else f"there is no interface {name}"
    raise NoInterface(errno.EADDRNOTAVAIL if exists else errno.ENODEV, text)


def own_addresses() -> frozenset[IPv4Address]:
    """Return every IPv4 address of this machine, on whichever interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return frozenset(address.ip for found in _addresses(sock).values() for address in found)


def links(patterns: Iterable[str]) -> dict[str, Link]:
    """Return the interfaces that `patterns` name, by name. Those that do not exist are not there.

    A pattern with `*`, `?` or `[` stands for every interface of such a name that has an IPv4 address, but not for
    the loopback.
    """
    out: dict[str, Link] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        addresses = _addresses(sock)
        for pattern in patterns:
            names = [pattern]
            if is_pattern(pattern):
                names = [n for n, own in addresses.items() if matches(n, pattern) and not own[0].is_loopback]
            for name in names:
                if name not in out and (link := _link(sock, name, addresses.get(name, ()))) is not None:
                    out[name] = link
    return out


def is_pattern(name: str) -> bool:
    """Return whether this stands for several interfaces, as `eth*` does."""
    return any(c in name for c in "*?[")


def matches(name: str, pattern: str) -> bool:
    """Return whether an interface of this name is one that `pattern` stands for."""
    return fnmatchcase(name, pattern)


def _link(sock: socket.socket, name: str, addresses: tuple[IPv4Interface, ...]) -> Link | None:
    index = _index(sock, name)
    if index is None:
        return None
    try:
        flags = _INT.unpack_from(_ask(sock, _SIOCGIFFLAGS, name))[0] & 0xFFFF
        (mtu,) = _INT.unpack_from(_ask(sock, _SIOCGIFMTU, name))
        family, hardware = _SOCKADDR.unpack_from(_ask(sock, _SIOCGIFHWADDR, name))
    except OSError:  # it went away between two questions
        return None
    mac = hardware.hex(":") if family == 1 else ""  # ARPHRD_ETHER
    return Link(name, index, bool(flags & _IFF_UP), bool(flags & _IFF_RUNNING), addresses, mac, mtu)


def _index(sock: socket.socket, name: str) -> int | None:
    if not _can_be_a_name(name):
        return None
    try:
        (index,) = _INT.unpack_from(_ask(sock, _SIOCGIFINDEX, name))
    except OSError:
        return None
    return int(index)


def _addresses(sock: socket.socket) -> dict[str, tuple[IPv4Interface, ...]]:
    """The addresses of every interface that has one, in the kernel's order: an interface's primary one comes first."""
    out: dict[str, tuple[IPv4Interface, ...]] = {}
    for label, union in _IFREQ.iter_unpack(_labelled_addresses(sock)):
        text = label.split(b"\0")[0].decode(errors="surrogateescape")
        try:
            mask = _ask(sock, _SIOCGIFNETMASK, text, union)
        except OSError:  # it went away between two questions
            continue
        own, netmask = (IPv4Address(_SOCKADDR_IN.unpack_from(part)[1]) for part in (union, mask))
        name = text.partition(":")[0]  # an address with a label, such as eth1:0, is one of eth1
        out[name] = (*out.get(name, ()), IPv4Interface(f"{own}/{netmask}"))
    return out


def _labelled_addresses(sock: socket.socket) -> bytes:
    """A struct ifreq for each address, one after the other."""
    size = 64 * _IFREQ.size
    while True:
        room = array("B", bytes(size))
        answer = fcntl.ioctl(sock, _SIOCGIFCONF, _IFCONF.pack(size, room.buffer_info()[0]))
        length: int = _IFCONF.unpack(answer)[0]
        if length < size:
            return room.tobytes()[:length]
        size *= 4  # it is full: perhaps there is more


def _ask(sock: socket.socket, request: int, name: str, union: bytes = b"") -> bytes:
    """Return the union of the answer."""
    answer = fcntl.ioctl(sock, request, _IFREQ.pack(name.encode(errors="surrogateescape"), union))
    return answer[_NAME_SIZE:]


def _can_be_a_name(name: str) -> bool:
    return 0 < len(name.encode(errors="surrogateescape")) < _NAME_SIZE
