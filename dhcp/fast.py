"""The short way round `wire.decode` and the engine for what a farm is asked most: a boot's first four messages.

A thousand machines of one kind ask in the same words. What differs is xid, MAC, address, name, client identifier and
UUID; all else of the answer is the same, so it is kept ready, in pieces around those. An answer is learnt from the
engine's own, which answers the first message of each kind itself, and whatever is not plainly of a known kind is left
to it. What is decided, an address or a lease, is decided by the same `Leases`, in the same order.

`tests/unit/test_dhcp_fast.py` plays the same histories to a server with this and to one without.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from config.dhcp import INFINITE_S
from config.events import Stage
from dhcp import wire
from dhcp.actions import Action, Datagram, Happened, Store
from dhcp.engine import Server
from dhcp.leases import NEVER
from dhcp.options import MessageType, Option
from dhcp.plan import DynamicPool, Host
from dhcp.replies import Destination, Send, renewal_times
from dhcp.request import SERVER_PORT, Arrival, Ignored, Request, understand
from dhcp.told import told
from dhcp.wire import END, MAGIC_COOKIE, OVERLOAD, PAD, encode_options

MOST_KINDS = 2048
"""Kinds of messages that are remembered; real ones are a few dozen, and made-up ones must not fill the memory."""
_OPTIONS_AT = 240
_ETHERNET_REQUEST = bytes((1, 1, 6))
_NOWHERE = bytes(4)
_UUID_BYTES = 17
_LEASE_TIMES = (Option.IP_ADDRESS_LEASE_TIME, Option.RENEWAL_TIME, Option.REBINDING_TIME)


@dataclass(frozen=True, slots=True)
class _Known:
    """A machine of the configuration, as far as an answer needs it."""

    host: Host
    address: IPv4Address
    packed: bytes
    number: int
    """The address, as a number."""
    name: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Template:
    """An answer without what differs from machine to machine."""

    acknowledges: bool
    """Whether it is the answer to a DHCPREQUEST."""
    before_yiaddr: bytes
    """secs, flags, ciaddr."""
    after_yiaddr: bytes
    """siaddr, giaddr."""
    after_chaddr: bytes
    """From behind chaddr to the first piece that differs."""
    pieces: tuple[tuple[int, bytes], ...]
    """An option that differs, by number, and the bytes between it and the next."""
    room: int
    """Bytes that the options that differ may have together."""
    smallest: int
    destination: Destination | None
    """None: to the client's link address."""
    lease_s: int
    pools: tuple[DynamicPool, ...]
    first: int
    last: int
    """The first and the last address that a machine can have in the network."""
    event: tuple[Stage, str, bool] | None
    """What is reported; of an ADDRESS, the detail that follows the address."""


