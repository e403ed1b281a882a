"""Looks at this host for what keeps machines from booting, before the first one finds out."""

import errno
import logging
from collections.abc import Callable, Iterable

from config import interfaces as host_interfaces
from config.model import Farm
from pxeboot import neighbours
from pxeboot.selftest import files, firewall, host, images, interfaces, pod, ports
from pxeboot.selftest.findings import Finding, in_order

log = logging.getLogger("pxeboot")

Part = Callable[[], Iterable[Finding]]


def look(farm: Farm, daemon: ports.Daemon | None = None) -> list[Finding]:
    """Return what is wrong on this host for `farm`, the worst first. It reads files and may block: not on the loop.

    `daemon` is the one that runs here already, if somebody else looks.
    """
    links = host_interfaces.links(farm.server.interfaces)
    own = frozenset(host_interfaces.own_addresses())
    clock, capabilities = host.clock(), host.capabilities()

    def rules() -> Iterable[Finding]:
        listed = firewall.ruleset() if host.may_list_rules(capabilities) else firewall.MAY_NOT
        return firewall.look(ports.wanted(farm), list(links), listed)

    return each({
        "interfaces": lambda: interfaces.look(farm, links, own),
        "hostNetwork": lambda: pod.look(farm.server.interfaces, links, pod.surroundings()),
        "ports": lambda: ports.look(farm, links, daemon=daemon),
        "firewall": rules,
        "images": lambda: images.look(farm),
        "files": lambda: files.look(farm, clock.now_s),
        "clock": lambda: host.look_clock(farm, clock),
        "state folder": lambda: host.look_state(farm.server.state, host.disk(farm.server.state)),
        "open files": lambda: host.look_limits(farm, host.open_files()),
        "capabilities": lambda: host.look_capabilities(capabilities, host.unprivileged_from()),
        "kernel": lambda: host.look_kernel(farm, frozenset(map(str, own)), list(links)),
        "neighbours": lambda: _neighbours(farm),
    })  # fmt: skip


def each(parts: dict[str, Part]) -> list[Finding]:
    """Return what the parts find, the worst first. Raises `OSError` if no descriptor is left to look with.

    Where one fails, at a host as nobody has seen one before, that is a finding, and the others look all the same.
    """
    found: list[Finding] = []
    for about, part in parts.items():
        try:
            found += part()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            log.debug("the self-test could not look at %s", about, exc_info=True)
            what = f"the self-test could not look at {about}: {type(error).__name__}: {error}"
            found.append(Finding("warning", about, what))
    return in_order(found)


def _neighbours(farm: Farm) -> Iterable[Finding]:
    if (too_few := neighbours.too_few(farm)) is not None:
        what, _, remedy = too_few.partition("; ")
        yield Finding("warning", "neighbours", what, remedy)
