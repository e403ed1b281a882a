"""Machines, as an import finds them: each with a name that no other has. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from config.yamltree import Mark, Scalar
from pxeboot.imports.found import Draft, texts, tree
from pxeboot.imports.words import another, host_name, name_of_address


@dataclass(slots=True)
class Machines:
    """The machines of one pool or of all."""

    draft: Draft
    nodes: list[dict[str, Any]] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _by_address: dict[IPv4Address, dict[str, Any]] = field(default_factory=dict)

    def name(self, mark: Mark, given: str, ip: IPv4Address) -> Scalar:
        """Return a name for a machine, like the one that it was given, and say if it is not that."""
        name = another(host_name(given) or name_of_address(ip), self._names)
        self._names.add(name)
        if given and name != given.lower():
            self.draft.note(mark, f"the name {given!r}", f"the machine is {name!r} here")
        return Scalar(mark, name)

    def add(
        self,
        mark: Mark,
        name: str,
        ip: IPv4Address,
        *,
        macs: Iterable[str] = (),
        known_by: dict[str, str] | None = None,
        tags: Iterable[str] = (),
        dhcp: dict[str, Any] | None = None,
    ) -> None:
        """Add one machine. One with the same address is the same machine, and gets these network cards too: other
        servers have a line for each card."""
        cards = [*macs]
        same = self._by_address.get(ip)
        if same is not None and cards and not known_by:
            known = [card.value for card in same["macs"].items] if "macs" in same else []
            same["macs"] = texts([*known, *(mac for mac in cards if mac not in known)], mark)
            return
        node: dict[str, Any] = {"name": self.name(mark, name, ip)}
        if cards:
            node["macs"] = texts(cards, mark)
        for key, value in (known_by or {}).items():
            node[key] = Scalar(mark, value)
        node["ip"] = Scalar(mark, str(ip))
        if words := [*tags]:
            node["tags"] = texts(words, mark)
        if dhcp:
            node["dhcp"] = tree(dhcp, mark)
        self.nodes.append(node)
        self._by_address.setdefault(ip, node)

    def pool(self, name: str, image: str) -> list[Any]:
        """Return the farm's pools: one with all of them."""
        nodes = [tree(node, node["name"].mark) for node in self.nodes]
        return [{"name": name, "image": image, **({"nodes": nodes} if nodes else {})}]
