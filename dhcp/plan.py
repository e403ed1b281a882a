"""What the DHCP engine needs to know of a farm, ready to be put into packets.

A `Plan` is made anew at each reload and swapped whole. It knows every machine by what it may be known by, and every
option as bytes, so that answering needs no more than a look-up and a merge.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network

from config.model import DhcpOptions, Farm, Limits, Node, Subnet
from dhcp import boot, options
from dhcp.layers import LEASE_TIME, SIADDR, Layer, option_bytes, seconds
from dhcp.options import Option

_SOMEBODYS = (
    Option.ROUTER,
    Option.DOMAIN_NAME_SERVER,
    Option.LOG_SERVER,
    Option.BROADCAST_ADDRESS,
    Option.NTP_SERVERS,
    SIADDR,
)
"""Options that name addresses which no machine may get (`_infrastructure`)."""
_LONGEST_LABEL = 63
"""Of a host name (RFC 1035 section 2.3.4)."""
_SYSLOG_PORT = 514
"""Option 7 names no port, so that this is where a log server is."""


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """A machine that we know. It is the same one whichever of its MACs boots."""

    name: str
    address: IPv4Address
    macs: tuple[str, ...]
    tags: tuple[Layer, ...]
    """What its tags say; over its network's options."""
    own: Layer
    """What it says itself."""
    at_port: bool
    """Whether it may be known by where it is plugged in, as any machine that is put there."""


