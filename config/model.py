"""Every setting of a farm, as one frozen value.

`config.load` turns a YAML file into a `Farm` or into every mistake in it. The JSON Schema in farm.schema.json
is made from these classes, so a docstring here is the help that an editor shows.
"""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def parse_mac(value: object) -> str:
    """Return a MAC as six lower-case hex pairs with colons.

    Accepts aa:bb:cc:dd:ee:ff, aa-bb-cc-dd-ee-ff, aabb.ccdd.eeff and bare hex, in either case.
    Raises `ValueError` for anything else.

    >>> parse_mac("94-57-A5-D3-EC-F2")
    '94:57:a5:d3:ec:f2'
    """
    digits = "".join(c for c in value if c not in ":-.").lower() if isinstance(value, str) else ""
    if len(digits) != 12 or any(c not in "0123456789abcdef" for c in digits):
        raise ValueError("is not a MAC address; write six hex pairs, such as 94:57:a5:d3:ec:f2")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


Mac = Annotated[str, BeforeValidator(parse_mac), Field(pattern="^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]


class Setting(BaseModel):
    """What all settings share: frozen, and no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class AddressRange(Setting):
    """Addresses from `first` to `last`, both included; written `10.0.0.10-10.0.0.99`."""

    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def parse_range(value: object) -> object:
    """Turn `10.0.0.10-10.0.0.99` (or one address) into an `AddressRange`.

    Raises `ValueError` if an end is no address or the last one comes before the first.
    """
    if not isinstance(value, str):
        return value
    first_text, _, last_text = value.partition("-")
    try:
        first = IPv4Address(first_text.strip())
        last = IPv4Address((last_text or first_text).strip())
    except ValueError:
        raise ValueError("is not a range; write it as 10.0.0.10-10.0.0.99") from None
    if last < first:
        raise ValueError(f"ends at {last}, before it begins at {first}")
    return AddressRange(first=first, last=last)


Range = Annotated[AddressRange, BeforeValidator(parse_range, json_schema_input_type=str)]
Prefix = Annotated[IPv4Network, Field(description="A network such as 10.28.0.0/16.")]


class Route(Setting):
    """One classless static route (DHCP option 121, RFC 3442)."""

    to: IPv4Network
    """The destination; 0.0.0.0/0 is the default route."""
    via: IPv4Address
    """The router that leads there."""


class DhcpOptions(Setting):
    """DHCP options by their RFC 2132 names. What is left out is decided one level up."""

    routers: tuple[IPv4Address, ...] | None = None
    """Option 3: the default gateways, the preferred one first."""
    domain_name_servers: tuple[IPv4Address, ...] | None = None
    """Option 6."""
    log_servers: tuple[IPv4Address, ...] | None = None
    """Option 7."""
    domain_name: str | None = None
    """Option 15."""
    mtu: Annotated[int, Field(ge=68, le=65535)] | None = None
    """Option 26, in bytes."""
    broadcast_address: IPv4Address | None = None
    """Option 28; the network's own unless given."""
    ntp_servers: tuple[IPv4Address, ...] | None = None
    """Option 42."""
    domain_search: tuple[str, ...] | None = None
    """Option 119."""
    static_routes: tuple[Route, ...] | None = None
    """Option 121."""
    options: dict[Annotated[int, Field(ge=1, le=254)], str] = {}
    """Any other option: its number, and its bytes in hex."""


class Subnet(DhcpOptions):
    """One network that machines boot on, and the options they all get."""

    subnet: Prefix
    """The network, as address/prefix length."""
    pool: Range | None = None
    """Addresses for machines that are not in `pools`. Left out: those machines get no answer."""
    unknown: str | None = None
    """The pool (of `pools`) whose image and tags a machine that is not listed gets. Left out: it gets an address,
    and nothing to boot."""
    next_server: IPv4Address | None = None
    """Where this subnet's machines find our TFTP, HTTP and NBD; the answering interface's address unless given.
    Needed behind a relay when routing does not lead to that address."""


class Dhcp(Setting):
    """The DHCP server."""

    subnets: tuple[Subnet, ...] = ()
    """The networks we answer on."""
    lease_s: Annotated[int, Field(ge=60, le=4294967294)] = 86400
    """How long a lease lasts, in seconds."""
    authoritative: bool = True
    """Whether a client that asks for an address of another network is told so (DHCPNAK). Turn it off beside
    another DHCP server."""


class Server(Setting):
    """Where we listen and what we keep."""

    interfaces: tuple[str, ...] = ()
    """The interfaces to serve, such as eth1."""
    address: IPv4Address | None = None
    """Our address for the machines; each interface's own unless given."""
    http_port: Annotated[int, Field(ge=1, le=65535)] = 80
    """The TCP port of kernels, initrds, images and reports."""
    nbd_port: Annotated[int, Field(ge=1, le=65535)] = 10809
    """The TCP port of NBD roots."""
    state: Path = Path("/var/lib/pxeboot")
    """The folder for leases and GRUB's network images."""
    control: Path = Path("/run/pxeboot/control.sock")
    """The unix socket on which `pxeboot status` asks."""


class Image(Setting):
    """A bootable image: a kernel, its initrd and a squashfs."""

    path: Path
    """A name in an image store, such as /srv/pxeboot/images/node; made by `pxeboot image`."""


class Cluster(Setting):
    """A Kubernetes cluster that machines join. The controller keeps `lts_conf` holding a valid join command."""

    kubeconfig: Path | None = None
    """Credentials for the controller; left out: the service account of the pod it runs in."""
    lts_conf: Path
    """The lts.conf that the controller writes the join command to and every machine of this cluster reads."""
    section: str = "Default"
    """The section of that file that the join command is written to."""
    join_key: Annotated[str, Field(pattern="^RCFILE_[A-Z0-9_]+$")] = "RCFILE_07_JOIN_K8S"
    """The key that the join command is written to."""
    token_ttl_s: Annotated[int, Field(ge=120, le=86400)] = 900
    """How long a bootstrap token lives, in seconds; it is renewed at half of that."""
    api_server: str | None = None
    """HOST:PORT that machines join at; taken from the cluster-info ConfigMap unless given."""


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


class Node(Setting):
    """One machine that we know."""

    name: Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$")]
    """Its host name (and the name of its Kubernetes Node)."""
    macs: Annotated[tuple[Mac, ...], Field(min_length=1)]
    """Its network cards; it is the same machine whichever one boots."""
    ip: IPv4Address
    """Its address, for good."""
    tags: tuple[str, ...] = ()
    """Tags of its own, besides those of its pool."""


class Pool(Setting):
    """Machines that boot the same image with the same tags."""

    name: str
    """The pool's name."""
    image: str
    """The image (of `images`) that its machines boot."""
    root: Literal["http", "nbd"] = "http"
    """http: the image is copied into RAM. nbd: it is read on demand."""
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
