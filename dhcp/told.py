"""What a client is told: the options of every place that speaks of it, and its boot file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from config.quirks import Option43
from dhcp import boot, options, pxe
from dhcp.layers import FILE, LEASE_TIME, SIADDR, SNAME, Layer, overlay
from dhcp.options import Option
from dhcp.plan import Network, Plan
from dhcp.request import Request

_ANYWHERE = IPv4Network("0.0.0.0/0")


IPXE_NO_PROXY = bytes((176, 1, 1))
"""Option 175: do not wait for another DHCP server's boot file."""


_LEADING = (Option.VENDOR_SPECIFIC_INFORMATION, Option.BOOTFILE_NAME, Option.IPXE)
"""Options that lead to a boot file."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one client is told when it has an address of one network."""

    layers: tuple[Layer, ...]
    """Every place that says something, the most specific last."""
    settings: Mapping[int, bytes]
    """What they say together."""
    server: IPv4Address
    """siaddr: where it finds our TFTP."""
    server_name: bytes
    """sname."""
    file: bytes
    """The boot file, empty if it gets none."""
    boot: Mapping[int, bytes]
    """The options that lead to it; sent whether the client asks for them or not."""

    @property
    def declines_to_boot(self) -> bool:
        """Whether somebody configured that there is no boot file, or said that it is not to have that one."""
        return self.settings.get(FILE) == b"" and not self.file

    @property
    def lease_is_its_own(self) -> bool:
        """Whether a more specific place than `dhcp` says how long."""
        return any(LEASE_TIME in layer.options for layer in self.layers if len(layer.place) > 1)

    @property
    def lease_s(self) -> int:
        """How long its lease lasts unless it asks for another time."""
        return int.from_bytes(self.settings[LEASE_TIME], "big")


def told(request: Request, plan: Plan, address: IPv4Address) -> Told:
    """Return what the client is told when `address` is (to be) its own; 0.0.0.0 if that is somebody else's affair."""
    network = request.network_of(address) or request.network
    layers = tuple(_layers(request, plan, network, address))
    settings = overlay(layers)
    routes, routers = settings.get(Option.CLASSLESS_STATIC_ROUTE), settings.get(Option.ROUTER)
    router = options.address(routers[:4]) if routers else None
    if routes and router is not None and not options.has_default_route(routes):
        # A client that takes option 121 ignores option 3 (RFC 3442).
        default = options.encode_static_routes([(_ANYWHERE, router)])
        settings[Option.CLASSLESS_STATIC_ROUTE] = routes + default
    if request.steered:
        settings = overlay(_without_lead(layer) for layer in layers) | {FILE: b""}
    server = options.address(settings.get(SIADDR)) or plan.server_address or request.arrival.near(address)
    file = boot_file(request, plan, network, layers, server)
    server_name = settings.get(SNAME) or str(server).encode()
    return Told(layers, settings, server, server_name, file, _boot(request, file, server_name))


def lease_time(request: Request, plan: Plan, address: IPv4Address) -> int:
    """Return how long a client's lease lasts, in seconds: its wish (option 51), within limits, or what is configured.

    What is configured for it in particular is also the most that it gets.
    """
    what = told(request, plan, address)
    default = what.lease_s
    wish = options.number(request.message.options.get(Option.IP_ADDRESS_LEASE_TIME), 4) or default
    return min(max(wish, plan.shortest_lease_s), default if what.lease_is_its_own else plan.longest_lease_s)


def _layers(request: Request, plan: Plan, network: Network, address: IPv4Address) -> Iterator[Layer]:
    host = request.host
    said = {int(Option.HOST_NAME): request.name.encode(), LEASE_TIME: plan.lease_s.to_bytes(4, "big")}
    if plan.is_log_server:
        said[Option.LOG_SERVER] = (plan.server_address or request.arrival.near(address)).packed
    yield Layer((), said)
    yield from network.layers
    if (pool := network.pool_of(address)) is not None:
        yield from pool.layers
    yield from host.tags if host else network.unknown_tags
    for name in reversed(request.client.settings):
        if name in plan.architectures:
            yield plan.architectures[name]
    if host is not None:
        yield host.own


def boot_file(request: Request, plan: Plan, network: Network, layers: Sequence[Layer], server: IPv4Address) -> bytes:
    """Return the boot file that this client gets, empty if it wants or gets none."""
    said = [layer.options.get(FILE, layer.options.get(Option.BOOTFILE_NAME)) for layer in reversed(layers)]
    by_number_only = request.host is None and not network.unknown_boots
    if by_number_only:
        # What is configured by the option's number holds for everybody; a boot file does not.
        said = [layer.options.get(Option.BOOTFILE_NAME) for layer in reversed(layers)]
    configured = [value.rstrip(b"\0").decode("utf-8", "replace") for value in said if value is not None]
    if request.steered and not (configured and boot.heeds(configured[0])):
        configured = []
    if by_number_only and not any(configured):
        return b""
    return (boot.boot_file(request.client, server, plan.http_port, configured) or "").encode()


def _without_lead(layer: Layer) -> Layer:
    """Return what a place says without what leads to a boot file that is not ours, and to where that is."""
    dropped = {*_LEADING, FILE}
    names = (layer.options.get(code, b"").rstrip(b"\0").decode("utf-8", "replace") for code in (FILE, 67))
    if not all(map(boot.heeds, names)):
        dropped |= {SIADDR, SNAME, int(Option.TFTP_SERVER_NAME)}
    return Layer(layer.place, {code: value for code, value in layer.options.items() if code not in dropped})


def _boot(request: Request, file: bytes, server_name: bytes) -> dict[int, bytes]:
    """Return the options that lead a client to its boot file.

    Each field tells the same, since each is the only one that some firmware reads.
    """
    client, traits, said = request.client, request.client.traits, {}
    identifier = request.message.options.get(Option.CLIENT_MACHINE_IDENTIFIER, b"")
    if client.boots and len(identifier) == 17 and identifier[0] == 0:
        said[int(Option.CLIENT_MACHINE_IDENTIFIER)] = identifier
    if not file and (request.steered or not traits.own_file_names):
        return said
    if traits.vendor_class:
        said[Option.VENDOR_CLASS_IDENTIFIER] = _text(traits.vendor_class.encode(), traits.nul_after_vendor_class)
    if traits.option_43 is not Option43.NONE:
        said[Option.VENDOR_SPECIFIC_INFORMATION] = pxe.OPTION_43[traits.option_43]
    if not client.over_http:
        said[Option.TFTP_SERVER_NAME] = _text(server_name, traits.nul_after_server_name)
    if file:
        said[Option.BOOTFILE_NAME] = _text(file, traits.nul_after_boot_file)
    if client.ipxe and not request.network.proxy:
        said[Option.IPXE] = IPXE_NO_PROXY
    return said


def _text(value: bytes, nul: bool) -> bytes:
    return value + b"\0" if nul else value
