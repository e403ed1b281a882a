"""The farm that somebody means who gives an interface and an image, and no file."""

from ipaddress import IPv4Interface
from pathlib import Path

from config.interfaces import NoInterface, interface_address
from config.model import Farm
from pxeboot.image import build, store

STATE = Path("/var/lib/pxeboot")


def farm_of(interfaces: tuple[str, ...], image: Path, root: str, state: Path | None) -> Farm:
    """Return a farm in which every machine on `interfaces` boots `image`.

    Half of each interface's network is the pool, the upper one unless our own address is there. The image is
    added to a store in the state folder (a store's own image is taken as it is).

    Raises `ImageError`, and `NoInterface` for one that is not there, has no address, or no room for machines.
    """
    state = state or STATE
    subnets = []
    for name in interfaces:
        address = interface_address(name)
        first, last = pool_of(address)
        subnets.append({"subnet": str(address.network), "pool": f"{first}-{last}", "unknown": "all"})
    if not (image / store.SUMS).exists():
        build.add(state / "images", "node", image, say=print)
        image = state / "images/node"
    return Farm.model_validate(
        {
            "server": {"interfaces": interfaces, "state": state},
            "dhcp": {"subnets": subnets},
            "images": {"node": {"path": image}},
            "pools": [{"name": "all", "image": "node", "root": root}],
        }
    )


def pool_of(address: IPv4Interface) -> tuple[str, str]:
    """Return the first and last address of the half of an interface's network that is free of its own address.

    Raises `NoInterface` if the network has no room for a machine.

    >>> pool_of(IPv4Interface("10.77.0.1/24")), pool_of(IPv4Interface("10.77.0.200/24"))
    (('10.77.0.128', '10.77.0.254'), ('10.77.0.1', '10.77.0.127'))
    """
    network = address.network
    half = network.num_addresses // 2
    if half < 2:
        raise NoInterface(f"the network {network} has no room for machines; it needs at least 4 addresses")
    if address.ip >= network[half]:
        return str(network[1]), str(network[half - 1])
    return str(network[half]), str(network[-2])
