"""A `dhcp-range` of dnsmasq, which kubefarm's values hold too. Pure."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from pxeboot.imports.words import address, lease_s

_MODES = ("static", "proxy")


@dataclass(frozen=True, slots=True)
class Range:
    """What one line says. `last` is None where it gives no addresses to strangers."""

    first: IPv4Address
    last: IPv4Address | None = None
    mode: str = ""
    """`static`: only who is listed gets an address. `proxy`: somebody else gives the addresses."""
    netmask: str = ""
    broadcast: IPv4Address | None = None
    lease_s: str | None = None
    """Seconds, or `infinite`."""
    tags: tuple[str, ...] = ()
    """The tags that a machine must have to get an address of it; one with `!` before it that it must not have."""
    sets: tuple[str, ...] = ()
    """The tags that its machines have."""


def parse(text: str) -> Range:
    """Return what `[tag:..,][set:..,]FIRST[,LAST|MODE][,NETMASK[,BROADCAST]][,LEASE]` says.

    Raises `ValueError` with what is wrong, for IPv6 as well.

    >>> parse("10.28.72.10,10.28.72.250,255.255.0.0,12h").lease_s
    '43200'
    """
    words = [word.strip() for word in text.split(",")]
    tags: list[str] = []
    sets: list[str] = []
    while words and words[0].startswith(("tag:", "set:", "interface:", "net:")):
        kind, _, name = words.pop(0).partition(":")
        if kind == "interface":
            raise ValueError("a range for an interface alone has no place here; write server.interfaces")
        (tags if kind == "tag" else sets).append(name)
    if not words or not words[0]:
        raise ValueError("it has no first address")
    if ":" in words[0]:
        raise ValueError("IPv6 is not served here")
    first = address(words[0])
    if first is None and words[0].isidentifier() and len(words) > 1 and address(words[1]) is not None:
        sets.append(words.pop(0))  # the old way to write set:
        first = address(words[0])
    if first is None:
        raise ValueError(f"{words[0][:60]!r} is not an IPv4 address")
    rest = words[1:]
    last, mode = None, ""
    if rest and rest[0] in _MODES:
        mode = rest.pop(0)
    elif rest and address(rest[0]) is not None:
        last = address(rest.pop(0))
        if last is not None and last < first:
            first, last = last, first
    if rest and rest[0] in _MODES:
        mode = rest.pop(0)
    netmask, broadcast = "", None
    if rest and address(rest[0]) is not None:
        netmask = rest.pop(0)
        if rest and address(rest[0]) is not None:
            broadcast = address(rest.pop(0))
    time = None
    if rest:
        word = rest.pop(0)
        time = lease_s(word)
        if time is None:
            raise ValueError(f"{word[:60]!r} is neither a netmask nor a lease time")
    if rest:
        raise ValueError(f"nothing is known of {','.join(rest)[:60]!r} behind it")
    return Range(first, last, mode, netmask, broadcast, time, tuple(tags), tuple(sets))
