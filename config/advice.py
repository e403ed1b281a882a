"""What is allowed in a farm, and hardly ever meant: `pxeboot check` notes it, and nothing is refused. Pure."""

from collections.abc import Iterator

from config.check import place_text
from config.check_addresses import services
from config.check_dhcp import levels, usable
from config.mistakes import shown
from config.model import Farm
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
_HERE = ("127.", "localhost:")


def advice(farm: Farm) -> Iterator[str]:
    """Yield a line for each thing that a person may not have meant."""
    if farm.pools and not farm.server.interfaces:
        yield "server.interfaces names none; `pxeboot serve` takes one at least, such as eth1"
    elif farm.pools and not farm.dhcp.subnets:
        yield "dhcp.subnets names no network, so no machine gets an address or is told what to boot"
    for s, subnet in enumerate(farm.dhcp.subnets):
        for router in subnet.routers or ():
            if router not in subnet.subnet:
                where = place_text(("dhcp", "subnets", s, "routers"))
                yield f"{where}: {router} is outside of {subnet.subnet} ({usable(subnet.subnet)}), where few reach it"
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
            yield f"{place_text(place)}: GRUB writes a backslash before each ' and \\ of {shown(word)}"
    for name, tag in farm.tags.items():
        for key in tag.lts:
            if key in FAMILIES:
                yield f"{place_text(('tags', name, 'lts', key))} does nothing; write {key}_01"
    for name, cluster in farm.clusters.items():
        if cluster.api_server is not None and cluster.api_server.startswith(_HERE):
            yield f"clusters.{name}.api_server: {cluster.api_server} is the machine itself, for a machine that joins"
        if cluster.api_address is not None and cluster.api_address.is_loopback:
            yield f"clusters.{name}.api_address: {cluster.api_address} is the machine itself, for a machine that joins"


def _kernel_parameters(farm: Farm) -> Iterator[tuple[Place, str]]:
    for name, tag in farm.tags.items():
        for k, text in enumerate(tag.kernel_parameters):
            yield from ((("tags", name, "kernel_parameters", k), word) for word in text.split())
    for p, pool in enumerate(farm.pools):
        for k, text in enumerate(pool.kernel_parameters):
            yield from ((("pools", p, "kernel_parameters", k), word) for word in text.split())
