"""Looks at this host for what keeps machines from booting, before the first one finds out."""

from config import interfaces as host_interfaces
from config.model import Farm
from pxeboot import neighbours
from pxeboot.selftest import files, firewall, host, images, interfaces, pod, ports
from pxeboot.selftest.findings import Finding, in_order


def look(farm: Farm) -> list[Finding]:
    """Return what is wrong on this host for `farm`, the worst first. It reads files and may block: not on the loop."""
    links = host_interfaces.links(farm.server.interfaces)
    clock = host.clock()
    found = interfaces.look(farm, links)
    found += pod.look(farm.server.interfaces, links, pod.surroundings())
    found += ports.look(farm, links)
    capabilities = host.capabilities()
    listed = firewall.ruleset() if host.may_list_rules(capabilities) else firewall.MAY_NOT
    found += firewall.look(ports.wanted(farm), list(links), listed)
    found += images.look(farm)
    found += files.look(farm, clock.now_s)
    found += host.look_clock(farm, clock)
    found += host.look_state(farm.server.state, host.disk(farm.server.state))
    found += host.look_limits(farm, host.open_files())
    found += host.look_capabilities(capabilities, host.unprivileged_from())
    own = frozenset(map(str, host_interfaces.own_addresses()))
    found += host.look_kernel(farm, own, list(links))
    if (too_few := neighbours.too_few(farm)) is not None:
        what, _, remedy = too_few.partition("; ")
        found.append(Finding("warning", "neighbours", what, remedy))
    return in_order(found)