class FastPath:
    """Answers what it knows; None: ask the engine."""

    def __init__(self, server: Server) -> None:
        self.hits = 0
        """How many messages were answered here."""
        self._server = server
        self._forget()

    def _forget(self) -> None:
        self._plan = self._server.plan
        self._templates: dict[tuple[object, ...], _Template | None] = {}
        self._machines: dict[bytes, _Known | None] = {}
        self._arrivals: dict[int, tuple[Arrival, int]] = {}
        plan = self._plan
        self._only_macs = not (plan.by_client_id or plan.by_uuid or plan.by_port)
        self._odd_macs = tuple(bytes.fromhex(prefix.replace(":", "")) for prefix in plan.clients.mac_prefixes)
        self._odd_ids = tuple(bytes.fromhex(prefix.replace(":", "")) for prefix in plan.clients.machine_id_prefixes)

    def receive(self, data: bytes, arrival: Arrival, now: float) -> Sequence[Action | Datagram] | None:
        """Return what to do about a datagram, or None. Raises nothing that `wire.decode` would not."""
        if self._server.plan is not self._plan:
            self._forget()
        chaddr = data[28:34]
        if (
            data[:3] != _ETHERNET_REQUEST
            or data[12:16] != _NOWHERE
            or data[236:240] != MAGIC_COOKIE
            or arrival.port != SERVER_PORT
            or self._plan.match_client_id
            or (self._odd_macs and chaddr.startswith(self._odd_macs))
        ):
            return None
        known = self._machines.get(chaddr) if chaddr in self._machines else self._machine(chaddr)
        if known is None and not self._only_macs:
            return None
        found = _shape(data)
        if found is None:
            return None
        shape, requested, client_id, uuid = found
        if uuid is not None and (len(uuid) != _UUID_BYTES or uuid[0] or uuid.startswith(self._odd_ids)):
            return None
        place = self._arrivals.get(id(arrival))
        if place is None or place[0] is not arrival:
            place = self._place(arrival)
        key = (shape, data[10:12], data[24:28], place[1], None if known is None else id(known.host.tags))
        try:
            template = self._templates[key]
        except KeyError:
            return self._learn(key, data, arrival, now)
        if template is None:
            return None
        if known is not None:
            host = known.host
            if host.own.options or host.boot != "netboot" or host.name in self._server.intents:
                return None
        done = self._answer(template, data, chaddr, known, requested, client_id, uuid, now)
        if done is not None:
            self.hits += 1
        return done

    def _answer(
        self,
        template: _Template,
        data: bytes,
        chaddr: bytes,
        known: _Known | None,
        requested: bytes | None,
        client_id: bytes | None,
        uuid: bytes | None,
        now: float,
    ) -> list[Action | Datagram] | None:
        server, mac = self._server, chaddr.hex(":")
        actions: list[Action | Datagram] = []
        lease_s = template.lease_s
        if known is not None:
            address, packed, name = known.address, known.packed, known.name
            if not template.first <= known.number <= template.last or not server.may_have_static(known.host, mac, now):
                return None
            if template.acknowledges:
                if requested != packed:
                    return None
                server.grant_static(address, mac, lease_s, now)
        elif template.acknowledges:
            if requested is None:
                return None
            address, packed = IPv4Address(requested), requested
            lease = server.bind_offered(mac, address, template.pools, lease_s, now)
            if lease is None:
                return None
            name = b"node-" + chaddr.hex().encode()
            lease_s = INFINITE_S if lease.expires == NEVER else max(1, int(lease.expires - now))
            actions.append(Store(lease))
        else:
            wanted = None if requested is None else IPv4Address(requested)
            offered = server.choose_and_offer(mac, template.pools, wanted, now)
            if offered is None:
                return None
            address, packed, name = offered, offered.packed, b"node-" + chaddr.hex().encode()
        parts = [b"\2\1\6\0", data[4:8], template.before_yiaddr, packed, template.after_yiaddr, chaddr]
        parts.append(template.after_chaddr)
        room = template.room
        for code, rest in template.pieces:
            match code:
                case Option.HOST_NAME:
                    value = bytes((code, len(name))) + name
                case Option.IP_ADDRESS_LEASE_TIME:
                    value = _lease_times(lease_s)
                case Option.CLIENT_IDENTIFIER:
                    value = bytes((code, len(client_id or b""))) + (client_id or b"")
                case _:
                    value = bytes((code, _UUID_BYTES)) + (uuid or b"")
            room -= len(value)
            parts += (value, rest)
        if room < 0:
            return None
        reply = b"".join(parts)
        if len(reply) < template.smallest:
            reply = reply.ljust(template.smallest, b"\0")
        destination = template.destination or Destination(address, 68, chaddr)
        actions.append(Datagram(reply, destination, int.from_bytes(data[6:8], "big")))
        if template.event is not None:
            stage, detail, part_of_boot = template.event
            detail = f"{address}{detail}" if stage is Stage.ADDRESS else detail
            actions.append(Happened(mac, stage, detail, part_of_boot))
        return actions

    def _machine(self, chaddr: bytes) -> _Known | None:
        """Return the machine that has this MAC, and remember it; one that has none is not remembered."""
        host = self._plan.by_mac.get(chaddr.hex(":"))
        if host is None:
            return None
        known = _Known(host, host.address, host.address.packed, int(host.address), host.name.encode())
        self._machines[chaddr] = known
        return known

    def _place(self, arrival: Arrival) -> tuple[Arrival, int]:
        """Give a number to where messages arrive. What kept it before is kept alive, or its id could be another's."""
        if len(self._arrivals) >= MOST_KINDS:
            self._templates.clear()
            self._arrivals.clear()
        place = self._arrivals[id(arrival)] = (arrival, len(self._arrivals))
        return place

    def _learn(self, key: tuple[object, ...], data: bytes, arrival: Arrival, now: float) -> Sequence[Action]:
        """Let the engine answer, and keep its answer's form for the next of this kind."""
        message = wire.decode(data)
        actions = self._server.receive(message, arrival, now)
        request = understand(message, arrival, self._plan, self._server.intents)
        if isinstance(request, Ignored) or (request.host is not None and _is_special(request, request.host)):
            return actions  # that is about this one machine
        if len(self._templates) >= MOST_KINDS:
            self._templates.clear()
        if not self._is_plain(request):
            self._templates[key] = None
            return actions
        form = _form(actions)
        if form is not None:
            self._templates[key] = _template(self._server, request, *form)
        return actions

    def _is_plain(self, request: Request) -> bool:
        """Return whether all messages of its kind can be answered here."""
        if len(request.link) > 1 or request.network.proxy:
            return False
        if request.message_type is MessageType.DHCPREQUEST:
            selecting = request.chosen_server is not None and request.is_for_us and request.requested is not None
            if not selecting:
                return False
        elif request.message_type is not MessageType.DHCPDISCOVER:
            return False
        if request.host is not None:
            return True
        probed = self._plan.probe and not request.relayed
        return not probed and not self._server.limited and not any(pool.layers for pool in request.pools)


