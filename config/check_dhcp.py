"""Whether networks, address pools, lease times and options fit together. Pure."""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network

from config.architectures import ARCHITECTURE_NAMES, BY_NAME
from config.check_options import options
from config.dhcp import INFINITE_S, Dhcp, DhcpOptions, Subnet
from config.finding import Finding, Names
from config.mistakes import suggestion
from config.model import Farm
from config.setting import AddressRange, Setting
from config.yamltree import Place

_MOST_CLASS_BYTES = 254
"""One option 60, with the NUL that some clients want."""
_URLS = ("http://", "https://")


def dhcp(farm: Farm, names: Names) -> Iterator[Finding]:
    """Yield what does not hold in the DHCP part of a farm."""
    yield from _overlaps(farm.dhcp)
    for s, subnet in enumerate(farm.dhcp.subnets):
        yield from _pools(("dhcp", "subnets", s), subnet, farm)
    yield from _shared_networks(farm.dhcp, names.subnets_known)
    if names.lease_s_known:
        yield from _lease_times(farm.dhcp)
    shortest_s = farm.dhcp.shortest_lease_s
    for place, settings in levels(farm):
        if settings.model_fields_set:
            yield from options(place, settings)
            if settings is not farm.dhcp and (_seconds(settings.lease_s) or shortest_s) < shortest_s:
                text = f"{settings.lease_s} is less than dhcp.shortest_lease_s, which is {shortest_s}"
                yield Finding((*place, "lease_s"), text, ("dhcp", "shortest_lease_s"))
    yield from _architectures(farm.dhcp)
    yield from _quirks(farm.dhcp)


def levels(farm: Farm) -> Iterator[tuple[Place, DhcpOptions]]:
    """Every place that can say options, with what it says."""
    yield ("dhcp",), farm.dhcp
    for name, shared in farm.dhcp.shared_networks.items():
        yield ("dhcp", "shared_networks", name), shared
    for s, subnet in enumerate(farm.dhcp.subnets):
        yield ("dhcp", "subnets", s), subnet
        for p, pool in enumerate(subnet.pools):
            yield ("dhcp", "subnets", s, "pools", p), pool
    for name, architecture in farm.dhcp.architectures.items():
        yield ("dhcp", "architectures", name), architecture
    for name, tag in farm.tags.items():
        yield ("tags", name, "dhcp"), tag.dhcp
    for p, group in enumerate(farm.pools):
        for n, node in enumerate(group.nodes):
            yield ("pools", p, "nodes", n, "dhcp"), node.dhcp


def _overlaps(dhcp: Dhcp) -> Iterator[Finding]:
    """Two networks overlap only if one lies in the other, so that it is enough to know which are open."""
    order = sorted(
        range(len(dhcp.subnets)),
        key=lambda s: (int(dhcp.subnets[s].subnet.network_address), dhcp.subnets[s].subnet.prefixlen),
    )
    around: list[int] = []
    for inner in order:
        while around and not dhcp.subnets[around[-1]].subnet.overlaps(dhcp.subnets[inner].subnet):
            around.pop()
        for outer in around:
            first, second = sorted((inner, outer))
            text = f"the subnet {dhcp.subnets[second].subnet} overlaps with {dhcp.subnets[first].subnet}"
            yield Finding(("dhcp", "subnets", second, "subnet"), text, ("dhcp", "subnets", first, "subnet"))
        around.append(inner)


def _pools(at: Place, subnet: Subnet, farm: Farm) -> Iterator[Finding]:
    """The address pools of one subnet: those of `pools`, and `pool`."""
    above = farm.dhcp.shared_networks.get(subnet.shared_network or "")
    routers = [router for level in (subnet, above, farm.dhcp) if level for router in level.routers or ()]
    found: list[tuple[Place, AddressRange]] = []
    if subnet.pool is not None:
        found.append(((*at, "pool"), subnet.pool))
        yield from _pool((*at, "pool"), subnet.pool, subnet.subnet, routers, farm.server.address)
    for p, pool in enumerate(subnet.pools):
        place = (*at, "pools", p, "range")
        found.append((place, pool.range))
        inside = [*routers, *(pool.routers or ())]
        yield from _pool(place, pool.range, subnet.subnet, inside, farm.server.address)
    if subnet.proxy:
        for place, pool_range in found:
            text = f"the pool {pool_range} is on a network where somebody else gives the addresses (proxy: true)"
            yield Finding(place, text, (*at, "proxy"))
    found.sort(key=lambda one: one[1].first)
    last: tuple[Place, AddressRange] | None = None
    for one in found:
        if last is not None and one[1].first <= last[1].last:
            later, earlier = (one, last) if _order(last[0]) < _order(one[0]) else (last, one)
            yield Finding(later[0], f"the pool {later[1]} overlaps with {earlier[1]}", earlier[0])
        if last is None or one[1].last > last[1].last:
            last = one


def _order(place: Place) -> int:
    """`pool` comes first, then those of `pools`."""
    return int(place[-2]) if place[-1] == "range" else -1


def _pool(
    place: Place, pool: AddressRange, network: IPv4Network, routers: list[IPv4Address], own: IPv4Address | None
) -> Iterator[Finding]:
    if pool.first not in network or pool.last not in network:
        yield Finding(place, f"the pool {pool} leaves its subnet {network}, whose machines are {usable(network)}")
        return
    for number, what in edges(network).items():
        edge = IPv4Address(number)
        if edge in pool:
            yield Finding(place, f"the pool {pool} holds {edge}, {what} of {network}; allowed: {usable(network)}")
    for router in dict.fromkeys(routers):
        if router in pool:
            yield Finding(place, f"the pool {pool} holds {router}, which is a router of this subnet")
    if own is not None and own in pool:
        yield Finding(place, f"the pool {pool} holds {own}, which is our own address")


