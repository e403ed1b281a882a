"""What the places of a configuration say about options, the least specific first, as bytes by number. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from config import dhcpoptions
from config.dhcp import INFINITE_S, DhcpOptions
from dhcp import options
from dhcp.options import Option

SIADDR = 256
SNAME = 257
FILE = 258
LEASE_TIME = 259
"""Numbers that no option has, for what is said at the same levels: the fields siaddr, sname and `file`, and the time
of a lease."""
SEND = 512
"""Added to an option's number: whether it is always (1) or never (0) sent."""
ALWAYS, NEVER = b"\1", b"\0"

OptionBytes = Mapping[int, bytes]
"""Options by number. An empty value says "none", and takes away what a less specific place said."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What one place of the configuration says."""

    place: tuple[str | int, ...]
    options: OptionBytes


def overlay(layers: Iterable[Layer]) -> dict[int, bytes]:
    """Return the options of all layers; a later layer wins."""
    out: dict[int, bytes] = {}
    for layer in layers:
        out |= layer.options
    return out


def option_bytes(settings: DhcpOptions) -> OptionBytes:
    """Encode what `settings` sets, and only that.

    Raises `ValueError` for a value that cannot be encoded, and for an option that is the protocol's own.
    """
    if not settings.model_fields_set:
        return {}
    out: dict[int, bytes] = {}
    lists = (
        (Option.ROUTER, settings.routers),
        (Option.DOMAIN_NAME_SERVER, settings.domain_name_servers),
        (Option.LOG_SERVER, settings.log_servers),
        (Option.NTP_SERVERS, settings.ntp_servers),
    )
    for code, addresses in lists:
        if addresses is not None:
            out[code] = options.encode_addresses(addresses)
    if settings.domain_name is not None:
        out[Option.DOMAIN_NAME] = settings.domain_name.encode()
    if settings.mtu is not None:
        out[Option.INTERFACE_MTU] = settings.mtu.to_bytes(2, "big")
    if settings.broadcast_address is not None:
        out[Option.BROADCAST_ADDRESS] = settings.broadcast_address.packed
    if settings.domain_search is not None:
        out[Option.DOMAIN_SEARCH] = options.encode_domain_search(settings.domain_search)
    if settings.static_routes is not None:
        out[Option.CLASSLESS_STATIC_ROUTE] = options.encode_static_routes(
            (route.to, route.via) for route in settings.static_routes
        )
    for key, value in settings.options.items():
        number, data = dhcpoptions.encode(key, value)
        out[number] = data
    for keys, always in ((settings.always_send, ALWAYS), (settings.never_send, NEVER)):
        for key in keys:
            out[SEND + _code(key)] = always
    if settings.next_server is not None:
        out[SIADDR] = settings.next_server.packed
    if settings.server_name is not None:
        out[SNAME] = settings.server_name.encode()
    if settings.boot_file is not None:
        out[FILE] = settings.boot_file.encode()
    if "lease_s" in settings.model_fields_set and settings.lease_s is not None:
        out[LEASE_TIME] = seconds(settings.lease_s).to_bytes(4, "big")
    return out


def seconds(lease_s: int | str) -> int:
    """Return a configured lease time as it is on the wire."""
    return INFINITE_S if isinstance(lease_s, str) else lease_s


def _code(key: str) -> int:
    code = dhcpoptions.code_of(key)
    if code is None:
        raise ValueError(f"{key!r} is no option")
    return code
