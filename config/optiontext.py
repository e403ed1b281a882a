"""The bytes of a DHCP option as text for people. Pure, and safe with any bytes: they may be a stranger's."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from uuid import UUID

from config.optiontable import SPACES, Definition
from config.optiontypes import Kind

MOST_CHARACTERS = 400
"""Longer text is cut; the number of bytes then stands behind it."""

MESSAGE_TYPES = (
    *("DHCPDISCOVER", "DHCPOFFER", "DHCPREQUEST", "DHCPDECLINE", "DHCPACK", "DHCPNAK", "DHCPRELEASE"),
    *("DHCPINFORM", "DHCPFORCERENEW", "DHCPLEASEQUERY", "DHCPLEASEUNASSIGNED", "DHCPLEASEUNKNOWN"),
    *("DHCPLEASEACTIVE", "DHCPBULKLEASEQUERY", "DHCPLEASEQUERYDONE"),
)
"""Option 53's words, from 1 (RFC 2132, 3203, 4388, 6926)."""

FOREVER = 0xFFFFFFFF
_PXE_ONLY = frozenset((6, 7, 8, 9, 10, 71))
"""Sub-options of 43 that show that it is PXE's: a vendor's own begin at 1."""
_MOST_NAME_BYTES = 4096
_MOST_POINTERS = 64
_SIZES = {Kind.UINT8: 1, Kind.UINT16: 2, Kind.UINT32: 4}


def printable(text: str) -> str:
    """Return `text` with everything escaped that is not printable, and not too long."""
    if len(text) > MOST_CHARACTERS:
        text = text[: MOST_CHARACTERS - 3] + "..."
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def plain(data: bytes) -> str:
    """Return bytes of which nothing is known: as text if they are some, else in hex.

    >>> plain(b"gpu rack 4"), plain(bytes((1, 2, 255))), plain(b"")
    ("'gpu rack 4'", '01 02 ff', 'nothing')
    """
    if not data:
        return "nothing"
    if len(data) >= 3 and data.isascii() and data.decode("ascii").isprintable():
        return repr(data.decode("ascii"))
    most = (MOST_CHARACTERS - 40) // 3
    return data.hex(" ") if len(data) <= most else f"{data[:most].hex(' ')} ... ({len(data)} bytes)"


def text_of(definition: Definition, data: bytes) -> str | None:
    """Return the text of an option's bytes, None if they cannot be a value of its type."""
    kind = definition.kind
    if kind in _SIZES:
        return str(int.from_bytes(data, "big")) if len(data) == _SIZES[kind] else None
    reader = _READERS.get(kind)
    if reader is not None:
        return reader(data)
    if kind is Kind.SPACE:
        return _space(definition.code, data)
    return plain(data)


def domain_names(data: bytes) -> list[str] | None:
    """Read names in DNS form, with pointers or without (RFC 1035 section 4.1.4), None if that is not what they are.

    A pointer must lead back, and there are limits to their number, so that no bytes keep the reader busy.
    """
    names: list[str] = []
    at = 0
    while at < len(data) <= _MOST_NAME_BYTES and len(names) < 256:
        read = _domain_name(data, at)
        if read is None:
            return None
        name, at = read
        names.append(name)
    return names if names and at == len(data) else None


def _domain_name(data: bytes, start: int) -> tuple[str, int] | None:
    """Return the name that begins at `start`, and where the next one does."""
    labels: list[str] = []
    here, after, pointers, size = start, 0, 0, 0
    while here < len(data):
        length = data[here]
        if length == 0:
            return ".".join(labels) or ".", after or here + 1
        if length >= 0xC0:
            target = int.from_bytes(data[here : here + 2], "big") & 0x3FFF
            after = after or here + 2
            pointers += 1
            if here + 2 > len(data) or target >= here or pointers > _MOST_POINTERS:
                return None
            here = target
            continue
        label = data[here + 1 : here + 1 + length]
        size += length + 1
        if length > 63 or len(label) < length or size > 255:
            return None
        labels.append(label.decode("ascii", "backslashreplace").replace(".", "\\."))
        here += 1 + length
    return None


