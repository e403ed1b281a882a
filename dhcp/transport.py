"""UDP ports 67 and 4011 on one interface: reads messages, asks the engine, does what it says."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from ipaddress import IPv4Address, IPv4Interface

from config import interfaces
from config.events import Report, Stage
from dhcp import wire
from dhcp.actions import Action, Datagram, Happened, Left, Probe, Store
from dhcp.complaints import Complaints
from dhcp.engine import Server
from dhcp.options import MessageType, Option
from dhcp.place import own_address, source_of
from dhcp.probes import Prober
from dhcp.replies import EVERYBODY, Send
from dhcp.request import BOOT_SERVER_PORT, SERVER_PORT, Arrival, Ignored, Reason
from dhcp.sending import Sender
from dhcp.sockets import CannotServe, Sockets, open_sockets
from dhcp.store import Away, LeaseStore, Taken
from dhcp.telling import event_of

__all__ = ["CannotServe", "Fast", "Service", "Sockets", "open_sockets", "serve"]

log = logging.getLogger("dhcp")

_DRAIN = 64
"""Messages taken from a socket before other servers get their turn."""
_LARGEST = 4096
_TRUNCATED = int(socket.MSG_TRUNC)
"""As a plain number: an enum's `&` takes half a microsecond."""
_CONTROL = 64
"""Room for what the kernel says of a datagram: where it was sent to (ip(7), IP_PKTINFO)."""
_HOUSEKEEPING_S = 5.0
_CLOCK_WAS_SET_S = 30.0
_REST_S = 0.5
"""How long a socket that only fails is left alone."""
_MOST_ARRIVALS = 4096
_MOST_ANNOUNCED = 5000
"""Addresses given that are logged in a minute, each once: one machine that asks in a loop must not fill a disk."""

_LOUD = frozenset({Reason.POOL_EMPTY, Reason.NO_NETWORK, Reason.TOO_MANY_DECLINED, Reason.TOO_MANY})
"""Reasons that a person should hear of; the others are met every day."""

Fast = Callable[[bytes, Arrival, float], "Sequence[Action | Datagram] | None"]
"""A short way round decoding, for the messages that come most: a payload, where it arrived, and the time → what to
do, or None, and then it is decoded and the engine is asked. It must do what the engine would."""

Chosen = Callable[[wire.Message, str, float], None]
"""Told of a DHCPREQUEST for another server, with the interface that it came by, and the time."""

Answered = Callable[[bytes, Arrival, "Sequence[Action | Datagram]", float], None]
"""Told of each message that was answered, or not, what is done about it."""


