"""Which machine a word means: its name, one of its MACs however they are written, or its address. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from config.mistakes import suggestion
from config.model import Farm
from dhcp.plan import machine_name

_MADE_NAME = machine_name("")
_CARD = re.compile(
    r"[0-9a-f]{2}([:.-][0-9a-f]{2}){5}"  # Linux; Windows
    r"|[0-9a-f]{4}([.:-][0-9a-f]{4}){2}"  # Cisco
    r"|[0-9a-f]{6}[:-]?[0-9a-f]{6}"  # HP; labels
    r"|01-[0-9a-f]{2}(-[0-9a-f]{2}){5}"  # GRUB and PXELINUX, with the type of hardware in front
)
"""As people find it written, in lower case."""
_NEAR_MAC = 0.85
"""How like a MAC must be to one that there is, from 0 to 1."""


def card(word: str) -> str | None:
    """Return the MAC that a word is, with colons; None if it is none. A name that was made of a MAC is that one.

    >>> card("5254.0012.3456"), card("node-525400123456"), card("m1")
    ('52:54:00:12:34:56', '52:54:00:12:34:56', None)
    """
    text = word.strip().lower().removeprefix(_MADE_NAME)
    return bytes.fromhex(re.sub("[:.-]", "", text)[-12:]).hex(":") if _CARD.fullmatch(text) else None


def address(word: str) -> IPv4Address | None:
    """Return the IPv4 address that a word is; None if it is none."""
    try:
        return IPv4Address(word.strip())
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Book:
    """Where it can be looked up who is meant."""

    of_card: Callable[[str], str | None]
    """The name of the machine that the farm's file lists with a MAC."""
    at: Callable[[IPv4Address], Iterable[str]]
    """The names, or MACs, of those who may have an address, the likeliest first."""

    @classmethod
    def of(cls, farm: Farm) -> "Book":
        """Return what a farm's file alone knows."""
        nodes = [node for pool in farm.pools for node in pool.nodes]
        by_card = {mac: node.name for node in nodes for mac in node.macs}
        return cls(by_card.get, lambda at: (node.name for node in nodes if node.ip == at))

    def names(self, word: str) -> Iterator[str]:
        """Yield the names that a word may mean, the likeliest first: a name that somebody gave is that name."""
        word = word.strip()
        yield word
        if word != word.lower():
            yield word.lower()
        if (mac := card(word)) is not None:
            yield from self._of(mac)
        if (at := address(word)) is not None:
            for name in self.at(at):
                yield from self._of(mac) if (mac := card(name)) is not None else [name]

    def find(self, word: str, there: Callable[[str], bool]) -> str | None:
        """Return the first name of those that is `there`; None if none is."""
        return next((name for name in self.names(word) if there(name)), None)

    def _of(self, mac: str) -> Iterator[str]:
        if (listed := self.of_card(mac)) is not None:
            yield listed
        yield machine_name(mac)


def nobody(word: str) -> str:
    """Return that no machine is meant by a word, and what it was taken for.

    >>> nobody("525400123456")
    "no machine with the MAC 52:54:00:12:34:56 is in the farm's file or was heard of"
    """
    where = "is in the farm's file or was heard of"
    if not word.strip():
        return "an empty word names no machine"
    if (mac := card(word)) is not None:
        return f"no machine with the MAC {mac} {where}"
    if (at := address(word)) is not None:
        return f"no machine with the address {at} {where}"
    return f"no machine {word!r} {where}"


def alike(word: str, names: Iterable[str], macs: Mapping[str, str]) -> str:
    """Return "; did you mean ...?" with the name, or the MAC of `macs` and whose it is, that is nearest to a word.

    Nothing if none is near: of a MAC, if more than two digits are others.

    >>> alike("52:54:00:12:34:57", [], {"52:54:00:12:34:56": "m1"})
    "; did you mean 52:54:00:12:34:56 of 'm1'?"
    """
    from difflib import get_close_matches

    mac = card(word)
    if mac is None:
        return "" if address(word) is not None else suggestion(word, names)
    near = get_close_matches(mac, [*macs], n=1, cutoff=_NEAR_MAC)
    return f"; did you mean {near[0]} of {macs[near[0]]!r}?" if near else ""
