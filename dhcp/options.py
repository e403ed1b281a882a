"""DHCP options: their numbers, and their values ⇄ bytes (RFC 2132 unless a line says otherwise).

What a person writes is encoded, and named, by `config.dhcpoptions`; this is about what is in a packet.

A value of the wrong length counts as absent: the functions that read one return None, never raise. Text from a
client stays bytes; whoever shows it escapes it.
"""

import re
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address

from config.optiontypes import encode_addresses as encode_addresses
from config.optiontypes import encode_domain_search as encode_domain_search
from config.optiontypes import encode_static_routes as encode_static_routes


class Option(IntEnum):
    """Options by their title in RFC 2132, or in the RFC named beside them."""

    SUBNET_MASK = 1
    ROUTER = 3
    DOMAIN_NAME_SERVER = 6
    LOG_SERVER = 7
    HOST_NAME = 12
    BOOT_FILE_SIZE = 13
    DOMAIN_NAME = 15
    ROOT_PATH = 17
    INTERFACE_MTU = 26
    BROADCAST_ADDRESS = 28
    NTP_SERVERS = 42
    VENDOR_SPECIFIC_INFORMATION = 43
    REQUESTED_IP_ADDRESS = 50
    IP_ADDRESS_LEASE_TIME = 51
    OPTION_OVERLOAD = 52
    DHCP_MESSAGE_TYPE = 53
    SERVER_IDENTIFIER = 54
    PARAMETER_REQUEST_LIST = 55
    MESSAGE = 56
    MAXIMUM_DHCP_MESSAGE_SIZE = 57
    RENEWAL_TIME = 58
    REBINDING_TIME = 59
    VENDOR_CLASS_IDENTIFIER = 60
    CLIENT_IDENTIFIER = 61
    TFTP_SERVER_NAME = 66
    BOOTFILE_NAME = 67
    USER_CLASS = 77  # RFC 3004
    RAPID_COMMIT = 80  # RFC 4039
    CLIENT_FQDN = 81  # RFC 4702
    RELAY_AGENT_INFORMATION = 82  # RFC 3046
    CLIENT_SYSTEM_ARCHITECTURE = 93  # RFC 4578 section 2.1
    CLIENT_NETWORK_INTERFACE = 94  # RFC 4578 section 2.2
    CLIENT_MACHINE_IDENTIFIER = 97  # RFC 4578 section 2.3
    SUBNET_SELECTION = 118  # RFC 3011
    DOMAIN_SEARCH = 119  # RFC 3397
    CLASSLESS_STATIC_ROUTE = 121  # RFC 3442
    VENDOR_CLASS = 124  # RFC 3925 section 3, by enterprise number
    VENDOR_INFORMATION = 125  # RFC 3925 section 4, by enterprise number
    TFTP_SERVER_ADDRESS = 150  # RFC 5859
    IPXE = 175  # iPXE's encapsulated options
    PXELINUX_MAGIC = 208  # RFC 5071 section 3
    PXELINUX_CONFIG_FILE = 209  # RFC 5071 section 4
    PXELINUX_PATH_PREFIX = 210  # RFC 5071 section 5
    PXELINUX_REBOOT_TIME = 211  # RFC 5071 section 6


class MessageType(IntEnum):
    """Option 53 (section 9.6)."""

    DHCPDISCOVER = 1
    DHCPOFFER = 2
    DHCPREQUEST = 3
    DHCPDECLINE = 4
    DHCPACK = 5
    DHCPNAK = 6
    DHCPRELEASE = 7
    DHCPINFORM = 8


class RelaySubOption(IntEnum):
    """What a relay tells us inside option 82."""

    CIRCUIT_ID = 1  # RFC 3046 section 3.1: which port of the switch
    REMOTE_ID = 2  # RFC 3046 section 3.2: which switch, or which line
    LINK_SELECTION = 5  # RFC 3527
    SERVER_IDENTIFIER_OVERRIDE = 11  # RFC 5107
    RELAY_SOURCE_PORT = 19  # RFC 8357


def address(value: bytes | None) -> IPv4Address | None:
    """Return an option that is one address (50, 54, ...)."""
    return IPv4Address(value) if value is not None and len(value) == 4 else None


def addresses(value: bytes) -> list[IPv4Address]:
    """Return an option that is a list of addresses (3, 6, ...), without what is cut off at its end."""
    return [IPv4Address(value[at : at + 4]) for at in range(0, len(value) - 3, 4)]


