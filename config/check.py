"""What must hold between the parts of a farm, once each part is right by itself. Pure."""

import re
from collections.abc import Callable, Collection, Iterator

from config import places
from config.check_addresses import addresses
from config.check_dhcp import dhcp
from config.check_files import files
from config.check_machines import machines, nodes_of
from config.check_texts import texts
from config.finding import Finding, Names
from config.mistakes import shown, suggestion
from config.model import Farm, Tag
from config.observing import parse_listen
from config.yamltree import Place

__all__ = ["Finding", "Names", "check", "names_of"]

EVERY_MACHINE = "all"
"""The tag that every machine carries; it need not be defined."""

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
    yield from machines(farm, names.subnets_known)
    yield from dhcp(farm, names)
    for name, tag in farm.tags.items():
        yield from _tag(("tags", name), tag)
    yield from _words(farm)
    yield from texts(farm)
    yield from addresses(farm)
    yield from _files(farm)
    yield from files(farm)
    yield from _ports(farm)
    yield from _roots(farm)
    if farm.web.read == "users" and farm.web.users is None:
        yield Finding(("web", "read"), "`read: users` needs `users`, the file of those who may")


def _ports(farm: Farm) -> Iterator[Finding]:
    """Each port is one server's: those of machines are taken on every IPv4 address of an interface."""
    tcp: list[tuple[Place, str, int]] = [
        (("server", "http_port"), "", farm.server.http_port),
        (("server", "nbd_port"), "", farm.server.nbd_port),
    ]
    if farm.http.tls is not None:
        tcp.append((("http", "tls", "port"), "", farm.http.tls.port))
    if any(image.engine == "nbdkit" for image in farm.images.values()):
        tcp.append((("nbd", "nbdkit", "port"), "", farm.nbd.nbdkit.port))
    for n, (host, port) in enumerate(map(parse_listen, farm.web.listen)):
        if ":" not in host:  # IPv6, which nothing else of ours speaks
            tcp.append((("web", "listen", n), host, port))
    udp: list[tuple[Place, str, int]] = [(("tftp",), "", 69)]
    if farm.dhcp.subnets:
        udp += [(("dhcp",), "", 67), (("dhcp",), "", 4011)]
    logs = farm.machine_logs
    for key, number in (("syslog_port", logs.syslog_port), ("netconsole_port", logs.netconsole_port)):
        if number is not None:
            udp.append((("machine_logs", key), "", number))
    for ports in (tcp, udp):
        for n, (place, host, port) in enumerate(ports):
            for other, its_host, taken in ports[:n]:
                if port == taken and not (host and its_host and host != its_host):  # two pages at two addresses
                    if (host, place[:2]) == (its_host, ("web", "listen")):
                        at = f"{host}:{port}"
                        yield Finding(place, f"{place_text(place)}: the page is already at {at}; remove this one")
                        continue
                    same = f"the port of {other[0]}" if len(other) == 1 else place_text(other)
                    yield Finding(place, f"{place_text(place)} is {port}, as is {same}")


def place_text(place: Place) -> str:
    """Return a place as a person writes it.

    >>> place_text(("pools", 0, "nodes", 3, "ip"))
    'pools[0].nodes[3].ip'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _roots(farm: Farm) -> Iterator[Finding]:
    tls = farm.nbd.tls
    for p, pool in enumerate(farm.pools):
        if pool.root != "http" and tls is not None and (tls.mode == "required" or pool.image in tls.only):
            why = "nbd.tls.only names its image" if pool.image in tls.only else "nbd.tls.mode is required"
            text = f"the pool {pool.name!r} cannot have `root: {pool.root}`: a machine's kernel has no TLS, and {why}"
            yield Finding(("pools", p, "root"), text)
        if pool.writable is None:
            continue
        if pool.root != "nbd":
            text = f"`writable` is for `root: nbd`; the pool {pool.name!r} has `root: {pool.root}`"
            yield Finding(("pools", p, "writable"), text, key=True)
        if pool.writable.keep == "always" and pool.writable.where == "memory":
            text = "`keep: always` needs `where: file`; what is in memory is gone with this server"
            yield Finding(("pools", p, "writable", "keep"), text)


def _duplicates(farm: Farm) -> Iterator[Finding]:
    pools: dict[str, Place] = {}
    for p, pool in enumerate(farm.pools):
        place: Place = ("pools", p, "name")
        if pool.name in pools:
            yield Finding(place, f"there is already a pool named {pool.name!r}", pools[pool.name])
        pools.setdefault(pool.name, place)


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
    for at, node in nodes_of(farm):
        for t, tag in enumerate(node.tags):
            yield from unknown((*at, "tags", t), tag, tags, "tag")
    yield from unknown(("dhcp", "shared"), farm.dhcp.shared, names.clusters, "cluster")
    yield from unknown(("nbd", "default"), farm.nbd.default, names.images, "image")
    for i, image in enumerate(farm.nbd.tls.only if farm.nbd.tls else ()):
        yield from unknown(("nbd", "tls", "only", i), image, names.images, "image")
    for s, subnet in enumerate(farm.dhcp.subnets):
        yield from unknown(("dhcp", "subnets", s, "unknown"), subnet.unknown, names.pools, "pool")


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
        for other, same in enumerate(tag.taints[:t]):
            if (same.key, same.effect) == (taint.key, taint.effect):
                text = f"there is already a taint {taint.key} with the effect {taint.effect}"
                yield Finding((*at, "taints", t), text, (*at, "taints", other))


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