def edges(network: IPv4Network) -> Mapping[int, str]:
    """The addresses of a network that no machine can have, as integers."""
    if network.prefixlen > 30:
        return {}
    first, last = int(network.network_address), int(network.broadcast_address)
    return {first: "the network address", last: "the broadcast address"}


def usable(network: IPv4Network) -> str:
    """The addresses of a network that machines can have, for people."""
    inner = 0 if network.prefixlen > 30 else 1
    return f"{network.network_address + inner}-{network.broadcast_address - inner}"


def _shared_networks(dhcp: Dhcp, subnets_known: bool) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for s, subnet in enumerate(dhcp.subnets):
        name = subnet.shared_network
        if name is None:
            continue
        other = first.setdefault(name, s)
        if dhcp.subnets[other].proxy != subnet.proxy:
            ours, theirs = ("somebody else gives", "we give") if subnet.proxy else ("we give", "somebody else gives")
            text = (
                f"in the shared network {name!r}, {ours} the addresses of {subnet.subnet}, and {theirs} those of "
                f"{dhcp.subnets[other].subnet}; write the same `proxy` for both"
            )
            yield Finding(("dhcp", "subnets", s, "shared_network"), text, ("dhcp", "subnets", other))
    for name in dhcp.shared_networks:
        if name not in first and subnets_known:
            listed = ", ".join(sorted(first)[:20]) or "none"
            text = f"no subnet is in the shared network {name!r}; named by subnets: {listed}{suggestion(name, first)}"
            yield Finding(("dhcp", "shared_networks", name), text, key=True)


def _lease_times(dhcp: Dhcp) -> Iterator[Finding]:
    lease_s, longest_s = _seconds(dhcp.lease_s), _seconds(dhcp.longest_lease_s)
    if lease_s is not None and dhcp.shortest_lease_s > lease_s:
        text = f"dhcp.shortest_lease_s is {dhcp.shortest_lease_s}, more than dhcp.lease_s, which is {dhcp.lease_s}"
        yield Finding(("dhcp", "shortest_lease_s"), text)
    if longest_s is not None and lease_s is not None and longest_s < lease_s:
        text = f"dhcp.longest_lease_s is {dhcp.longest_lease_s}, less than dhcp.lease_s, which is {dhcp.lease_s}"
        yield Finding(("dhcp", "longest_lease_s"), text)


def _seconds(lease_s: int | str | None) -> int | None:
    return INFINITE_S if isinstance(lease_s, str) else lease_s


def _architectures(dhcp: Dhcp) -> Iterator[Finding]:
    for name, settings in dhcp.architectures.items():
        at: Place = ("dhcp", "architectures", name)
        if name not in ARCHITECTURE_NAMES:
            near = suggestion(name, ARCHITECTURE_NAMES)
            # There are forty: a list of them all helps only who is nowhere near.
            hint = near or f"; known: {', '.join(ARCHITECTURE_NAMES)}"
            text = f"there is no architecture {name!r}{hint}"
            yield Finding(at, text, key=True)
        elif name in BY_NAME and BY_NAME[name].http and not (settings.boot_file or _URLS[0]).startswith(_URLS):
            text = f"{name} fetches its boot file by HTTP; write a URL such as http://10.28.0.2/boot.efi"
            yield Finding((*at, "boot_file"), text)


def _quirks(dhcp: Dhcp) -> Iterator[Finding]:
    known: dict[str, Place] = {}
    for q, quirk in enumerate(dhcp.quirks):
        at: Place = ("dhcp", "quirks", q)
        place = (*at, "name")
        if quirk.name in known:
            yield Finding(place, f"there is already a quirk named {quirk.name!r}", known[quirk.name])
        known.setdefault(quirk.name, place)
        # Without an effect it is how one takes a built-in quirk away, whoever it matches.
        if _says_nothing(quirk.match) and not _says_nothing(quirk.model_copy(update=_NO_EFFECT)):
            text = f"the quirk {quirk.name!r} matches every client; write what they have in common"
            yield Finding((*at, "match"), f"{text}, or vendor_classes: ['*'] if all are meant")
        for number in sorted({*quirk.match.has_options} & {*quirk.match.lacks_options}):
            text = f"the quirk {quirk.name!r} matches nobody: option {number} is in has_options, and in lacks_options"
            yield Finding((*at, "match"), text)
        vendor_class = quirk.vendor_class or ""
        if len(vendor_class.encode()) > _MOST_CLASS_BYTES or not vendor_class.isprintable():
            text = f"it is one line of {_MOST_CLASS_BYTES} bytes at most, without control characters"
            yield Finding((*at, "vendor_class"), text)
        smallest, largest = quirk.smallest_bytes, quirk.largest_bytes
        if smallest is not None and largest is not None and smallest > largest:
            text = f"smallest_bytes is {smallest}, more than largest_bytes, which is {largest}"
            yield Finding((*at, "smallest_bytes"), text)


_NO_EFFECT = {"name": None, "source": None, "match": None}


def _says_nothing(settings: Setting) -> bool:
    return all(value in (None, ()) for _, value in settings)
