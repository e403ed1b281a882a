"""What was probably meant by a key or a value that is wrong: what newcomers write, and what to write for it. Pure."""

import json
import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Interface
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from config.mistakes import suggestion

HABITS = {
    **dict.fromkeys(("gateway", "gateways", "default_gateway", "gw"), "routers"),
    **dict.fromkeys(("dns", "dns_servers", "nameserver", "nameservers"), "domain_name_servers"),
    **dict.fromkeys(("ntp", "ntp_server", "time_servers"), "ntp_servers"),
    **dict.fromkeys(("search", "search_domains", "dns_search"), "domain_search"),
    **dict.fromkeys(("lease", "lease_time", "leasetime", "ttl"), "lease_s"),
    **dict.fromkeys(("filename", "bootfile", "boot_filename"), "boot_file"),
    **dict.fromkeys(("siaddr", "tftp_server"), "next_server"),
    **dict.fromkeys(("mac", "mac_address", "hwaddr", "hardware_ethernet"), "macs"),
    **dict.fromkeys(("address", "addr", "ip_address", "fixed_address"), "ip"),
    **dict.fromkeys(("hostname", "host"), "name"),
    **dict.fromkeys(("cmdline", "append", "kernel_args", "kernel_cmdline", "kargs"), "kernel_parameters"),
    **dict.fromkeys(("network", "cidr", "prefix"), "subnet"),
    **dict.fromkeys(("ssh_keys", "authorized_keys", "sshAuthorizedKeys"), "ssh_authorized_keys"),
    **dict.fromkeys(("password", "root_password"), "root_password_hash"),
    **dict.fromkeys(("server", "api", "endpoint", "apiserver"), "api_server"),
    **dict.fromkeys(("range", "dynamic_range", "dhcp_range"), "pool"),
    **dict.fromkeys(("nic", "iface", "nics"), "interfaces"),
}
"""What others call our keys: where one of these is not known and ours is, that was meant."""

_UNIT_S = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"([0-9]+) *(s|sec|m|min|h|d|w)", re.IGNORECASE)
_NEEDS_QUOTES = re.compile(r"""^$|^[-?!&*|>%@`"'\s]|[,\[\]{}#"']|: |\s$""")
_KERNEL_WORD = re.compile(r'(?:"[^"]*(?:"|$)|[^\s"])+')
"""The kernel separates words at white space outside double quotes."""
_MOST_PLACES = 3


def key_meant(key: str, known: Iterable[str], farm: type[BaseModel]) -> str:
    """Return what to write for a key that is not among the `known` ones of its place; "" if nobody knows.

    >>> from config.model import Farm
    >>> key_meant("gateway", ["routers"], Farm), key_meant("labels", ["tags"], Farm)
    ("; did you mean 'routers'?", '; it stands in tags.NAME.labels')
    """
    known = [*known]
    if HABITS.get(key) in known:
        return f"; did you mean {HABITS[key]!r}?"
    near = suggestion(key, known)
    places = [*dict.fromkeys(_places(farm, key))]
    if not 0 < len(places) <= _MOST_PLACES:
        return near
    where = [place if place != key else "the first column, outside of everything" for place in places]
    return f"; it stands in {' or '.join(where)}{near.replace(';', ', or', 1)}"


def _places(model: Any, key: str, before: str = "") -> Iterator[str]:
    """Every place where a key can stand, as a person writes it."""
    for name, field in model.model_fields.items():
        spelled = f"{before}{'.' if before else ''}{field.alias or name}"
        if (field.alias or name) == key:
            yield spelled
        yield from _inside(field.annotation, key, spelled)


def _inside(annotation: Any, key: str, before: str) -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _places(annotation, key, before)
        return
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (dict, tuple):
        part, mark = (parts[-1], ".NAME") if origin is dict else (parts[0], "[]")
        yield from _inside(part, key, before + mark)
    elif origin is not None:
        for part in parts:
            yield from _inside(part, key, before)


def host_name_meant(value: object) -> str:
    """Return the host name that is nearest to one that is none.

    >>> host_name_meant("Node_1."), host_name_meant("...")
    ("; did you mean 'node-1'?", '')
    """
    near = re.sub("[^a-z0-9.]+", "-", str(value).lower()).strip("-.")
    return f"; did you mean {near!r}?" if near and len(near) <= 63 and near != value else ""


def address_meant(value: object) -> str:
    """Return the address of one with the length of its network.

    >>> address_meant("10.0.0.5/24"), address_meant("10.0.0.300")
    ("; did you mean '10.0.0.5'?", '')
    """
    if not isinstance(value, str) or "/" not in value:
        return ""
    try:
        return f"; did you mean {str(IPv4Interface(value).ip)!r}?"
    except ValueError:
        return ""


def seconds_meant(key: object, value: object) -> str:
    """Return a time in seconds that was given otherwise.

    >>> seconds_meant("lease_s", "12h"), seconds_meant("mtu", "9k")
    ('; it is in seconds: 43200', '')
    """
    found = _DURATION.fullmatch(str(value).strip())
    if found is None or not str(key).endswith("_s"):
        return ""
    return f"; it is in seconds: {int(found[1]) * _UNIT_S[found[2].lower()]}"


def as_list(key: object, value: str) -> str:
    """Return a text as the list of YAML that was meant.

    >>> as_list("routers", "10.0.0.1, 10.0.0.2"), as_list("kernel_parameters", "console=ttyS0,115200 quiet")
    ('[10.0.0.1, 10.0.0.2]', '["console=ttyS0,115200", quiet]')
    """
    if key == "kernel_parameters":
        parts = _KERNEL_WORD.findall(value)
    else:
        parts = [part.strip() for part in value.split(",")]
        if any(not part or " " in part for part in parts):
            parts = [value]
    return "[" + ", ".join(json.dumps(part) if _NEEDS_QUOTES.search(part) else part for part in parts) + "]"
