"""What happened to a machine: small values that every server reports and the timeline tells as a story."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address


class Stage(StrEnum):
    """How far a machine is, in the order of a boot. `FAILED` and `REFUSED` can follow any of them."""

    DISCOVER = "discover"
    """A firmware or boot loader asked for an address (DHCPDISCOVER or a BOOTP request), so a boot begins."""
    ADDRESS = "address"
    """It has an address (DHCPACK left)."""
    LOADER = "loader"
    """The boot program (GRUB's network image) was fetched."""
    MENU = "menu"
    """GRUB read the configuration made for this machine."""
    DISK = "disk"
    """GRUB was told to go on with the machine's own disk."""
    KERNEL = "kernel"
    """The kernel was fetched."""
    INITRD = "initrd"
    """The machine's node.cpio or the distribution's initrd was fetched."""
    NETWORK = "network"
    """The initramfs runs and has configured the network."""
    WAITING = "waiting"
    """Too many machines fetch their roots: this one was told to wait for its turn, and asks again."""
    FETCH = "fetch"
    """The root is being fetched (into RAM), or its NBD export was opened."""
    VERIFIED = "verified"
    """The root in RAM has the promised sha256."""
    ROOT = "root"
    """The root is mounted, with its writable overlay."""
    PREPARED = "prepared"
    """lts.conf and the machine's files are in place; the real init comes next."""
    SYSTEM = "system"
    """systemd reached multi-user."""
    TOKEN = "token"
    """A join token was made for this boot alone."""
    FETCHED = "fetched"
    """The machine fetched its join command, which it may once."""
    JOINING = "joining"
    """The join command was started."""
    APPROVED = "approved"
    """Its request for a certificate was approved."""
    REGISTERED = "registered"
    """Its Node is there, or belongs to this boot again."""
    JOINED = "joined"
    """The join command ended well."""
    READY = "ready"
    """Its Node is Ready."""
    FAILED = "failed"
    """The machine, or one of our servers on its behalf, gave up; the detail says why."""
    REFUSED = "refused"
    """Somebody asked for what is this machine's alone, or the machine itself twice; that says nothing of how far it
    is."""


@dataclass(slots=True, unsafe_hash=True)
class Event:
    """One thing that happened. `peer` is who it happened to, as the reporting server knows it.

    DHCP knows a MAC ("52:54:00:12:34:56"), the others an address; whoever assembles the servers turns both into
    a machine's name. `detail` is one line for a person; text that a peer chose is already escaped (`%r`). It never
    changes once it is made; it is not `frozen`, as that takes four times as long.
    """

    peer: str | IPv4Address
    stage: Stage
    detail: str
    bytes_sent: int = 0
    took_s: float = 0.0
    """How long a transfer took that is over."""
    resent: int = 0
    """Blocks that had to be sent again."""
    played: bool = False
    """Whether `pxeboot probe` plays the machine. No boot of it begins by that."""
    boots: bool = True
    """Whether it is part of a boot. What is not says only who has the address: the machine itself, or, where it is
    `played`, from now on nobody."""


Report = Callable[[Event], None]
"""Where a server sends its events. Cheap, never raises, never blocks."""
