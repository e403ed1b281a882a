"""Whether the interfaces that the farm names can serve its networks."""

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from config.interfaces import Link, is_pattern, matches
from config.model import Farm
from pxeboot.selftest.findings import Finding

SYS = Path("/sys/class/net")


def look(farm: Farm, links: Mapping[str, Link], own: Collection[IPv4Address] = (), sys: Path = SYS) -> list[Finding]:
    """Return what is wrong with `links`, the interfaces of `farm.server.interfaces` that exist.

    `own` are the addresses of this host.
    """
    found = [*_missing(farm.server.interfaces, links)]
    for name, link in links.items():
        found += [*_one(farm, name, link), *_narrow(name, link, sys)]
    return [*found, *_unreached(farm, links), *_ours(farm, own)]


def _missing(patterns: Collection[str], links: Mapping[str, Link]) -> Iterable[Finding]:
    if not patterns:
        yield Finding("error", "interfaces", "server.interfaces names none, and pxeboot serve takes one at least",
                      "write it into the farm's file: server: {interfaces: [eth1]}")  # fmt: skip
    for name in patterns:
        if is_pattern(name):
            if not any(matches(link, name) for link in links):
                yield Finding("error", f"interface {name}", f"no interface with an IPv4 address is named {name}",
                              "see `ip -brief address`; it is served once it is there")  # fmt: skip
        elif name not in links:
            yield Finding("error", f"interface {name}", f"there is no interface {name}",
                          "see `ip -brief link`; it is served once it is there")  # fmt: skip


def _one(farm: Farm, name: str, link: Link) -> Iterable[Finding]:
    about = f"interface {name}"
    if not link.up:
        yield Finding("error", about, f"{name} is down", f"ip link set {name} up")
    elif not link.carrier:
        # No error: with a switch that is off, this host is as it should be, and serves when the switch is back.
        yield Finding("warning", about, f"{name} has no wire, or nothing at its other end (no carrier)",
                      "look at the cable and the switch; machines are served as soon as it is there")  # fmt: skip
    subnets = [subnet.subnet for subnet in farm.dhcp.subnets]
    if not link.addresses:
        example = f"{subnets[0][1]}/{subnets[0].prefixlen}" if subnets else "ADDRESS/LENGTH"
        yield Finding("error", about, f"{name} has no IPv4 address", f"ip address add {example} dev {name}")
    elif subnets and not any(address.ip in subnet for address in link.addresses for subnet in subnets):
        own = ", ".join(str(address) for address in link.addresses)
        listed = ", ".join(map(str, subnets[:4])) + (" and others" if len(subnets) > 4 else "")
        what = f"{own} of {name} is in no subnet of the farm ({listed}), so machines on its wire get no answer"
        remedy = "change its address or dhcp.subnets; all is well if only relays reach it"
        yield Finding("warning", about, what, remedy)
    told = _mtus(farm)
    if link.addresses and told and max(told) > link.mtu:
        what = f"machines are told an MTU of {max(told)}, and that of {name} is {link.mtu}, so what they send is lost"
        yield Finding("warning", about, what, f"ip link set {name} mtu {max(told)}, or tell machines {link.mtu}")


def _narrow(name: str, link: Link, sys: Path) -> Iterable[Finding]:
    """A bridge, bond or VLAN that takes larger packets than what carries them: such packets are lost without a word.

    What lies farther on the way is not seen: the self-test sends nothing to anybody.
    """
    for below in sorted({*(sys / name).glob("lower_*"), *(sys / name).glob("brif/*")}):
        port = below.name.removeprefix("lower_")
        try:
            mtu = int((sys / port / "mtu").read_text())
        except (OSError, ValueError):
            continue
        if mtu < link.mtu:
            what = f"the MTU of {name} is {link.mtu}, and that of {port}, which carries it, is {mtu}"
            yield Finding("warning", f"MTU of {name}", f"{what}, so larger packets are lost",
                          f"ip link set {port} mtu {link.mtu}, or ip link set {name} mtu {mtu}")  # fmt: skip
            return


def _ours(farm: Farm, own: Collection[IPv4Address]) -> Iterable[Finding]:
    """Machines with an address that is this host's: neither would be reached."""
    if not own:
        return
    for pool in farm.pools:
        for node in pool.nodes:
            if node.ip in own:
                what = f"{node.name} has the address {node.ip}, which is this host's own"
                yield Finding("error", f"machine {node.name}", what, "give it another one in the farm's file")


def _mtus(farm: Farm) -> list[int]:
    """Return every MTU that the farm tells machines."""
    places = [farm.dhcp, *farm.dhcp.subnets, *farm.dhcp.shared_networks.values(), *farm.dhcp.architectures.values()]
    places += [pool for subnet in farm.dhcp.subnets for pool in subnet.pools]
    places += [tag.dhcp for tag in farm.tags.values()]
    places += [node.dhcp for pool in farm.pools for node in pool.nodes]
    return [place.mtu for place in places if place.mtu is not None]


def _unreached(farm: Farm, links: Mapping[str, Link]) -> Iterable[Finding]:
    own: list[IPv4Network] = [address.network for link in links.values() for address in link.addresses]
    for subnet in farm.dhcp.subnets:
        if own and not any(subnet.subnet.overlaps(network) for network in own):
            what = f"no interface has an address in {subnet.subnet}, so its machines reach us through a relay only"
            yield Finding("note", f"subnet {subnet.subnet}", what)
