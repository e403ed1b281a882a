"""The DHCP server: a message and the time in, a list of actions out (RFC 2131 section 4.3).

It differs from the RFC where a farm of machines that boot needs it:

- A client is its MAC; option 61 is echoed and otherwise ignored, since a ROM, a boot loader and a system that run
  one after the other on one machine each send another one. `match_client_id` turns that round.
- A client that renews an address of our pool which nobody holds gets it, although we have no record of him: we may
  have lost it, and to refuse him would take a running machine off the network.
- A known machine's address is a function of the configuration: it needs no record, and no disk.
- A machine that declines its static address is reported, and offered it again: there is no other for it.
- Where addresses are somebody else's affair (`proxy`), those that boot are told what, and others hear nothing.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from config.dhcp import INFINITE_S
from config.events import Stage
from dhcp import proxy, replies
from dhcp.actions import Action, Happened, Probe, Store
from dhcp.grants import Grants, Holder
from dhcp.leases import NEVER, Lease, Leases
from dhcp.limits import Counted
from dhcp.options import MessageType, Option
from dhcp.plan import DynamicPool, Host, Plan
from dhcp.request import BOOT_SERVER_PORT, Arrival, Ignored, Reason, Request, understand
from dhcp.telling import begins, happened, hours, ignore, left, without_address, without_file
from dhcp.told import lease_time
from dhcp.wire import NO_ADDRESS, Message

_NOBODY: frozenset[str] = frozenset()
MOST_PROBED = 3
"""Addresses that are looked for on the network for one DHCPDISCOVER; the client repeats itself after that."""
__all__ = ["Action", "Happened", "Holder", "Ignored", "Probe", "Server", "Store"]


class Server:
    """All that is decided about DHCP. `now` is in seconds since 1970 and must not jump (`dhcp.clock.SteadyClock`)."""

    def __init__(self, plan: Plan, records: Iterable[Lease], now: float) -> None:
        self.plan = plan
        self._granted = Grants()
        """Which machines were told that their address is their own."""
        found = self._granted.restore(records, plan, now)
        self.leases = Leases(found, now, plan.longest_promise_s, plan.offer_hold_s, plan.quarantine_s)
        self.counts: Counter[Reason] = Counter()
        """How many messages were not answered, by reason."""
        self.received: Counter[bytes] = Counter()
        """How many came, by what their option 53 holds; b"" for BOOTP. `dhcp.fast` counts its own."""
        self.steered: Callable[[], Collection[str]] = lambda: _NOBODY
        """Machines, by name, that are given no boot file but our own GRUB, since it knows what they are to do."""
        self._own: frozenset[int] = frozenset()
        self._heard = proxy.Heard()
        self._counted = Counted(plan.limits)

    def receive(self, message: Message, received: Arrival, now: float) -> list[Action]:
        """Return what to do about one message."""
        self.received[message.options.get(Option.DHCP_MESSAGE_TYPE, b"")[:1]] += 1
        if int(received.address) not in self._own:
            self._own |= {int(received.address)}
        request = self.understand(message, received, now)
        return self._count([request] if isinstance(request, Ignored) else self._answer(request, now))

    def understand(self, message: Message, received: Arrival, now: float) -> Request | Ignored:
        """Return the request that a message is, and who asks as far as is known here; or why it is none."""
        request = understand(message, received, self.plan)
        if not isinstance(request, Ignored):
            if self.plan.by_port:
                request = self._granted.of_port(request, self.plan, self.leases.bound(message.ciaddr, now), now)
            if request.name in self.steered():
                request = replace(request, steered=True)
        return request

    def records(self) -> Iterator[Lease]:
        """Yield all that a restart needs to know."""
        yield from self.leases
        yield from self._granted.records()

    @property
    def deadline(self) -> float | None:
        """When `expire` has something to do."""
        return self.leases.deadline

    def expire(self, now: float) -> None:
        """Forget the offers that nobody took."""
        self.leases.expire(now)

    @property
    def limited(self) -> bool:
        """Whether unlisted machines are counted."""
        return self._counted.any

    def own_addresses(self, addresses: Iterable[IPv4Address]) -> None:
        """Take note of all addresses of this machine: nobody gets one of them."""
        self._own = frozenset(map(int, addresses))

    def in_use(self, probe: Probe, now: float) -> list[Action]:
        """Return what to do now that somebody uses the address that was to be offered: rest it, offer another."""
        request = probe.request
        declined = self.leases.found_in_use(request.identity, probe.address, now)
        # The record is stored beside the offer, not before it: nothing is promised by it.
        stored: list[Action] = [] if declined is None else [Store(declined)]
        if probe.tries >= MOST_PROBED:
            return stored
        return [*self._count(self._discover(request, now, probe.tries + 1)), *stored]

    def _count(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            if isinstance(action, Ignored):
                self.counts[action.reason] += 1
        return actions

    def reload(self, plan: Plan) -> list[Action]:
        """Take a new configuration. Leases stay; what changed for a machine counts from its next request.

        An address that is no more the machine's that was told it is its own stays that machine's for as long as it was
        told; carry out what is returned, so that it does over a restart.
        """
        kept = list(self._granted.moved(plan))
        for lease in kept:
            self.leases.remember(lease)
        self.plan = plan
        self.leases.offer_hold_s, self.leases.quarantine_s = plan.offer_hold_s, plan.quarantine_s
        self.leases.pools_changed()
        if plan.limits != self._counted.limits:
            self._counted = Counted(plan.limits)
        return [*(Store(lease) for lease in kept), *self._granted.follow(plan)]

    def shift(self, by_s: int) -> None:
        """Move every time by `by_s`: the wall clock was set, and `now` with it."""
        self.leases.shift(by_s)
        self._granted.shift(by_s)
        self._counted.shift(by_s)

    def who(self, address: IPv4Address, now: float) -> Holder | None:
        """Return whose address this is now. A static one is always its machine's, another while its lease lasts."""
        host = self.plan.by_address.get(address)
        lease = self.leases.bound(address, now)
        network = self.plan.network_of(address)
        heard = self._heard.at(address) if network is not None and network.proxy else None
        mac = lease.mac if lease is not None else heard
        if mac is not None and (host is None or mac not in host.macs):
            known = self.plan.by_mac.get(mac)
            return Holder(mac, known.name if known else None, address)
        if host is None:
            return None
        grant = self._granted.at(address)
        only = host.macs[0] if len(host.macs) == 1 else None
        return Holder(grant.mac if grant else mac or only, host.name, address)

    def _answer(self, request: Request, now: float) -> list[Action]:
        if request.relayed and int(request.message.giaddr) in self._own:
            return ignore(request, Reason.BAD_RELAY, f"giaddr is {request.message.giaddr}, ours")
        if request.network.proxy or request.arrival.port == BOOT_SERVER_PORT:
            return proxy.answer(request, self.plan, self._heard)
        match request.message_type:
            case None:
                return self._bootp(request, now)
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
                return ignore(request, Reason.NOT_A_REQUEST, f"{request.message_type.name} is a server's")

    def _discover(self, request: Request, now: float, tries: int = 1) -> list[Action]:
        static = address = self._static(request, now)
        if address is None:
            if not request.pools:
                detail = without_address(request)
                return [*begins(request, f"; {detail}"), Ignored(request.mac, Reason.NO_ADDRESS, detail)]
            why = self._counted.refuses(request, now) if request.host is None and tries == 1 else None
            if why is not None:
                return ignore(request, Reason.TOO_MANY, why)
            address = self.leases.choose(request.identity, request.pools, request.requested, self._own, now)
            if address is None and self._away:
                return ignore(request, Reason.AWAY, "it has no lease that is known here")
            if address is None:
                wire = ", ".join(str(network.network) for network in request.link)
                return ignore(request, Reason.POOL_EMPTY, f"no address left in the pools of {wire}")
            is_known = self.leases.offered(request.identity, now) == address or self.leases.bound(address, now)
            self.leases.offer(request.identity, address, now)
        offer = replies.grant(
            request, self.plan, MessageType.DHCPOFFER, address, lease_time(request, self.plan, address)
        )
        if request.host is None and not (request.network_of(address) or request.network).unknown_boots:
            then = [offer, *begins(request, "; it is not configured, so it gets one and nothing to boot")]
        else:
            then = [offer, *begins(request), *without_file(request, self.plan, address)]
        if static is None and self.plan.probe and not request.relayed and not is_known:
            return [Probe(address, tuple(then), request, tries)]
        return then

    def _request(self, request: Request, now: float) -> list[Action]:
        """A DHCPREQUEST, by the state that its sender is in (RFC 2131 section 4.3.2, table 4)."""
        ciaddr = request.message.ciaddr
        if request.chosen_server is not None and not request.is_for_us and not self._renews(request, now):
            self.leases.withdraw(request.identity)
            return ignore(request, Reason.OTHER_SERVER, f"it chose {request.chosen_server}")
        if request.requested is None:
            if ciaddr == NO_ADDRESS:
                return ignore(request, Reason.INCOMPLETE, "neither option 50 nor ciaddr")
            return self._renewing(request, ciaddr, now)
        if request.chosen_server is not None:
            return self._selecting(request, request.requested, now)
        return self._init_reboot(request, request.requested, now)

    def _renews(self, request: Request, now: float) -> bool:
        """Return whether it renews what we gave it. The server that it names then, as it must not, was us once."""
        bound = self.leases.bound(request.message.ciaddr, now)
        ours = bound is not None and bound.client == request.identity
        return request.requested is None and (ours or request.message.ciaddr == self._static(request, now))

    def _selecting(self, request: Request, address: IPv4Address, now: float) -> list[Action]:
        if self._may_have(request, address, now):
            return self._acknowledge(request, address, now)
        # Who has nothing yet is not left waiting for us: another server may be able to give him something.
        return [replies.nak(request, f"{address} is not yours to take")]

    def _init_reboot(self, request: Request, address: IPv4Address, now: float) -> list[Action]:
        """A client that was restarted asks whether it may keep its address."""
        static = self._static(request, now)
        record = self.leases.record(address)
        known = static is not None or self.leases.bound_to(request.identity, request.pools, now) is not None
        remembered = static is not None or (record is not None and record.client == request.identity)
        if remembered and self._may_have(request, address, now):
            return self._acknowledge(request, address, now)
        return self._refuse(request, address, now, known=known and request.network_of(address) is not None)

    def _renewing(self, request: Request, address: IPv4Address, now: float) -> list[Action]:
        """RENEWING (sent to us) or REBINDING (to everybody): the client has the address in use."""
        if self._may_have(request, address, now):
            return self._acknowledge(request, address, now, renewal=True)
        taken = address in self.plan.by_address or not self.leases.is_free(address, request.identity, now)
        known = taken or self._static(request, now) is not None
        return self._refuse(request, address, now, known=known and request.network_of(address) is not None)

    @property
    def _away(self) -> bool:
        others = self.leases.others
        return others is not None and others.away

    def _unsure(self, request: Request, address: IPv4Address, now: float) -> bool:
        """Return whether another server may have given the address to this client, and nobody can be asked now."""
        if not self._away or request.pool_of(address) is None or self._static(request, now) is not None:
            return False
        bound = self.leases.bound(address, now)
        return bound is None or bound.client == request.identity

    def _refuse(self, request: Request, address: IPv4Address, now: float, *, known: bool) -> list[Action]:
        """Tell a client that its address is wrong, if we are the one to know: it is ours, or we are authoritative."""
        if self._unsure(request, address, now):
            return ignore(request, Reason.AWAY, f"no lease of {address} is known here")
        if known or self.plan.authoritative:
            return [replies.nak(request, f"{address} is not yours here")]
        return ignore(request, Reason.NOT_OURS, f"no record of {address}")

    def _acknowledge(
        self, request: Request, address: IPv4Address, now: float, *, renewal: bool = False
    ) -> list[Action]:
        lease_s = lease_time(request, self.plan, address)
        actions: list[Action] = []
        beside: Sequence[Action] = ()
        if request.host is not None and address == request.static_address:
            beside = self.grant_static(
                request.host, request.mac, lease_s, now, request.identity, by_port=request.by_port
            )
        elif (why := self._too_many(request, address, now)) is not None:
            return ignore(request, Reason.TOO_MANY, why)
        else:
            others = self.leases.others
            refusal: tuple[Action, ...] = ()
            if others is not None:
                latest = others.latest(int(address), request.identity, now)
                if latest is not None and latest != NEVER:
                    lease_s = min(lease_s, int(latest - now) - 1)
                if lease_s < 1:
                    return ignore(request, Reason.AWAY, f"its lease of {address} cannot be made longer")
                refusal = (replies.nak(request, f"{address} is not yours any more"),)
            lease = self.leases.bind(request.identity, address, lease_s, now, request.mac)
            lease_s = INFINITE_S if lease.expires == NEVER else min(lease_s, max(1, int(lease.expires - now)))
            actions.append(Store(lease, refusal, refusal if request.chosen_server is not None else ()))
        actions.append(replies.grant(request, self.plan, MessageType.DHCPACK, address, lease_s))
        if not renewal:
            has = self._has(request, address)
            actions.append(happened(request, Stage.ADDRESS, has, request.client.boots))
        return [*actions, *beside]

    def _too_many(self, request: Request, address: IPv4Address, now: float) -> str | None:
        """Why an unlisted client gets no lease that it asks for without having been offered it; None if it does."""
        record = self.leases.record(address)
        if request.host is not None or (record is not None and record.client == request.identity):
            return None
        return None if self.leases.offered(request.identity, now) else self._counted.refuses(request, now)

    def _bootp(self, request: Request, now: float) -> list[Action]:
        """A BOOTP client has its address for good, so only a machine that we know gets one (RFC 1534)."""
        address = self._static(request, now)
        if address is None or request.host is None:
            return ignore(request, Reason.BOOTP, "a BOOTP client that is not configured")
        if request.message.ciaddr not in (NO_ADDRESS, address):
            return ignore(request, Reason.NOT_OURS, f"it says that it has {request.message.ciaddr}")
        lease_s = self.plan.lease_s
        return [
            replies.grant(request, self.plan, None, address, None),
            *begins(request),
            happened(request, Stage.ADDRESS, self._has(request, address)),
            *self.grant_static(request.host, request.mac, lease_s, now, request.identity, by_port=request.by_port),
        ]

    def _inform(self, request: Request) -> list[Action]:
        """A client that has its address from elsewhere wants options, and no lease (RFC 2131 section 4.3.5)."""
        ciaddr = request.message.ciaddr
        if ciaddr == NO_ADDRESS and not request.relayed:
            return ignore(request, Reason.INCOMPLETE, "DHCPINFORM without ciaddr")
        if ciaddr != NO_ADDRESS and (request.network_of(ciaddr) is None or int(ciaddr) in self._own):
            return ignore(request, Reason.NOT_OURS, f"DHCPINFORM for {ciaddr}")
        return [replies.grant(request, self.plan, MessageType.DHCPACK, NO_ADDRESS, None)]

    def _decline(self, request: Request, now: float) -> list[Action]:
        """The client found its address in use by somebody else."""
        address = request.requested
        if address is None or not request.is_for_us:
            return ignore(request, Reason.INCOMPLETE, "DHCPDECLINE without its address or our option 54")
        if address == request.static_address:
            detail = f"another machine uses {address}, which is configured for this one"
            return [happened(request, Stage.FAILED, detail), *self._granted.end(address, now)]
        held = self.leases.offered(request.identity, now) == address
        bound = self.leases.bound(address, now)
        if not held and (bound is None or bound.client != request.identity):
            return ignore(request, Reason.NOT_OURS, f"DHCPDECLINE of {address}, which is not its own")
        declined = self.leases.decline(request.identity, address, now)
        if declined is None:
            return ignore(request, Reason.TOO_MANY_DECLINED, f"{address} stays in the pool")
        detail = f"another machine uses {address}; nobody gets it for {hours(self.plan.quarantine_s)}"
        return [Store(declined), happened(request, Stage.FAILED, detail)]

    def _release(self, request: Request, now: float) -> list[Action]:
        """The client needs its address no more; the record stays, so that it gets the same one again."""
        address = request.message.ciaddr
        if request.chosen_server is not None and not request.is_for_us:
            return ignore(request, Reason.OTHER_SERVER, f"DHCPRELEASE to {request.chosen_server}")
        if address == request.static_address:
            return [*left(request), *self._granted.end(address, now)]
        released = self.leases.release(request.identity, address, now)
        if released is None:
            return ignore(request, Reason.NOT_OURS, f"DHCPRELEASE of {address}, which is not its own")
        return [Store(released), *left(request)]

    def _static(self, request: Request, now: float) -> IPv4Address | None:
        """The machine's own address, unless somebody else's dynamic lease of it is not over yet."""
        address, host = request.static_address, request.host
        if address is None or host is None:
            return None
        return address if self.may_have_static(host, request.mac, now) else None

    def may_have_static(self, host: Host, mac: str, now: float) -> bool:
        """Return whether nobody else has a lease of the machine's own address."""
        lease = self.leases.bound(host.address, now)
        return lease is None or lease.mac in host.macs or lease.mac == mac

    def grant_static(
        self, host: Host, mac: str, lease_s: int, now: float, identity: str, *, by_port: bool = False
    ) -> list[Store]:
        """Take note that a machine was told that its own address is its own. `mac` is the card that asked.

        Return what is to be stored beside that, which nobody waits for.
        """
        self.leases.withdraw(identity)
        return self._granted.give(host, mac, identity, lease_s, now, by_port=by_port)

    def choose_and_offer(
        self, mac: str, pools: Sequence[DynamicPool], wanted: IPv4Address | None, now: float
    ) -> IPv4Address | None:
        """Return the address that is on offer to a client from now on; None if `pools` have none."""
        address = self.leases.choose(mac, pools, wanted, self._own, now)
        if address is not None:
            self.leases.offer(mac, address, now)
        return address

    def bind_offered(
        self, mac: str, number: int, pools: Sequence[DynamicPool], lease_s: int, now: float
    ) -> Lease | None:
        """Return the lease, to be stored, of a client that takes the address on offer to it; None for any other.

        `number` is the address that it asks for.
        """
        return None if number in self._own else self.leases.bind_offered(mac, number, pools, lease_s, now)

    def _may_have(self, request: Request, address: IPv4Address, now: float) -> bool:
        """Return whether an ACK for `address` would take it from nobody.

        One MAC cannot collect a pool by asking for one address after the other: while it has a lease or an offer,
        that is the only one it can have. (It has two where a server that shares leases failed in the middle.)
        """
        static = self._static(request, now)
        if static is not None:
            return address == static
        if request.pool_of(address) is None or int(address) in self._own:
            return False
        if not self.leases.is_free(address, request.identity, now):
            return False
        held = self.leases.bound(address, now)
        if held is not None and held.client == request.identity:
            return True
        bound = self.leases.bound_to(request.identity, request.pools, now)
        entitled = {self.leases.offered(request.identity, now), bound.address if bound else None} - {None}
        return not entitled or address in entitled

    def _has(self, request: Request, address: IPv4Address) -> str:
        file = replies.boot_file(request, self.plan, address)
        return f"{address}, boots {file!r}" if file else f"{address}"
