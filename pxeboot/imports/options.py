"""A DHCP option of another server → the key and the value that say it in a farm. Pure."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Any

from config import dhcpoptions
from config.check_options import OPTION_KEYS
from config.optiontable import CATALOGUE
from config.optiontypes import Kind
from pxeboot.imports.words import address

LEASE_TIME = 51
_LISTS = frozenset((3, 6, 7, 42, 119))
_ROUTES = frozenset((121, 249))
_ADDRESSES = frozenset((Kind.IPS, Kind.IP_PAIRS))
_SEVERAL = _ADDRESSES | {Kind.UINT16S, Kind.DOMAINS, Kind.PLAIN_DOMAINS, Kind.CLASSES}
_HEX = re.compile(r"[0-9a-fA-F]{1,2}([: ][0-9a-fA-F]{1,2})+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile("0|[1-9][0-9]{0,9}")


def said(code: int, values: Sequence[str], word: str | None = None) -> tuple[str, Any]:
    """Return the key of the farm's DHCP options for option `code`, and its value there; `options` and a mapping for
    one that has no key of its own.

    `word` is the type (`config.optiontypes.WORDS`) that the other server gives an option that we have no type for.
    Raises `ValueError`, with what is wrong, for values that the option cannot have, and for options that no
    configuration can set here.

    >>> said(3, ["10.0.0.1"]), said(224, ["hall 4"])
    (('routers', ['10.0.0.1']), ('options', {'224': {'text': 'hall 4'}}))
    """
    if any(value and not value.strip() for value in values):
        raise ValueError("its value is white space, which no configuration can say here")
    values = [value.strip() for value in values if value]
    key = OPTION_KEYS.get(code)
    if key is None:
        name = dhcpoptions.name_of(code) if code in CATALOGUE else str(code)
        if values and word is not None and code not in CATALOGUE:
            value: Any = {word: [*values] if word in ("ip", "domains") else ",".join(values)}
        else:
            value = _value(code, values) if values else ""
        dhcpoptions.encode(name, value)
        return "options", {name: value}
    if code in _ROUTES:
        return key, routes(values)
    if values:
        dhcpoptions.encode(code if code in _LISTS else dhcpoptions.name_of(code), values if code in _LISTS else
                           ",".join(values))  # fmt: skip
    if any(value == "0.0.0.0" for value in values):
        raise ValueError("0.0.0.0 stands for the server's own address; write that address")
    return key, values if code in _LISTS else ",".join(values)


def routes(values: Sequence[str]) -> list[dict[str, str]]:
    """Return classless static routes of `NETWORK, ROUTER, NETWORK, ROUTER ...`. Raises `ValueError`.

    >>> routes(["10.96.0.0/12", "10.0.0.3"])
    [{'to': '10.96.0.0/12', 'via': '10.0.0.3'}]
    """
    if len(values) % 2:
        raise ValueError("routes are pairs of a network and a router")
    found = []
    for to, via in zip(values[::2], values[1::2], strict=True):
        if address(via) is None:
            raise ValueError(f"{via[:60]!r} is not an IPv4 address")
        try:
            found.append({"to": str(IPv4Network(to)), "via": via})
        except ValueError:
            raise ValueError(f"{to[:60]!r} is not a network, such as 10.96.0.0/12") from None
    return found


def _value(code: int, values: Sequence[str]) -> Any:
    definition = CATALOGUE.get(code)
    kind = definition.kind if definition else Kind.BINARY
    if kind in _SEVERAL:
        return [*values]
    if kind is Kind.ROUTES:
        return routes(values)
    if kind is Kind.SIP_SERVERS:
        return [*values]
    if kind is Kind.BINARY:
        return untyped(values)
    if kind is Kind.SPACE:
        return {"hex": _hex(",".join(values))}
    return ",".join(values)


def untyped(values: Sequence[str]) -> dict[str, Any]:
    """Return a value that says its type itself, as far as one can tell from how it is written: addresses, a number,
    bytes in hex, or text. That is how dnsmasq understands options that it does not know.

    >>> untyped(["10.0.0.1", "10.0.0.2"]), untyped(["300"]), untyped(["0a:4d"]), untyped(["a,b"])
    ({'ip': ['10.0.0.1', '10.0.0.2']}, {'uint16': '300'}, {'hex': '0a:4d'}, {'text': 'a,b'})
    """
    if all(address(value) for value in values):
        return {"ip": [*values]}
    if len(values) == 1 and _DECIMAL.fullmatch(values[0]) and int(values[0]) < 2**32:
        number = int(values[0])
        size = next(bits for bits in (8, 16, 32) if number < 2**bits)
        return {f"uint{size}": values[0]}
    if len(values) == 1 and _HEX.fullmatch(values[0]):
        return {"hex": _hex(values[0])}
    return {"text": ",".join(values)}


def _hex(text: str) -> str:
    """Return bytes in hex, each of two digits. Raises `ValueError` for anything else."""
    digits = text.strip().removeprefix("0x")
    if ":" in digits or " " in digits:
        return ":".join(pair.zfill(2) for pair in re.split("[: ]+", digits))
    if len(digits) % 2 or not re.fullmatch("[0-9a-fA-F]+", digits):
        raise ValueError(f"{text[:60]!r} is no list of bytes in hex, such as 0a:4d:00:01")
    return digits
