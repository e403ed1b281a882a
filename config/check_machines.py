"""Whether every machine can be told from the others, and has an address that a machine can have. Pure."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from config.check_dhcp import edges, usable
from config.finding import Finding
from config.model import Farm, Node, Subnet
from config.yamltree import Place

_NO_UUID = frozenset((bytes(16), b"\xff" * 16))
"""What a firmware says whose maker gave it none."""


def nodes_of(farm: Farm) -> Iterator[tuple[Place, Node]]:
    """Every machine with its place."""
    for p, pool in enumerate(farm.pools):
        for n, node in enumerate(pool.nodes):
            yield ("pools", p, "nodes", n), node


def machines(farm: Farm, subnets_known: bool) -> Iterator[Finding]:
    """Yield what does not hold of the machines. `subnets_known`: see `config.finding.Names`."""
    yield from _names(farm)
    yield from _identities(farm)
    yield from _addresses(farm, subnets_known)


def _names(farm: Farm) -> Iterator[Finding]:
    known: dict[str, Place] = {}
    for at, node in nodes_of(farm):
        place = (*at, "name")
        if node.name in known:
            yield Finding(place, f"there is already a machine named {node.name!r}", known[node.name])
        known.setdefault(node.name, place)


def _identities(farm: Farm) -> Iterator[Finding]:
    """What a machine is known by, each of it by one machine only."""
    cards: dict[str, tuple[str, Place]] = {}
    others: dict[tuple[object, ...], tuple[str, Place]] = {}
    rest: list[tuple[Place, Node]] = []
    for at, node in nodes_of(farm):
        for m, mac in enumerate(node.macs):
            place = (*at, "macs", m)
            if mac in cards:
                owner, other = cards[mac]
                yield Finding(place, f"{node.name}: the MAC {mac} already belongs to {owner}", other)
            elif int(mac[1], 16) & 1:
                yield Finding(place, f"{node.name}: {mac} is the address of a group of cards, not of one")
            cards.setdefault(mac, (node.name, place))
        if node.client_id or node.uuid or node.serial or node.circuit_id or node.remote_id:
            rest.append((at, node))
    for at, node in rest:
        mine: dict[tuple[object, ...], tuple[str, Place]] = {}
        for place, words, keys in _known_by(at, node):
            taken = next((others[key] for key in keys if key in others), None)
            if taken is not None:
                yield Finding(place, f"{node.name}: {words} already belongs to {taken[0]}", taken[1])
            mine |= dict.fromkeys(keys, (node.name, place))
        others |= {key: owner for key, owner in mine.items() if key not in others}
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


def _sent_by_a_card(at: Place, node: Node, cards: dict[str, tuple[str, Place]]) -> Iterator[Finding]:
    """A client identifier of type 1 is a MAC, and machines are known by their cards first: it would never count."""
    if node.client_id is None or not node.client_id.startswith("01:"):
        return
    owner = cards.get(node.client_id[3:])
    if owner is not None and node.client_id[3:] not in node.macs:
        text = f"{node.name}: the client identifier {node.client_id} is that of a card of {owner[0]}"
        yield Finding((*at, "client_id"), text, owner[1])


def _addresses(farm: Farm, subnets_known: bool) -> Iterator[Finding]:
    by_mask: dict[int, dict[int, list[Subnet]]] = {}
    for subnet in farm.dhcp.subnets:
        same_size = by_mask.setdefault(int(subnet.subnet.netmask), {})
        same_size.setdefault(int(subnet.subnet.network_address), []).append(subnet)
    owners: dict[IPv4Address, tuple[str, Place]] = {}
    for at, node in nodes_of(farm):
        place, number = (*at, "ip"), int(node.ip)
        if node.ip in owners:
            owner, other = owners[node.ip]
            yield Finding(place, f"{node.name}: the address {node.ip} already belongs to {owner}", other)
        owners.setdefault(node.ip, (node.name, place))
        if node.ip == farm.server.address:
            yield Finding(place, f"{node.name}: {node.ip} is our own address (server.address)", ("server", "address"))
        homes = [home for mask, networks in by_mask.items() for home in networks.get(number & mask, ())]
        if by_mask and not homes and subnets_known:
            yield Finding(place, f"{node.name}: {node.ip} is in none of the subnets: {_listed(farm)}")
        for home in homes:
            what = edges(home.subnet).get(number)
            if what is not None:
                allowed = usable(home.subnet)
                yield Finding(place, f"{node.name}: {node.ip} is {what} of {home.subnet}; allowed: {allowed}")
            if node.ip in (home.routers or ()):
                yield Finding(place, f"{node.name}: {node.ip} is a router of {home.subnet}")


def _listed(farm: Farm, most: int = 20) -> str:
    """The farm's subnets; of many, the first."""
    subnets = [str(subnet.subnet) for subnet in farm.dhcp.subnets]
    more = f" and {len(subnets) - most} more" if len(subnets) > most else ""
    return ", ".join(subnets[:most]) + more
