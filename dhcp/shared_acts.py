"""What is to be done about shared leases, as `dhcp.shared.Book` says it. Pure."""

from dataclasses import dataclass
from enum import Enum, auto

from dhcp.leases import Lease
from dhcp.shared_wire import Wish

Ticket = int
"""Who waits for a lease to be kept, by a number of his own."""


class Why(Enum):
    """Why a lease is not kept."""

    TAKEN = auto()
    """Another server gave the address to somebody else."""
    AWAY = auto()
    """Nobody can be asked now."""
    CHANGED = auto()
    """The same client has asked for something else, or less, by now."""
    BUSY = auto()
    """Too much is asked of the API already."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Have the API do this, and call `Book.answered`."""

    wish: Wish


@dataclass(frozen=True, slots=True)
class Go:
    """The lease may be stored here, and then its client told."""

    ticket: Ticket
    lease: Lease


@dataclass(frozen=True, slots=True)
class Deny:
    """The lease is not to be."""

    ticket: Ticket
    why: Why


@dataclass(frozen=True, slots=True)
class Keep:
    """Store the record of another server here too; nobody waits for it."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Lost:
    """A client was told that it may go on while the API was away, and somebody else has its address now."""

    lease: Lease
    now_of: Lease


Act = Ask | Go | Deny | Keep | Lost
