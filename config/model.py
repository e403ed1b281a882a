"""Every setting of a farm, as one frozen value.

`config.load` turns a YAML file into a `Farm` or into every mistake in it. The JSON Schema in farm.schema.json
is made from these classes, so a docstring here is the help that an editor shows.
"""

import re
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from config.clusters import Cluster, Push
from config.delivery import Http, Tftp, Tls
from config.dhcp import AddressPool, Dhcp, DhcpOptions, Limits, Route, Subnet
from config.exports import Nbd, Nbdkit, NbdTls, Writable
from config.observing import Log, MachineLogs, Web
from config.quirks import Quirk
from config.setting import AddressRange, Mac, Prefix, Range, Setting, parse_mac, parse_range

__all__ = [
    "AddressPool",
    "AddressRange",
    "Cluster",
    "Dhcp",
    "DhcpOptions",
    "Farm",
    "Http",
    "Image",
    "Limits",
    "Log",
    "Mac",
    "MachineLogs",
    "Nbd",
    "NbdTls",
    "Nbdkit",
    "Node",
    "NodeFile",
    "NodeSettings",
    "Pool",
    "Prefix",
    "Push",
    "Quirk",
    "Range",
    "Route",
    "Server",
    "Setting",
    "Subnet",
    "Tag",
    "Taint",
    "Tftp",
    "Tls",
    "Web",
    "Writable",
    "parse_mac",
    "parse_range",
]


class Server(Setting):
    """Where we listen and what we keep."""

    interfaces: tuple[str, ...] = ()
    """The interfaces to serve, such as eth1, or eth* for all of such names that have an IPv4 address. One that is not
    there yet is waited for."""
    address: IPv4Address | None = None
    """Our address for the machines; each interface's own unless given."""
    http_port: Annotated[int, Field(ge=1, le=65535)] = 80
    """The TCP port of kernels, initrds, images and reports."""
    nbd_port: Annotated[int, Field(ge=1, le=65535)] = 10809
    """The TCP port of NBD roots."""
    state: Path = Path("/var/lib/pxeboot")
    """The folder for leases, boot intents and GRUB's network images."""
    files: Path | None = None
    """A folder whose files any machine may fetch, by TFTP and HTTP: firmware of a Raspberry Pi, scripts of iPXE. What
    pxeboot serves itself wins where names are equal."""
    control: Path = Path("/run/pxeboot/control.sock")
    """The unix socket on which `pxeboot status` asks."""
    controller: Path = Path("/run/pxeboot-controller/controller.sock")
    """The unix socket of `pxeboot controller`, where the daemon asks for the token of a boot."""


class Image(Setting):
    """A bootable image: a kernel, its initrd and a squashfs."""

    path: Path
    """A name in an image store, such as /srv/pxeboot/images/node; made by `pxeboot image`."""
    engine: Literal["pxeboot", "nbdkit"] = "pxeboot"
    """Which process serves it by NBD; with nbdkit, the filters of `nbd.nbdkit` apply."""


class Taint(Setting):
    """A Kubernetes taint that a machine registers with."""

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


LtsKey = Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$")]


class Tag(Setting):
    """What every machine that carries this tag gets. The tag `all` is carried by every machine."""

    dhcp: DhcpOptions = DhcpOptions()
    """DHCP options; they win over the subnet's."""
    lts: dict[LtsKey, str] = {}
    """lts.conf keys and values."""
    labels: dict[str, str] = {}
    """Kubernetes labels that the kubelet registers with."""
    taints: tuple[Taint, ...] = ()
    """Kubernetes taints that the kubelet registers with."""
    kernel_parameters: tuple[str, ...] = ()
    """Words for the kernel command line."""
    services: tuple[str, ...] = ()
    """systemd units to enable."""


def parse_identifier(value: object) -> str:
    """Return bytes that a machine or its switch names itself by, as hex pairs with colons.

    Hex pairs with colons are taken as they are, any other text as its UTF-8 bytes.
    Raises `ValueError` for what is no text, or empty.

    >>> parse_identifier("eth0"), parse_identifier("01:52:54:00:12:34:56")
    ('65:74:68:30', '01:52:54:00:12:34:56')
    """
    if not isinstance(value, str) or not value:
        raise ValueError("is no identifier; write text, or hex pairs with colons such as 01:52:54:00:12:34:56")
    if _HEX_PAIRS.fullmatch(value):
        return value.lower()
    return value.encode().hex(":")


_HEX_PAIRS = re.compile("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2})+")

Identifier = Annotated[str, BeforeValidator(parse_identifier)]


_NOTHING = DhcpOptions()
"""One for all machines that say nothing: pydantic would copy a default for each, half the time that one takes."""


