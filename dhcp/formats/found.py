"""What was found in another server's lease file. Pure.

Such a file is read as its server reads it, where the newest entry of an address wins, and with less trust: an entry
that cannot be right is reported with its line and the others are taken.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from dhcp.leases import Lease, State

LATEST = 1 << 40
"""No expiry that is read is later; some 35,000 years."""
NOBODY = "unknown"
"""The client of an address in quarantine, when the file does not say who declined it."""

_OCTETS = re.compile(r"[0-9a-f]{1,2}(?:[:-][0-9a-f]{1,2}){0,254}", re.IGNORECASE)


class NotThisFormat(ValueError):
    """The file is something else; the text says what was expected."""


class Mistake(ValueError):
    """One entry cannot be right; the text says why."""


@dataclass(slots=True)
class Found:
    """The newest record of each address; what is wrong, by line; and how many were left out, by reason."""

    leases: dict[IPv4Address, Lease] = field(default_factory=dict)
    mistakes: list[tuple[int, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, lease: Lease) -> None:
        """Take a record in place of what was known about its address."""
        self.leases[lease.address] = lease


def identity(mac: str, client_id: bytes, *, by_client_id: bool) -> tuple[str, str]:
    """Return the `client` and `mac` of a lease: by its MAC, or by its client identifier where that is asked for.

    A client without a hardware address (InfiniBand) has only its identifier, unless that says the MAC: 1 and six
    bytes (RFC 2132 section 9.14). Raises `Mistake` if there is neither.
    """
    if not mac and len(client_id) == 7 and client_id[0] == 1:
        mac = client_id[1:].hex(":")
    if client_id and (by_client_id or not mac):
        return f"id:{client_id.hex()}", mac or f"id:{client_id.hex()}"
    if not mac:
        raise Mistake("neither a hardware address nor a client identifier")
    return mac, mac


def hardware(text: str) -> str:
    """Return a hardware address as we write it. Raises `Mistake`."""
    value = octets(text)
    if len(value) > 16:
        raise Mistake(f"a hardware address of {len(value)} bytes")
    return value.hex(":")


def octets(text: str) -> bytes:
    """Return the bytes that hexadecimal numbers between colons say. Raises `Mistake`."""
    if not _OCTETS.fullmatch(text):
        raise Mistake(f"{text[:60]!r} is no list of bytes such as 52:54:00:12:34:56")
    return bytes(int(octet, 16) for octet in re.split("[:-]", text))


def address(text: str) -> IPv4Address:
    """Return an address that a machine can have. Raises `Mistake`."""
    try:
        value = IPv4Address(text)
    except ValueError:
        raise Mistake(f"{text[:60]!r} is no IPv4 address") from None
    if value.is_multicast or value.is_unspecified or value.is_loopback or value == IPv4Address("255.255.255.255"):
        raise Mistake(f"{value} is no machine's address")
    return value


def number(text: str, what: str, most: int = LATEST) -> int:
    """Return a number from 0 to `most`. Raises `Mistake`."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise Mistake(f"{what} {text[:60]!r} is no number from 0 to {most}")
    return int(text)


def quarantined(where: IPv4Address, expires: int) -> Lease:
    """Return the record of an address that somebody declined."""
    return Lease(where, NOBODY, expires, State.DECLINED)
