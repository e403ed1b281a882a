"""What the tags of dnsmasq stand for: an architecture, iPXE, a network, some machines. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from config.architectures import BY_CODE, IPXE
from config.dhcpoptions import code_of
from config.yamltree import Mark
from pxeboot.imports.dnsmasq_text import Line
from pxeboot.imports.found import Draft
from pxeboot.imports.levels import Levels, Settings

_ARCHITECTURE, _IPXE_OPTION, _VENDOR_CLASS, _USER_CLASS = 93, 175, 60, 77
_CLASS = re.compile("(?:PXE|HTTP)Client(?::Arch:(?P<arch>[0-9]{5}).*)?")
_NUMBER = re.compile("0x[0-9a-fA-F]{1,4}|[0-9]{1,5}")
EVERYBODY = "*"
"""In place of an architecture: every machine that boots."""
_OF_DNSMASQ = {"known", "known-othernet", "dhcpv6", "bootp", "cpewan-id"}


@dataclass(slots=True)
class Tags:
    """The tags, by what sets them."""

    draft: Draft
    architectures: dict[str, set[str]] = field(default_factory=dict)
    """Names of architectures, `ipxe`, or `EVERYBODY`."""
    networks: dict[str, list[IPv4Network]] = field(default_factory=dict)
    machines: set[str] = field(default_factory=set)
    """Tags that lines about machines set."""
    circuits: dict[str, tuple[Mark, str]] = field(default_factory=dict)
    """Tags that a port of a switch sets, with its identifier."""
    _unknown: set[str] = field(default_factory=set)

    def match(self, line: Line) -> None:
        """Take a line that sets a tag by what a client sends."""
        words = line.words()
        tag = (words.pop(0) if words else "").removeprefix("set:").removeprefix("net:")
        rest = ",".join(words)
        found: str | None = None
        match line.key:
            case "dhcp-vendorclass":
                found = _by_class(rest.removeprefix("enterprise:"))
            case "dhcp-userclass":
                found = IPXE if rest.lower() == "ipxe" else None
            case "dhcp-match":
                found = _by_option(words)
            case "dhcp-circuitid":
                self.circuits[tag] = line.mark, rest
                return
            case _:
                pass
        if found is None:
            self._unknown.add(tag)
            why = "machines are told apart here by their architecture, iPXE, network, or as listed machines"
            self.draft.lost(line.mark, f"{line.key}={line.value}", why)
        else:
            self.architectures.setdefault(tag, set()).add(found)

    def places(self, conditions: Sequence[str], levels: Levels, what: str, mark: Mark) -> list[Settings]:
        """Return the places that hold where all the conditions do; none, and say so, if there is no such place."""
        positive = []
        for tag in conditions:
            bare = tag.removeprefix("!")
            if tag.startswith("!"):
                # iPXE's own setting wins over that for all, so "all but iPXE" is "all".
                if self.architectures.get(bare) != {IPXE}:
                    self._lost(what, mark, f"there is no place for all but those with the tag {bare!r}")
                    return []
            elif self.architectures.get(tag) != {EVERYBODY}:
                positive.append(tag)
        if not positive:
            return [levels.everywhere]
        if len(positive) > 1:
            self._lost(what, mark, f"there is no place for those with all of the tags {', '.join(positive)}")
            return []
        return self._of(positive[0], levels, what, mark)

    def _of(self, tag: str, levels: Levels, what: str, mark: Mark) -> list[Settings]:
        places = [levels.architectures.setdefault(name, {}) for name in sorted(self.architectures.get(tag, ()))]
        places += [levels.networks.setdefault(network, {}) for network in self.networks.get(tag, ())]
        if tag in self.machines:
            places.append(levels.tags.setdefault(tag, {}))
        if not places:
            known = (
                "what sets it could not be carried over" if tag in self._unknown | _OF_DNSMASQ else "nothing sets it"
            )
            self._lost(what, mark, f"it is for those with the tag {tag!r}, and {known}")
        return places

    def _lost(self, what: str, mark: Mark, why: str) -> None:
        self.draft.lost(mark, what, why)


def _by_class(text: str) -> str | None:
    found = _CLASS.fullmatch(text)
    if found is None:
        return None
    return _named(int(found["arch"])) if found["arch"] else EVERYBODY


def _by_option(words: list[str]) -> str | None:
    code = code_of((words[0] if words else "").removeprefix("option:"))
    value = words[1] if len(words) > 1 else ""
    if code == _IPXE_OPTION:
        return IPXE
    if code == _ARCHITECTURE and _NUMBER.fullmatch(value):
        return _named(int(value, 0) if value.startswith("0x") else int(value))
    if code == _VENDOR_CLASS:
        return _by_class(value)
    if code == _USER_CLASS and value.lower() == "ipxe":
        return IPXE
    return None


def _named(code: int) -> str | None:
    """The name of an architecture; of those that run what another runs, that one's."""
    found = BY_CODE.get(code)
    if found is None:
        return None
    return found.platform if found.platform and not found.http else found.name
