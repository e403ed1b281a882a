"""The settings of the two servers that deliver files, TFTP and HTTP, and what NBD shares with them."""

from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated

from pydantic import Field

from config.setting import Setting

Port = Annotated[int, Field(ge=1, le=65535)]
MegabitsPerSecond = Annotated[int, Field(ge=1)]


class Tftp(Setting):
    """How TFTP sends."""

    single_port: bool = False
    """Whether all transfers use the port that was asked, told apart by the client's address and port. For clients
    behind address translation; otherwise each transfer has a port of its own (RFC 1350)."""
    blksize: Annotated[int, Field(ge=512, le=65464)] = 65464
    """The largest block that is granted, in bytes (RFC 2348). What a packet of the path carries is never exceeded."""
    windowsize: Annotated[int, Field(ge=1, le=65535)] = 64
    """The largest window that is granted, in blocks (RFC 7440)."""
    rollover: Annotated[int, Field(ge=0, le=1)] = 0
    """Which block number follows 65535, 0 or 1."""


class Certificate(Setting):
    """Who we are, to clients that use TLS, and who they have to be."""

    certificate: Path
    """The certificate and those that lead from it to an authority, as PEM."""
    key: Path
    """The private key, as PEM without a password."""
    client_ca: Path | None = None
    """The authorities, as PEM, of which one must have signed a client's certificate; else clients need none."""


class Tls(Certificate):
    """A second listener for HTTP, with TLS. The files are read again when they change."""

    port: Port = 443
    """The TCP port."""


class Http(Setting):
    """How HTTP sends, and what it does when hundreds of machines want an image at once."""

    downloads: Annotated[int, Field(ge=1)] = 64
    """How many root images are sent at once. Further machines are told to wait their turn (503, Retry-After)."""
    rate_mbit_s: MegabitsPerSecond | None = None
    """What all downloads of root images take together at most, in Mbit/s; no limit unless given."""
    subnet_rates_mbit_s: dict[IPv4Network, MegabitsPerSecond] = {}
    """The same for the machines of a subnet, by the subnet."""
    tls: Tls | None = None
