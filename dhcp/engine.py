"""The DHCP server: a message and the time in, a list of actions out (RFC 2131 section 4.3).

It differs from the RFC where a farm of machines that boot needs it:

- A client is its MAC; option 61 is echoed and otherwise ignored, since a ROM, a boot loader and a system that run
  one after the other on one machine each send another one.
- A client that renews an address of our pool which nobody holds gets it, although we have no record of him: we may
  have lost it, and to refuse him would take a running machine off the network.
- A known machine's address is a function of the configuration: it needs no record, and no disk.
- A machine that declines its static address is reported, and offered it again: there is no other for it.
- Options 118 (subnet selection) and client identifiers without a hardware address (InfiniBand) are not read.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from config.events import Stage
from dhcp import options, replies
from dhcp.leases import Lease, Leases
from dhcp.options import MessageType, Option
from dhcp.plan import Host, Plan
from dhcp.replies import Send
from dhcp.request import Arrival, Ignored, Reason, Request, understand
from dhcp.wire import NO_ADDRESS, Message

SHORTEST_LEASE_S = 60
"""A client that asks for less time than this gets this much."""


@dataclass(frozen=True, slots=True)
class Store:
    """Have this lease on disk before carrying out the actions after it; if that fails, drop those.

    A lease that was stored before comes again when a client repeats itself, so that the answer waits for a write
    that is still under way.
    """

    lease: Lease


@dataclass(frozen=True, slots=True)
class Happened:
    """Tell people what happened to a machine."""

    mac: str
    stage: Stage
    detail: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Find out by ARP whether somebody on the link uses `address`, then carry out `then`.

    If somebody does, carry out what `Server.in_use` returns instead. Nobody else waits meanwhile; the answer is to
    come in a third of a second.
    """

    address: IPv4Address
    then: "tuple[Action, ...]"
    request: Request
    """Whose address it is to be."""


Action = Send | Store | Happened | Ignored | Probe


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose address it is."""

    mac: str | None
    """The card that asked last for it; None if this server was not asked for it yet."""
    node_name: str | None
    """The machine's name in the configuration; None if it is not there (its name is then `machine_name(mac)`)."""
    address: IPv4Address


@dataclass(slots=True)
class _Grant:
    """A static address that a machine was told it has."""

    mac: str
    expires: int


