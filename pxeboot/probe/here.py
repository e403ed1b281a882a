"""Whether the server that is to answer runs on this very host: it does not hear what the host itself broadcasts."""

from collections.abc import Sequence

from config import interfaces
from pxeboot.probe.answers import Answer
from pxeboot.probe.words import Here
from pxeboot.selftest import ports


def here(interface: str, answers: Sequence[Answer]) -> Here | None:
    """Return the server of this host that `interface` cannot be probed for, which had these answers; None: it can.

    Another program than ours, on a host where somebody else answers, may serve another interface: `/proc` does not
    tell.
    """
    own = interfaces.own_addresses()
    for answer in answers:
        if answer.server_id in own:
            return Here(f"{answer.server_id}, which answers, is an address of this host")
    known = _owners(interface)
    if known is None or (answers and not any(owner.pxeboot for owner in known)):
        return None
    who = ", ".join(map(str, known)) or "another program"
    ours = any(owner.pxeboot for owner in known)
    return Here(f"{who} serves {interface}, and a host does not hear what it broadcasts itself", ours=ours)


def _owners(interface: str) -> list[ports.Owner] | None:
    """Return who has DHCP's port on `interface`, as far as we may see; None if nobody has, or that cannot be told."""
    found = ports.listeners("UDP", 67, ports.tables())
    if not found or ports.can_bind(ports.Wanted("UDP", 67, "DHCP"), interface) is not False:
        return None
    known = ports.owners({listener.inode for listener in found})
    return list(dict.fromkeys(known[listener.inode] for listener in found if listener.inode in known))