def _is_special(request: Request, host: Host) -> bool:
    """Whether this machine is told something that no other of its tags is."""
    return bool(host.own.options) or request.intent != "netboot" or request.static_address is None


def _form(actions: Sequence[Action]) -> tuple[Send, Happened | None] | None:
    """Return the OFFER or ACK and the event that a good answer consists of; None for any other."""
    match [action for action in actions if not isinstance(action, Store)]:
        case [Send() as send]:
            event = None
        case [Send() as send, Happened(stage=stage) as event] if stage is not Stage.FAILED:
            pass
        case _:
            return None
    kind = send.message.options.get(Option.DHCP_MESSAGE_TYPE)
    return None if kind == bytes((MessageType.DHCPNAK,)) else (send, event)


def _template(server: Server, request: Request, send: Send, event: Happened | None) -> _Template | None:
    """Return what is alike in this answer and in those to others of its kind; None if it cannot be told apart."""
    message, yiaddr = send.message, send.message.yiaddr
    if send.delay_s > 0 or send.source_port != SERVER_PORT or send.pack().left_out:
        return None
    # A name that is configured is the same for all; else each has its own.
    layers = told(request, server.plan, yiaddr).layers
    named = any(Option.HOST_NAME in layer.options for layer in layers[1:])
    differs = {Option.CLIENT_IDENTIFIER, Option.CLIENT_MACHINE_IDENTIFIER, Option.IP_ADDRESS_LEASE_TIME}
    differs |= set() if named else {Option.HOST_NAME}
    header = message.encode()[:_OPTIONS_AT]
    constant, pieces, fixed = [bytearray()], [], _OPTIONS_AT + 1
    for code, value in message.options.items():
        if code in differs:
            pieces.append(code)
            constant.append(bytearray())
        elif code not in _LEASE_TIMES:  # T1 and T2 are told with the lease time
            instances = encode_options({code: value})
            constant[-1] += instances
            fixed += len(instances)
    constant[-1].append(END)
    after_chaddr = header[34:] + bytes(constant[0])
    happens = None
    if event is not None:
        detail = event.detail.removeprefix(str(yiaddr)) if event.stage is Stage.ADDRESS else event.detail
        happens = (event.stage, detail, event.boots)
    return _Template(
        acknowledges=request.message_type is MessageType.DHCPREQUEST,
        before_yiaddr=header[8:16],
        after_yiaddr=header[20:28],
        after_chaddr=after_chaddr,
        pieces=tuple(zip(pieces, map(bytes, constant[1:]), strict=True)),
        room=send.size_limit - fixed,
        smallest=max(send.smallest, wire.SMALLEST),
        destination=send.destination if send.destination.hardware is None else None,
        lease_s=server.lease_s(request, yiaddr),
        pools=request.pools,
        first=request.network.first,
        last=request.network.last,
        event=happens,
    )


def _lease_times(lease_s: int) -> bytes:
    """Options 51, 58 and 59, as `replies` orders them."""
    if lease_s == INFINITE_S:
        return b"\x33\x04\xff\xff\xff\xff"
    t1, t2 = renewal_times(lease_s)
    return _TIMES.pack(51, 4, lease_s, 58, 4, t1, 59, 4, t2)


_TIMES = struct.Struct("!BBIBBIBBI")


def _shape(data: bytes) -> tuple[bytes, bytes | None, bytes | None, bytes | None] | None:
    """Return a message's options without the values of 50, 61 and 97, and those values.

    None if one of them comes twice, or if anything about the options is unusual: 52, 81, a length that lies.
    """
    at, begin, size = _OPTIONS_AT, _OPTIONS_AT, len(data)
    requested = client_id = uuid = None
    parts = []
    while at < size:
        code = data[at]
        if code == END:
            parts.append(data[begin:at])
            return b"".join(parts), requested, client_id, uuid
        if code == PAD:
            at += 1
            continue
        if at + 1 >= size:
            return None
        end = at + 2 + data[at + 1]
        if end > size:
            return None
        if code in _HOLES:
            value = data[at + 2 : end]
            if code == _REQUESTED and requested is None and len(value) == 4:
                requested = value
            elif code == _CLIENT_ID and client_id is None and value:
                client_id = value
            elif code == _UUID and uuid is None:
                uuid = value
            else:
                return None
            parts.append(data[begin : at + 1])
            begin = end
        at = end
    return None


_REQUESTED, _CLIENT_ID, _UUID = 50, 61, 97
_HOLES = frozenset((_REQUESTED, _CLIENT_ID, _UUID, OVERLOAD, Option.CLIENT_FQDN))
