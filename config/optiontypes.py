"""What the value of a DHCP option can be, and how a person's value becomes bytes. Pure.

A value is what YAML gives: text, a list or a mapping. Texts stand for numbers and addresses too, since
`config.yamltree` leaves that to whoever knows the type. Numbers and `IPv4Address` are taken as they are.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from config.mistakes import shown


class Kind(Enum):
    """The form of a value; the words say to a person what to write."""

    FLAG = "true or false"
    UINT8 = "a number from 0 to 255"
    UINT16 = "a number from 0 to 65535"
    UINT32 = "a number from 0 to 4294967295"
    INT8 = "a number from -128 to 127"
    INT32 = "a number from -2147483648 to 2147483647"
    SECONDS = "a number of seconds, from 0 to 4294967295"
    UINT16S = "a list of numbers from 0 to 65535, such as [68, 1500]"
    IP = "an IPv4 address, such as 10.28.0.1"
    IPS = "a list of IPv4 addresses, such as [10.28.0.1, 10.28.0.2]"
    IP_PAIRS = "a list of pairs of IPv4 addresses, such as [10.1.0.0 10.28.0.1]"
    TEXT = "a text without control characters"
    DOMAIN = "a domain name, such as farm.example.org"
    DOMAINS = "a list of domain names, such as [farm.example.org, example.org]"
    PLAIN_DOMAINS = "a list of domain names, such as [a.example.org]"
    SIP_SERVERS = "a list of domain names, or one of IPv4 addresses"
    ROUTES = "a list of routes, such as [{to: 10.96.0.0/12, via: 10.28.0.3}]"
    BINARY = "its bytes in hex, such as 0a4d0001, or {text: words}"
    CLASSES = "a list of texts, such as [gpu, rack-4]"
    FQDN = "a host name with its domain, such as node1.example.org"
    SPACE = "a mapping of sub-options, such as {1: 0a4d0001, 2: {text: words}}"
    VENDOR_CLASSES = "a mapping of enterprise numbers to lists of texts, such as {9: [gpu]}"
    VENDOR_SPACES = "a mapping of enterprise numbers to sub-options, such as {9: {1: 0a4d0001}}"
    BOOT_SERVERS = "a mapping of boot server types to addresses, such as {0: [10.28.0.1]}"
    BOOT_MENU = "a mapping of boot server types to texts, such as {0: Local disk}"
    MENU_PROMPT = "a mapping such as {timeout_s: 10, text: Press F8}"
    # What only a packet has, never a configuration; written in hex where it is written at all.
    MESSAGE_TYPE = "a message type"
    CODES = "a list of option numbers"
    CLIENT_IDENTIFIER = "a client identifier, in hex"
    MACHINE_IDENTIFIER = "a machine identifier, in hex"
    NETWORK_INTERFACE = "a network interface identifier, in hex"


WORDS: Mapping[str, Kind] = {
    "hex": Kind.BINARY,
    "text": Kind.TEXT,
    "ip": Kind.IPS,
    "bool": Kind.FLAG,
    "uint8": Kind.UINT8,
    "uint16": Kind.UINT16,
    "uint32": Kind.UINT32,
    "int32": Kind.INT32,
    "domains": Kind.DOMAINS,
}
"""How to say the type of a value that is not in the catalogue, or is to be another: `{uint16: 1500}`."""
THE_WORDS = f"words: {', '.join(WORDS)}"
"""What a message says of them."""

NUMBERS = frozenset((Kind.UINT8, Kind.UINT16, Kind.UINT32, Kind.INT8, Kind.INT32, Kind.SECONDS, Kind.UINT16S))
"""Values whose digits might as well be hex."""
ADDRESSES = frozenset((Kind.IP, Kind.IPS, Kind.IP_PAIRS))
TEXTS = frozenset((Kind.TEXT, Kind.DOMAIN))
WRITTEN = TEXTS | {Kind.DOMAINS, Kind.PLAIN_DOMAINS, Kind.SIP_SERVERS, Kind.FQDN, Kind.CLASSES}
"""Values made of words, some of which look like hex: cafe."""
_PXE_MAPPINGS = (Kind.BOOT_SERVERS, Kind.BOOT_MENU, Kind.MENU_PROMPT)
MAPPINGS = frozenset((Kind.SPACE, Kind.VENDOR_SPACES, Kind.VENDOR_CLASSES, Kind.ROUTES, *_PXE_MAPPINGS))
"""Values for which a mapping need not be a word with a value."""

_TRUE, _FALSE = frozenset(("true", "yes", "on", "1")), frozenset(("false", "no", "off", "0"))
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,10})|0x[0-9a-f]{1,8}", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LABEL = re.compile(r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?", re.IGNORECASE)
_SIZES = {Kind.UINT8: 1, Kind.UINT16: 2, Kind.UINT32: 4, Kind.SECONDS: 4}


def encode(kind: Kind, value: object, least: int = 0) -> bytes:
    """Return the bytes of a value of any kind but `SPACE` and `VENDOR_SPACES`, which need the catalogue.

    `least` is the smallest number that is allowed. Raises `ValueError` with what is wrong and what is allowed.
    """
    if kind in _SIZES:
        size = _SIZES[kind]
        return _number(value, least, 256**size - 1).to_bytes(size, "big")
    encoder = _ENCODERS.get(kind)
    if encoder is not None:
        return encoder(value)
    match kind:
        case Kind.INT8:
            return _number(value, -128, 127).to_bytes(1, "big", signed=True)
        case Kind.INT32:
            return _number(value, -(2**31), 2**31 - 1).to_bytes(4, "big", signed=True)
        case Kind.UINT16S:
            return b"".join(_number(item, least, 0xFFFF).to_bytes(2, "big") for item in _items(value))
        case _:
            return raw(value)


def raw(value: object) -> bytes:
    """Return bytes that are written in hex, with or without spaces or colons between them.

    Raises `ValueError` for anything else.

    >>> raw("0a:4d 0001").hex()
    '0a4d0001'
    """
    try:
        if isinstance(value, str):
            return bytes.fromhex(value.replace(":", " "))
    except ValueError:
        pass
    raise ValueError(f"{shown(value)} is not hex; write its bytes such as 0a4d0001")


def encode_addresses(addresses: Iterable[IPv4Address]) -> bytes:
    """Encode an option that is a list of addresses (3, 6, 7, 42) or one of them (28, 54)."""
    return b"".join(address.packed for address in addresses)


def encode_domain_search(names: Iterable[str], *, compressed: bool = True) -> bytes:
    """Encode option 119: names in DNS form, where a repeated ending is a pointer to its first place (RFC 3397).

    Some options do without the pointers (88, 137, 213): not `compressed`.
    Raises `ValueError` for a name that DNS cannot carry.

    >>> encode_domain_search(["a.example", "example"])
    b'\\x01a\\x07example\\x00\\xc0\\x02'
    """
    out = bytearray()
    known: dict[tuple[str, ...], int] = {}
    for name in names:
        labels = tuple(name.lower().removesuffix(".").split("."))
        if not name.isascii() or any(not 0 < len(label) < 64 for label in labels) or len(name) > 253:
            raise ValueError(f"{name!r} is not a domain name")
        for i in range(len(labels)):
            ending = labels[i:]
            if ending in known:
                out += (0xC000 | known[ending]).to_bytes(2, "big")
                break
            if compressed and len(out) < 0x4000:
                known[ending] = len(out)
            out += bytes((len(labels[i]),)) + labels[i].encode("ascii")
        else:
            out.append(0)
    return bytes(out)


def encode_static_routes(routes: Iterable[tuple[IPv4Network, IPv4Address]]) -> bytes:
    """Encode option 121: (destination, router) pairs, with only the octets that the prefix covers (RFC 3442).

    >>> encode_static_routes([(IPv4Network("10.0.0.0/8"), IPv4Address("192.0.2.1"))]).hex(" ")
    '08 0a c0 00 02 01'
    """
    return b"".join(
        bytes((to.prefixlen,)) + to.network_address.packed[: -(-to.prefixlen // 8)] + via.packed for to, via in routes
    )


def framed(data: bytes, what: str) -> bytes:
    """Return `data` behind a byte that says how long it is. Raises `ValueError` above 255 bytes."""
    if len(data) > 255:
        raise ValueError(f"{what} has {len(data)} bytes; at most 255 are possible")
    return bytes((len(data),)) + data


def mapping(value: object, kind: Kind) -> Mapping[object, object]:
    """Return a value that must be a mapping, or raise `ValueError`."""
    if isinstance(value, Mapping) and value:
        return value
    raise ValueError(f"{shown(value)} is not a mapping; write {kind.value}")


def enterprise(number: object) -> bytes:
    """Return an enterprise number in its four bytes. Raises `ValueError` if it is none."""
    try:
        return encode(Kind.UINT32, number)
    except ValueError:
        raise ValueError(f"{shown(number)} is not an enterprise number, such as 9 or 343") from None


def _number(value: object, least: int, most: int) -> int:
    found: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    elif isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        found = int(value.strip(), 16 if "x" in value.lower() else 10)
    if found is None:
        raise ValueError(f"{shown(value)} is not a whole number from {least} to {most}")
    if not least <= found <= most:
        raise ValueError(f"{found} is too {'little' if found < least else 'much'}; allowed: {least} to {most}")
    return found


def _flag(value: object) -> bytes:
    word = str(value).strip().lower()
    if word not in _TRUE and word not in _FALSE:
        raise ValueError(f"{shown(value)} is neither true nor false")
    return bytes((word in _TRUE,))


def _items(value: object) -> list[object]:
    """A list, or a text with commas or spaces between its items, or one item alone."""
    if isinstance(value, list | tuple):
        return [*value]
    return [*re.split(r"[,\s]+", value.strip())] if isinstance(value, str) else [value]


def _address(value: object) -> IPv4Address:
    if isinstance(value, str | IPv4Address):
        try:
            return IPv4Address(str(value).strip())
        except ValueError:
            pass
    raise ValueError(f"{shown(value)} is not {Kind.IP.value}")


def _addresses(value: object) -> bytes:
    return encode_addresses(map(_address, _items(value)))


def _pairs(value: object) -> bytes:
    """A list of pairs; a pair is a list of two, or a text with a space, comma or slash between them."""
    pairs = [value] if isinstance(value, str) else _items(value)
    out = b""
    for pair in pairs:
        two = _items(pair.replace("/", " ") if isinstance(pair, str) else pair)
        if len(two) != 2:
            raise ValueError(f"{shown(pair)} is not a pair of IPv4 addresses; write {Kind.IP_PAIRS.value}")
        out += _addresses(two)
    return out


def _text(value: object) -> bytes:
    """Text as UTF-8. A NUL may end it, which some firmware needs; nothing else of the control characters may."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not a text")
    text = str(value)
    if _CONTROL.search(text.removesuffix("\0")):
        raise ValueError(f"{shown(text)} has control characters; write bytes as {{hex: 0a4d0001}}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{shown(text)} is not a text that UTF-8 can carry") from None


