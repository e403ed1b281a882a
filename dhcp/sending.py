"""Puts answers on the wire of one interface: now or later, from port 67 or 4011, by address or by link address."""

import asyncio
import errno
import logging
import socket
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address

from dhcp.actions import Datagram
from dhcp.complaints import Complaints
from dhcp.frame import udp_packet
from dhcp.options import Option
from dhcp.replies import EVERYBODY, Destination, Send
from dhcp.request import SERVER_PORT
from dhcp.sockets import IP_PKTINFO, PKTINFO, Sockets

log = logging.getLogger("dhcp")

MOST_WAITING = 1024
"""Answers that wait for their time. Beyond it one leaves at once: a late answer to some is no reason for none."""
RETRY_S = 0.01
"""When to try again to send what the kernel had no room for."""
_ETH_P_IP = 0x0800
_ETHERNET = 1
_EVERYBODY = b"\xff" * 6
_NO_ROOM = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))


class Sender:
    """Sends through the sockets of one interface. What cannot be sent is counted and dropped: a client repeats."""

    def __init__(self, sockets: Sockets, complain: Complaints) -> None:
        self.failed: Counter[str] = Counter()
        """Answers that did not leave, by the name of the error."""
        self.sent: Counter[bytes] = Counter()
        """Answers that left here, by what their option 53 holds; b"" for BOOTP. `dhcp.fast` counts its own."""
        self._sockets = sockets
        self._complain = complain
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.TimerHandle] = set()
        self._before: _Way | None = None

    def close(self) -> None:
        """Drop the answers that wait."""
        for timer in self._waiting:
            timer.cancel()
        self._waiting.clear()

    def send(self, send: Send, own: IPv4Address) -> None:
        """Pack an answer and send it from our address `own`, after its delay."""
        packed = send.pack()
        self.sent[send.message.options.get(Option.DHCP_MESSAGE_TYPE, b"")] += 1
        if packed.left_out:
            mac = send.message.chaddr.hex(":")
            self._complain("room", "dhcp had no room for options %s in a reply to %s", packed.left_out, mac)
        message = send.message
        datagram = Datagram(packed.data, send.destination, message.xid & 0xFFFF, send.source_port, message.htype)
        if send.delay_s <= 0 or not self._later(send.delay_s, datagram, own):
            self.put(datagram, own)

    def put(self, datagram: Datagram, own: IPv4Address, *, again: bool = True) -> None:
        """Send an answer from our address `own`; once more a moment later if there was no room and `again`."""
        try:
            self._put(datagram, own)
        except OSError as error:
            if again and error.errno in _NO_ROOM and self._later(RETRY_S, datagram, own, again=False):
                return
            self.failed[errno.errorcode.get(error.errno or 0, "unknown")] += 1
            to = datagram.destination.address
            self._complain("send", "dhcp could not send to %s: %s", "everybody" if to == EVERYBODY else to, error)

    def early(self, datagram: Datagram, own: IPv4Address) -> bool:
        """Send an answer from another thread, and return whether it left. If not, `put` tries again, and complains."""
        try:
            self._put(datagram, own)
        except OSError:
            return False
        return True

    def _later(self, delay_s: float, datagram: Datagram, own: IPv4Address, *, again: bool = True) -> bool:
        """Send after `delay_s`; False if too many wait already."""
        if len(self._waiting) >= MOST_WAITING:
            return False

        def now() -> None:
            self._waiting.discard(timer)
            self.put(datagram, own, again=again)

        timer = self._loop.call_later(delay_s, now)
        self._waiting.add(timer)
        return True

    def _put(self, datagram: Datagram, own: IPv4Address) -> None:
        to = datagram.destination
        hardware = to.hardware
        if hardware is None and to.address == EVERYBODY and datagram.htype == _ETHERNET:
            # Not by UDP: that needs a place in the kernel's table of neighbours, of which all namespaces together
            # have 1,024. Once a thousand machines boot it is full, and the kernel drops the answer without a word.
            hardware = _EVERYBODY
        if hardware is not None:
            packet = udp_packet(own, datagram.source_port, to.address, to.port, datagram.data, datagram.ident)
            link = (self._sockets.interface, _ETH_P_IP, 0, datagram.htype, hardware)
            try:
                self._sockets.packets.sendto(packet, link)
                return
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
            # It is longer than the MTU. UDP sends it in fragments, but only to everybody: a client without an
            # address answers no ARP (RFC 2131 section 4.1 allows a broadcast where unicast is not possible).
            to = Destination(EVERYBODY, to.port)
        sock = self._sockets.udp if datagram.source_port == SERVER_PORT else self._sockets.boot
        way = self._before
        if way is None or way.to is not to or way.own is not own:
            way = self._before = self._way(to, own)
        sock.sendmsg([datagram.data], way.control, 0, way.address)

    def _way(self, to: Destination, own: IPv4Address) -> "_Way":
        """How a datagram leaves from our address `own`, by this interface."""
        value = PKTINFO.pack(self._sockets.index, own.packed, bytes(4))
        return _Way(to, own, [(socket.IPPROTO_IP, IP_PKTINFO, value)], (str(to.address), to.port))


@dataclass(frozen=True, slots=True)
class _Way:
    """What a socket is told. It is kept for the next datagram, which mostly goes to the same relay."""

    to: Destination
    own: IPv4Address
    control: list[tuple[int, int, bytes]]
    address: tuple[str, int]
