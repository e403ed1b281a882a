"""Whether a DHCP server of this very host has the interface: it does not hear what the host itself broadcasts."""

from pxeboot.selftest import ports


def serves(interface: str) -> str:
    """Return who serves DHCP on `interface` here, for people; "" if nobody does, or that cannot be told."""
    wanted = ports.Wanted("UDP", 67, "DHCP")
    found = ports.listeners("UDP", 67, ports.tables())
    if not found or ports.can_bind(wanted, interface) is not False:
        return ""
    known = ports.owners({listener.inode for listener in found})
    names = [str(known[listener.inode]) for listener in found if listener.inode in known]
    return ", ".join(dict.fromkeys(names)) or "another program"
