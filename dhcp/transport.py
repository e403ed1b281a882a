"""UDP port 67 on one interface: reads messages, asks the engine, sends what it says."""

import asyncio
import errno
import logging
import socket
import struct
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address

from config import interfaces
from config.events import Event, Report, Stage
from dhcp import wire
from dhcp.engine import Action, Happened, Probe, Server, Store
from dhcp.frame import udp_packet
from dhcp.leases import Lease
from dhcp.options import MessageType, Option
from dhcp.replies import EVERYBODY, Send
from dhcp.request import SERVER_PORT, Arrival, Ignored, Reason
from dhcp.store import LeaseStore

log = logging.getLogger("dhcp")

_DRAIN = 64
"""Messages taken from the socket before other servers get their turn."""
_LARGEST = 4096
_RECEIVE_BUFFER = 1 << 20
_HOUSEKEEPING_S = 5.0
_CLOCK_WAS_SET_S = 30.0
_MOST_WARNINGS = 120
"""Things warned of in a minute: machines can be made up faster than a log can be read."""
_ETH_P_IP = 0x0800
# <linux/in.h>; Python 3.11 has no names for these.
_IP_PKTINFO = 8
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DONT = 0
_PKTINFO = struct.Struct("@i4s4s")  # in_pktinfo: interface index, our address, destination of the header

_LOUD = frozenset({Reason.POOL_EMPTY, Reason.NO_NETWORK, Reason.TOO_MANY_DECLINED})
"""Reasons that a person should hear of; the others are met every day."""


