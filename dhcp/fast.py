"""The short way round `wire.decode` and the engine for what a farm is asked most: a boot's first four messages.

A thousand machines of one kind ask in the same words. What differs is xid, MAC, address, name, client identifier and
UUID; all else of the answer is the same, so it is kept ready, in pieces around those. An answer is learnt from the
engine's own, which answers the first message of each kind itself, and whatever is not plainly of a known kind is left
to it. What is decided, an address or a lease, is decided by the same `Leases`, in the same order.

`tests/unit/test_dhcp_fast.py` plays the same histories to a server with this and to one without.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from config.dhcp import INFINITE_S
from config.events import Stage
from dhcp import wire
from dhcp.actions import Action, Datagram, Happened, Store
from dhcp.engine import Server
from dhcp.layout import Layout, layout_of
from dhcp.leases import NEVER
from dhcp.options import MessageType, Option
from dhcp.plan import DynamicPool, Host, machine_name
from dhcp.replies import Destination, Send, renewal_times
from dhcp.request import PROBE, SERVER_PORT, Arrival, Ignored, Request, understand
from dhcp.told import lease_time, told
from dhcp.wire import END, encode_options

MOST_KINDS = 2048
"""Kinds of messages that are remembered; real ones are a few dozen, and made-up ones must not fill the memory."""
_MOST_LAYOUTS = 4
"""Of messages of one length."""
_OPTIONS_AT = 240
_HOST_NAME, _LEASE_TIME, _CLIENT_ID = 12, 51, 61
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
    tags: int
    """Tells machines with other tags apart."""


@dataclass(frozen=True, slots=True, eq=False)
class _Template:
    """An answer without what differs from machine to machine."""

    acknowledges: bool
    """Whether it is the answer to a DHCPREQUEST."""
    form: bytes
    """All of it, with `%b` in place of xid, yiaddr, chaddr, and of each option that differs."""
    codes: tuple[int, ...]
    """These options, by number."""
    room: int
    """Bytes that the options that differ may have together."""
    smallest: int
    destination: Destination | None
    """None: to the client's link address."""
    lease_s: int
    lease_times: bytes
    """The options that tell it."""
    pools: tuple[DynamicPool, ...]
    first: int
    last: int
    """The first and the last address that a machine can have in the network."""
    event: tuple[Stage, str, bool] | None
    """What is reported; of an ADDRESS, the detail that follows the address."""


_Key = tuple[tuple[bytes, ...], bytes, int]
"""A message's fixed bytes, the sizes of its other values, and what the machine's tags are."""


@dataclass(slots=True, eq=False)
class _Place:
    """Where messages arrive, and what is answered there."""

    arrival: Arrival
    closed: bool
    """Whether nothing is answered here but by the engine."""
    templates: dict[_Key, _Template | None] = field(default_factory=dict)


_NOBODY = bytes(6)