class Node(Setting):
    """One machine that we know, by any of: its cards, client identifier, UUID, serial number, or switch port."""

    name: Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$")]
    """Its host name (and the name of its Kubernetes Node)."""
    macs: tuple[Mac, ...] = ()
    """Its network cards; it is the same machine whichever one boots."""
    client_id: Identifier | None = None
    """Its client identifier (option 61): text, or hex pairs with colons."""
    uuid: UUID | None = None
    """Its SMBIOS UUID (option 97), in either byte order."""
    serial: Annotated[str, Field(min_length=1)] | None = None
    """Its serial number, as a client identifier of type 0 tells it."""
    circuit_id: Identifier | None = None
    """The switch port that it is at (option 82.1, from a relay): text, or hex pairs with colons. Of several machines
    behind it, the first is this one until its lease ends."""
    remote_id: Identifier | None = None
    """The switch that it is at (option 82.2); with `circuit_id`, both must be right."""
    ip: IPv4Address
    """Its address, for good."""
    tags: tuple[str, ...] = ()
    """Tags of its own, besides those of its pool."""
    dhcp: DhcpOptions = Field(default_factory=lambda: _NOTHING)
    """What DHCP tells it; wins over everything else."""
    boot: Literal["netboot", "local", "refuse", "once"] = "netboot"
    """netboot: from the network, always. local: from its own disk. refuse: not at all, and it is told so. once: from
    the network this time, and from its own disk from then on. `pxeboot node NAME boot=...` changes it at run time."""

    @model_validator(mode="after")
    def _is_told_apart(self) -> Self:
        if not (self.macs or self.client_id or self.uuid or self.serial or self.circuit_id or self.remote_id):
            raise ValueError("says not how to know it; give `macs`, or client_id, uuid, serial, circuit_id, remote_id")
        return self


class Pool(Setting):
    """Machines that boot the same image with the same tags."""

    name: str
    """The pool's name."""
    image: str
    """The image (of `images`) that its machines boot."""
    root: Literal["http", "nbd", "nbd-to-ram"] = "http"
    """http: the image is copied into RAM. nbd: it is read on demand. nbd-to-ram: it is copied into RAM by NBD, which
    is then let go of."""
    writable: Writable | None = None
    """With `root: nbd`: the machine writes to its disk here, rather than to a layer in its RAM."""
    cluster: str | None = None
    """The cluster (of `clusters`) that its machines join."""
    tags: tuple[str, ...] = ()
    """The tags that its machines carry; a later one wins over an earlier one, and all over the tag `all`."""
    kernel_parameters: tuple[str, ...] = ()
    """Words for the kernel command line."""
    nodes: tuple[Node, ...] = ()
    """The machines."""


class NodeFile(Setting):
    """A file that every machine gets: `content` here, or a copy of the file `from`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True)

    from_: Annotated[Path | None, Field(alias="from")] = None
    """A file, relative to this configuration's folder."""
    content: str | None = None
    """The text itself."""
    mode: Annotated[str, Field(pattern="^0?[0-7]{3}$")] = "0644"
    """Its permissions, in octal."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.from_ is None) == (self.content is None):
            has = "neither `from` nor" if self.from_ is None else "both `from` and"
            raise ValueError(f"has {has} `content`; give one of them")
        return self


class NodeSettings(Setting):
    """What every machine is prepared with before its init starts."""

    timezone: Annotated[str, Field(pattern="^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")] = "Etc/UTC"
    """A name of the tz database, such as Europe/Prague."""
    ssh_authorized_keys: tuple[str, ...] = ()
    """Public keys that may log in as root."""
    root_password_hash: Annotated[str, Field(pattern="^[!-9;-~]+$")] | None = None
    """For /etc/shadow, as made by `openssl passwd -6`; left out: no password logs in."""
    sysctls: dict[str, str] = {}
    """Kernel settings, for /etc/sysctl.d."""
    modules: tuple[str, ...] = ()
    """Kernel modules to load at boot."""
    services: tuple[str, ...] = ()
    """systemd units to enable."""
    files: dict[str, NodeFile] = {}
    """Path in the machine → file. A path without a leading slash is below /etc/pxeboot. Each *.service file goes
    to /etc/systemd/system when its path has no slash, and is enabled."""


class Farm(Setting):
    """Everything pxeboot is told, as one value. A reload makes a new one and swaps it."""

    server: Server = Server()
    dhcp: Dhcp = Dhcp()
    tftp: Tftp = Tftp()
    http: Http = Http()
    nbd: Nbd = Nbd()
    web: Web = Web()
    log: Log = Log()
    machine_logs: MachineLogs = MachineLogs()
    images: dict[str, Image] = {}
    """Images by name."""
    clusters: dict[str, Cluster] = {}
    """Kubernetes clusters by name."""
    pools: tuple[Pool, ...] = ()
    """The machines, grouped by what they boot."""
    tags: dict[str, Tag] = {}
    """What machines get by the tags they carry."""
    lts_conf: Path | None = None
    """An lts.conf that every machine reads, on top of what its tags say."""
    node: NodeSettings = NodeSettings()
