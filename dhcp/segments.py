"""Whether several datagrams may be handed to an interface as one (udp(7), UDP_SEGMENT)."""

import fcntl
import socket
import struct
from array import array
from contextlib import suppress
from pathlib import Path

# <linux/sockios.h> and <linux/ethtool.h>
_SIOCETHTOOL = 0x8946
_GSTRINGS, _GSSET_INFO, _GFEATURES = 0x1B, 0x37, 0x3A
_SS_FEATURES = 4
_IFREQ = struct.Struct("@16sP16x")
_SET_INFO = struct.Struct("=IIQI")
_STRINGS = struct.Struct("=III")
_STRING_SIZE = 32
_FEATURES = struct.Struct("=II")
_BLOCK = struct.Struct("=IIII")
"""Thirty-two features each: available, requested, active, never changed."""
_FEATURE = b"tx-udp-segmentation"
_REAL = frozenset({"pci", "usb", "platform"})
"""Buses of cards that have a wire. A virtio card's other end may be somebody on the same host."""


def cut_apart(interface: str) -> bool:
    """Return whether what is handed over as one is cut apart before anybody else sees it.

    The kernel cuts it where the interface cannot, and a card does for its wire. An interface that only says it can, as
    veth does, passes it on in one piece, and a relay that reads packets (ISC dhcrelay) takes it for a single answer.
    Needs no privilege; False if the kernel does not say.
    """
    with suppress(OSError):
        if (Path("/sys/class/net") / interface / "device/subsystem").resolve(strict=True).name in _REAL:
            return True
    with suppress(OSError, ValueError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return not _claims(sock, interface)
    return False


def _claims(sock: socket.socket, interface: str) -> bool:
    """Whether the interface says that it cuts apart itself. Raises `OSError`, and `ValueError` where nobody knows."""
    count = _SET_INFO.unpack(_ask(sock, interface, _SET_INFO.pack(_GSSET_INFO, 0, 1 << _SS_FEATURES, 0)))[3]
    blank = _STRINGS.pack(_GSTRINGS, _SS_FEATURES, count) + bytes(count * _STRING_SIZE)
    names = _ask(sock, interface, blank)[_STRINGS.size :]
    number = [names[at : at + _STRING_SIZE].rstrip(b"\0") for at in range(0, len(names), _STRING_SIZE)].index(_FEATURE)
    blocks = -(-count // 32)
    found = _ask(sock, interface, _FEATURES.pack(_GFEATURES, blocks) + bytes(blocks * _BLOCK.size))
    _, _, active, _ = _BLOCK.unpack_from(found, _FEATURES.size + number // 32 * _BLOCK.size)
    return bool(active >> number % 32 & 1)


def _ask(sock: socket.socket, interface: str, request: bytes) -> bytes:
    """Have the kernel fill in a request. Raises `OSError`."""
    room = array("B", request)
    at, _ = room.buffer_info()
    fcntl.ioctl(sock, _SIOCETHTOOL, _IFREQ.pack(interface.encode(), at))
    return room.tobytes()