def sub_options(data: bytes) -> list[tuple[int, bytes]] | None:
    """Read sub-options in their order, None if a length leads outside. Pads are skipped; END (255) must be last."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
            continue
        if data[at] == 255:
            return [*found, (255, b"")] if not data[at:].strip(b"\xff\0") else None
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            return None
        found.append((data[at], data[at + 2 : at + 2 + data[at + 1]]))
        at += 2 + data[at + 1]
    return found


def _chunks(data: bytes, size: int) -> list[bytes] | None:
    """The data in parts of `size` bytes, None if there are none or one is short."""
    return None if not data or len(data) % size else [data[i : i + size] for i in range(0, len(data), size)]


def _joined(data: bytes, size: int, word: Callable[[bytes], str]) -> str | None:
    parts = _chunks(data, size)
    return None if parts is None else ", ".join(map(word, parts))


def _ip(data: bytes) -> str | None:
    return str(IPv4Address(data)) if len(data) == 4 else None


def _address(data: bytes) -> str:
    return str(IPv4Address(data))


def _pair(data: bytes) -> str:
    return f"{_address(data[:4])} {_address(data[4:])}"


def _flag(data: bytes) -> str | None:
    return {b"\0": "false", b"\1": "true"}.get(data)


def _signed(data: bytes, size: int) -> str | None:
    return str(int.from_bytes(data, "big", signed=True)) if len(data) == size else None


def _seconds(data: bytes) -> str | None:
    if len(data) != 4:
        return None
    seconds = int.from_bytes(data, "big")
    return "forever" if seconds == FOREVER else f"{seconds} s"


def _text(data: bytes) -> str | None:
    """Text in UTF-8 that a NUL may end; quoted unless it is one plain word."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    bare = text.removesuffix("\0")
    if not bare or bare != bare.strip() or not bare.isprintable():
        return None
    return text if text.isascii() and text.isprintable() and not set(text) & set(" '\"\\,") else repr(text)


def _domains(data: bytes) -> str | None:
    names = domain_names(data)
    return None if names is None else ", ".join(names)


def _sip_servers(data: bytes) -> str | None:
    if data[:1] == b"\1":
        return _joined(data[1:], 4, _address)
    return _domains(data[1:]) if data[:1] == b"\0" else None


