"""What is allowed in a farm, and hardly ever meant: `pxeboot check` notes it, and nothing is refused. Pure."""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

from config.check import place_text
from config.check_addresses import services
from config.check_dhcp import levels, usable
from config.check_machines import nodes_of
from config.check_texts import is_comment
from config.mistakes import shown
from config.model import Farm, Node
from config.yamltree import Place

FAMILIES = ("FSTAB", "PREINIT", "RCFILE", "HOSTS", "CRONTAB", "MODULE", "INIT_COMMAND")
"""Families of lts.conf keys, which count only with an underscore and more behind them."""
_OURS = {
    "boot": "our boot script is not run, and the root is looked for elsewhere",
    "pxeboot.server": "the machine fetches its root there",
    "pxeboot.image": "the machine boots another image than its pool's",
    "BOOTIF": "the machine asks for its address by that card alone",
}
"""Words of the command line that we write ourselves, and what another value does."""
_COMMENTED = ("FSTAB_", "HOSTS_")
_ADDRESS = re.compile("[0-9]+([.][0-9]+){3}")
_UNLISTED = re.compile("node-([0-9a-f]{12})")
"""The name of a machine that is not listed, with its MAC in it (`dhcp.plan.machine_name`)."""
_HERE = ("127.", "localhost:")


def advice(farm: Farm) -> Iterator[str]:
    """Yield a line for each thing that a person may not have meant."""
    if farm.pools and not farm.server.interfaces:
        yield "server.interfaces names none; `pxeboot serve` takes one at least, such as eth1"
    elif farm.pools and not farm.dhcp.subnets:
        yield "dhcp.subnets names no network, so no machine gets an address or is told what to boot"
    yield from (f"server.interfaces: {name} is there twice" for name in _repeated(farm.server.interfaces))
    for s, subnet in enumerate(farm.dhcp.subnets):
        for router in subnet.routers or ():
            if router not in subnet.subnet:
                where = place_text(("dhcp", "subnets", s, "routers"))
                yield f"{where}: {router} is outside of {subnet.subnet} ({usable(subnet.subnet)}), where few reach it"
    yield from _machines(farm)
    for place, settings in levels(farm):
        for key, told in services(settings):
            for address in told:
                if address.is_loopback:
                    yield f"{place_text((*place, key))}: {address} is the machine itself"
    for place, word in _kernel_parameters(farm):
        name, _, value = word.partition("=")
        if name in _OURS and word != "boot=pxeboot":
            yield f"{place_text(place)}: {shown(word)} takes the place of ours: {_OURS[name]}"
        elif "\\" in value or "'" in value:
            yield f"{place_text(place)}: GRUB writes a backslash before each ' and \\ of {name}'s value"
    for name, tag in farm.tags.items():
        for key, value in tag.lts.items():
            if key in FAMILIES:
                yield f"{place_text(('tags', name, 'lts', key))} does nothing; write {key}_01"
            elif key.startswith(_COMMENTED) and is_comment(value):
                yield f"{place_text(('tags', name, 'lts', key))} is only a comment"
    for k, line in enumerate(farm.node.ssh_authorized_keys):
        if is_comment(line) or not line.strip():
            yield f"{place_text(('node', 'ssh_authorized_keys', k))} is no key, but empty or a comment"
    for name, cluster in farm.clusters.items():
        if cluster.api_server is not None and cluster.api_server.startswith(_HERE):
            yield f"clusters.{name}.api_server: {cluster.api_server} is the machine itself, for a machine that joins"
        if cluster.api_address is not None and cluster.api_address.is_loopback:
            yield f"clusters.{name}.api_address: {cluster.api_address} is the machine itself, for a machine that joins"


def _machines(farm: Farm) -> Iterator[str]:
    """Machines that are a router which they or others are told of, or are named by an address that is not theirs."""
    at: dict[IPv4Address, str] = {node.ip: node.name for _, node in nodes_of(farm)}
    for subnet in farm.dhcp.subnets:
        shared = farm.dhcp.shared_networks.get(subnet.shared_network or "")
        above = shared.routers if shared is not None and shared.routers is not None else farm.dhcp.routers
        if subnet.routers is None and not subnet.proxy:  # what the subnet says itself is checked
            for router in dict.fromkeys(above or ()):
                if router in subnet.subnet and router in at:
                    yield f"{at[router]}: {router} is a router of {subnet.subnet}"
    for _, node in nodes_of(farm):
        if _ADDRESS.fullmatch(node.name) and node.name != str(node.ip):
            yield f"{node.name}: its name is an address, and not its own, which is {node.ip}"
        yield from _strangers_name(node, farm)


def _strangers_name(node: Node, farm: Farm) -> Iterator[str]:
    """A name that another machine would have too, were that not listed."""
    named = _UNLISTED.fullmatch(node.name)
    if named is None or not node.macs or not any(subnet.unknown for subnet in farm.dhcp.subnets):
        return
    mac = ":".join(re.findall("..", named[1]))
    if mac not in node.macs and not any(mac in other.macs for _, other in nodes_of(farm)):
        yield f"{node.name}: a machine with the MAC {mac}, which is not listed, has this name too, so it boots nothing"


def _repeated(names: Sequence[str]) -> list[str]:
    return [*dict.fromkeys(name for n, name in enumerate(names) if name in names[:n])]


def _kernel_parameters(farm: Farm) -> Iterator[tuple[Place, str]]:
    for name, tag in farm.tags.items():
        for k, text in enumerate(tag.kernel_parameters):
            yield from ((("tags", name, "kernel_parameters", k), word) for word in text.split())
    for p, pool in enumerate(farm.pools):
        for k, text in enumerate(pool.kernel_parameters):
            yield from ((("pools", p, "kernel_parameters", k), word) for word in text.split())
