"""Which machine was told, until when, that its own address is its own. Pure.

A static address is a function of the configuration and needs no record, but for this: who asks from it is the card
that was told last, and a reload that gives it to another machine must not take it from one that still uses it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from config.dhcp import INFINITE_S
from dhcp.leases import NEVER, Lease
from dhcp.options import MessageType
from dhcp.plan import Host, Plan
from dhcp.request import Request


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

    def give(self, host: Host, mac: str, identity: str, lease_s: int, now: float, *, by_port: bool) -> None:
        """Take note that a machine was told that its address is its own."""
        expires = NEVER if lease_s == INFINITE_S else math.ceil(now) + lease_s
        self._grants[host.address] = Grant(host, mac, identity, expires, by_port)

    def end(self, address: IPv4Address) -> None:
        """Take note that the machine needs its address no more."""
        self._grants.pop(address, None)

    def moved(self, plan: Plan) -> Iterator[Lease]:
        """Yield, as a lease, each address that is another machine's in the new `plan`, or nobody's, and forget it."""
        for address, grant in list(self._grants.items()):
            owner = plan.by_address.get(address)
            if owner is None or (owner.name != grant.host.name and grant.mac not in owner.macs):
                del self._grants[address]
                yield Lease(address, grant.identity, grant.expires, mac=grant.mac)

    def shift(self, by_s: int) -> None:
        """Move every time by `by_s`."""
        for grant in self._grants.values():
            grant.expires += by_s if grant.expires != NEVER else 0
