"""The farm that somebody means who gives an interface and an image, and no file."""

from ipaddress import IPv4Interface
from pathlib import Path

from config.interfaces import interface_address
from config.model import Farm
from pxeboot.image import build, store

STATE = Path("/var/lib/pxeboot")


def farm_of(interfaces: tuple[str, ...], image: Path, root: str, state: Path | None) -> Farm:
    """Return a farm in which every machine on `interfaces` boots `image`.

    The upper half of each interface's network is the pool. The image is added to a store in the state folder
    (a store's own image is taken as it is). Raises `ImageError`, and `OSError` for an interface without address.
    """
    state = state or STATE
    if not (image / store.SUMS).exists():
        build.add(state / "images", "node", image, say=print)
        image = state / "images/node"
    subnets = []
    for name in interfaces:
        address = interface_address(name)
        first, last = upper_half(address)
        subnets.append({"subnet": str(address.network), "pool": f"{first}-{last}", "unknown": "all"})
    return Farm.model_validate(
        {
            "server": {"interfaces": interfaces, "state": state},
            "dhcp": {"subnets": subnets},
            "images": {"node": {"path": image}},
            "pools": [{"name": "all", "image": "node", "root": root}],
        }
    )


def upper_half(address: IPv4Interface) -> tuple[str, str]:
    """Return the first and last address of the upper half of an interface's network.

    >>> upper_half(IPv4Interface("10.77.0.1/24"))
    ('10.77.0.128', '10.77.0.254')
    """
    network = address.network
    half = network.num_addresses // 2
    return str(network[half]), str(network[network.num_addresses - 2])
