"""What must hold between the parts of a farm, once each part is right by itself. Pure."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from config import places
from config.mistakes import suggestion
from config.model import AddressRange, DhcpOptions, Farm, Node, Subnet, Tag
from config.wording import shown
from config.yamltree import Place

EVERY_MACHINE = "all"
"""The tag that every machine carries; it need not be defined."""

OWN_OPTIONS = frozenset((1, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 61, 82))
"""DHCP options that the protocol itself decides for each answer; a configuration cannot set them."""

NAMED_OPTIONS = {
    3: "routers",
    6: "domain_name_servers",
    7: "log_servers",
    15: "domain_name",
    26: "mtu",
    28: "broadcast_address",
    42: "ntp_servers",
    119: "domain_search",
    121: "static_routes",
}

KUBELET_LABELS = frozenset(
    (
        *("kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os"),
        *("beta.kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/instance-type"),
        *("node.kubernetes.io/instance-type", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"),
        *("failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone"),
    )
)
"""The labels below kubernetes.io that a kubelet may give itself (admission plug-in NodeRestriction), besides those
below `KUBELET_PREFIXES`."""
KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_RESTRICTED = ("kubernetes.io", "k8s.io")

_LABEL_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[^\s/\x00-\x1f\x7f]+")
_SYSCTL = re.compile(r"[^\s=#;\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold. `other` is the place that it conflicts with; `key`: the key is wrong."""

    place: Place
    message: str
    other: Place | None = None
    key: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """The names that may be referred to; None where they could not be read, and then anything may."""

    images: Collection[str] | None
    clusters: Collection[str] | None
    pools: Collection[str] | None
    tags: Collection[str] | None
    subnets_known: bool = True
    """False if a subnet could not be read: an address that lies in none may lie in that one."""


def names_of(farm: Farm) -> Names:
    """The names that a complete farm defines."""
    return Names(farm.images, farm.clusters, [pool.name for pool in farm.pools], farm.tags)


def check(farm: Farm, names: Names | None = None) -> Iterator[Finding]:
    """Yield everything that does not hold in `farm`.

    `names` is for a farm that lacks the parts that could not be read.
    """
    names = names or names_of(farm)
    yield from _duplicates(farm)
    yield from _references(farm, names)
    yield from _subnets(farm)
    yield from _addresses(farm, names.subnets_known)
    for place, options in _all_options(farm):
        yield from _options(place, options)
    for name, tag in farm.tags.items():
        yield from _tag(("tags", name), tag)
    yield from _words(farm)
    yield from _files(farm)
    if farm.server.http_port == farm.server.nbd_port:
        yield Finding(("server", "nbd_port"), f"server.nbd_port is {farm.server.nbd_port}, as is server.http_port")


def _nodes(farm: Farm) -> Iterator[tuple[Place, Node]]:
    for p, pool in enumerate(farm.pools):
        for n, node in enumerate(pool.nodes):
            yield ("pools", p, "nodes", n), node


def _duplicates(farm: Farm) -> Iterator[Finding]:
    pools: dict[str, Place] = {}
    for p, pool in enumerate(farm.pools):
        place: Place = ("pools", p, "name")
        if pool.name in pools:
            yield Finding(place, f"there is already a pool named {pool.name!r}", pools[pool.name])
        pools.setdefault(pool.name, place)
    by_name: dict[str, Place] = {}
    by_ip: dict[IPv4Address, tuple[str, Place]] = {}
    by_mac: dict[str, tuple[str, Place]] = {}
    for at, node in _nodes(farm):
        place = (*at, "name")
        if node.name in by_name:
            yield Finding(place, f"there is already a machine named {node.name!r}", by_name[node.name])
        by_name.setdefault(node.name, place)
        place = (*at, "ip")
        if node.ip in by_ip:
            owner, other = by_ip[node.ip]
            yield Finding(place, f"{node.name}: the address {node.ip} already belongs to {owner}", other)
        by_ip.setdefault(node.ip, (node.name, place))
        for m, mac in enumerate(node.macs):
            place = (*at, "macs", m)
            if mac in by_mac:
                owner, other = by_mac[mac]
                yield Finding(place, f"{node.name}: the MAC {mac} already belongs to {owner}", other)
            by_mac.setdefault(mac, (node.name, place))