def _routes(data: bytes) -> str | None:
    routes: list[str] = []
    at = 0
    while at < len(data):
        prefix = data[at]
        octets = -(-prefix // 8)
        if prefix > 32 or at + 1 + octets + 4 > len(data):
            return None
        to = IPv4Address(data[at + 1 : at + 1 + octets].ljust(4, b"\0"))
        routes.append(f"{to}/{prefix} via {_address(data[at + 1 + octets : at + 5 + octets])}")
        at += 5 + octets
    return ", ".join(routes) or None


def _framed(data: bytes) -> list[bytes] | None:
    """Parts that are each behind a byte with their length."""
    parts: list[bytes] = []
    while data:
        if data[0] == 0 or len(data) < 1 + data[0]:
            return None
        parts.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    return parts or None


def _classes(data: bytes) -> str | None:
    """Option 77; iPXE sends its name without a length (RFC 3004)."""
    parts = _framed(data)
    return _text(data) if parts is None else ", ".join(_text(part) or plain(part) for part in parts)


def _by_enterprise(data: bytes, inside: Callable[[bytes], str | None]) -> str | None:
    """Options 124 and 125: enterprise number, length, data, again and again (RFC 3925)."""
    found: list[str] = []
    while data:
        if len(data) < 5 or len(data) < 5 + data[4]:
            return None
        inner = data[5 : 5 + data[4]]
        found.append(f"enterprise {int.from_bytes(data[:4], 'big')}: {inside(inner) or plain(inner)}")
        data = data[5 + data[4] :]
    return "; ".join(found) or None


def _space(code: int, data: bytes) -> str | None:
    """Sub-options by name where they have one. In 43 they have PXE's names if something there is only PXE's."""
    found = sub_options(data)
    if not found:
        return None
    known = SPACES.get(code, {})
    if code == 43 and not _PXE_ONLY & {sub for sub, _ in found}:
        known = {}
    return ", ".join(_sub_option(known.get(sub), sub, value) for sub, value in found)


def _sub_option(definition: Definition | None, code: int, value: bytes) -> str:
    if code == 255:
        return "end"
    if definition is None:
        return f"{code}: {plain(value)}"
    return f"{definition.name}: {text_of(definition, value) or plain(value)}"


def _fqdn(data: bytes) -> str | None:
    """Option 81 (RFC 4702): its flags as letters, then the name in DNS form (E) or as text."""
    if len(data) < 3:
        return None
    flags, name = data[0], data[3:]
    letters = "".join(letter for bit, letter in ((1, "S"), (2, "O"), (4, "E"), (8, "N")) if flags & bit)
    # A client may leave the last zero away, and the whole name.
    read = domain_names(name) or domain_names(name + b"\0") if flags & 4 else None
    text = ", ".join(read) if read else _text(name) or plain(name)
    return f"{text} (flags {letters or 'none'})"


def _message_type(data: bytes) -> str | None:
    known = len(data) == 1 and 1 <= data[0] <= len(MESSAGE_TYPES)
    return MESSAGE_TYPES[data[0] - 1] if known else None


def _client_identifier(data: bytes) -> str | None:
    """A type and an identifier (RFC 2132 section 9.14); type 1 is Ethernet, 255 a DUID (RFC 4361), 0 any text."""
    if len(data) == 7 and data[0] == 1:
        return data[1:].hex(":")
    if len(data) > 5 and data[0] == 255:
        return f"IAID {data[1:5].hex()}, DUID {data[5:].hex(':')}"
    return _text(data[1:]) if data[:1] == b"\0" else None


def _machine_identifier(data: bytes) -> str | None:
    """Option 97 with its first three fields in the order of EFI, which is how dmidecode shows them as well."""
    return str(UUID(bytes_le=data[1:])) if len(data) == 17 and data[0] == 0 else None


def _network_interface(data: bytes) -> str | None:
    return f"UNDI {data[1]}.{data[2]}" if len(data) == 3 and data[0] == 1 else None


def _boot_servers(data: bytes) -> str | None:
    found: list[str] = []
    while data:
        size = 3 + 4 * data[2] if len(data) > 2 else 0
        addresses = _joined(data[3:size], 4, _address) if 3 < size <= len(data) else None
        if addresses is None:
            return None
        found.append(f"type {int.from_bytes(data[:2], 'big')}: {addresses}")
        data = data[size:]
    return "; ".join(found) or None


def _boot_menu(data: bytes) -> str | None:
    found: list[str] = []
    while data:
        line = data[3 : 3 + data[2]] if len(data) > 2 else b""
        if not line or len(line) < data[2]:
            return None
        found.append(f"type {int.from_bytes(data[:2], 'big')}: {_text(line) or plain(line)}")
        data = data[3 + len(line) :]
    return "; ".join(found) or None


def _menu_prompt(data: bytes) -> str | None:
    text = _text(data[1:])
    return f"{text} ({data[0]} s)" if text else None


_READERS: Mapping[Kind, Callable[[bytes], str | None]] = {
    Kind.FLAG: _flag,
    Kind.INT8: lambda data: _signed(data, 1),
    Kind.INT32: lambda data: _signed(data, 4),
    Kind.SECONDS: _seconds,
    Kind.UINT16S: lambda data: _joined(data, 2, lambda part: str(int.from_bytes(part, "big"))),
    Kind.IP: _ip,
    Kind.IPS: lambda data: _joined(data, 4, _address),
    Kind.IP_PAIRS: lambda data: _joined(data, 8, _pair),
    Kind.TEXT: _text,
    Kind.DOMAIN: _text,
    Kind.DOMAINS: _domains,
    Kind.PLAIN_DOMAINS: _domains,
    Kind.SIP_SERVERS: _sip_servers,
    Kind.ROUTES: _routes,
    Kind.CLASSES: _classes,
    Kind.FQDN: _fqdn,
    Kind.VENDOR_CLASSES: lambda data: _by_enterprise(data, _classes),
    Kind.VENDOR_SPACES: lambda data: _by_enterprise(data, lambda inner: _space(0, inner)),
    Kind.BOOT_SERVERS: _boot_servers,
    Kind.BOOT_MENU: _boot_menu,
    Kind.MENU_PROMPT: _menu_prompt,
    Kind.MESSAGE_TYPE: _message_type,
    Kind.CLIENT_IDENTIFIER: _client_identifier,
    Kind.MACHINE_IDENTIFIER: _machine_identifier,
    Kind.NETWORK_INTERFACE: _network_interface,
}