class CannotServe(OSError):
    """DHCP cannot be served on an interface; the text says why, and names the port."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """The open sockets of one interface."""

    interface: str
    index: int
    udp: socket.socket
    packets: socket.socket
    """For clients that have no address yet; receives nothing."""

    def close(self) -> None:
        """Close both."""
        self.udp.close()
        self.packets.close()


def open_sockets(interface: str) -> Sockets:
    """Bind UDP port 67 on one interface. Needs CAP_NET_BIND_SERVICE and CAP_NET_RAW.

    Raises `CannotServe` if the port is taken, if we lack the privilege, and if the interface is missing or has
    no IPv4 address.
    """
    place = f"UDP port {SERVER_PORT} on {interface}"
    try:
        interfaces.interface_address(interface)
        index = socket.if_nametoindex(interface)
    except OSError as error:
        raise CannotServe(error.errno, f"cannot serve DHCP: {error.strerror or error}") from None
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        udp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)  # DF confuses PXE ROMs
        udp.bind(("0.0.0.0", SERVER_PORT))
        udp.setblocking(False)
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        packets.setblocking(False)
    except OSError as error:
        udp.close()
        raise CannotServe(error.errno, f"cannot serve DHCP: {place}: {_why(error)}") from None
    return Sockets(interface, index, udp, packets)


async def serve(sockets: Sockets, server: Server, store: LeaseStore, report: Report) -> None:
    """Serve one interface until cancelled; closes `sockets`. Several may share a `server` and its `store`."""
    service = _Service(sockets, server, store, report)
    loop = asyncio.get_running_loop()
    loop.add_reader(sockets.udp, service.drain)
    log.info("dhcp serves %s on %s", service.address, sockets.interface)
    try:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            service.housekeep()
    finally:
        loop.remove_reader(sockets.udp)
        service.closed = True
        sockets.close()


class _Service:
    """The state of one interface's server."""

    def __init__(self, sockets: Sockets, server: Server, store: LeaseStore, report: Report) -> None:
        self.address = interfaces.interface_address(sockets.interface).ip
        self.closed = False
        self._sockets = sockets
        self._server = server
        self._store = store
        self._report = report
        self._quiet: dict[str, float] = {}
        self._hushed: Counter[str] = Counter()

    def drain(self) -> None:
        """Answer the messages that have arrived, up to `_DRAIN` of them."""
        for _ in range(_DRAIN):
            try:
                data, control, flags, source = self._sockets.udp.recvmsg(_LARGEST, 64)
            except BlockingIOError:
                return
            except OSError as error:  # the interface went away, or an ICMP error came back
                self._warn("receive", "dhcp cannot receive on %s: %s", self._sockets.interface, error)
                return
            try:
                if not flags & socket.MSG_TRUNC:
                    self._receive(data, control, source)
            except Exception:  # a bug of ours must not stop the machines of others
                log.exception("dhcp failed on a message from %s", source[0])

    def housekeep(self) -> None:
        """Forget offers nobody took; follow the wall clock if it was set; look whether our address changed."""
        now = self._store.clock()
        if self._server.deadline is not None and self._server.deadline <= now:
            self._server.expire(now)
        drift_s = round(self._store.clock.drift_s())
        if abs(drift_s) > _CLOCK_WAS_SET_S:
            log.warning("dhcp: the wall clock was set by %d s; leases move with it", drift_s)
            self._store.clock.follow(drift_s)
            self._server.shift(drift_s)
            self._store.replace(tuple(self._server.leases)).add_done_callback(_replaced)
        try:
            self.address = interfaces.interface_address(self._sockets.interface).ip
        except OSError as error:
            self._warn("address", "dhcp: %s", error)

    def _receive(self, data: bytes, control: list[tuple[int, int, bytes]], source: tuple[str, int]) -> None:
        try:
            message = wire.decode(data)
        except wire.MalformedPacket as error:
            log.debug("dhcp %s: dropped a datagram: %s", source[0], error)
            return
        unicast = False
        for level, kind, value in control:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                _, _, destination = _PKTINFO.unpack_from(value)
                unicast = IPv4Address(destination) == self.address
        if log.isEnabledFor(logging.DEBUG):
            log.debug("dhcp %s: %s", source[0], _describe(message))
        arrival = Arrival(self.address, unicast, source[1])
        self._carry_out(self._server.receive(message, arrival, self._store.clock()))

    def _carry_out(self, actions: list[Action]) -> None:
        """Do what the engine says, in its order; what follows a `Store` waits until that is on disk."""
        for i, action in enumerate(actions):
            match action:
                case Store(lease):
                    rest = actions[i + 1 :]
                    self._store.put(lease, partial(self._stored, lease, rest))
                    return
                case Send():
                    self._send(action)
                case Probe(_, then):
                    self._carry_out([*then, *actions[i + 1 :]])
                    return
                case Happened(mac, stage, detail):
                    self._tell(mac, stage, detail)
                case Ignored(mac, reason, detail):
                    if reason in _LOUD:
                        self._warn(reason, "dhcp does not answer %s: %s", mac, detail)
                    else:
                        log.debug("dhcp does not answer %s: %s (%s)", mac, detail, reason)

    def _stored(self, lease: Lease, rest: list[Action], error: BaseException | None) -> None:
        if error is not None:
            self._warn("store", "dhcp cannot store leases, so it gives none: %s", error, level=logging.ERROR)
        elif not self.closed:
            try:
                self._carry_out(rest)
            except Exception:
                log.exception("dhcp failed after storing the lease of %s", lease.address)

    def _send(self, send: Send) -> None:
        packed = send.pack()
        to = send.destination
        if packed.left_out:
            self._warn(
                "room",
                "dhcp had no room for options %s in a reply to %s",
                packed.left_out,
                send.message.chaddr.hex(":"),
            )
        if log.isEnabledFor(logging.DEBUG):
            log.debug("dhcp to %s: %s", to.address, _describe(send.message))
        try:
            if to.hardware is None:
                own = _PKTINFO.pack(self._sockets.index, self.address.packed, bytes(4))
                control = [(socket.IPPROTO_IP, _IP_PKTINFO, own)]
                self._sockets.udp.sendmsg([packed.data], control, 0, (str(to.address), to.port))
            else:
                ident = send.message.xid & 0xFFFF
                packet = udp_packet(self.address, SERVER_PORT, to.address, to.port, packed.data, ident)
                link = (self._sockets.interface, _ETH_P_IP, 0, send.message.htype, to.hardware)
                self._sockets.packets.sendto(packet, link)
        except OSError as error:
            where = "everybody" if to.address == EVERYBODY else to.address
            self._warn("send", "dhcp could not send to %s: %s", where, error)

    def _tell(self, mac: str, stage: Stage, detail: str) -> None:
        match stage:
            case Stage.ADDRESS:
                log.info("dhcp %s has %s", mac, detail)
            case Stage.FAILED:
                self._warn(f"failed {mac}", "dhcp %s: %s", mac, detail)
            case _:
                log.debug("dhcp %s: %s", mac, detail)
        self._report(Event(mac, stage, detail))

    def _warn(self, about: str, text: str, *arguments: object, level: int = logging.WARNING) -> None:
        """Log one line a minute about a thing (and how many were not logged), and about so many things."""
        now = asyncio.get_running_loop().time()
        if len(self._quiet) >= _MOST_WARNINGS:
            self._quiet = {about: until for about, until in self._quiet.items() if until > now}
        if about in self._quiet and self._quiet[about] > now:
            self._hushed[about] += 1
            return
        if len(self._quiet) >= _MOST_WARNINGS:
            return
        self._quiet[about] = now + 60
        log.log(level, text, *arguments)
        if hushed := self._hushed.pop(about, 0):
            log.log(level, "dhcp: and %d more of these", hushed)


def _replaced(job: Future[None]) -> None:
    if not job.cancelled() and (error := job.exception()) is not None:
        log.error("dhcp could not write its leases anew: %s", error)


def _describe(message: wire.Message) -> str:
    kind = message.options.get(Option.DHCP_MESSAGE_TYPE, b"")
    try:
        name = MessageType(kind[0]).name if len(kind) == 1 else "BOOTP" if not kind else "an unknown type"
    except ValueError:
        name = f"type {kind[0]}"
    mac, giaddr = message.chaddr.hex(":"), message.giaddr
    return f"{name} xid {message.xid:08x} {mac} ciaddr {message.ciaddr} yiaddr {message.yiaddr} giaddr {giaddr}"


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program has it (is there a dnsmasq, dhcpd or another pxeboot?)"
        case errno.EPERM | errno.EACCES:
            return "not permitted; it needs root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW"
        case _:
            return error.strerror or str(error)
