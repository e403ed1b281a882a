"""The farm that somebody means who gives an interface and an image, and no file."""

import json
import os
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from config.durable import replace_file
from config.interfaces import NoInterface, interface_address
from config.model import Farm
from pxeboot.image import build, store
from pxeboot.plainly import plainly

STATE = Path("/var/lib/pxeboot")
ROUTES = Path("/proc/net/route")
RESOLVER = Path("/etc/resolv.conf")

LEFT_ALONE = 10
"""So many addresses at a network's end are in no pool: people put routers and printers there."""
_LARGE = 64
"""The number of addresses from which a network can spare them."""
_UP_AND_GATEWAY = 3
"""RTF_UP and RTF_GATEWAY of linux/route.h."""


def farm_of(
    interfaces: tuple[str, ...],
    image: Path,
    root: str,
    state: Path | None,
    routes: Path = ROUTES,
    resolver: Path = RESOLVER,
) -> Farm:
    """Return a farm in which every machine on `interfaces` boots `image`.

    Half of each interface's network is the pool, the upper one unless an address there is in use. Machines get our
    own default route if it leads over their network, and our name servers. The image is added to a store in the
    state folder (a store's own image is taken as it is).

    Raises `ImageError`, `NoInterface` for one that is not there, has no address, or no room for machines.
    """
    state = state or STATE
    servers = name_servers(resolver)
    subnets = []
    for name in interfaces:
        address = interface_address(name)
        gateway = default_gateway(name, address, routes)
        first, last = pool_of(address, [*servers, *([gateway] if gateway else [])])
        subnet: dict[str, object] = {"subnet": str(address.network), "pool": f"{first}-{last}", "unknown": "all"}
        if gateway is not None:
            subnet["routers"] = [gateway]
        if servers:
            subnet["domain_name_servers"] = servers
        subnets.append(subnet)
    if not (image / store.SUMS).exists():
        image = added(image, state)
    return Farm.model_validate(
        {
            "server": {"interfaces": interfaces, "state": state},
            "dhcp": {"subnets": subnets},
            "images": {"node": {"path": image}},
            "pools": [{"name": "all", "image": "node", "root": root}],
        }
    )


def pool_of(address: IPv4Interface, used: Collection[IPv4Address] = ()) -> tuple[IPv4Address, IPv4Address]:
    """Return the first and last address of a pool that holds neither an interface's own address nor `used`.

    It is the upper or lower half of the network, or the longest stretch of either if both hold such an address.
    It depends on nothing that changes while machines run, so that they keep their leases over a restart.

    Raises `NoInterface` if the network has no room for a machine.

    >>> str(pool_of(IPv4Interface("10.77.0.1/24"))[0]), str(pool_of(IPv4Interface("10.77.0.200/24"))[1])
    ('10.77.0.128', '10.77.0.127')
    """
    network = address.network
    size = network.num_addresses
    first, half, end = int(network.network_address) + 1, int(network[size // 2]), int(network.broadcast_address)
    if size < 4:
        raise NoInterface(f"the network {network} has no room for machines; it needs at least 4 addresses")
    if size >= _LARGE:
        end -= LEFT_ALONE
    taken = {int(one) for one in (address.ip, *used)}
    halves = ((half, end), (first, half))
    for begin, stop in halves:
        if not any(begin <= one < stop for one in taken):
            return IPv4Address(begin), IPv4Address(stop - 1)
    begin, stop = max((gap for span in halves for gap in _gaps(*span, taken)), key=lambda gap: gap[1] - gap[0])
    if begin == stop:
        raise NoInterface(f"the network {network} has no room for machines; all its addresses are in use")
    return IPv4Address(begin), IPv4Address(stop - 1)


def _gaps(begin: int, stop: int, taken: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yield what `taken` leaves of `begin` to `stop`; ends are not included."""
    for one in sorted(one for one in taken if begin <= one < stop):
        yield begin, one
        begin = one + 1
    yield begin, stop


def default_gateway(interface: str, address: IPv4Interface, routes: Path = ROUTES) -> IPv4Address | None:
    """Return the default route's gateway if it is on this interface's network, the one with the least metric."""
    found: list[tuple[int, IPv4Address]] = []
    for line in _lines(routes)[1:]:
        name, to, via, flags, _, _, metric, mask, *_ = [*line.split(), *[""] * 8]
        with suppress(ValueError):
            gateway = IPv4Address(struct.pack("=I", int(via, 16)))
            is_default = int(to, 16) == int(mask, 16) == 0
            if is_default and name == interface and int(flags, 16) & _UP_AND_GATEWAY == _UP_AND_GATEWAY:
                found.append((int(metric), gateway))
    return next((gateway for _, gateway in sorted(found) if gateway in address.network), None)


def name_servers(resolver: Path = RESOLVER) -> list[IPv4Address]:
    """Return the name servers of resolv.conf(5) that other machines can ask too: IPv4, and not our own loopback."""
    found: list[IPv4Address] = []
    for line in _lines(resolver):
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            with suppress(ValueError):
                found.append(IPv4Address(words[1]))
    return [server for server in dict.fromkeys(found) if not server.is_loopback and not server.is_unspecified]


def _lines(path: Path) -> list[str]:
    """A file's lines; none if it cannot be read: a host without either is an ordinary one."""
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def added(source: Path, state: Path) -> Path:
    """Return the image that `source` becomes in the state folder's store; one that is there already stays.

    A file is known again by its path, size and time of last change. A folder is packed each time: nothing tells
    whether a file deep in it has changed.

    Raises `ImageError`.
    """
    images, note = state / "images", state / "image.json"
    seen: dict[str, object] | None = None
    if source.is_file():
        found = source.stat()
        seen = {"path": os.path.realpath(source), "size_bytes": found.st_size, "mtime_ns": found.st_mtime_ns}
        with suppress(OSError, ValueError, store.ImageError):
            if json.loads(note.read_bytes()) == {**seen, "image": store.open_image(images / "node").image_id}:
                return images / "node"
    try:
        image = build.add(images, "node", source, say=print)
        if seen is not None:
            replace_file(note, json.dumps({**seen, "image": image.image_id}).encode(), 0o644)
    except OSError as error:
        raise store.ImageError(f"{source} cannot be added to {images}: {plainly(error)}") from error
    return images / "node"
