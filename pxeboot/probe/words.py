"""What is wrong with a connection, in words, and what to do."""

from pxeboot.probe.web import Stuck


def stuck(what: Stuck, service: str, host: str, port: int) -> tuple[str, str]:
    """Return what a connection that came to nothing means, and the remedy. `service` is HTTP, NBD and the like."""
    place = f"TCP port {port} of {host} ({service})"
    match what:
        case Stuck.REFUSED:
            return (f"{place} refuses: nothing listens there, or a firewall says so",
                    f"look there: ss -ltnp sport = :{port}; nft list ruleset")  # fmt: skip
        case Stuck.DROPPED:
            return (f"{place} does not answer: a firewall drops it, there or on the way",
                    f"let TCP port {port} in; `pxeboot check --here FARM` there looks at its own rules")  # fmt: skip
        case Stuck.UNREACHABLE:
            return f"no way leads to {host}", "look at the routers of the offer, and at this machine's routes"
        case Stuck.SILENT:
            return (f"{place} takes the connection and says nothing",
                    "that program hangs (see its log), or large packets are lost on the way (the MTU)")  # fmt: skip
        case Stuck.STALLED:
            return f"{place} begins to answer and stops", "large packets are lost on the way: see the MTU"
        case Stuck.BROKEN:
            return f"{place} breaks off", "see the server's log"


def not_here(serving: str) -> tuple[str, str]:
    """Return why a server of this very host cannot be probed here, and what to do instead."""
    what = f"{serving} serves this very interface, and a host does not hear itself what it sends to everybody"
    return what, "probe from another machine of the network; here, `pxeboot explain MAC` says what a machine would get"


def no_offer(*, carrier: bool, serves_here: str, vlan: bool) -> list[tuple[str, str]]:
    """Return what nobody's answering may mean, the likeliest first."""
    if not carrier:
        return [
            ("the interface has no carrier: no cable, or the switch port is off", "look at the cable and the port")
        ]
    if serves_here:
        return [not_here(serves_here)]
    where = "an access port of the right VLAN" if not vlan else "the VLAN of this interface"
    return [
        ("no DHCP server hears us, or none has something for this machine",
         f"is `pxeboot serve` running, on an interface of this network? Is this {where}? Does DHCP snooping trust the"
         " server's port? Is there a relay (ip helper) where the server is elsewhere? A server that gives only listed"
         " machines an address answers --mac of one of those alone")
    ]  # fmt: skip
