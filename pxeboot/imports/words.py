"""Names, times and networks as other servers write them. Pure."""

import re
from collections.abc import Container, Iterable
from ipaddress import IPv4Address, IPv4Network

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?P<number>[0-9]{1,10})(?P<unit>[smhdw]?)", re.IGNORECASE)
_NOT_IN_NAMES = re.compile("[^a-z0-9.-]+")
_ENDS = "-."

LEAST_LEASE_S = 60
MOST_LEASE_S = 0xFFFFFFFE
WIDEST = 24
"""The prefix length that a network has for us whose mask nobody says, unless its addresses need a shorter one."""


def lease_s(text: str) -> str | None:
    """Return a lease time in our words: seconds, `infinite`, or None for what is none.

    >>> lease_s("12h"), lease_s("infinite"), lease_s("10"), lease_s("soon")
    ('43200', 'infinite', '60', None)
    """
    word = text.strip().lower()
    if word in ("infinite", "infinity"):
        return "infinite"
    found = _DURATION.fullmatch(word)
    if found is None:
        return None
    seconds = int(found["number"]) * _UNITS[found["unit"]]
    return "infinite" if seconds > MOST_LEASE_S else str(max(seconds, LEAST_LEASE_S))


def host_name(text: str) -> str:
    """Return a name that a machine can have here, as near to `text` as can be; empty if nothing of it can stay.

    >>> host_name("Node_01.example.org"), host_name("--")
    ('node-01.example.org', '')
    """
    return _NOT_IN_NAMES.sub("-", text.strip().lower()).strip(_ENDS)[:63].strip(_ENDS)


def name_of_address(ip: IPv4Address, word: str = "host") -> str:
    """Return the name of a machine that has none.

    >>> name_of_address(IPv4Address("10.0.0.7"))
    'host-10-0-0-7'
    """
    return f"{word}-{str(ip).replace('.', '-')}"


def another(name: str, taken: Container[str]) -> str:
    """Return `name`, or the first of NAME-2, NAME-3 ... that is not taken.

    >>> another("n1", {"n1", "n1-2"})
    'n1-3'
    """
    number, found = 1, name
    while found in taken:
        number += 1
        ending = f"-{number}"
        found = name[: 63 - len(ending)].rstrip(_ENDS) + ending
    return found


def address(text: str) -> IPv4Address | None:
    """Return an IPv4 address, or None."""
    try:
        return IPv4Address(text.strip())
    except ValueError:
        return None


def network(first: IPv4Address, mask: str) -> IPv4Network | None:
    """Return the network that `first` is in, by a netmask or a prefix length; None if the mask is none.

    >>> network(IPv4Address("10.28.72.10"), "255.255.0.0")
    IPv4Network('10.28.0.0/16')
    """
    try:
        return IPv4Network((int(first), mask), strict=False)
    except ValueError:
        return None


def by_broadcast(first: IPv4Address, broadcast: IPv4Address) -> IPv4Network | None:
    """Return the smallest network with this broadcast address that `first` is in, None if there is none."""
    for length in range(30, 7, -1):
        found = IPv4Network((int(first), length), strict=False)
        if found.broadcast_address == broadcast:
            return found
    return None


def around(addresses: Iterable[IPv4Address]) -> IPv4Network:
    """Return the smallest network that holds all of the addresses, and is no smaller than a /24.

    >>> around([IPv4Address("172.16.0.10"), IPv4Address("172.16.3.1")])
    IPv4Network('172.16.0.0/22')
    """
    listed = sorted(addresses)
    for length in range(WIDEST, 0, -1):
        found = IPv4Network((int(listed[0]), length), strict=False)
        if listed[-1] in found:
            return found
    return IPv4Network("0.0.0.0/0")
