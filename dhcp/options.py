"""DHCP options: their numbers, and their values ⇄ bytes (RFC 2132 unless a line says otherwise).

A value of the wrong length counts as absent: the functions that read one return None, never raise. Text from a
client stays bytes; whoever shows it escapes it.
"""

from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network


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


def encode_addresses(addresses: Iterable[IPv4Address]) -> bytes:
    """Encode an option that is a list of addresses (3, 6, 7, 42) or one of them (28, 54)."""
    return b"".join(address.packed for address in addresses)


def encode_domain_search(names: Iterable[str]) -> bytes:
    """Encode option 119: names in DNS form, where a repeated ending is a pointer to its first place (RFC 3397).

    Raises `ValueError` for a name that DNS cannot carry.

    >>> encode_domain_search(["a.example", "example"])
    b'\\x01a\\x07example\\x00\\xc0\\x02'
    """
    out = bytearray()
    known: dict[tuple[str, ...], int] = {}
    for name in names:
        labels = tuple(name.lower().rstrip(".").split("."))
        if not name.isascii() or any(not 0 < len(label) < 64 for label in labels) or len(name) > 253:
            raise ValueError(f"{name!r} is not a domain name")
        for i in range(len(labels)):
            ending = labels[i:]
            if ending in known:
                out += (0xC000 | known[ending]).to_bytes(2, "big")
                break
            if len(out) < 0x4000:
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


def has_default_route(static_routes: bytes) -> bool:
    """Return whether an option 121 of ours names 0.0.0.0/0; then a client needs no option 3."""
    at = 0
    while at < len(static_routes):
        if static_routes[at] == 0:
            return True
        at += 1 + -(-static_routes[at] // 8) + 4
    return False
