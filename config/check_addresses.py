"""Whether addresses are ones that a machine, a router or a server can have. Pure."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

from config.check_dhcp import edges, levels, usable
from config.dhcp import DhcpOptions
from config.finding import Finding
from config.model import Farm
from config.yamltree import Place


def unusable(number: int) -> str | None:
    """Return why nobody can be reached at an address, given as an integer; None if somebody can (RFC 6890).

    >>> unusable(0x0A000001) is None, unusable(0x7F000035)
    (True, 'is what every machine calls itself')
    """
    first = number >> 24
    if 0 < first < 224 and first != 127:
        return None
    if number == 0:
        return "is no address of anybody"
    if first == 0:
        return "lies in 0.0.0.0/8, where nobody is"
    if first == 127:
        return "is what every machine calls itself"
    if first < 240:
        return "is the address of a group (multicast)"
    return (
        "is the address of everybody on the wire" if number == 0xFFFFFFFF else "lies in 240.0.0.0/4, where nobody is"
    )


def addresses(farm: Farm) -> Iterator[Finding]:
    """Yield each address at which nobody can be."""
    for p, pool in enumerate(farm.pools):
        for n, node in enumerate(pool.nodes):
            if why := unusable(int(node.ip)):
                yield Finding(("pools", p, "nodes", n, "ip"), f"{node.name}: {node.ip} {why}")
    for place, settings in levels(farm):
        if settings.model_fields_set:
            yield from _told(place, settings)
    for s, subnet in enumerate(farm.dhcp.subnets):
        network, at = subnet.subnet, ("dhcp", "subnets", s)
        if why := unusable(int(network.network_address)) or unusable(int(network.broadcast_address)):
            text = f"no machine can be in {network}: {network.network_address} {why}"
            if not unusable(int(network.network_address)):
                text = f"no machine can be in all of {network}: {network.broadcast_address} {why}"
            yield Finding((*at, "subnet"), text)
            continue
        no_ones = edges(network)
        for key, place in (("routers", at), *(("routers", (*at, "pools", p)) for p in range(len(subnet.pools)))):
            said = subnet if place == at else subnet.pools[int(place[-1])]
            for r, router in enumerate(said.routers or ()):
                if int(router) in no_ones:
                    text = f"routers: {router} is {no_ones[int(router)]} of {network}; allowed: {usable(network)}"
                    yield Finding((*place, key, r), text)
    yield from _our_own(farm)
    for name, cluster in farm.clusters.items():
        address = cluster.api_address  # a machine may have a load balancer of its own
        if address is not None and not address.is_loopback and (why := unusable(int(address))):
            text = f"clusters.{name}.api_address: {address} {why}"
            yield Finding(("clusters", name, "api_address"), text)


def services(settings: DhcpOptions) -> list[tuple[str, Sequence[IPv4Address]]]:
    """Return the lists of servers that a machine may also be itself, by their keys."""
    lists = {
        "domain_name_servers": settings.domain_name_servers,
        "log_servers": settings.log_servers,
        "ntp_servers": settings.ntp_servers,
    }
    return [(key, told) for key, told in lists.items() if told]


def _told(at: Place, settings: DhcpOptions) -> Iterator[Finding]:
    """Addresses that machines are told of, to ask somebody there."""
    for key, told in (("routers", settings.routers or ()), *services(settings)):
        for t, address in enumerate(told):
            why = unusable(int(address))
            if why and (key == "routers" or not address.is_loopback):
                yield Finding((*at, key, t), f"{key}: {address} {why}")
    if settings.next_server is not None and (why := unusable(int(settings.next_server))):
        yield Finding((*at, "next_server"), f"next_server: {settings.next_server} {why}")
    for r, route in enumerate(settings.static_routes or ()):
        if int(route.via) and (why := unusable(int(route.via))):  # 0.0.0.0: on this wire (RFC 3442)
            yield Finding((*at, "static_routes", r, "via"), f"static_routes: {route.via} {why}")


def _our_own(farm: Farm) -> Iterator[Finding]:
    own = farm.server.address
    if own is None:
        return
    place = ("server", "address")
    if why := unusable(int(own)):
        yield Finding(place, f"server.address: {own} {why}; leave it out, and it is the interface's own")
        return
    for subnet in farm.dhcp.subnets:
        if own in subnet.subnet and (what := edges(subnet.subnet).get(int(own))):
            yield Finding(place, f"server.address: {own} is {what} of {subnet.subnet}")
