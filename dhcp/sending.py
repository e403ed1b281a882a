"""Puts answers on the wire of one interface: now or later, from port 67 or 4011, by address or by link address."""

import asyncio
import errno
import logging
import socket
import struct
from collections import Counter, defaultdict
from dataclasses import dataclass
from ipaddress import IPv4Address

from dhcp.actions import Datagram
from dhcp.complaints import Complaints
from dhcp.frame import udp_packet
from dhcp.options import Option
from dhcp.replies import EVERYBODY, Destination, Send
from dhcp.request import SERVER_PORT
from dhcp.segments import cut_apart
from dhcp.sockets import IP_PKTINFO, PKTINFO, Sockets

log = logging.getLogger("dhcp")

MOST_WAITING = 1024
"""Answers that wait for their time. Beyond it one leaves at once: a late answer to some is no reason for none."""
RETRY_S = 0.01
"""When to try again to send what the kernel had no room for."""
_ETH_P_IP = 0x0800
_ETHERNET = 1
_EVERYBODY = b"\xff" * 6
_UDP_SEGMENT = 103
"""<linux/udp.h>; Python has no name for it."""
_MOST_SEGMENTS = 16
"""Answers that leave by one call: a relay's buffer holds some 250."""
_MOST_BYTES = 65507
_CANNOT_SEGMENT = frozenset((errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP))
_NO_ROOM = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))


class Sender:
    """Sends through the sockets of one interface. What cannot be sent is counted and dropped: a client repeats."""

    def __init__(self, sockets: Sockets, complain: Complaints) -> None:
        self.failed: Counter[str] = Counter()
        """Answers that did not leave, by the name of the error."""
        self.sent: Counter[bytes] = Counter()
        """Answers that left here, by what their option 53 holds; b"" for BOOTP. `dhcp.fast` counts its own."""
        self.left_out: Counter[int] = Counter()
        """Options that an answer had no room for, by their number."""
        self.gathers = False
        """Whether more answers come at once, so that they can leave together."""
        self._sockets = sockets
        self._complain = complain
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.TimerHandle] = set()
        self._before: _Way | None = None
        self._together: list[tuple[Datagram, IPv4Address]] = []
        self._relay: Destination | None = None
        self._segments = cut_apart(sockets.interface)
        """Whether several can be sent as one, as far as is known."""

    def close(self) -> None:
        """Send the answers that were gathered, and drop those that wait for their time."""
        self.flush()
        for timer in self._waiting:
            timer.cancel()
        self._waiting.clear()

    def send(self, send: Send, own: IPv4Address) -> None:
        """Pack an answer and send it from our address `own`, after its delay."""
        packed = send.pack()
        self.sent[send.message.options.get(Option.DHCP_MESSAGE_TYPE, b"")] += 1
        if packed.left_out:
            self.left_out.update(packed.left_out)
            mac = send.message.chaddr.hex(":")
            self._complain("room", "dhcp had no room for options %s in a reply to %s", packed.left_out, mac)
        message = send.message
        datagram = Datagram(packed.data, send.destination, message.xid & 0xFFFF, send.source_port, message.htype)
        if send.delay_s <= 0 or not self._later(send.delay_s, datagram, own):
            self.put(datagram, own)

    def put(self, datagram: Datagram, own: IPv4Address, *, again: bool = True) -> None:
        """Send an answer from our address `own`; once more a moment later if there was no room and `again`.

        While `gathers`, those to relays leave at the next `flush`, which comes by itself.
        """
        to = datagram.destination
        if (
            self.gathers
            and again
            and datagram.source_port == SERVER_PORT
            and (to is self._relay or self._is_relay(to))
        ):
            if not self._together:
                self._loop.call_soon(self.flush)
            self._together.append((datagram, own))
        else:
            self._alone(datagram, own, again=again)

    def _is_relay(self, to: Destination) -> bool:
        """Whether it is port 67 of a machine; the last one that was is remembered."""
        found = to.port == SERVER_PORT and to.hardware is None and to.address != EVERYBODY
        if found:
            self._relay = to
        return found

    def flush(self) -> None:
        """Send the answers to relays, those of one length to the same relay by one call.

        The kernel, or the card, cuts them apart (udp(7), UDP_SEGMENT); the way to there costs more than the copying.
        """
        if not self._together:
            return
        waiting, self._together = self._together, []
        if len(waiting) == 1 or not self._segments:
            for datagram, own in waiting:
                self._alone(datagram, own)
            return
        runs: dict[tuple[int, int, int], list[tuple[Datagram, IPv4Address]]] = defaultdict(list)
        for datagram, own in waiting:
            runs[len(datagram.data), id(datagram.destination), id(own)].append((datagram, own))
        for run in runs.values():
            most = min(_MOST_SEGMENTS, _MOST_BYTES // len(run[0][0].data))
            for at in range(0, len(run), most):
                self._run(run[at : at + most])

    def _run(self, run: list[tuple[Datagram, IPv4Address]]) -> None:
        """Send answers of one length to one relay; one by one if that cannot be done at once."""
        first, own = run[0]
        if len(run) > 1 and self._segments:
            way = self._way_of(first.destination, own)
            segments = (socket.SOL_UDP, _UDP_SEGMENT, struct.pack("=H", len(first.data)))
            try:
                self._sockets.udp.sendmsg([each.data for each, _ in run], [*way.control, segments], 0, way.address)
            except OSError as error:  # they are longer than the path allows, or what they meet alone
                self._segments = error.errno not in _CANNOT_SEGMENT
            else:
                return
        for each, _ in run:
            self._alone(each, own)

    def _alone(self, datagram: Datagram, own: IPv4Address, *, again: bool = True) -> None:
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
        way = self._way_of(to, own)
        sock.sendmsg([datagram.data], way.control, 0, way.address)

    def _way_of(self, to: Destination, own: IPv4Address) -> "_Way":
        """How a datagram leaves from our address `own`, by this interface."""
        way = self._before
        if way is None or way.to is not to or way.own is not own:
            value = PKTINFO.pack(self._sockets.index, own.packed, bytes(4))
            way = _Way(to, own, [(socket.IPPROTO_IP, IP_PKTINFO, value)], (str(to.address), to.port))
            self._before = way
        return way


@dataclass(frozen=True, slots=True)
class _Way:
    """What a socket is told. It is kept for the next datagram, which mostly goes to the same relay."""

    to: Destination
    own: IPv4Address
    control: list[tuple[int, int, bytes]]
    address: tuple[str, int]
