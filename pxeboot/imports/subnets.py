"""Ranges of addresses, as dnsmasq has them one by one → subnets with address pools. Pure."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from config.check_dhcp import edges
from config.yamltree import Mark, Scalar
from pxeboot.imports.found import Draft, tree
from pxeboot.imports.ranges import Range


@dataclass(frozen=True, slots=True)
class Given:
    """One range with its network. Without a range, only the network is to be served."""

    mark: Mark
    network: IPv4Network
    range: Range | None
    pool: str
    """The pool of machines that strangers with an address of it belong to; empty: none."""
    options: dict[str, Any] = field(default_factory=dict)
    """DHCP options for the addresses of this range alone."""


@dataclass(slots=True)
class Subnets:
    """The subnets, as they are found."""

    _given: dict[IPv4Network, list[Given]] = field(default_factory=dict)
    _options: dict[IPv4Network, dict[str, Any]] = field(default_factory=dict)

    def network_of(self, address: IPv4Address) -> IPv4Network | None:
        """Return the known network that an address is in, the smallest one."""
        known = [network for network in self._given if address in network]
        return max(known, key=lambda network: network.prefixlen, default=None)

    def given(self, network: IPv4Network) -> list[Given]:
        """Return what a network was given so far."""
        return self._given.get(network, [])

    def options(self, network: IPv4Network) -> dict[str, Any]:
        """Return the options of a network, to be added to."""
        self._given.setdefault(network, [])
        return self._options.setdefault(network, {})

    def take(self, given: Given, draft: Draft) -> None:
        """Add a range to its network; what goes beyond the network's addresses is cut off."""
        held = self._given.setdefault(given.network, [])
        found = given.range
        if found is None or found.last is None or not found.broadcast:
            held.append(given)
            return
        real = given.network.broadcast_address
        if found.broadcast != real:
            draft.lost(given.mark, f"the broadcast address {found.broadcast}", f"that of {given.network} is {real}")
        held.append(given)

    def tree(self, draft: Draft) -> list[Any]:
        """Return the farm's subnets."""
        return [self._subnet(network, self._given[network], draft) for network in sorted(self._given)]

    def _subnet(self, network: IPv4Network, given: list[Given], draft: Draft) -> Any:
        mark = given[0].mark if given else (0, 0)
        made: dict[str, Any] = {"subnet": Scalar(mark, str(network))}
        ranged = [(one, one.range) for one in given if one.range is not None]
        if any(found.mode == "proxy" for _, found in ranged):
            made["proxy"] = True
        dynamic = [(one, found) for one, found in ranged if found.last is not None and found.mode != "proxy"]
        pools = []
        for one, found in dynamic:
            bounds = self._bounds(one, found, draft)
            if bounds is not None:
                pools.append((one, found, bounds))
        times = {found.lease_s for _, found in ranged if found.mode != "proxy"}
        same = times.pop() if len(times) == 1 else None
        if len(pools) == 1 and not pools[0][0].options:
            one, found, bounds = pools[0]
            made["pool"] = Scalar(one.mark, bounds)
            same = found.lease_s or same
        elif pools:
            made["pools"] = [self._pool(one, found, bounds, same) for one, found, bounds in pools]
        if unknown := self._unknown(pools, draft):
            made["unknown"] = unknown
        if same:
            made["lease_s"] = Scalar(mark, same)
        return tree(made | self._options.get(network, {}), mark)

    def _pool(self, one: Given, found: Range, bounds: str, same: str | None) -> Any:
        made: dict[str, Any] = {"range": Scalar(one.mark, bounds), **one.options}
        if found.lease_s and found.lease_s != same:
            made["lease_s"] = found.lease_s
        return tree(made, one.mark)

    def _bounds(self, one: Given, found: Range, draft: Draft) -> str | None:
        """The first and last address of a range, as far as machines of its network can have them."""
        first, last = found.first, found.last or found.first
        odd = edges(one.network)
        low = max(int(first), int(one.network.network_address))
        high = min(int(last), int(one.network.broadcast_address))
        low, high = low + (low in odd), high - (high in odd)
        if high < low:
            draft.lost(one.mark, f"the range {first}-{last}", f"no machine of {one.network} can have its addresses")
            return None
        kept = f"{IPv4Address(low)}-{IPv4Address(high)}"
        if (low, high) != (int(first), int(last)):
            draft.note(one.mark, f"the range {first}-{last}", f"of {one.network}, machines can have {kept} of it")
        return kept

    def _unknown(self, pools: list[tuple[Given, Range, str]], draft: Draft) -> Scalar | None:
        """The one pool that strangers of a subnet belong to."""
        named = [one for one, _, _ in pools if one.pool]
        for other in named[1:]:
            if other.pool != named[0].pool:
                why = f"strangers of {other.network} belong to one pool, and that is {named[0].pool!r}"
                draft.lost(other.mark, f"strangers of the pool {other.pool!r}", why)
        return Scalar(named[0].mark, named[0].pool) if named else None