def _references(farm: Farm, names: Names) -> Iterator[Finding]:
    tags = names.tags if names.tags is None else {*names.tags, EVERY_MACHINE}

    def unknown(place: Place, word: str | None, known: Collection[str] | None, kind: str) -> Iterator[Finding]:
        if word is None or known is None or word in known:
            return
        listed = ", ".join(sorted(known)[:20]) if known else "none"
        yield Finding(place, f"there is no {kind} {word!r}; defined: {listed}{suggestion(word, known)}")

    for p, pool in enumerate(farm.pools):
        yield from unknown(("pools", p, "image"), pool.image, names.images, "image")
        yield from unknown(("pools", p, "cluster"), pool.cluster, names.clusters, "cluster")
        for t, tag in enumerate(pool.tags):
            yield from unknown(("pools", p, "tags", t), tag, tags, "tag")
    for at, node in _nodes(farm):
        for t, tag in enumerate(node.tags):
            yield from unknown((*at, "tags", t), tag, tags, "tag")
    for s, subnet in enumerate(farm.dhcp.subnets):
        yield from unknown(("dhcp", "subnets", s, "unknown"), subnet.unknown, names.pools, "pool")


def _subnets(farm: Farm) -> Iterator[Finding]:
    for s, subnet in enumerate(farm.dhcp.subnets):
        at: Place = ("dhcp", "subnets", s)
        for o, other in enumerate(farm.dhcp.subnets[:s]):
            if subnet.subnet.overlaps(other.subnet):
                text = f"the subnet {subnet.subnet} overlaps with {other.subnet}"
                yield Finding((*at, "subnet"), text, ("dhcp", "subnets", o, "subnet"))
        if subnet.pool is not None:
            yield from _pool((*at, "pool"), subnet.pool, subnet, farm.server.address)


def _pool(place: Place, pool: AddressRange, subnet: Subnet, own: IPv4Address | None) -> Iterator[Finding]:
    network = subnet.subnet
    if pool.first not in network or pool.last not in network:
        usable = _usable(network)
        yield Finding(place, f"the pool {pool} leaves its subnet {network}, whose machines are {usable}")
        return
    for edge, what in _edges(network).items():
        if edge in pool:
            yield Finding(place, f"the pool {pool} holds {edge}, {what} of {network}; allowed: {_usable(network)}")
    for router in dict.fromkeys(subnet.routers or ()):
        if router in pool:
            yield Finding(place, f"the pool {pool} holds {router}, which is a router of this subnet")
    if own is not None and own in pool:
        yield Finding(place, f"the pool {pool} holds {own}, which is our own address")


def _addresses(farm: Farm, subnets_known: bool) -> Iterator[Finding]:
    subnets = [
        (int(s.subnet.network_address), int(s.subnet.broadcast_address), _edges(s.subnet), s)
        for s in farm.dhcp.subnets
    ]
    all_subnets = ", ".join(str(s.subnet) for s in farm.dhcp.subnets)
    for at, node in _nodes(farm):
        place, number = (*at, "ip"), int(node.ip)
        if node.ip == farm.server.address:
            yield Finding(place, f"{node.name}: {node.ip} is our own address (server.address)", ("server", "address"))
        homes = [(edges, subnet) for first, last, edges, subnet in subnets if first <= number <= last]
        if subnets and not homes and subnets_known:
            yield Finding(place, f"{node.name}: {node.ip} is in none of the subnets: {all_subnets}")
        for edges, subnet in homes:
            if node.ip in edges:
                what, usable = edges[node.ip], _usable(subnet.subnet)
                yield Finding(place, f"{node.name}: {node.ip} is {what} of {subnet.subnet}; allowed: {usable}")
            if node.ip in (subnet.routers or ()):
                yield Finding(place, f"{node.name}: {node.ip} is a router of {subnet.subnet}")