class Service:
    """Serves one interface. Several may share a `server` and its `store`."""

    def __init__(
        self,
        sockets: Sockets,
        server: Server,
        store: LeaseStore,
        report: Report,
        fast: Fast | None = None,
        chosen: Chosen | None = None,
        answered: Answered | None = None,
    ) -> None:
        """Take over `sockets`, which `run` closes. Needs a running loop."""
        self.dropped: Counter[str] = Counter()
        """Datagrams that never were a message for the engine, by why."""
        self._addresses: tuple[IPv4Interface, ...] = ()
        self._sockets = sockets
        self._server = server
        self._store = store
        self._report = report
        self._fast = fast
        self._chosen = chosen
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._complain = Complaints(log, self._loop.time)
        self._announce = Complaints(log, self._loop.time, _MOST_ANNOUNCED)
        self._sender = Sender(sockets, self._complain)
        self._prober = Prober(sockets)
        self._closed = False
        self._own: frozenset[IPv4Address] = frozenset()
        self._arrivals: dict[tuple[int, bytes, tuple[str, int]], Arrival | None] = {}

    @property
    def counts(self) -> Counter[str]:
        """What was dropped, not sent, left out of an answer, and offered without a probe, by its name."""
        counts = Counter({f"dropped: {why}": count for why, count in self.dropped.items()})
        counts.update({f"not sent: {error}": count for error, count in self._sender.failed.items()})
        counts.update({f"no room for option: {code}": count for code, count in self._sender.left_out.items()})
        counts.update({"offered without a probe": self._prober.unprobed})
        return counts

    @property
    def sent(self) -> Counter[bytes]:
        """How many answers were sent on, by what their option 53 holds (`Sender.sent`)."""
        return self._sender.sent

    def follow(self, addresses: Sequence[IPv4Interface], own: frozenset[IPv4Address]) -> None:
        """Serve with these `addresses` of the interface, primary one first, from now on; with none, ignore all.

        `own` are all addresses of this machine.
        """
        if addresses and tuple(addresses) != self._addresses:
            served = ", ".join(str(address.ip) for address in addresses)
            log.info("dhcp serves %s on %s", served, self._sockets.interface)
        self._addresses, self._own = tuple(addresses), own
        self._arrivals.clear()

    async def run(self) -> None:
        """Serve until cancelled, then close the sockets."""
        readers = ((self._sockets.udp, SERVER_PORT), (self._sockets.boot, BOOT_SERVER_PORT))
        for sock, port in readers:
            self._loop.add_reader(sock, self._drain, sock, port)
        try:
            while True:
                await asyncio.sleep(_HOUSEKEEPING_S)
                self._housekeep()
        finally:
            self._closed = True
            for sock, _ in readers:
                self._loop.remove_reader(sock)
            self._prober.close()
            self._sender.close()
            self._sockets.close()

    def _drain(self, sock: socket.socket, port: int) -> None:
        """Answer the messages that have arrived, up to `_DRAIN` of them."""
        now, failures = self._store.clock(), 0
        for number in range(_DRAIN):
            self._sender.gathers = number > 0
            try:
                data, control, flags, source = sock.recvmsg(_LARGEST, _CONTROL)
            except BlockingIOError:
                break
            except OSError as error:  # the interface went away, or an ICMP error came back
                self.dropped["error"] += 1
                self._complain("receive", "dhcp cannot receive on %s: %s", self._sockets.interface, error)
                failures += 1
                continue
            try:
                if flags & _TRUNCATED:
                    self.dropped["too long"] += 1
                else:
                    self._receive(data, control, source, port, now)
            except Exception:  # a bug of ours must not stop the machines of others
                log.exception("dhcp failed on a message from %s", source[0])
        self._sender.gathers = False
        self._sender.flush()
        self._store.flush()
        if failures == _DRAIN:
            self._loop.remove_reader(sock)
            self._loop.call_later(_REST_S, self._resume, sock, port)

    def _resume(self, sock: socket.socket, port: int) -> None:
        if not self._closed:
            self._loop.add_reader(sock, self._drain, sock, port)

    def _housekeep(self) -> None:
        """Forget offers nobody took; follow the wall clock if it was set."""
        now = self._store.clock()
        if self._server.deadline is not None and self._server.deadline <= now:
            self._server.expire(now)
        drift_s = round(self._store.clock.drift_s())
        if abs(drift_s) > _CLOCK_WAS_SET_S:
            log.warning("dhcp: the wall clock was set by %d s; leases move with it", drift_s)
            self._store.clock.follow(drift_s)
            self._server.shift(drift_s)
            self._store.replace(tuple(self._server.records())).add_done_callback(_replaced)

    def _receive(
        self, data: bytes, control: list[tuple[int, int, bytes]], source: tuple[str, int], port: int, now: float
    ) -> None:
        """Answer one datagram."""
        info = control[0][2] if control else b""  # IP_PKTINFO is all that the sockets ask for
        key = (port, info[8:12], source)
        try:
            arrival = self._arrivals[key]
        except KeyError:
            arrival = self._arrival(*key)
        if arrival is None:
            self.dropped["source"] += 1
            return
        if self._fast is not None and not arrival.nearby:
            done = self._fast(data, arrival, now)
            if done is not None:
                if self._chosen is not None and done and isinstance(done[0], Ignored):
                    self._hear(wire.decode(data), done, now)
                alone = len(done) == 1 and isinstance(done[0], Datagram)
                if self._answered is not None and not alone:  # an answer alone is part of no boot
                    self._answered(data, arrival, done, now)
                self._carry_out(done, arrival.address)
                return
        try:
            message = wire.decode(data)
        except wire.MalformedPacket as error:
            self.dropped["malformed"] += 1
            log.debug("dhcp %s: dropped a datagram: %s", source[0], error)
            return
        if log.isEnabledFor(logging.DEBUG):
            log.debug("dhcp %s: %s", source[0], _describe(message))
        if not arrival.unicast and len(self._addresses) > 1:
            arrival = self._arrival(*key, address=own_address(message, self._addresses))
            if arrival is None:
                return
        actions = self._server.receive(message, arrival, now)
        self._hear(message, actions, now)
        if self._answered is not None:
            self._answered(data, arrival, actions, now)
        self._carry_out(actions, arrival.address)

    def _hear(self, message: wire.Message, actions: Sequence[Action | Datagram], now: float) -> None:
        """Tell who wants to know that a client chose another server."""
        for action in actions:
            if self._chosen is not None and isinstance(action, Ignored) and action.reason is Reason.OTHER_SERVER:
                self._chosen(message, self._sockets.interface, now)

    def _arrival(
        self, port: int, destination: bytes, source: tuple[str, int], address: IPv4Address | None = None
    ) -> Arrival | None:
        """Return where a datagram arrived; None if none of a client's or a relay's can come from there (A-09).

        It is kept by all that the kernel says of a datagram, since most come alike: from 0.0.0.0 to everybody.
        """
        sender = IPv4Address(source[0])
        arrival = None
        refused = sender in self._own or sender == EVERYBODY or sender.is_multicast
        if self._addresses and not refused and not any(_is_edge(sender, own) for own in self._addresses):
            to = IPv4Address(destination) if len(destination) == 4 else EVERYBODY
            here = any(to == own.ip for own in self._addresses)
            arrival = Arrival(
                address or (to if here else self._addresses[0].ip),
                unicast=here or to in self._own,
                source_port=source[1],
                port=port,
                source=sender,
                interface=self._sockets.interface,
                nearby=self._addresses if len(self._addresses) > 1 else (),
            )
        if address is None:
            if len(self._arrivals) >= _MOST_ARRIVALS:
                self._arrivals.clear()
            self._arrivals[port, destination, source] = arrival
        return arrival

    def _carry_out(self, actions: Sequence[Action | Datagram], own: IPv4Address) -> None:
        """Do what the engine says, in its order; what follows a `Store` waits until that is on disk.

        `own` is our address as the client knows it.
        """
        for i, action in enumerate(actions):
            match action:
                case Datagram():
                    self._sender.put(action, own)
                case Store():
                    promise = Promise(action, actions[i + 1 :], own, self._sender.early, self._stored)
                    put = self._store.keep if action.ours else self._store.put
                    put(action.lease, promise.kept, promise.early)
                    return
                case Happened() | Left():
                    self._tell(action)
                case Send():
                    later = partial(self._carry_out, actions[i:], own)
                    if self._prober.postpones(action.message.yiaddr, later):
                        return
                    if log.isEnabledFor(logging.DEBUG):
                        log.debug("dhcp to %s: %s", action.destination.address, _describe(action.message))
                    several = len(self._addresses) > 1
                    self._sender.send(action, source_of(action.message, self._addresses, own) if several else own)
                case Probe(address, then, request):
                    free = partial(self._carry_out, then, own)
                    self._prober.ask(address, request.message.chaddr, free, partial(self._taken, action, own))
                case Ignored(mac, reason, detail):
                    if reason in _LOUD:
                        self._complain(reason, "dhcp does not answer %s: %s", mac, detail, extra={"mac": mac})
                    else:
                        log.debug("dhcp does not answer %s: %s (%s)", mac, detail, reason)

    def _stored(self, promise: "Promise", error: BaseException | None) -> None:
        """Carry out what waited for a lease, now that it is on disk, or what is to be done as it is not."""
        store = promise.store
        lease = store.lease
        if isinstance(error, Taken | Away) and not self._closed:
            mac, address = lease.mac, lease.address
            text = "dhcp: %s gets no lease of %s: %s"
            self._complain("shared", text, mac, address, error, whom=mac, extra={"mac": mac})
            self._carry_out(store.taken if isinstance(error, Taken) else store.unsure, promise.own)
        elif error is not None:
            self._complain("store", "dhcp cannot store leases, so it gives none: %s", error, level=logging.ERROR)
        elif not self._closed:
            self._sender.gathers = self._store.answers
            try:
                self._carry_out(promise.rest[1:] if promise.sent else promise.rest, promise.own)
            except Exception:
                log.exception("dhcp failed after storing the lease of %s", lease.address)
            self._sender.gathers = False

    def _taken(self, probe: Probe, own: IPv4Address, by: str) -> None:
        """Somebody answered a probe."""
        address = probe.address
        self._complain("in use", "dhcp: %s is in use by %s, so nobody gets it", address, by, whom=str(address))
        self._carry_out(self._server.in_use(probe, self._store.clock()), own)

    def _tell(self, action: Happened | Left) -> None:
        match action:
            case Happened(mac, Stage.ADDRESS, detail):
                if not self._announce.full:
                    text, about = "dhcp %s has %s", {"mac": mac, "ip": detail.partition(",")[0], "stage": "address"}
                    whom = f"{mac} {detail}"
                    self._announce("address", text, mac, detail, whom=whom, level=logging.INFO, extra=about)
            case Left(mac):
                log.debug("dhcp %s gave its address back, as `pxeboot probe`", mac)
            case Happened(mac, Stage.FAILED, detail):
                self._complain("failed", "dhcp %s: %s", mac, detail, whom=mac, extra={"mac": mac})
            case Happened(mac, _, detail):
                log.debug("dhcp %s: %s", mac, detail)
        if (event := event_of(action)) is not None:
            self._report(event)