@dataclass(frozen=True, slots=True, eq=False)
class DynamicPool:
    """Addresses `first` to `last`, as integers, for machines that we do not know."""

    first: int
    last: int
    excluded: frozenset[int]
    """Never given out: static leases, routers, servers, the network's own and its broadcast address."""
    layers: tuple[Layer, ...] = ()
    """What the pool says itself."""

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= int(address) <= self.last and int(address) not in self.excluded

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """One subnet that we answer on."""

    network: IPv4Network
    pools: tuple[DynamicPool, ...]
    layers: tuple[Layer, ...]
    """What everybody there gets."""
    unknown_tags: tuple[Layer, ...]
    """What the tags of machines that we do not know say; over `layers`."""
    unknown_boots: bool
    """Whether a machine that we do not know gets a boot file."""
    proxy: bool
    """Whether somebody else gives the addresses."""

    @property
    def first(self) -> int:
        """The first address that can be a machine's, as a number."""
        return int(self.network.network_address) + (self.network.prefixlen <= 30)

    @property
    def last(self) -> int:
        """The last address that can be a machine's, as a number."""
        return int(self.network.broadcast_address) - (self.network.prefixlen <= 30)

    def is_host(self, address: IPv4Address) -> bool:
        """Return whether `address` can be a machine's: in the network, and neither its first nor its last."""
        return self.first <= int(address) <= self.last

    def pool_of(self, address: IPv4Address) -> DynamicPool | None:
        """Return the pool that an address is of."""
        return next((pool for pool in self.pools if address in pool), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the engine is told."""

    networks: tuple[Network, ...]
    links: Mapping[Network, tuple[Network, ...]] = field(repr=False)
    """The networks of a shared network, by each of them; the one that was asked for comes first."""
    by_mac: Mapping[str, Host] = field(repr=False)
    by_address: Mapping[IPv4Address, Host] = field(repr=False)
    by_client_id: Mapping[bytes, Host] = field(repr=False)
    by_uuid: Mapping[bytes, Host] = field(repr=False)
    by_port: Mapping[tuple[bytes | None, bytes | None], Host] = field(repr=False)
    """By (circuit-id, remote-id) of relay option 82; None matches any."""
    architectures: Mapping[str, Layer] = field(repr=False)
    clients: boot.Clients
    """Says what a client is; with the quirks of the configuration and our own."""
    authoritative: bool
    match_client_id: bool
    probe: bool
    lease_s: int
    shortest_lease_s: int
    longest_lease_s: int
    limits: Limits
    offer_hold_s: int
    quarantine_s: int
    server_address: IPv4Address | None
    http_port: int
    is_log_server: bool
    """Whether clients are told that we are their log server (option 7), where nothing else is configured."""

    @property
    def longest_promise_s(self) -> int:
        """The longest lease that any place of the configuration gives."""
        layers = [*self.architectures.values()]
        for network in self.networks:
            layers += (*network.layers, *network.unknown_tags)
            layers += (layer for pool in network.pools for layer in pool.layers)
        for host in self.by_address.values():
            layers += (*host.tags, host.own)
        said = (layer.options.get(LEASE_TIME) for layer in layers)
        return max(self.longest_lease_s, self.lease_s, *(int.from_bytes(value, "big") for value in said if value))

    def network_of(self, address: IPv4Address) -> Network | None:
        """Return the smallest network that `address` lies in."""
        return next((network for network in self.networks if address in network.network), None)

    def link_of(self, network: Network) -> tuple[Network, ...]:
        """Return the networks on one wire with `network`, itself first."""
        return self.links.get(network, (network,))

    def host_of(
        self, mac: str, client_id: bytes | None, uuid: bytes | None, circuit: bytes | None, remote: bytes | None
    ) -> Host | None:
        """Return the machine that is known by any of these, the first of them that is."""
        host = self.by_mac.get(mac)
        if host is None and client_id is not None and self.by_client_id:
            host = self.by_client_id.get(client_id)
        if host is None and uuid is not None and self.by_uuid:
            host = self.by_uuid.get(uuid)
        if host is None and self.by_port and (circuit is not None or remote is not None):
            keys = ((circuit, remote), (circuit, None), (None, remote))
            host = next((self.by_port[key] for key in keys if key in self.by_port), None)
        return host


def machine_name(mac: str) -> str:
    """Return the host name of a machine that is not in the configuration.

    `mac` may be `id:` and an option 61 of up to 255 bytes. Where that makes no host name, its digest does.

    >>> machine_name("52:54:00:12:34:56")
    'node-525400123456'
    """
    name = "node-" + mac.replace(":", "")
    return name if len(name) <= _LONGEST_LABEL else "node-id-" + sha256(mac.encode()).hexdigest()[:32]


def plan(farm: Farm) -> Plan:
    """Return what `farm` means for DHCP.

    Raises `ValueError` for an option that cannot be encoded, or that the protocol reserves for itself.
    """
    tags = {name: Layer(("tags", name, "dhcp"), option_bytes(tag.dhcp)) for name, tag in farm.tags.items()}
    carried: dict[tuple[str, ...], tuple[Layer, ...]] = {}

    def layers_of(names: tuple[str, ...]) -> tuple[Layer, ...]:
        """What tags say: one value for all machines that share them."""
        if names not in carried:
            carried[names] = tuple(tags[name] for name in ("all", *names) if name in tags and tags[name].options)
        return carried[names]

    hosts, nodes = [], []
    for p, pool in enumerate(farm.pools):
        for n, node in enumerate(pool.nodes):
            own = Layer(("pools", p, "nodes", n, "dhcp"), option_bytes(node.dhcp))
            at_port = node.circuit_id is not None or node.remote_id is not None
            hosts.append(Host(node.name, node.ip, node.macs, layers_of((*pool.tags, *node.tags)), own, at_port))
            nodes.append(node)
    others = _infrastructure(farm, [*tags.values(), *(host.own for host in hosts)])
    taken = sorted({int(host.address) for host in hosts} | {int(address) for address in others})
    unknown_tags = {pool.name: layers_of(pool.tags) for pool in farm.pools}
    made: list[tuple[Subnet, Network]] = []
    for s, subnet in enumerate(farm.dhcp.subnets):
        network = Network(
            network=subnet.subnet,
            pools=tuple(_pools(subnet, s, taken, edges=farm.dhcp.exclude_first_last)),
            layers=tuple(_network_layers(farm, subnet, s)),
            unknown_tags=unknown_tags.get(subnet.unknown or "", layers_of(())),
            unknown_boots=subnet.unknown in unknown_tags,
            proxy=subnet.proxy,
        )
        made.append((subnet, network))
    dhcp = farm.dhcp
    lease_s = seconds(dhcp.lease_s)
    return Plan(
        networks=tuple(sorted((n for _, n in made), key=lambda n: n.network.prefixlen, reverse=True)),
        links=_links(made),
        by_mac={mac: host for host in hosts for mac in host.macs},
        by_address={host.address: host for host in hosts},
        by_client_id={key: host for host, node in zip(hosts, nodes, strict=True) for key in _client_ids(node)},
        by_uuid={
            key: host
            for host, node in zip(hosts, nodes, strict=True)
            if node.uuid is not None
            for key in (node.uuid.bytes, node.uuid.bytes_le)
        },
        by_port={
            (_raw(node.circuit_id), _raw(node.remote_id)): host
            for host, node in zip(hosts, nodes, strict=True)
            if node.circuit_id or node.remote_id
        },
        architectures={
            name: Layer(("dhcp", "architectures", name), option_bytes(settings))
            for name, settings in dhcp.architectures.items()
        },
        clients=boot.Clients(dhcp.quirks, {*boot.BUILT_IN, *dhcp.architectures}),
        authoritative=dhcp.authoritative,
        match_client_id=dhcp.match_client_id,
        probe=dhcp.probe,
        is_log_server=farm.machine_logs.syslog_port == _SYSLOG_PORT,
        lease_s=lease_s,
        shortest_lease_s=dhcp.shortest_lease_s,
        longest_lease_s=lease_s if dhcp.longest_lease_s is None else seconds(dhcp.longest_lease_s),
        limits=dhcp.limits,
        offer_hold_s=dhcp.offer_hold_s,
        quarantine_s=dhcp.quarantine_s,
        server_address=farm.server.address,
        http_port=farm.server.http_port,
    )


def _network_layers(farm: Farm, subnet: Subnet, index: int) -> Iterable[Layer]:
    network = subnet.subnet
    own = {
        int(Option.SUBNET_MASK): network.netmask.packed,
        int(Option.BROADCAST_ADDRESS): network.broadcast_address.packed,
    }
    yield Layer(("dhcp",), option_bytes(farm.dhcp))
    shared = subnet.shared_network
    if shared in farm.dhcp.shared_networks:
        yield Layer(("dhcp", "shared_networks", shared), option_bytes(farm.dhcp.shared_networks[shared]))
    yield Layer(("dhcp", "subnets", index, "subnet"), own)
    yield Layer(("dhcp", "subnets", index), option_bytes(subnet))


def _links(made: list[tuple[Subnet, Network]]) -> Mapping[Network, tuple[Network, ...]]:
    shared: dict[str, list[Network]] = {}
    for subnet, network in made:
        if subnet.shared_network is not None:
            shared.setdefault(subnet.shared_network, []).append(network)
    return {
        network: (network, *(other for other in together if other is not network))
        for together in shared.values()
        for network in together
    }


def _pools(subnet: Subnet, index: int, taken: list[int], *, edges: bool) -> Iterable[DynamicPool]:
    """The subnet's pools without what is taken, which is sorted. `edges`: without addresses in .0 and .255."""
    at = ("dhcp", "subnets", index)
    ranges = [(subnet.pool, ())] if subnet.pool is not None else []
    pools = [(pool.range, (Layer((*at, "pools", p), option_bytes(pool)),)) for p, pool in enumerate(subnet.pools)]
    for span, layers in (*ranges, *pools):
        first, last = int(span.first), int(span.last)
        excluded = set(taken[bisect_left(taken, first) : bisect_left(taken, last + 1)])
        if subnet.subnet.prefixlen <= 30:
            excluded |= {int(subnet.subnet.network_address), int(subnet.subnet.broadcast_address)}
        if edges:
            begin = first & ~0xFF
            excluded |= {n for block in range(begin, last + 1, 256) for n in (block, block + 255)}
        yield DynamicPool(first, last, frozenset(n for n in excluded if first <= n <= last), layers)


def _client_ids(node: Node) -> Iterable[bytes]:
    """The client identifiers that a machine may send: as configured; text is often headed by its type, 0."""
    for raw in (_raw(node.client_id), node.serial.encode() if node.serial else None):
        if raw is not None:
            yield raw
            yield b"\0" + raw


def _raw(identifier: str | None) -> bytes | None:
    return None if identifier is None else bytes.fromhex(identifier.replace(":", ""))


def _infrastructure(farm: Farm, layers: Iterable[Layer]) -> Iterable[IPv4Address]:
    """Addresses that the configuration names as somebody else's than a machine's; `layers` are tags' and machines'."""
    dhcp = farm.dhcp
    places: list[DhcpOptions] = [
        dhcp,
        *dhcp.shared_networks.values(),
        *dhcp.architectures.values(),
        *dhcp.subnets,
        *(pool for subnet in dhcp.subnets for pool in subnet.pools),
    ]
    for said in (*map(option_bytes, places), *(layer.options for layer in layers)):
        for code in _SOMEBODYS:
            yield from options.addresses(said.get(code, b""))
        yield from options.gateways(said.get(Option.CLASSLESS_STATIC_ROUTE, b""))
    if farm.server.address is not None:
        yield farm.server.address