class Server:
    """All that is decided about DHCP. `now` is in seconds since 1970 and must not jump (`dhcp.clock.SteadyClock`)."""

    def __init__(self, plan: Plan, records: Iterable[Lease], now: float) -> None:
        self.plan = plan
        self.leases = Leases(records, now, plan.lease_s)
        self.counts: Counter[Reason] = Counter()
        """How many messages were not answered, by reason."""
        self._own: frozenset[IPv4Address] = frozenset()
        self._granted: dict[IPv4Address, _Grant] = {}

    def receive(self, message: Message, received: Arrival, now: float) -> list[Action]:
        """Return what to do about one message."""
        if received.address not in self._own:
            self._own |= {received.address}
        request = understand(message, received, self.plan)
        actions: list[Action] = [request] if isinstance(request, Ignored) else self._answer(request, now)
        for action in actions:
            if isinstance(action, Ignored):
                self.counts[action.reason] += 1
        return actions

    @property
    def deadline(self) -> float | None:
        """When `expire` has something to do."""
        return self.leases.deadline

    def expire(self, now: float) -> list[Action]:
        """Forget the offers that nobody took."""
        self.leases.expire(now)
        return []

    def own_addresses(self, addresses: Iterable[IPv4Address]) -> None:
        """Take note of all addresses of this machine: nobody gets one of them."""
        self._own = frozenset(addresses)

    def in_use(self, probe: Probe, now: float) -> list[Action]:
        """Return what to do now that somebody uses the address that was to be offered: rest it, offer another."""
        return self._answer(probe.request, now)

    def reload(self, plan: Plan) -> None:
        """Take a new configuration. Leases stay; what changed for a machine counts from its next request.

        An address that is no machine's own any more stays that machine's for the time it was promised.
        """
        for address, grant in list(self._granted.items()):
            if address not in plan.by_address:
                del self._granted[address]
                self.leases.remember(Lease(address, grant.mac, grant.expires))
        self.plan = plan
        self.leases.pools_changed()

    def shift(self, by_s: int) -> None:
        """Move every time by `by_s`: the wall clock was set, and `now` with it."""
        self.leases.shift(by_s)
        for grant in self._granted.values():
            grant.expires += by_s

    def who(self, address: IPv4Address, now: float) -> Holder | None:
        """Return whose address this is now. A static one is always its machine's, another while its lease lasts."""
        host = self.plan.by_address.get(address)
        lease = self.leases.bound(address, now)
        if lease is not None and (host is None or lease.mac not in host.macs):
            known = self.plan.by_mac.get(lease.mac)
            return Holder(lease.mac, known.name if known else None, address)
        if host is None:
            return None
        grant = self._granted.get(address)
        only = host.macs[0] if len(host.macs) == 1 else None
        return Holder(grant.mac if grant and grant.mac in host.macs else only, host.name, address)

    def _answer(self, request: Request, now: float) -> list[Action]:
        match request.message_type:
            case None:
                return self._bootp(request)
            case MessageType.DHCPDISCOVER:
                return self._discover(request, now)
            case MessageType.DHCPREQUEST:
                return self._request(request, now)
            case MessageType.DHCPDECLINE:
                return self._decline(request, now)
            case MessageType.DHCPRELEASE:
                return self._release(request, now)
            case MessageType.DHCPINFORM:
                return self._inform(request)
            case MessageType.DHCPOFFER | MessageType.DHCPACK | MessageType.DHCPNAK:
                return _ignore(request, Reason.NOT_A_REQUEST, f"{request.message_type.name} is a server's")

    def _discover(self, request: Request, now: float) -> list[Action]:
        address = self._static(request, now)
        if address is None:
            pool = request.network.pool
            if pool is None:
                detail = _without_address(request)
                return [
                    *_begins(request, f"; {detail}"),
                    Ignored(request.mac, Reason.NO_ADDRESS, detail),
                ]
            address = self.leases.choose(request.mac, pool, request.requested, self._own, now)
            if address is None:
                return _ignore(request, Reason.POOL_EMPTY, f"no address left in the pool of {request.network.network}")
            self.leases.offer(request.mac, address, now)
        offer = replies.grant(request, self.plan, MessageType.DHCPOFFER, address, self._lease_s(request))
        if request.host is None and not request.network.unknown_boots:
            return [offer, *_begins(request, "; it is not configured, so it gets one and nothing to boot")]
        return [offer, *_begins(request), *self._without_file(request)]

    def _request(self, request: Request, now: float) -> list[Action]:
        """A DHCPREQUEST, by the state that its sender is in (RFC 2131 section 4.3.2, table 4)."""
        ciaddr = request.message.ciaddr
        if request.chosen_server is not None and not request.is_for_us:
            self.leases.withdraw(request.mac)
            return _ignore(request, Reason.OTHER_SERVER, f"it chose {request.chosen_server}")
        if request.requested is None:
            if ciaddr == NO_ADDRESS:
                return _ignore(request, Reason.INCOMPLETE, "neither option 50 nor ciaddr")
            return self._renewing(request, ciaddr, now)
        if request.chosen_server is not None:
            return self._selecting(request, request.requested, now)
        return self._init_reboot(request, request.requested, now)

    def _selecting(self, request: Request, address: IPv4Address, now: float) -> list[Action]:
        if self._may_have(request, address, now):
            return self._acknowledge(request, address, now)
        return [replies.nak(request, f"{address} is not yours to take")]

    def _init_reboot(self, request: Request, address: IPv4Address, now: float) -> list[Action]:
        """A client that was restarted asks whether it may keep its address."""
        static = self._static(request, now)
        record = self.leases.record(address)
        pool = request.network.pool
        known = static is not None or (pool is not None and self.leases.bound_to(request.mac, pool, now) is not None)
        remembered = static is not None or (record is not None and record.mac == request.mac)
        if remembered and self._may_have(request, address, now):
            return self._acknowledge(request, address, now)
        return self._refuse(request, address, known=known and request.network.is_host(address))

    def _renewing(self, request: Request, address: IPv4Address, now: float) -> list[Action]:
        """RENEWING (sent to us) or REBINDING (to everybody): the client has the address in use."""
        if self._may_have(request, address, now):
            return self._acknowledge(request, address, now, renewal=True)
        taken = address in self.plan.by_address or not self.leases.is_free(address, request.mac, now)
        known = taken or self._static(request, now) is not None
        return self._refuse(request, address, known=known and request.network.is_host(address))

    def _refuse(self, request: Request, address: IPv4Address, *, known: bool) -> list[Action]:
        """Tell a client that its address is wrong, if we are the one to know: it is ours, or we are authoritative."""
        if known or self.plan.authoritative:
            return [replies.nak(request, f"{address} is not yours here")]
        return _ignore(request, Reason.NOT_OURS, f"no record of {address}")

    def _acknowledge(
        self, request: Request, address: IPv4Address, now: float, *, renewal: bool = False
    ) -> list[Action]:
        lease_s = self._lease_s(request)
        actions: list[Action] = []
        if address == request.static_address:
            self._granted[address] = _Grant(request.mac, int(now) + lease_s)
            self.leases.withdraw(request.mac)
        else:
            lease = self.leases.bind(request.mac, address, lease_s, now)
            lease_s = max(1, int(lease.expires - now))
            actions.append(Store(lease))
        actions.append(replies.grant(request, self.plan, MessageType.DHCPACK, address, lease_s))
        if not renewal:
            actions.append(Happened(request.mac, Stage.ADDRESS, self._has(request, address)))
        return actions

    def _bootp(self, request: Request) -> list[Action]:
        """A BOOTP client has its address for good, so only a machine that we know gets one (RFC 1534)."""
        address = request.static_address
        if address is None:
            return _ignore(request, Reason.NO_ADDRESS, "a BOOTP client that is not configured")
        if request.message.ciaddr not in (NO_ADDRESS, address):
            return _ignore(request, Reason.NOT_OURS, f"it says that it has {request.message.ciaddr}")
        return [
            replies.grant(request, self.plan, None, address, None),
            *_begins(request),
            Happened(request.mac, Stage.ADDRESS, self._has(request, address)),
        ]

    def _inform(self, request: Request) -> list[Action]:
        """A client that has its address from elsewhere wants options, and no lease (RFC 2131 section 4.3.5)."""
        ciaddr = request.message.ciaddr
        if ciaddr == NO_ADDRESS and not request.relayed:
            return _ignore(request, Reason.INCOMPLETE, "DHCPINFORM without ciaddr")
        if ciaddr != NO_ADDRESS and (not request.network.is_host(ciaddr) or ciaddr in self._own):
            return _ignore(request, Reason.NOT_OURS, f"DHCPINFORM for {ciaddr}")
        return [replies.grant(request, self.plan, MessageType.DHCPACK, NO_ADDRESS, None)]

    def _decline(self, request: Request, now: float) -> list[Action]:
        """The client found its address in use by somebody else."""
        address = request.requested
        if address is None or not request.is_for_us:
            return _ignore(request, Reason.INCOMPLETE, "DHCPDECLINE without its address or our option 54")
        if address == request.static_address:
            detail = f"another machine uses {address}, which is configured for this one"
            return [Happened(request.mac, Stage.FAILED, detail)]
        held = self.leases.offered(request.mac, now) == address
        bound = self.leases.bound(address, now)
        if not held and (bound is None or bound.mac != request.mac):
            return _ignore(request, Reason.NOT_OURS, f"DHCPDECLINE of {address}, which is not its own")
        declined = self.leases.decline(request.mac, address, now)
        if declined is None:
            return _ignore(request, Reason.TOO_MANY_DECLINED, f"{address} stays in the pool")
        detail = f"another machine uses {address}; nobody gets it for 24 hours"
        return [Store(declined), Happened(request.mac, Stage.FAILED, detail)]

    def _release(self, request: Request, now: float) -> list[Action]:
        """The client needs its address no more; the record stays, so that it gets the same one again."""
        address = request.message.ciaddr
        if request.chosen_server is not None and not request.is_for_us:
            return _ignore(request, Reason.OTHER_SERVER, f"DHCPRELEASE to {request.chosen_server}")
        if address == request.static_address:
            self._granted.pop(address, None)
            return []
        released = self.leases.release(request.mac, address, now)
        if released is None:
            return _ignore(request, Reason.NOT_OURS, f"DHCPRELEASE of {address}, which is not its own")
        return [Store(released)]

    def _static(self, request: Request, now: float) -> IPv4Address | None:
        """The machine's own address, unless somebody else's dynamic lease of it is not over yet."""
        address, host = request.static_address, request.host
        if address is None or host is None:
            return None
        lease = self.leases.bound(address, now)
        return address if lease is None or lease.mac in host.macs else None

    def _may_have(self, request: Request, address: IPv4Address, now: float) -> bool:
        """Return whether an ACK for `address` would take it from nobody.

        One MAC cannot collect a pool by asking for one address after the other: while it has a lease or an offer,
        that is the only one it can have.
        """
        static = self._static(request, now)
        if static is not None:
            return address == static
        pool = request.network.pool
        if pool is None or address not in pool or address in self._own:
            return False
        if not self.leases.is_free(address, request.mac, now):
            return False
        bound = self.leases.bound_to(request.mac, pool, now)
        entitled = {self.leases.offered(request.mac, now), bound.address if bound else None} - {None}
        return not entitled or address in entitled

    def _lease_s(self, request: Request) -> int:
        """The client's wish (option 51), within limits; ours if it has none."""
        wish = options.number(request.message.options.get(Option.IP_ADDRESS_LEASE_TIME), 4) or self.plan.lease_s
        return min(max(wish, SHORTEST_LEASE_S), self.plan.lease_s)

    def _has(self, request: Request, address: IPv4Address) -> str:
        file = replies.boot_file(request, self.plan)
        return f"{address}, boots {file!r}" if file else f"{address}"

    def _without_file(self, request: Request) -> list[Action]:
        """Report a machine that is to boot and cannot."""
        if not request.client.boots or replies.boot_file(request, self.plan) is not None:
            return []
        detail = f"there is no boot file for {request.client}"
        return [Happened(request.mac, Stage.FAILED, detail)]


def _begins(request: Request, but: str = "") -> list[Action]:
    """Tell that a firmware asks for an address, so that a boot begins. A running system that asks begins none."""
    if not request.client.boots:
        return []
    return [Happened(request.mac, Stage.DISCOVER, f"{request.client}, asks for an address{but}")]


def _ignore(request: Request, reason: Reason, detail: str) -> list[Action]:
    return [Ignored(request.mac, reason, detail)]


def _without_address(request: Request) -> str:
    """Why a machine gets no address where there is no pool."""
    host: Host | None = request.host
    if host is None:
        return f"it is not configured, and {request.network.network} has no pool"
    return f"its address {host.address} cannot be used in {request.network.network}, which has no pool"