def _edges(network: IPv4Network) -> Mapping[IPv4Address, str]:
    """The addresses of a network that no machine can have."""
    if network.prefixlen > 30:
        return {}
    return {network.network_address: "the network address", network.broadcast_address: "the broadcast address"}


def _usable(network: IPv4Network) -> str:
    inner = 0 if network.prefixlen > 30 else 1
    return f"{network.network_address + inner}-{network.broadcast_address - inner}"


def _all_options(farm: Farm) -> Iterator[tuple[Place, DhcpOptions]]:
    for s, subnet in enumerate(farm.dhcp.subnets):
        yield ("dhcp", "subnets", s), subnet
    for name, tag in farm.tags.items():
        yield ("tags", name, "dhcp"), tag.dhcp


def _options(at: Place, settings: DhcpOptions) -> Iterator[Finding]:
    for key, text in settings.options.items():
        place: Place = (*at, "options", key)
        if not key.isdecimal() or not isinstance(text, str):
            yield Finding(place, f"option {key} is {text!r}; write a number, and its bytes in hex", key=True)
            continue
        number = int(key)
        if number in OWN_OPTIONS:
            reserved = ", ".join(map(str, sorted(OWN_OPTIONS)))
            yield Finding(
                place, f"option {number} is decided by the server for each answer, as are {reserved}", key=True
            )
        name = NAMED_OPTIONS.get(number)
        if name is not None and getattr(settings, name) is not None:
            yield Finding(place, f"option {number} is already given as {name}", (*at, name), key=True)
        try:
            size = len(bytes.fromhex(text.replace(":", " ")))
        except ValueError:
            yield Finding(place, f"option {number}: {shown(text)} is not hex; write its bytes such as 0a4d0001")
        else:
            if size > 255:
                yield Finding(place, f"option {number} has {size} bytes; at most 255 are possible")
    if settings.domain_name is not None:
        yield from _domain((*at, "domain_name"), settings.domain_name)
    for d, domain in enumerate(settings.domain_search or ()):
        yield from _domain((*at, "domain_search", d), domain)


def _domain(place: Place, name: str) -> Iterator[Finding]:
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(map(_DNS_LABEL.fullmatch, labels)):
        yield Finding(place, f"{shown(name)} is not a domain; write words of letters, digits and hyphens, with dots")


def _tag(at: Place, tag: Tag) -> Iterator[Finding]:
    for key, value in tag.labels.items():
        place = (*at, "labels", key)
        problem = label_key_problem(key) or _not_the_kubelets(key)
        if problem:
            yield Finding(place, f"the label {shown(key)} {problem}", key=True)
        if value and not _LABEL_WORD.fullmatch(value):
            yield Finding(place, f"the label {key} cannot be {shown(value)}; {_WORD}")
    for t, taint in enumerate(tag.taints):
        problem = label_key_problem(taint.key)
        if problem:
            yield Finding((*at, "taints", t, "key"), f"the taint {shown(taint.key)} {problem}")
        if taint.value and not _LABEL_WORD.fullmatch(taint.value):
            place = (*at, "taints", t, "value")
            yield Finding(place, f"the taint {taint.key} cannot be {shown(taint.value)}; {_WORD}")


_WORD = "write at most 63 letters, digits, -, _ and dots, with a letter or digit at both ends"


def label_key_problem(key: str) -> str | None:
    """Return what is wrong with the key of a label or taint, [PREFIX/]NAME, or None.

    >>> label_key_problem("example.com/gpu") is None
    True
    """
    prefix, slash, name = key.rpartition("/")
    if not _LABEL_WORD.fullmatch(name):
        return f"has a name that is not allowed; {_WORD}"
    good = len(prefix) <= 253 and prefix == prefix.lower() and all(map(_DNS_LABEL.fullmatch, prefix.split(".")))
    if slash and not good:
        return "has a prefix that is not a domain in small letters"
    return None


