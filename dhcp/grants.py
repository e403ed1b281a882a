"""Which machine was told, until when, that its own address is its own. Pure.

A static address is a function of the configuration and needs no record, but for this: who asks from it is the card
that was told last, and a reload that gives it to another machine must not take it from one that still uses it. On
disk is only who was first behind a port, since the configuration does not tell which of several that is.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from config.dhcp import INFINITE_S
from dhcp.actions import Store
from dhcp.leases import NEVER, Lease, State
from dhcp.options import MessageType
from dhcp.plan import Host, Plan
from dhcp.request import Request

_BY_PORT, _BY_CARD = "port:", "card:"
"""What stands before machine and client in a record of who is first behind a port: known by that alone, or by its card
too."""
_LONGEST_S = 30 * 86400
"""No such record holds for longer, though some leases may never end and the clock have been wrong."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose address it is."""

    mac: str | None
    """The card that asked last for it; None if this server was not asked for it yet."""
    node_name: str | None
    """The machine's name in the configuration; None if it is not there (its name is then `machine_name(mac)`)."""
    address: IPv4Address


@dataclass(slots=True)
class Grant:
    """A static address that a machine was told it has."""

    host: Host
    mac: str
    """The card that asked for it."""
    identity: str
    expires: int
    by_port: bool
    """Whether it is that machine only because of where it is plugged in."""


class Grants:
    """All of them, by address."""

    def __init__(self) -> None:
        self._grants: dict[IPv4Address, Grant] = {}

    def restore(self, records: Iterable[Lease], plan: Plan, now: float) -> Iterator[Lease]:
        """Take the records of who was first behind a port, and yield those that are leases.

        Who had an address that is another machine's now keeps it, as its own lease: a reload decides alike (`moved`).
        """
        for lease in records:
            if not is_at_port(lease):
                yield lease
            elif lease.state is State.BOUND and lease.expires > now:
                name, _, identity = lease.client.partition(":")[2].partition("/")
                owner = plan.by_address.get(lease.address)
                if owner is None or (owner.name != name and lease.mac not in owner.macs):
                    yield replace(lease, client=identity)
                elif owner.at_port:
                    expires = min(lease.expires, math.ceil(now) + min(plan.longest_promise_s, _LONGEST_S))
                    by_port = lease.client.startswith(_BY_PORT)
                    self._grants[lease.address] = Grant(owner, lease.mac, identity, expires, by_port)

    def records(self) -> Iterator[Lease]:
        """Yield what `restore` takes; not what never ends, as nobody could follow on a machine that is gone."""
        for address, grant in self._grants.items():
            if grant.host.at_port and grant.expires != NEVER:
                yield _record(address, grant)

    def at(self, address: IPv4Address) -> Grant | None:
        """Return who was told last that `address` is his."""
        return self._grants.get(address)

    def of_port(self, request: Request, plan: Plan, leased: Lease | None, now: float) -> Request:
        """Return the request with the machine that it is from as far as its port tells, which is one at a time.

        Two may be behind one port of a switch, or many if only the switch is configured. The first is the machine that
        is meant until its time is over or it gives its address back: within that, who replaces it is a second one, and
        is not listed. Who renews does so past the relay, so that only its address tells. `leased` is the lease of the
        address that it says it has, if there is one.
        """
        host = request.host
        renews = request.message_type in (MessageType.DHCPREQUEST, MessageType.DHCPRELEASE) and not request.requested
        if host is None and renews and request.arrival.unicast and not request.relayed:
            host = plan.by_address.get(request.message.ciaddr)
            request = replace(request, host=host, by_port=True) if host is not None and host.at_port else request
        if host is None or not host.at_port:
            return request
        if request.by_port and leased is not None and leased.client == request.identity:
            return replace(request, host=None, not_first=f"{leased.address} is its own still")
        grant = self._grants.get(host.address)
        if grant is None or grant.expires <= now or grant.mac == request.mac:
            return request
        if request.by_port or grant.by_port:
            return replace(request, host=None, not_first=f"{host.address}, its port's, is that of {grant.mac}")
        return request

    def give(self, host: Host, mac: str, identity: str, lease_s: int, now: float, *, by_port: bool) -> list[Store]:
        """Take note that a machine was told that its address is its own. Return what is to be stored beside that."""
        expires = NEVER if lease_s == INFINITE_S else math.ceil(now) + lease_s
        self._grants[host.address] = grant = Grant(host, mac, identity, expires, by_port)
        return [Store(_record(host.address, grant), ours=True)] if host.at_port and expires != NEVER else []

    def end(self, address: IPv4Address, now: float) -> list[Store]:
        """Take note that the machine needs its address no more. Return what is to be stored beside that."""
        grant = self._grants.pop(address, None)
        if grant is None or not grant.host.at_port:
            return []
        return [Store(replace(_record(address, grant), state=State.RELEASED, expires=math.floor(now)), ours=True)]

    def moved(self, plan: Plan) -> Iterator[Lease]:
        """Yield, as a lease, each address that is another machine's in the new `plan`, or nobody's, and forget it."""
        for address, grant in list(self._grants.items()):
            owner = plan.by_address.get(address)
            if owner is None or (owner.name != grant.host.name and grant.mac not in owner.macs):
                del self._grants[address]
                yield Lease(address, grant.identity, grant.expires, mac=grant.mac)

    def follow(self, plan: Plan) -> list[Store]:
        """Take the machines as they are in the new `plan`. Return what is to be stored of those at a port."""
        changed = []
        for address, grant in self._grants.items():
            owner, was_at_port = plan.by_address[address], grant.host.at_port
            grant.host = owner
            record = _record(address, grant)
            if owner.at_port and grant.expires != NEVER:
                changed.append(Store(record, ours=True))
            elif was_at_port:
                changed.append(Store(replace(record, state=State.RELEASED, expires=0), ours=True))
        return changed

    def shift(self, by_s: int) -> None:
        """Move every time by `by_s`."""
        for grant in self._grants.values():
            grant.expires += by_s if grant.expires != NEVER else 0


def is_at_port(record: Lease) -> bool:
    """Return whether a record is no lease, but says who is first behind a port."""
    return record.client.startswith((_BY_PORT, _BY_CARD))


def _record(address: IPv4Address, grant: Grant) -> Lease:
    client = f"{_BY_PORT if grant.by_port else _BY_CARD}{grant.host.name}/{grant.identity}"
    return Lease(address, client, grant.expires, mac=grant.mac)