def _domain(value: object) -> str:
    name = value.strip() if isinstance(value, str) else ""
    bare = name.removesuffix(".")
    if len(bare) > 253 or not all(map(_LABEL.fullmatch, bare.split("."))):
        raise ValueError(f"{shown(value)} is not {Kind.DOMAIN.value}")
    return name


def _sip_servers(value: object) -> bytes:
    """Option 120 (RFC 3361): a byte that says which form it has, 0 for names and 1 for addresses."""
    items = _items(value)
    try:
        return b"\1" + encode_addresses(map(_address, items))
    except ValueError:
        return b"\0" + encode_domain_search(map(_domain, items))


def _routes(value: object) -> bytes:
    return encode_static_routes(map(_route, [value] if isinstance(value, str | Mapping) else _items(value)))


def _route(value: object) -> tuple[IPv4Network, IPv4Address]:
    """A route as {to, via}, or as `10.96.0.0/12 via 10.28.0.3`, with or without the word."""
    match value:
        case {"to": to, "via": via, **rest} if not rest:
            pass
        case str() if len(words := [word for word in value.split() if word != "via"]) == 2:
            to, via = words
        case _:
            raise ValueError(f"{shown(value)} is not a route; write {Kind.ROUTES.value}")
    router = _address(via)
    try:
        return IPv4Network(str(to)), router
    except ValueError as error:
        hint = "; it has bits to the right of its prefix" if "host bits" in str(error) else ""
        raise ValueError(f"{shown(to)} is not a network, such as 10.96.0.0/12{hint}") from None


