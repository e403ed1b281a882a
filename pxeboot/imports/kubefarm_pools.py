"""The node pools of kubefarm's values: machines, ranges, and machines by the port of their switch. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from config import yamltree
from config.yamltree import Mapping, Mark, Node, Scalar
from config.yamltree import Sequence as List
from pxeboot.imports import ranges, words
from pxeboot.imports.found import Draft, texts, tree
from pxeboot.imports.subnets import Given, Subnets

_RELEASE = "?"
"""Stands for the tag of the release in kubefarm's `extraOpts`."""
_NEEDLESS = {
    "dhcp-generate-names": "machines that are not listed get names here anyway",
    "dhcp-ignore-names": "names that machines send are not taken anyway",
}


@dataclass(slots=True)
class Pools:
    """The pools, as they are read one by one."""

    draft: Draft
    cluster: str | None
    image: str
    undefined: list[str] = field(default_factory=list)
    """Tags that pools carry and nothing defines."""
    _names: set[str] = field(default_factory=set)
    _defined: set[str] = field(default_factory=set)
    _subnets: Subnets = field(default_factory=Subnets)
    _addresses: list[tuple[Mark, IPv4Address]] = field(default_factory=list)
    _unplaced: list[tuple[Mark, ranges.Range, str, list[IPv4Address]]] = field(default_factory=list)

    def read(self, listed: Node | None, tags: Iterable[str]) -> tuple[list[Any], list[Any]]:
        """Return the farm's pools and its subnets. `tags` are those that the values define."""
        self._defined = {*tags, "all"}
        pools = []
        for number, pool in enumerate(listed.items if isinstance(listed, List) else [], 1):
            if isinstance(pool, Mapping):
                pools.append(self._pool(f"pool-{number}", pool))
            else:
                self.draft.lost(pool.mark, f"pool {number}", "it is no mapping")
        for mark, found, name, mine in self._unplaced:
            self._place(mark, found, name, mine)
        self._homes()
        return pools, self._subnets.tree(self.draft)

    def _pool(self, usual: str, pool: Mapping) -> Any:
        name = words.host_name(_text(pool, "name") or "") or usual
        nodes = [node for one in _list(pool, "nodes") if (node := self._node(one)) is not None]
        nodes += self._extra(pool)
        tags = [tag for tag in _list(pool, "tags") if isinstance(tag, Scalar) and tag.value]
        for tag in tags:
            if tag.value and tag.value not in self._defined:
                self._defined.add(tag.value)
                self.undefined.append(tag.value)
                self.draft.note(tag.mark, f"the tag {tag.value!r}", "nothing defines it; it is there, and empty")
        self._range(pool, name, nodes)
        for key, (mark, _) in pool.items.items():
            if key not in ("name", "range", "nodes", "tags", "extraOpts"):
                self.draft.lost(mark, key, "nothing is known of it")
        made: dict[str, Any] = {"name": name, "image": self.image}
        if self.cluster:
            made["cluster"] = self.cluster
        if tags:
            made["tags"] = List(tags[0].mark, [*tags])
        if nodes:
            made["nodes"] = [tree(node, node["name"].mark) for node in nodes]
        return tree(made, pool.mark)

    def _range(self, pool: Mapping, name: str, nodes: list[dict[str, Any]]) -> None:
        node = yamltree.find(pool, ("range",))
        text = _text(pool, "range")
        mine = [words.address(one["ip"].value) for one in nodes]
        if node is None or not text:
            return
        try:
            found = ranges.parse(text)
        except ValueError as error:
            self.draft.lost(node.mark, f"the range {text!r}", str(error))
            return
        self._unplaced.append((node.mark, found, name, [ip for ip in mine if ip is not None]))

    def _place(self, mark: Mark, found: ranges.Range, pool: str, mine: list[IPv4Address]) -> None:
        """Give a range its network: by its netmask or its broadcast address, else one that holds its machines."""
        network: IPv4Network | None = None
        if found.netmask:
            network = words.network(found.first, found.netmask)
        elif found.broadcast is not None:
            network = words.by_broadcast(found.first, found.broadcast)
        network = network or self._subnets.network_of(found.first)
        if network is None:
            ends = [found.first] if found.last is None else [found.first, found.last]
            network = words.around([*ends, *mine])
            self.draft.lost(mark, "the network", f"its mask is not said, and was taken for that of {network}: look")
        self._subnets.take(Given(mark, network, found, pool), self.draft)

    def _homes(self) -> None:
        """Machines whose network no range says get one, for without it they get no answer."""
        homeless = [(mark, ip) for mark, ip in self._addresses if self._subnets.network_of(ip) is None]
        if homeless:
            mark = homeless[0][0]
            network = words.around(ip for _, ip in homeless)
            self.draft.lost(mark, "the network", f"no range says it, and it was taken for {network}: look")
            self._subnets.take(Given(mark, network, None, ""), self.draft)

    def _node(self, node: Node) -> dict[str, Any] | None:
        if not isinstance(node, Mapping):
            self.draft.lost(node.mark, "a machine", "it is no mapping")
            return None
        ip = words.address(_text(node, "ip") or "")
        if ip is None:
            why = "it has no address of its own; give it one, or a `range` to its pool"
            self.draft.lost(node.mark, f"the machine {_text(node, 'name') or _text(node, 'mac') or ''!r}", why)
            return None
        name_node = yamltree.find(node, ("name",))
        made: dict[str, Any] = {"name": self._name(node.mark, name_node, ip)}
        macs = [mac.strip() for mac in re.split(r"[,\s]+", _text(node, "mac") or "") if mac.strip()]
        if macs:
            made["macs"] = texts(macs, yamltree.mark_of(node, ("mac",)))
        identifier = _text(node, "clientID")
        if identifier and identifier != "*":
            made["client_id"] = Scalar(yamltree.mark_of(node, ("clientID",)), identifier.removeprefix("id:"))
        made["ip"] = Scalar(yamltree.mark_of(node, ("ip",)), str(ip))
        self._addresses.append((made["ip"].mark, ip))
        lease = _text(node, "leaseTime")
        if lease:
            seconds = words.lease_s(lease)
            mark = yamltree.mark_of(node, ("leaseTime",))
            if seconds is None:
                self.draft.lost(mark, f"the lease time {lease!r}", "it is none")
            else:
                made["dhcp"] = tree({"lease_s": seconds}, mark)
        for key, (mark, _) in node.items.items():
            if key not in ("name", "mac", "ip", "clientID", "leaseTime"):
                self.draft.lost(mark, key, "nothing is known of it")
        return made

    def _name(self, mark: Mark, node: Node | None, ip: IPv4Address) -> Scalar:
        """A name that this machine alone has."""
        given = node.value if isinstance(node, Scalar) and node.value else ""
        name = words.host_name(given) or words.name_of_address(ip)
        name = words.another(name, self._names)
        self._names.add(name)
        where = node.mark if node is not None else mark
        if name != given.lower():
            self.draft.note(where, f"the name {given!r}", f"the machine is {name!r} here")
        return Scalar(where, name)

    def _extra(self, pool: Mapping) -> list[dict[str, Any]]:
        """Machines by the port of their switch, out of dnsmasq's options; what else is there is said."""
        ports: dict[str, tuple[Mark, str]] = {}
        options = [
            (key, mark, value.value or "")
            for one in _list(pool, "extraOpts")
            if isinstance(one, Mapping)
            for key, (mark, value) in one.items.items()
            if isinstance(value, Scalar)
        ]
        for key, mark, value in options:
            if key == "dhcp-circuitid" and value.startswith("set:"):
                tag, _, identifier = value.removeprefix("set:").partition(",")
                ports[tag] = mark, identifier
        made = []
        for key, mark, value in options:
            if key in _NEEDLESS:
                self.draft.note(mark, key, _NEEDLESS[key])
            elif key == "dhcp-range" and (node := self._by_port(mark, value, ports)) is not None:
                made.append(node)
            elif key not in ("dhcp-circuitid", "dhcp-range"):
                self.draft.lost(mark, f"{key}={value}", "there are no rules of tags here")
        for tag, (mark, identifier) in ports.items():
            if not any(node["circuit_id"].value == identifier for node in made):
                why = f"no range of one address is for the tag {tag!r}; a machine here has one: circuit_id, ip"
                self.draft.lost(mark, f"the port {identifier!r}", why)
        return made

    def _by_port(self, mark: Mark, value: str, ports: dict[str, tuple[Mark, str]]) -> dict[str, Any] | None:
        try:
            found = ranges.parse(value)
        except ValueError as error:
            self.draft.lost(mark, f"dhcp-range={value}", str(error))
            return None
        tag = next((tag for tag in found.tags if tag in ports), None)
        if tag is None or found.last not in (None, found.first):
            self.draft.lost(mark, f"dhcp-range={value}", "only a range of one address, for one port of a switch, "
                            "can be a machine here")  # fmt: skip
            return None
        if found.netmask and (network := words.network(found.first, found.netmask)) is not None:
            self._subnets.take(Given(mark, network, None, ""), self.draft)
        name = words.another(words.host_name(tag) or words.name_of_address(found.first), self._names)
        self._names.add(name)
        at, identifier = ports[tag]
        return {
            "name": Scalar(mark, name),
            "circuit_id": Scalar(at, identifier),
            "ip": Scalar(mark, str(found.first)),
        }


def _list(node: Mapping, key: str) -> list[Node]:
    found = yamltree.find(node, (key,))
    return found.items if isinstance(found, List) else []


def _text(node: Mapping, key: str) -> str | None:
    found = yamltree.find(node, (key,))
    return found.value if isinstance(found, Scalar) else None
