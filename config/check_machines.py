"""Whether every machine can be told from the others, and has an address that a machine can have. Pure."""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network

from config.check_dhcp import edges, usable
from config.finding import Finding
from config.model import Farm, Node
from config.yamltree import Place

Nodes = Sequence[tuple[Place, Node]]
"""Machines with their places."""
Owner = tuple[tuple[Place, Node], int]
"""The machine that a card belongs to, and which of its cards that is."""

_ODD = frozenset("13579bdf")
"""A MAC whose second digit is one of these stands for several cards (the I/G bit of IEEE 802)."""
_NO_MAC = "00:00:00:00:00:00"
_LABEL = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A part of a host name (RFC 1123 section 2.1)."""
_NO_UUID = frozenset((bytes(16), b"\xff" * 16))
"""What a firmware says whose maker gave it none."""


def nodes_of(farm: Farm) -> Iterator[tuple[Place, Node]]:
    """Every machine with its place."""
    for p, pool in enumerate(farm.pools):
        for n, node in enumerate(pool.nodes):
            yield ("pools", p, "nodes", n), node


def machines(farm: Farm, subnets_known: bool) -> Iterator[Finding]:
    """Yield what does not hold of the machines. `subnets_known`: see `config.finding.Names`."""
    nodes = list(nodes_of(farm))
    yield from _names(nodes)
    cards: dict[str, Owner] = {}
    yield from _cards(nodes, cards)
    yield from _identities(nodes, cards)
    yield from _addresses(farm, nodes, subnets_known)


def _names(nodes: Nodes) -> Iterator[Finding]:
    known: dict[str, Place] = {}
    for at, node in nodes:
        other = known.setdefault(node.name, at)
        if other is not at:
            yield Finding((*at, "name"), f"there is already a machine named {node.name!r}", (*other, "name"))
        if "." in node.name and not all(map(_LABEL.fullmatch, node.name.split("."))):
            text = (
                f"{node.name!r} is not a host name; write words of letters, digits and hyphens, with a dot between two"
            )
            yield Finding((*at, "name"), text)
        elif node.name.partition(".")[0] == "localhost":
            yield Finding((*at, "name"), f"{node.name!r} is what every machine calls itself; write another name")


def _cards(nodes: Nodes, cards: dict[str, Owner]) -> Iterator[Finding]:
    """The network cards, each of one machine only. They are put into `cards`."""
    for one in nodes:
        at, node = one
        for m, mac in enumerate(node.macs):
            if mac in cards:
                owner, m_there = cards[mac]
                text = f"{node.name}: the MAC {mac} already belongs to {owner[1].name}"
                yield Finding((*at, "macs", m), text, (*owner[0], "macs", m_there))
            elif mac == _NO_MAC:
                yield Finding(
                    (*at, "macs", m), f"{node.name}: {mac} is the address of no card; write what is on its label"
                )
            elif mac[1] in _ODD:
                yield Finding((*at, "macs", m), f"{node.name}: {mac} is the address of a group of cards, not of one")
            else:
                cards[mac] = (one, m)


def _identities(nodes: Nodes, cards: dict[str, Owner]) -> Iterator[Finding]:
    """What a machine is known by besides its cards, each of it by one machine only."""
    known: dict[tuple[object, ...], tuple[str, Place]] = {}
    for at, node in nodes:
        if not (node.client_id or node.uuid or node.serial or node.circuit_id or node.remote_id):
            continue
        mine: dict[tuple[object, ...], tuple[str, Place]] = {}
        for place, words, keys in _known_by(at, node):
            taken = next((known[key] for key in keys if key in known), None)
            if taken is not None:
                yield Finding(place, f"{node.name}: {words} already belongs to {taken[0]}", taken[1])
            mine |= dict.fromkeys(keys, (node.name, place))
        for key, owner in mine.items():
            known.setdefault(key, owner)
        yield from _sent_by_a_card(at, node, cards)
        if node.uuid is not None and node.uuid.bytes in _NO_UUID:
            text = f"{node.name}: the UUID {node.uuid} is that of every machine whose maker gave it none"
            yield Finding((*at, "uuid"), text)


def _known_by(at: Place, node: Node) -> Iterator[tuple[Place, str, tuple[tuple[object, ...], ...]]]:
    """What a machine is known by besides its cards: where, in words, and every form that a packet may have it in."""
    for key, text, value in (
        ("client_id", f"the client identifier {node.client_id}", node.client_id),
        ("serial", f"the serial number {node.serial}", node.serial and node.serial.encode().hex(":")),
    ):
        if value:  # text has the type 0 in front of it, or none
            yield (*at, key), text, (("client_id", value), ("client_id", f"00:{value}"))
    if node.uuid is not None:
        orders = ("uuid", node.uuid.bytes), ("uuid", node.uuid.bytes_le)
        yield (*at, "uuid"), f"the UUID {node.uuid}", orders
    port = (node.circuit_id, node.remote_id)
    if node.circuit_id is not None:
        switch = f" of {node.remote_id}" if node.remote_id else ""
        yield (*at, "circuit_id"), f"the port {node.circuit_id}{switch}", (("port", *port),)
    elif node.remote_id is not None:
        yield (*at, "remote_id"), f"the switch {node.remote_id}", (("port", *port),)


def _sent_by_a_card(at: Place, node: Node, cards: dict[str, Owner]) -> Iterator[Finding]:
    """A client identifier of type 1 is a MAC, and machines are known by their cards first: it would never count."""
    if node.client_id is None or not node.client_id.startswith("01:"):
        return
    mac = node.client_id[3:]
    if mac in cards and mac not in node.macs:
        (there, other), m = cards[mac]
        text = f"{node.name}: the client identifier {node.client_id} is that of a card of {other.name}"
        yield Finding((*at, "client_id"), text, (*there, "macs", m))


def _addresses(farm: Farm, nodes: Nodes, subnets_known: bool) -> Iterator[Finding]:
    """The machines' addresses: each once, in a subnet, and nobody else's. Integers, for there may be thousands."""
    homes: dict[int, set[int]] = {}
    taken: dict[int, list[tuple[IPv4Network, str]]] = {}
    for subnet in farm.dhcp.subnets:
        network = subnet.subnet
        homes.setdefault(int(network.netmask), set()).add(int(network.network_address))
        for number, what in edges(network).items():
            taken.setdefault(number, []).append((network, f"is {what} of {network}; allowed: {usable(network)}"))
        said_here = () if subnet.proxy or subnet.routers is None else subnet.routers
        for router in dict.fromkeys(router for router in said_here if router in network):
            taken.setdefault(int(router), []).append((network, f"is a router of {network}"))
    own = None if farm.server.address is None else int(farm.server.address)
    owners: dict[int, tuple[Place, Node]] = {}
    for one in nodes:
        at, node = one
        number = int(node.ip)
        owner = owners.setdefault(number, one)
        if owner is not one:
            text = f"{node.name}: the address {node.ip} already belongs to {owner[1].name}"
            yield Finding((*at, "ip"), text, (*owner[0], "ip"))
        if number == own:
            text = f"{node.name}: {node.ip} is our own address (server.address)"
            yield Finding((*at, "ip"), text, ("server", "address"))
        if homes and subnets_known and not any(number & mask in networks for mask, networks in homes.items()):
            yield Finding((*at, "ip"), f"{node.name}: {node.ip} is in none of the subnets: {_listed(farm)}")
        for network, what in taken.get(number, ()):
            if node.ip in network:
                yield Finding((*at, "ip"), f"{node.name}: {node.ip} {what}")


def _listed(farm: Farm, most: int = 20) -> str:
    """The farm's subnets; of many, the first."""
    subnets = [str(subnet.subnet) for subnet in farm.dhcp.subnets]
    more = f" and {len(subnets) - most} more" if len(subnets) > most else ""
    return ", ".join(subnets[:most]) + more
