"""The settings of NBD: who may open which export, how, and what becomes of what a machine writes."""

from typing import Annotated, Literal

from pydantic import Field

from config.delivery import Certificate, Port
from config.setting import Setting

Word = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]*$")]


class NbdTls(Certificate):
    """TLS for NBD (STARTTLS). The files are read again when they change."""

    mode: Literal["required", "offered"] = "required"
    """required: nothing is told or served without TLS. offered: with or without, as the client likes, but for the
    images of `only`."""
    only: tuple[str, ...] = ()
    """Images that are served with TLS only, where it is `offered`."""


class Nbdkit(Setting):
    """The process nbdkit, which serves the images that have `engine: nbdkit`, with filters of its own."""

    port: Port = 10810
    """The TCP port that it serves them on."""
    filters: tuple[Word, ...] = ()
    """Its filters, the first one nearest to the machines."""
    parameters: dict[Word, str] = {}
    """What the filters are told, name: value."""


class Nbd(Setting):
    """How NBD serves."""

    default: str | None = None
    """The image of whoever names no export; the only one there is unless given."""
    access: Literal["anyone", "known"] = "anyone"
    """anyone: whoever reaches us. known: only addresses that one of our machines has by DHCP."""
    tls: NbdTls | None = None
    nbdkit: Nbdkit = Nbdkit()


class Writable(Setting):
    """A root that a machine may write to, without a layer in its RAM: what it changes is kept here, for it alone.

    The image must have been made with a file system that can be written (`--ext4`).
    """

    where: Literal["memory", "file"] = "file"
    """file: a sparse file below `server.state`. memory: of this server; after its restart, a machine that had written
    gets errors until it boots again."""
    limit_mib: Annotated[int, Field(ge=1, le=1 << 24)] = 1024
    """The most that one machine may change, in MiB; then its disk is full."""
    keep: Literal["connection", "boot", "always"] = "boot"
    """connection: dropped when the connection breaks, for trials. boot: until the machine boots again. always: until
    its image has a new version. What is in memory does not survive the end of this server; what is in a file does."""