class FastPath:
    """Answers what it knows; None: ask the engine."""

    def __init__(self, server: Server) -> None:
        self.hits = 0
        """How many messages were answered here."""
        self.acknowledged = 0
        """How many of those were DHCPREQUESTs, answered with DHCPACK; the others are DHCPDISCOVERs and OFFERs."""
        self._server = server
        self._forget()

    def _forget(self) -> None:
        self._plan = plan = self._server.plan
        self._kinds = 0
        self._layouts: dict[int, list[Layout]] = {}
        self._machines: dict[bytes, _Known] = {}
        self._places: dict[int, _Place] = {}
        self._only_macs = not (plan.by_client_id or plan.by_uuid or plan.by_port)
        odd_macs = (bytes.fromhex(prefix.replace(":", "")) for prefix in plan.clients.mac_prefixes)
        self._odd_macs = (_NOBODY, *odd_macs)
        odd_ids = plan.clients.machine_id_prefixes
        self._odd_ids = (PROBE, *(bytes.fromhex(prefix.replace(":", "")) for prefix in odd_ids))

    def receive(self, data: bytes, arrival: Arrival, now: float) -> Sequence[Action | Datagram] | None:
        """Return what to do about a datagram, or None. Raises nothing that `wire.decode` would not."""
        if self._server.plan is not self._plan:
            self._forget()
        chaddr = data[28:34]
        if len(data) < _OPTIONS_AT or chaddr[0] & 1 or chaddr.startswith(self._odd_macs):
            return None
        mac = chaddr.hex(":")
        known = self._machines.get(chaddr)
        if known is None:
            if mac in self._plan.by_mac:
                known = self._machine(chaddr, mac)
            elif not self._only_macs:
                return None
        if known is not None and known.host.at_port:
            return None
        steered = self._server.steered()
        if steered and (machine_name(mac) if known is None else known.host.name) in steered:
            return None
        place = self._places.get(id(arrival))
        if place is None or place.arrival is not arrival:
            place = self._place(arrival)
        if place.closed:
            return None
        tags = 0 if known is None else known.tags
        for layout in self._layouts.get(len(data), ()):
            key = (layout.fixed(data), layout.sizes, tags)
            if key in place.templates:
                break
        else:
            found = layout_of(data)
            if found is None or self._is_odd(data[found.uuid]):
                return None
            layout, key = found, (found.fixed(data), found.sizes, tags)
            if key not in place.templates:
                return self._learn(place, layout, key, data, now)
            self._remember(len(data), layout)
        template, uuid = place.templates[key], data[layout.uuid]
        if template is None or (uuid and self._is_odd(uuid)) or (known is not None and known.host.own.options):
            return None
        done = self._answer(template, layout, data, mac, known, now)
        if done is not None:
            self.hits += 1
            self.acknowledged += template.acknowledges
        return done

    def _answer(
        self, template: _Template, layout: Layout, data: bytes, mac: str, known: _Known | None, now: float
    ) -> list[Action | Datagram] | None:
        server, chaddr = self._server, data[28:34]
        actions: list[Action | Datagram] = []
        lease_s = template.lease_s
        requested = data[layout.requested]
        if known is not None:
            address, packed, name = known.address, known.packed, known.name
            if not template.first <= known.number <= template.last or not server.may_have_static(known.host, mac, now):
                return None
            if template.acknowledges:
                if requested != packed:
                    return None
                server.grant_static(known.host, mac, lease_s, now, mac)
        elif template.acknowledges:
            if not requested:
                return None
            packed, number = requested, int.from_bytes(requested, "big")
            lease = server.bind_offered(mac, number, template.pools, lease_s, now)
            if lease is None:
                return None
            address, name = lease.address, b""
            lease_s = INFINITE_S if lease.expires == NEVER else min(lease_s, max(1, int(lease.expires - now)))
            actions.append(Store(lease))
        else:
            wanted = IPv4Address(requested) if requested else None
            offered = server.choose_and_offer(mac, template.pools, wanted, now)
            if offered is None:
                return None
            address, packed, name = offered, offered.packed, b""
        values, room = [data[4:8], packed, chaddr], template.room
        for code in template.codes:
            if code == _HOST_NAME:
                name = name or b"node-" + chaddr.hex().encode()
                value = bytes((code, len(name))) + name
            elif code == _LEASE_TIME:
                value = template.lease_times if lease_s == template.lease_s else _lease_times(lease_s)
            else:
                echoed = data[layout.client_id if code == _CLIENT_ID else layout.uuid]
                value = bytes((code, len(echoed))) + echoed
            room -= len(value)
            values.append(value)
        if room < 0:
            return None
        reply = (template.form % tuple(values)).ljust(template.smallest, b"\0")
        destination = template.destination or Destination(address, 68, chaddr)
        actions.append(Datagram(reply, destination, int.from_bytes(data[6:8], "big")))
        if template.event is not None:
            stage, detail, part_of_boot = template.event
            detail = ".".join(map(str, packed)) + detail if stage is Stage.ADDRESS else detail
            actions.append(Happened(mac, stage, detail, part_of_boot))
        return actions

    def _is_odd(self, uuid: bytes) -> bool:
        """Whether an option 97 is not as the others: of another type, `pxeboot probe`'s, or a quirk's."""
        return bool(uuid) and (uuid[0] != 0 or uuid.startswith(self._odd_ids))

    def _machine(self, chaddr: bytes, mac: str) -> _Known:
        """Return the machine of the configuration that has this MAC, and remember it."""
        host = self._plan.by_mac[mac]
        address = host.address
        known = _Known(host, address, address.packed, int(address), host.name.encode(), id(host.tags))
        self._machines[chaddr] = known
        return known

    def _place(self, arrival: Arrival) -> _Place:
        """Begin with what is known about where messages arrive. That keeps it alive, or its id could be another's."""
        if len(self._places) >= MOST_KINDS:
            self._places.clear()
            self._kinds = 0
        closed = arrival.port != SERVER_PORT or self._plan.match_client_id
        place = self._places[id(arrival)] = _Place(arrival, closed)
        return place

    def _remember(self, length: int, layout: Layout) -> None:
        """Try a layout first for messages of its length."""
        layouts = self._layouts.setdefault(length, [])
        layouts.insert(0, layout)
        del layouts[_MOST_LAYOUTS:]

    def _learn(self, place: _Place, layout: Layout, key: _Key, data: bytes, now: float) -> Sequence[Action]:
        """Let the engine answer, and keep its answer's form for the next of this kind."""
        message, steered = wire.decode(data), self._server.steered()
        actions = self._server.receive(message, place.arrival, now)
        request = understand(message, place.arrival, self._plan)
        if isinstance(request, Ignored) or (request.host is not None and _is_special(request, request.host)):
            return actions  # that is about this one machine
        if self._server.steered() is not steered:  # another thread had something to say meanwhile, perhaps of this one
            return actions
        if self._kinds >= MOST_KINDS:
            for each in self._places.values():
                each.templates.clear()
            self._kinds = 0
        form = _form(actions)
        if not self._is_plain(request):
            place.templates[key] = None
        elif form is not None:
            place.templates[key] = _template(self._server, request, *form)
        else:
            return actions
        self._kinds += 1
        self._remember(len(data), layout)
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
        if self._server.leases.others is not None:
            return False
        probed = self._plan.probe and not request.relayed
        return not probed and not self._server.limited and not any(pool.layers for pool in request.pools)


