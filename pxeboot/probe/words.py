"""What is wrong with a connection, in words, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from pxeboot.probe.web import Stuck


@dataclass(frozen=True, slots=True)
class Here:
    """Why the server of this very host cannot be probed from here."""

    why: str
    ours: bool = True
    """Whether it is a pxeboot."""

    def others(self, names: list[str]) -> str:
        """Return what it means that others answer on its network."""
        beside = f"on its network {' and '.join(names)} answers, too"
        return f"{beside}: `pxeboot status` says whether that is in its way" if self.ours else beside

    @property
    def instead(self) -> list[tuple[str, str]]:
        """What to type, and where or what for."""
        elsewhere = [("pxeboot probe", "on another machine of this network")]
        return elsewhere + self.ours * [
            ("pxeboot explain MAC", "here: what a machine would be told"),
            ("pxeboot check --here", "here: what is wrong with this host"),
        ]


def stuck(what: Stuck, service: str, host: str, port: int) -> tuple[str, str]:
    """Return what a connection that came to nothing means, and the remedy. `service` is HTTP, NBD and the like."""
    place = f"TCP port {port} of {host} ({service})"
    match what:
        case Stuck.REFUSED:
            return (f"{place} refuses: nothing listens there, or a firewall says so",
                    f"look there: ss -ltnp sport = :{port}; nft list ruleset")  # fmt: skip
        case Stuck.DROPPED:
            return (f"{place} does not answer: a firewall drops it, there or on the way",
                    f"let TCP port {port} in; `pxeboot check --here`, on that host, looks at its rules")  # fmt: skip
        case Stuck.UNREACHABLE:
            return f"no way leads to {host}", "look at the routers of the offer, and at this machine's routes"
        case Stuck.SILENT:
            return (f"{place} takes the connection and says nothing",
                    "that program hangs (see its log), or large packets are lost on the way (the MTU)")  # fmt: skip
        case Stuck.STALLED:
            return f"{place} begins to answer and stops", "large packets are lost on the way: see the MTU"
        case Stuck.BROKEN:
            return f"{place} breaks off", "see the server's log"


def in_use(address: str, by: Sequence[str], mac: str, maker: str = "") -> tuple[str, str]:
    """Return what it means that cards have the address that is offered to `mac`, and the remedy.

    `maker` is who made the first of them, if that is known, as it stands behind its MAC.
    """
    if mac in by:
        what = f"{address} is used by {mac}, the machine that is played: it runs, so its address is not taken"
        return what, "play it while it is off, or leave --mac out"
    return (f"{address} is used by {by[0]} already{maker}, so it is not taken",
            "if that is another card of the machine that is played, it runs: play it while it is off; else take that"
            " address from it, or out of the pool")  # fmt: skip


def no_carrier(interface: str) -> tuple[str, str]:
    """Return what it means that an interface has no carrier, and the remedy."""
    return f"{interface} has no carrier: no cable, or the switch port is off", "look at the cable and the port"


def no_offer(interface: str) -> tuple[str, str]:
    """Return what nobody's answering on an interface may mean, and what to look at, the likeliest first."""
    where = "the VLAN of this interface" if "." in interface else "an access port of the right VLAN"
    return ("no DHCP server hears us, or none has something for this machine",
            f"is `pxeboot serve` running, on an interface of this network? Is this {where}? Does DHCP snooping trust"
            " the server's port? Is there a relay (ip helper) where the server is elsewhere? A server that gives only"
            " listed machines an address answers --mac of one of those alone")  # fmt: skip
