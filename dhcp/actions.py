"""What the engine wants done. None of it ever changes; what is made for most messages is not `frozen` all the same, as
that takes four times as long."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from config.events import Stage
from dhcp.leases import Lease
from dhcp.replies import Destination, Send
from dhcp.request import SERVER_PORT, Ignored, Request


@dataclass(slots=True, unsafe_hash=True)
class Store:
    """Have this lease on disk before carrying out the actions after it; if that fails, drop those.

    A lease that was stored before comes again when a client repeats itself, so that the answer waits for a write
    that is still under way.
    """

    lease: Lease
    taken: "tuple[Action, ...]" = ()
    """What to carry out in place of the actions after it if another server gave the address to somebody else."""
    unsure: "tuple[Action, ...]" = ()
    """The same if nobody can be asked now whether one did."""
    ours: bool = False
    """Whether no other server is asked, as the configuration says whose address it is."""


@dataclass(slots=True, unsafe_hash=True)
class Happened:
    """Tell people what happened to a machine."""

    mac: str
    stage: Stage
    detail: str
    boots: bool = True
    """Whether it is part of a boot. A running system, or a telephone, that gets an address is of interest to the log
    alone."""
    played: bool = False
    """Whether `pxeboot probe` asked, so that it happened to no machine."""


@dataclass(frozen=True, slots=True)
class Left:
    """`pxeboot probe` gave the address of this card back, which it played."""

    mac: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Find out by ARP whether somebody on the link uses `address`, then carry out `then`.

    If somebody does, carry out what `Server.in_use` returns instead. Nobody else waits meanwhile; the answer is to
    come in a third of a second.
    """

    address: IPv4Address
    then: "tuple[Action, ...]"
    request: Request
    """Whose address it is to be."""
    tries: int = 1
    """The how manieth address this is."""


Action = Send | Store | Happened | Left | Ignored | Probe


@dataclass(slots=True, unsafe_hash=True)
class Datagram:
    """Send an answer that is bytes already. Only a fast path says this, never the engine."""

    data: bytes
    destination: Destination
    ident: int
    """16 bits for the IP header, should it be ours to write."""
    source_port: int = SERVER_PORT
    htype: int = 1