def _is_special(request: Request, host: Host) -> bool:
    """Whether this machine is told something that no other of its tags is."""
    return bool(host.own.options) or request.static_address is None


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
    constant, codes, fixed = [header[:4], header[8:16], header[20:28], header[34:]], [], _OPTIONS_AT + 1
    for code, value in message.options.items():
        if code in differs:
            codes.append(code)
            constant.append(b"")
        elif code not in _LEASE_TIMES:  # T1 and T2 are told with the lease time
            instances = encode_options({code: value})
            constant[-1] += instances
            fixed += len(instances)
    constant[-1] += bytes((END,))
    happens = None
    if event is not None:
        detail = event.detail.removeprefix(str(yiaddr)) if event.stage is Stage.ADDRESS else event.detail
        happens = (event.stage, detail, event.boots)
    lease_s = lease_time(request, server.plan, yiaddr)
    return _Template(
        acknowledges=request.message_type is MessageType.DHCPREQUEST,
        form=b"%b".join(piece.replace(b"%", b"%%") for piece in constant),
        codes=tuple(codes),
        room=send.size_limit - fixed,
        smallest=max(send.smallest, wire.SMALLEST),
        destination=send.destination if send.destination.hardware is None else None,
        lease_s=lease_s,
        lease_times=_lease_times(lease_s),
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