def _not_the_kubelets(key: str) -> str | None:
    """A kubelet may not set most labels below kubernetes.io and k8s.io on itself; it would not start."""
    prefix, _, _ = key.rpartition("/")
    below: Callable[[str], bool] = lambda domain: prefix == domain or prefix.endswith(f".{domain}")  # noqa: E731
    if key in KUBELET_LABELS or any(map(below, KUBELET_PREFIXES)) or not any(map(below, _RESTRICTED)):
        return None
    allowed = ", ".join(f"{domain}/" for domain in KUBELET_PREFIXES)
    near = suggestion(key, KUBELET_LABELS, 0.85)
    return f"is not one that a kubelet may set on itself; use a domain of your own, or {allowed}{near}"


def _words(farm: Farm) -> Iterator[Finding]:
    """Texts that end up in files with a line for each."""
    lines: list[tuple[Place, str]] = []
    for name, tag in farm.tags.items():
        lines += [(("tags", name, "lts", key), value) for key, value in tag.lts.items()]
        lines += [(("tags", name, "kernel_parameters", k), word) for k, word in enumerate(tag.kernel_parameters)]
    for p, pool in enumerate(farm.pools):
        lines += [(("pools", p, "kernel_parameters", k), word) for k, word in enumerate(pool.kernel_parameters)]
    lines += [(("node", "ssh_authorized_keys", k), line) for k, line in enumerate(farm.node.ssh_authorized_keys)]
    lines += [(("node", "sysctls", key), value) for key, value in farm.node.sysctls.items()]
    for place, text in lines:
        if _CONTROL.search(text.replace("\t", " ")):
            folded = not _CONTROL.search(text.rstrip("\n").replace("\t", " "))
            hint = "; write >- or |- in place of > or |, which add a newline" if folded else ""
            yield Finding(place, f"this must be a single line, without control characters{hint}")
    yield from _single_words(farm)


def _single_words(farm: Farm) -> Iterator[Finding]:
    """Names that end up in files with one on each line, or in the name of a link."""
    units: list[tuple[Place, str]] = [(("node", "services", k), word) for k, word in enumerate(farm.node.services)]
    for name, tag in farm.tags.items():
        units += [(("tags", name, "services", k), word) for k, word in enumerate(tag.services)]
    for place, unit in units:
        if not _NAME.fullmatch(unit):
            yield Finding(place, f"{shown(unit)} is not the name of a systemd unit; write one word without a slash")
    for k, module in enumerate(farm.node.modules):
        if not _NAME.fullmatch(module):
            text = f"{shown(module)} is not the name of a kernel module; write one word"
            yield Finding(("node", "modules", k), text)
    for key in farm.node.sysctls:
        if not _SYSCTL.fullmatch(key):
            text = f"{shown(key)} is not the name of a kernel setting; write one word, such as vm.max_map_count"
            yield Finding(("node", "sysctls", key), text, key=True)


def _files(farm: Farm) -> Iterator[Finding]:
    """The places of files in a machine's root: below it, each of them once, and none below another."""
    seen: dict[str, str] = {}
    for path in farm.node.files:
        at: Place = ("node", "files", path)
        bad = {"", ".", ".."} & set(path.removeprefix("/").split("/"))
        if bad or _CONTROL.search(path):
            text = f"{shown(path)} is not the path of a file; write it without '.', '..' and double slashes"
            yield Finding(at, text, key=True)
            continue
        where = places.place(path)
        if where in seen:
            other = seen[where]
            text = f"{shown(path)} is the same file as {shown(other)}: /{where}"
            yield Finding(at, text, ("node", "files", other), key=True)
        seen.setdefault(where, path)
        if problem := places.clash(where):
            yield Finding(at, f"{shown(path)} {problem}", key=True)
    for where, path in seen.items():
        folder = next((other for spot, other in seen.items() if where.startswith(f"{spot}/")), None)
        if folder is not None:
            text = f"{shown(path)} lies below {shown(folder)}, which is a file itself"
            yield Finding(("node", "files", path), text, key=True)
