"""What the DHCP engine needs to know of a farm, ready to be put into packets.

A `Plan` is made anew at each reload and swapped whole. It knows every machine by MAC and by address, and every
option as bytes, so that answering needs no more than a look-up and a merge.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from config.dhcp import INFINITE_S
from config.model import DhcpOptions, Farm, Subnet
from dhcp import options
from dhcp.options import Option

OWN_OPTIONS = frozenset(
    {
        Option.SUBNET_MASK,
        Option.REQUESTED_IP_ADDRESS,
        Option.IP_ADDRESS_LEASE_TIME,
        Option.OPTION_OVERLOAD,
        Option.DHCP_MESSAGE_TYPE,
        Option.SERVER_IDENTIFIER,
        Option.PARAMETER_REQUEST_LIST,
        Option.MAXIMUM_DHCP_MESSAGE_SIZE,
        Option.RENEWAL_TIME,
        Option.REBINDING_TIME,
        Option.CLIENT_IDENTIFIER,
        Option.RELAY_AGENT_INFORMATION,
    }
)
"""Options that the protocol itself decides; a configuration cannot set them by number."""

OptionBytes = Mapping[int, bytes]
"""Options by number. An empty value says "none", and takes away what a less specific place said."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that we know. It is the same one whichever of its MACs boots."""

    name: str
    address: IPv4Address
    macs: tuple[str, ...]
    options: OptionBytes
    """What its tags say; over its network's options."""


