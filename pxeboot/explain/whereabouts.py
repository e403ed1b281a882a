"""At which of our addresses a machine's packet comes in. Pure; whoever knows the interfaces hands them in."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from config.model import Farm
from dhcp.plan import Network, Plan
from dhcp.wire import NO_ADDRESS


@dataclass(frozen=True, slots=True)
class Ours:
    """An address of ours, and how we know it."""

    address: IPv4Address
    how: str
    stand_in: bool = False
    """Whether it is made up, as nothing tells the real one; what depends on it would differ."""


def our_address(
    farm: Farm, plan: Plan, here: Sequence[IPv4Interface], own: IPv4Address | None, giaddr: IPv4Address = NO_ADDRESS
) -> Ours | None:
    """Return where a machine's packet comes in; None if that is anybody's guess.

    `own` is the machine's own address, if it is configured. `here` are the
    addresses of the interfaces that the farm serves, as far as they are on this computer.
    """
    network = _network(plan, own, giaddr)
    if here:
        near = [one for one in here if network is not None and one.ip in network.network]
        if near or len(here) == 1 or giaddr != NO_ADDRESS:
            return Ours((near or here)[0].ip, "the interface's")
    fixed = farm.server.address
    if fixed is not None and (network is None or fixed in network.network or giaddr != NO_ADDRESS):
        return Ours(fixed, "server.address")
    if network is None:
        return None
    subnet = next(subnet for subnet in farm.dhcp.subnets if subnet.subnet == network.network)
    if subnet.next_server is not None and subnet.next_server in subnet.subnet:
        return Ours(subnet.next_server, "next_server of its subnet")
    for number in range(network.first, network.last + 1):
        address = IPv4Address(number)
        if address not in plan.by_address and network.pool_of(address) is None and address != giaddr:
            return Ours(address, "made up: no interface of the farm is here", stand_in=True)
    return None


def _network(plan: Plan, own: IPv4Address | None, giaddr: IPv4Address) -> Network | None:
    """The network that a machine is on, as far as the configuration tells."""
    if giaddr != NO_ADDRESS:
        return plan.network_of(giaddr) or next(iter(plan.networks), None)  # a relay reaches us from anywhere
    if own is not None:
        return plan.network_of(own)
    return plan.networks[0] if len(plan.networks) == 1 else None