class Promise:
    """What waits until a lease is on disk."""

    __slots__ = ("_send", "_then", "own", "rest", "sent", "store")

    def __init__(
        self,
        store: Store,
        rest: Sequence[Action | Datagram],
        own: IPv4Address,
        send: Callable[[Datagram, IPv4Address], bool],
        then: Callable[["Promise", BaseException | None], None],
    ) -> None:
        """`send` is called in another thread, and returns whether it could; `then` on the loop, at last."""
        self.store = store
        self.rest = rest
        self.own = own
        self.sent = False
        """Whether the answer, the first of the rest, has left already."""
        self._send, self._then = send, then

    def early(self) -> None:
        """In the thread that stored the lease: send the answer from there, if it is bytes already.

        When one machine asks at a time, to wake the loop for it would take longer than all else that the loop does.
        """
        if self.rest and isinstance(self.rest[0], Datagram):
            self.sent = self._send(self.rest[0], self.own)

    def kept(self, error: BaseException | None) -> None:
        """On the loop: the lease is on disk, or cannot be."""
        self._then(self, error)


async def serve(sockets: Sockets, server: Server, store: LeaseStore, report: Report) -> None:
    """Serve one interface with the addresses that it has now until cancelled; closes `sockets`."""
    own = interfaces.own_addresses()
    service = Service(sockets, server, store, report)
    service.follow(interfaces.interface_addresses(sockets.interface), own)
    server.own_addresses(own)
    await service.run()


def _is_edge(address: IPv4Address, own: IPv4Interface) -> bool:
    """Whether it is the broadcast address of a network of ours."""
    return own.network.prefixlen < 31 and address == own.network.broadcast_address


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