@dataclass(frozen=True, slots=True)
class DynamicPool:
    """Addresses `first` to `last`, as integers, for machines that we do not know."""

    first: int
    last: int
    excluded: frozenset[int]
    """Never given out: static leases, routers, servers, the network's own and its broadcast address."""

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= int(address) <= self.last and int(address) not in self.excluded

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Network:
    """One subnet that we answer on."""

    network: IPv4Network
    pool: DynamicPool | None
    options: OptionBytes
    """What everybody there gets."""
    unknown_options: OptionBytes
    """What the tags of machines that we do not know say; over `options`."""
    unknown_boots: bool
    """Whether a machine that we do not know gets a boot file."""
    next_server: IPv4Address | None

    def is_host(self, address: IPv4Address) -> bool:
        """Return whether `address` can be a machine's: in the network, and neither its first nor its last."""
        if address not in self.network:
            return False
        edges = (self.network.network_address, self.network.broadcast_address)
        return self.network.prefixlen > 30 or address not in edges


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the engine is told."""

    networks: tuple[Network, ...]
    by_mac: Mapping[str, Host] = field(repr=False)
    by_address: Mapping[IPv4Address, Host] = field(repr=False)
    lease_s: int
    authoritative: bool
    server_address: IPv4Address | None
    http_port: int

    def network_of(self, address: IPv4Address) -> Network | None:
        """Return the smallest network that `address` lies in."""
        return next((network for network in self.networks if address in network.network), None)


def machine_name(mac: str) -> str:
    """Return the host name of a machine that is not in the configuration.

    >>> machine_name("52:54:00:12:34:56")
    'node-525400123456'
    """
    return "node-" + mac.replace(":", "")


def plan(farm: Farm) -> Plan:
    """Return what `farm` means for DHCP.

    The most specific place wins: subnet < tag `all` < the pool's tags in order < the machine's own tags.
    Raises `ValueError` for an option that cannot be encoded, or that the protocol reserves for itself.
    """
    tag_options = {name: option_bytes(tag.dhcp) for name, tag in farm.tags.items()}
    merged: dict[tuple[str, ...], OptionBytes] = {}

    def carried(tags: tuple[str, ...]) -> OptionBytes:
        """The options of machines with these tags: one value for all that share them."""
        if tags not in merged:
            merged[tags] = overlay(*(tag_options.get(tag, {}) for tag in ("all", *tags)))
        return merged[tags]

    hosts = [
        Host(node.name, node.ip, node.macs, carried((*pool.tags, *node.tags)))
        for pool in farm.pools
        for node in pool.nodes
    ]
    pools = {pool.name: pool for pool in farm.pools}
    taken = sorted({int(host.address) for host in hosts} | {int(address) for address in _infrastructure(farm)})
    networks = []
    for subnet in sorted(farm.dhcp.subnets, key=lambda subnet: subnet.subnet.prefixlen, reverse=True):
        unknown = pools.get(subnet.unknown or "")
        networks.append(
            Network(
                network=subnet.subnet,
                pool=_pool(subnet, taken),
                options=_subnet_options(subnet),
                unknown_options=carried(unknown.tags if unknown else ()),
                unknown_boots=unknown is not None,
                next_server=subnet.next_server,
            )
        )
    return Plan(
        networks=tuple(networks),
        by_mac={mac: host for host in hosts for mac in host.macs},
        by_address={host.address: host for host in hosts},
        lease_s=INFINITE_S if farm.dhcp.lease_s == "infinite" else farm.dhcp.lease_s,
        authoritative=farm.dhcp.authoritative,
        server_address=farm.server.address,
        http_port=farm.server.http_port,
    )


def overlay(*layers: OptionBytes) -> OptionBytes:
    """Return the options of all layers; a later layer wins."""
    out: dict[int, bytes] = {}
    for layer in layers:
        out |= layer
    return out


def option_bytes(settings: DhcpOptions) -> OptionBytes:
    """Encode what `settings` sets, and only that.

    Raises `ValueError` for a name that DNS cannot carry, for hex that is none, and for a number in `OWN_OPTIONS`.
    """
    out: dict[int, bytes] = {}
    lists = (
        (Option.ROUTER, settings.routers),
        (Option.DOMAIN_NAME_SERVER, settings.domain_name_servers),
        (Option.LOG_SERVER, settings.log_servers),
        (Option.NTP_SERVERS, settings.ntp_servers),
    )
    for code, addresses in lists:
        if addresses is not None:
            out[code] = options.encode_addresses(addresses)
    if settings.domain_name is not None:
        out[Option.DOMAIN_NAME] = settings.domain_name.encode()
    if settings.mtu is not None:
        out[Option.INTERFACE_MTU] = settings.mtu.to_bytes(2, "big")
    if settings.broadcast_address is not None:
        out[Option.BROADCAST_ADDRESS] = settings.broadcast_address.packed
    if settings.domain_search is not None:
        out[Option.DOMAIN_SEARCH] = options.encode_domain_search(settings.domain_search)
    if settings.static_routes is not None:
        out[Option.CLASSLESS_STATIC_ROUTE] = options.encode_static_routes(
            (route.to, route.via) for route in settings.static_routes
        )
    for key, text in settings.options.items():
        number = int(key)
        if not isinstance(text, str):
            raise ValueError(f"option {number} is {text!r}; write its bytes in hex, such as 0a4d0001")
        if number in OWN_OPTIONS:
            raise ValueError(f"option {number} is the protocol's own; it cannot be set by number")
        try:
            out[number] = bytes.fromhex(text.replace(":", " "))
        except ValueError:
            raise ValueError(f"option {number} is {text!r}; write its bytes in hex, such as 0a4d0001") from None
    return out


def _subnet_options(subnet: Subnet) -> OptionBytes:
    network = subnet.subnet
    own: dict[int, bytes] = {
        Option.SUBNET_MASK: network.netmask.packed,
        Option.BROADCAST_ADDRESS: network.broadcast_address.packed,
    }
    return overlay(own, option_bytes(subnet))


def _pool(subnet: Subnet, taken: list[int]) -> DynamicPool | None:
    """The subnet's pool without what is taken, which is sorted."""
    if subnet.pool is None:
        return None
    first, last = int(subnet.pool.first), int(subnet.pool.last)
    excluded = set(taken[bisect_left(taken, first) : bisect_left(taken, last + 1)])
    if subnet.subnet.prefixlen <= 30:
        excluded |= {int(subnet.subnet.network_address), int(subnet.subnet.broadcast_address)}
    return DynamicPool(first, last, frozenset(excluded))


def _infrastructure(farm: Farm) -> Iterable[IPv4Address]:
    """Addresses that the configuration names as somebody else's than a machine's."""
    places: list[DhcpOptions] = [*farm.dhcp.subnets, *(tag.dhcp for tag in farm.tags.values())]
    for place in places:
        for addresses in (place.routers, place.domain_name_servers, place.log_servers, place.ntp_servers):
            yield from addresses or ()
        yield from (route.via for route in place.static_routes or ())
        if place.broadcast_address is not None:
            yield place.broadcast_address
    for server in (farm.server.address, *(subnet.next_server for subnet in farm.dhcp.subnets)):
        if server is not None:
            yield server
