"""Looks at this host for what keeps machines from booting, before the first one finds out."""

from config import interfaces as host_interfaces
from config.model import Farm
from pxeboot import neighbours
from pxeboot.selftest import interfaces
from pxeboot.selftest.findings import Finding, in_order


def look(farm: Farm) -> list[Finding]:
    """Return what is wrong on this host for `farm`, the worst first. It reads files and may block: not on the loop."""
    found = interfaces.look(farm, host_interfaces.links(farm.server.interfaces))
    if (too_few := neighbours.too_few(farm)) is not None:
        found.append(Finding("warning", "neighbours", too_few))
    return in_order(found)
