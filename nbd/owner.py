"""What a connection needs of its server, and what it tells about itself."""

import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Protocol

from nbd.actions import OpenExport
from nbd.exports import Export
from nbd.work import Work

if TYPE_CHECKING:
    from nbd.connection import Connection


@dataclass(frozen=True, slots=True)
class Activity:
    """What one connection does, and has done."""

    peer: IPv4Address
    name: str
    """What the client called its export."""
    export: Export | None
    """What the catalogue opened; None before."""
    secure: bool
    """Whether it has TLS."""
    since_s: float
    """When it was accepted, in seconds since 1970."""
    reads: int
    read_bytes: int
    cold_reads: int
    """Reads, or pieces of them, that had to wait for a disk."""
    writes: int
    written_bytes: int
    errors: int = 0
    """How often a file failed it: a disk's error, or an image that changed."""


class Owner(Protocol):
    """The server, as its connections see it. Called in the pump's threads."""

    def open(self, connection: "Connection", action: OpenExport, secure: bool) -> None:
        """Have the catalogue open an export; then `Connection.opened` is posted."""

    def names(self, connection: "Connection", secure: bool) -> None:
        """Have the catalogue list its exports; then `Connection.listed` is posted."""

    def work(self, connection: "Connection", export: Export) -> Work:
        """Return the threads' side of an export."""

    def chosen(self, connection: "Connection", export: Export) -> None:
        """It has its export."""

    def lingers(self, connection: "Connection") -> None:
        """It is to be ended when the client has taken its last replies, or too long for that."""

    def ended(self, connection: "Connection") -> None:
        """It is over."""

    def complain(self, message: str, *args: object) -> None:
        """Log a warning, in moderation."""

    def tls_context(self) -> ssl.SSLContext:
        """Return what a TLS handshake needs. Only called where there is TLS."""

    def may_shake(self, connection: "Connection") -> bool:
        """Tell whether it may do a step of a handshake now, then `shook` is due; else it is posted to when it may."""

    def shook(self) -> None:
        """The step is done."""