def number(value: bytes | None, size_bytes: int) -> int | None:
    """Return an option that is one unsigned number of `size_bytes` (51, 57, ...)."""
    return int.from_bytes(value, "big") if value is not None and len(value) == size_bytes else None


def sub_options(value: bytes | None) -> dict[int, bytes]:
    """Return what is inside option 82 by number. Nothing, if a length in it leads outside.

    >>> sub_options(bytes.fromhex("0104 65746830 05 04 0a020000"))
    {1: b'eth0', 5: b'\\n\\x02\\x00\\x00'}
    """
    found: dict[int, bytes] = {}
    rest = value or b""
    while rest:
        if len(rest) < 2 or len(rest) < 2 + rest[1]:
            return {}
        found[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    return found


def has_default_route(static_routes: bytes) -> bool:
    """Return whether an option 121 of ours names 0.0.0.0/0; then a client needs no option 3."""
    at = 0
    while at < len(static_routes):
        if static_routes[at] == 0:
            return True
        at += 1 + -(-static_routes[at] // 8) + 4
    return False


def gateways(static_routes: bytes) -> list[IPv4Address]:
    """Return the routers that an option 121 of ours names; 0.0.0.0 is its way of saying that there is none.

    >>> gateways(bytes.fromhex("080a c0000201 00 c0000202"))
    [IPv4Address('192.0.2.1'), IPv4Address('192.0.2.2')]
    """
    found, at = [], 0
    while at < len(static_routes):
        at += 1 + -(-static_routes[at] // 8) + 4
        found += addresses(static_routes[at - 4 : at])
    return found


class FqdnFlags(IntFlag):
    """The flags of option 81 (RFC 4702 section 2.1)."""

    S = 1  # the server updates the machine's address record
    O = 2  # noqa: E741 -- the RFC's letter: the server does other than the client wished
    E = 4  # the name is in DNS form
    N = 8  # the server updates nothing


@dataclass(frozen=True, slots=True)
class ClientFqdn:
    """Option 81, once it is safe to use."""

    flags: FqdnFlags
    name: str
    """Labels of letters, digits and hyphens with dots between them, in small letters. Empty if the client has no
    name and asks for one."""


_MOST_NAME_BYTES = 255
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)


def client_fqdn(value: bytes | None) -> ClientFqdn | None:
    """Return a client's option 81 (RFC 4702), None if it is absent or its name is none that DNS takes.

    The name is the client's own choice, so nothing but letters, digits, hyphens and dots is let through. In DNS
    form its last zero may be missing, then it is part of a name; in the old form it is text.

    >>> client_fqdn(bytes.fromhex("050000 03 4e4231 04 6661726d 00"))
    ClientFqdn(flags=<FqdnFlags.S|E: 5>, name='nb1.farm')
    """
    if value is None or len(value) < 3:
        return None
    flags, rest = FqdnFlags(value[0] & 15), value[3:]
    if not rest or rest == b"\0":
        return ClientFqdn(flags, "")
    labels = _labels(rest) if flags & FqdnFlags.E else rest.split(b".")
    name = None if labels is None else _host_name(labels)
    return None if name is None else ClientFqdn(flags, name)


def encode_client_fqdn(asked: FqdnFlags, name: str) -> bytes:
    """Encode the option 81 of an answer to a client that sent `asked`; `name` is what it is called.

    We update no DNS (N), whatever the client wished of us (O tells it so), and the name is in the form that the
    client used (E). The two result codes are always 255 (RFC 4702 section 2.2).

    >>> encode_client_fqdn(FqdnFlags.S | FqdnFlags.E, "nb1.farm").hex(" ")
    '0e ff ff 03 6e 62 31 04 66 61 72 6d 00'
    """
    flags = FqdnFlags.N | asked & FqdnFlags.E | (FqdnFlags.O if asked & FqdnFlags.S else 0)
    encoded = encode_domain_search([name]) if asked & FqdnFlags.E else name.encode("ascii")
    return bytes((flags, 255, 255)) + encoded


def _labels(data: bytes) -> list[bytes] | None:
    """The labels of one name in DNS form without pointers, None if that is not what it is."""
    labels: list[bytes] = []
    while data and data != b"\0":
        if not 0 < data[0] < 64 or len(data) < 1 + data[0]:
            return None
        labels.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    return labels


def _host_name(labels: list[bytes]) -> str | None:
    if labels[-1:] == [b""]:
        labels = labels[:-1]
    texts = [label.decode("latin-1") for label in labels]
    name = ".".join(texts).lower()
    good = texts and len(name) <= _MOST_NAME_BYTES - 2 and all(map(_LABEL.fullmatch, texts))
    return name if good else None
