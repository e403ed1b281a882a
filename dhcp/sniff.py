"""Hears what other DHCP servers say on a link: a packet socket that the kernel hands nothing but DHCP answers.

It costs next to nothing while we serve: a socket for one protocol is never handed what this machine sends, and the
kernel's filter passes no request. A flood of answers is read no faster than `_DRAIN` in `_PAUSE_S`.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from dhcp import wire
from dhcp.others import Heard, Others
from dhcp.overheard import Damaged, Datagram, datagram
from dhcp.sockets import attach_filter

log = logging.getLogger("dhcp")

_DRAIN = 32
_PAUSE_S = 0.02
"""From one drain to the next: at most 1,600 messages a second are looked at, which is a twentieth of a core."""
_LOOK_AGAIN_S = 5.0
"""How soon an interface that went, came or was renamed is noticed."""
_LARGEST = 4096
_RECEIVE_BUFFER = 1 << 17

# <linux/if_packet.h>, <linux/if_ether.h>; Python has no names for these.
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_AUXDATA = 8
_PACKET_IGNORE_OUTGOING = 23
_PACKET_MR_PROMISC = 1
_TP_STATUS_CSUMNOTREADY = 8
_ETH_P_IP = 0x0800
_MREQ = struct.Struct("@iHH8s")  # packet_mreq: interface index, type, length of the address, address
_AUXDATA = struct.Struct("@I")  # tpacket_auxdata: its status; the rest is not needed


class Instruction(NamedTuple):
    """One instruction of a classic BPF program (struct sock_filter)."""

    code: int
    if_true: int
    if_false: int
    value: int


_LOAD_BYTE, _LOAD_HALF = 0x30, 0x28  # at a fixed place
_LOAD_BYTE_X, _LOAD_HALF_X = 0x50, 0x48  # at X + a fixed place
_X_IS_HEADER = 0xB1  # X = 4 * (the byte there & 15)
_EQUAL, _ANY_BIT, _RETURN = 0x15, 0x45, 0x06

FILTER = (
    Instruction(_LOAD_BYTE, 0, 0, 9),
    Instruction(_EQUAL, 0, 10, 17),  # UDP
    Instruction(_LOAD_HALF, 0, 0, 6),
    Instruction(_ANY_BIT, 8, 0, 0x3FFF),  # no fragment, and none follows
    Instruction(_X_IS_HEADER, 0, 0, 0),
    Instruction(_LOAD_BYTE_X, 0, 0, 8),
    Instruction(_EQUAL, 0, 5, wire.Op.BOOTREPLY),  # requests come by the thousand, and are not ours to hear
    Instruction(_LOAD_HALF_X, 0, 0, 0),
    Instruction(_EQUAL, 4, 0, 67),  # from a DHCP server
    Instruction(_EQUAL, 3, 0, 4011),  # from a boot server
    Instruction(_LOAD_HALF_X, 0, 0, 2),
    Instruction(_EQUAL, 1, 0, 68),  # to a client, from wherever
    Instruction(_RETURN, 0, 0, 0),
    Instruction(_RETURN, 0, 0, 0xFFFF),
)
"""Passes what is a DHCP answer by its ports and its `op`. Offsets are those of the IP header: the socket strips the
link's own, and the kernel took a priority tag (VLAN 0) off before it."""


class Frame(NamedTuple):
    """What one frame held."""

    datagram: Datagram
    mac: str
    kind: int
    """PACKET_HOST, PACKET_BROADCAST, PACKET_OUTGOING ..."""


def open_socket(interface: str, *, promiscuous: bool = False) -> socket.socket:
    """Return a socket that hears the DHCP answers on `interface`, which needs no address. Needs CAP_NET_RAW.

    `promiscuous`: those that are sent to other MACs too. Raises `OSError`.
    """
    sock = socket.socket(
        socket.AF_PACKET, socket.SOCK_DGRAM, 0
    )  # protocol 0: nothing comes before the filter is there
    try:
        attach_filter(sock, FILTER)
        sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        with suppress(OSError):  # since Linux 4.20; a socket for one protocol does without
            sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        if promiscuous:
            index = socket.if_nametoindex(interface)
            sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _MREQ.pack(index, _PACKET_MR_PROMISC, 0, bytes(8)))
        sock.bind((interface, _ETH_P_IP))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def receive(sock: socket.socket) -> Frame | None:
    """Return what the next frame holds; None if that is no whole and sound datagram.

    Raises `BlockingIOError` if there is no frame, `OSError` if the interface is down or gone.
    """
    packet, control, flags, address = sock.recvmsg(_LARGEST, 64)
    if flags & socket.MSG_TRUNC:
        return None
    # The card was to make the checksum, and the frame never reached one: it comes from this very machine.
    unfinished = any(
        level == _SOL_PACKET and kind == _PACKET_AUXDATA and _AUXDATA.unpack_from(value)[0] & _TP_STATUS_CSUMNOTREADY
        for level, kind, value in control
    )
    _, _, packet_kind, _, mac = address
    try:
        return Frame(datagram(packet, summed=not unfinished), mac.hex(":"), packet_kind)
    except Damaged as error:
        log.debug("dhcp: dropped a packet of %s: %s", mac.hex(":"), error)
        return None


async def watch(interface: str, others: Others, warn: Callable[[str], None], clock: Callable[[], float]) -> None:
    """Tell `others` what other servers say on `interface`, until cancelled; `warn` is given what to log.

    `clock` is the one that `Others.chosen` is told the time by: what was said lately is known by it.

    The interface may go, come back, and not be there yet. Without the privilege for it nobody is noticed, and that
    is said once.
    """
    while True:
        try:
            sock = open_socket(interface)
        except PermissionError:
            warn(f"other DHCP servers on {interface} are not noticed: not permitted; it needs CAP_NET_RAW")
            return
        except OSError:  # it is not there
            await asyncio.sleep(_LOOK_AGAIN_S)
            continue
        with sock:
            await _listen(sock, interface, others, warn, clock)


async def _listen(
    sock: socket.socket, interface: str, others: Others, warn: Callable[[str], None], clock: Callable[[], float]
) -> None:
    """Listen for as long as the interface is the one that the socket was opened for."""
    loop = asyncio.get_running_loop()
    index = _index(interface)
    ready = asyncio.Event()

    def wake() -> None:
        loop.remove_reader(sock)
        ready.set()

    try:
        while index is not None and _index(interface) == index:
            ready.clear()
            loop.add_reader(sock, wake)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await ready.wait()
                    _drain(sock, interface, others, warn, clock())
                    await asyncio.sleep(_PAUSE_S)
            others.expire(clock())
    finally:
        loop.remove_reader(sock)


def _drain(sock: socket.socket, interface: str, others: Others, warn: Callable[[str], None], now: float) -> None:
    for _ in range(_DRAIN):
        try:
            frame = receive(sock)
        except OSError:  # nothing more, or the interface is down
            return
        if frame is None or frame.kind in (socket.PACKET_OUTGOING, socket.PACKET_OTHERHOST):
            continue
        try:
            message = wire.decode(frame.datagram.data)
        except wire.MalformedPacket as error:
            log.debug("dhcp: dropped an answer of %s: %s", frame.mac, error)
            continue
        try:
            text = others.heard(
                message, Heard(frame.mac, frame.datagram.source, frame.datagram.source_port, interface), now
            )
        except Exception:  # a bug of ours must not stop the servers
            log.exception("dhcp failed on an answer of %s", frame.mac)
            continue
        if text is not None:
            warn(text)


def _index(interface: str) -> int | None:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return None
