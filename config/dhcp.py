"""What a farm says about DHCP: networks, address pools, options and how the server behaves."""

from ipaddress import IPv4Address
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue

from config.quirks import Quirk
from config.setting import Prefix, Range, Setting

INFINITE_S = 0xFFFFFFFF
"""The lease time on the wire that never ends (RFC 2131 section 3.3)."""

LeaseSeconds = Annotated[int, Field(ge=60, lt=INFINITE_S)] | Literal["infinite"]


class Route(Setting):
    """One classless static route (DHCP option 121, RFC 3442)."""

    to: Prefix
    """The destination; 0.0.0.0/0 is the default route."""
    via: IPv4Address
    """The router that leads there."""


def _key(value: object) -> object:
    """The number or name of an option, as text: YAML reads 150 as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


OptionKey = Annotated[str, BeforeValidator(_key, json_schema_input_type=int | str)]
"""An option by its number or its name in RFC 2132, such as 150 or tftp-server-name."""


class DhcpOptions(Setting):
    """What machines are told. What is left out is decided one level up.

    The levels, the most specific first: a node, its architecture, its own tags, its pool's tags, the tag `all`, the
    address pool, the subnet, the shared network, and `dhcp` itself.
    """

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
    options: dict[OptionKey, JsonValue] = {}
    """Any other option, by number or by name, with its value; null takes away what a level above says."""
    always_send: tuple[OptionKey, ...] = ()
    """Options that go to those too who do not ask for them."""
    never_send: tuple[OptionKey, ...] = ()
    """Options that are not sent, whoever asks."""
    next_server: IPv4Address | None = None
    """Where machines find our TFTP, HTTP and NBD; the answering interface's address unless given. Needed behind a
    relay when routing does not lead to that address."""
    server_name: str | None = None
    """The field sname and option 66; `next_server` unless given."""
    boot_file: str | None = None
    """The boot file in place of ours: a path for TFTP, or an http:// URL. Empty: none."""
    lease_s: LeaseSeconds | None = None
    """How long a lease lasts, in seconds, or `infinite`; a client that asks for more gets this much."""


class AddressPool(DhcpOptions):
    """Addresses for machines that have none of their own."""

    range: Range
    """From the first to the last address, such as 10.0.0.10-10.0.0.99."""


class Subnet(DhcpOptions):
    """One network that machines boot on, and the options they all get."""

    subnet: Prefix
    """The network, as address/prefix length."""
    pool: Range | None = None
    """Addresses for machines that are not in `pools`. Left out: those machines get no answer."""
    pools: tuple[AddressPool, ...] = ()
    """More such addresses, each range with options of its own."""
    unknown: str | None = None
    """The pool (of `pools`) whose image and tags a machine that is not listed gets. Left out: it gets an address,
    and nothing to boot."""
    shared_network: str | None = None
    """Subnets with the same name here are on one wire: a machine on it may get an address of any of them."""
    proxy: bool = False
    """Somebody else gives the addresses here, and we only say what to boot (proxyDHCP)."""


class Limits(Setting):
    """What one port of a switch, or everybody together, may take. Machines that are listed are not limited."""

    clients_per_circuit: Annotated[int, Field(ge=1)] | None = None
    """How many unlisted machines may have an address behind one port (circuit-id of relay option 82)."""
    discovers_per_second: Annotated[int, Field(ge=1)] | None = None
    """How many DHCPDISCOVERs of unlisted machines are answered in a second."""


class Dhcp(DhcpOptions):
    """The DHCP server. What it says of options holds everywhere."""

    subnets: tuple[Subnet, ...] = ()
    """The networks we answer on."""
    shared_networks: dict[str, DhcpOptions] = {}
    """Options by the name of a shared network."""
    architectures: dict[str, DhcpOptions] = {}
    """Options by the client's architecture (bios, uefi-x64, uefi-arm64 ...), or `ipxe` for iPXE on any of them."""
    quirks: tuple[Quirk, ...] = ()
    """What firmware needs that our own table does not know of; wins over that."""
    lease_s: LeaseSeconds = 86400
    """How long a lease lasts, in seconds, or `infinite`."""
    shortest_lease_s: Annotated[int, Field(ge=60, lt=INFINITE_S)] = 60
    """A client that asks for less than this gets this much."""
    longest_lease_s: LeaseSeconds | None = None
    """A client that asks for more than this gets this much, where only `dhcp` says `lease_s`; that unless given."""
    authoritative: bool = True
    """Whether a client that asks for an address of another network is told so (DHCPNAK). Turn it off beside
    another DHCP server."""
    match_client_id: bool = False
    """Whether an unlisted machine is who its client identifier (option 61) says, and not its MAC. One boot changes
    it up to three times, and each would take an address of its own."""
    probe: bool = True
    """Whether an address is looked for on the network (ARP) before it is offered for the first time."""
    offer_hold_s: Annotated[int, Field(ge=10, le=600)] = 60
    """How long an offered address waits for its client, in seconds."""
    quarantine_s: Annotated[int, Field(ge=60)] = 86400
    """How long an address that somebody else was found to use is given to nobody, in seconds."""
    exclude_first_last: bool = False
    """Whether addresses that end in .0 and .255 are given to nobody: some old systems refuse them."""
    limits: Limits = Limits()
    """Against machines that are made up."""
    shared: str | None = None
    """The cluster (of `clusters`) whose API keeps the leases of pools, so that several servers share them. Left out:
    they are this server's own."""