def _fqdn(value: object) -> bytes:
    """Option 81 as a server sends it (RFC 4702): the name in DNS form (E), and no DNS update was made (N)."""
    return bytes((0x0C, 255, 255)) + encode_domain_search([_domain(value)])


def _classes(value: object) -> bytes:
    """Option 77, or the data of one enterprise in option 124: texts, or {hex: ...}, each behind its length."""
    items = value if isinstance(value, list | tuple) else [value]
    out = b""
    for item in items:
        is_hex = isinstance(item, Mapping) and [*item] == ["hex"]
        data = raw(item["hex"]) if is_hex and isinstance(item, Mapping) else _text(item)
        if not data:
            raise ValueError("a class is empty; write a text, such as gpu")
        out += framed(data, "a class")
    return out


def _vendor_classes(value: object) -> bytes:
    """Option 124 (RFC 3925 section 3)."""
    out = b""
    for number, classes in mapping(value, Kind.VENDOR_CLASSES).items():
        out += enterprise(number) + framed(_classes(classes), f"enterprise {number}")
    return out


def _boot_servers(value: object) -> bytes:
    """PXE_BOOT_SERVERS (PXE 2.1): for each type of boot server, how many addresses, and those."""
    out = b""
    for kind, addresses in mapping(value, Kind.BOOT_SERVERS).items():
        packed = _addresses(addresses)
        out += _number(kind, 0, 0xFFFF).to_bytes(2, "big") + _number(len(packed) // 4, 1, 255).to_bytes(1) + packed
    return out


def _boot_menu(value: object) -> bytes:
    """PXE_BOOT_MENU (PXE 2.1): for each type of boot server, a line of the menu."""
    out = b""
    for kind, line in mapping(value, Kind.BOOT_MENU).items():
        out += _number(kind, 0, 0xFFFF).to_bytes(2, "big") + framed(_text(line), "a line of the menu")
    return out


def _menu_prompt(value: object) -> bytes:
    """PXE_MENU_PROMPT (PXE 2.1): after how many seconds the first line is taken (0: at once, 255: never)."""
    match value:
        case {"timeout_s": timeout_s, "text": text, **rest} if not rest:
            return _number(timeout_s, 0, 255).to_bytes(1) + _text(text)
        case _:
            raise ValueError(f"{shown(value)} is not a prompt; write {Kind.MENU_PROMPT.value}")


_ENCODERS: Mapping[Kind, Callable[[object], bytes]] = {
    Kind.FLAG: _flag,
    Kind.IP: lambda value: _address(value).packed,
    Kind.IPS: _addresses,
    Kind.IP_PAIRS: _pairs,
    Kind.TEXT: _text,
    Kind.DOMAIN: lambda value: _domain(value).encode(),
    Kind.DOMAINS: lambda value: encode_domain_search(map(_domain, _items(value))),
    Kind.PLAIN_DOMAINS: lambda value: encode_domain_search(map(_domain, _items(value)), compressed=False),
    Kind.SIP_SERVERS: _sip_servers,
    Kind.ROUTES: _routes,
    Kind.CLASSES: _classes,
    Kind.FQDN: _fqdn,
    Kind.VENDOR_CLASSES: _vendor_classes,
    Kind.BOOT_SERVERS: _boot_servers,
    Kind.BOOT_MENU: _boot_menu,
    Kind.MENU_PROMPT: _menu_prompt,
}
