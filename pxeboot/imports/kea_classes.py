"""The client classes of Kea: which of them are an architecture, iPXE, or a tag of listed machines. Pure."""

import re
from dataclasses import dataclass, field

from config.architectures import BY_CODE, IPXE
from config.dhcpoptions import code_of
from config.yamltree import Node
from pxeboot.imports.found import Draft
from pxeboot.imports.kea_text import text

EVERYBODY = "*"
_OPTION = r"option\[\s*(?P<name>[\w-]+)\s*\]\s*\.\s*"
_EXISTS = re.compile(_OPTION + "exists")
_EQUALS = re.compile(_OPTION + r"(?:hex|text)\s*==\s*(?:0x(?P<hex>[0-9a-fA-F]+)|'(?P<text>[^']*)')")
_SUBSTRING = re.compile(
    r"substring\s*\(\s*"
    + _OPTION
    + r"(?:hex|text)\s*,\s*(?P<at>[0-9]+)\s*,\s*(?:[0-9]+|all)\s*\)\s*==\s*'(?P<text>[^']*)'"
)
_MEMBER = re.compile(r"member\s*\(\s*'(?P<name>[^']*)'\s*\)")
_CLASS = re.compile("(?:PXE|HTTP)Client(?::Arch:(?P<arch>[0-9]{5}).*)?")
_NOT = re.compile(r"not\s*\(?\s*(?P<rest>.*)", re.DOTALL)
_NUMBERS_AT = (15, 16)


@dataclass(slots=True)
class Classes:
    """The classes, by name."""

    draft: Draft
    architectures: dict[str, frozenset[str]] = field(default_factory=dict)
    """Architectures, `ipxe`, or `EVERYBODY`, of the classes that are those."""
    tags: set[str] = field(default_factory=set)
    """Classes without a test: reservations name them."""

    def learn(self, node: Node) -> bool:
        """Take one class; return whether there is a place for what it says."""
        name, test = text(node, "name"), text(node, "test")
        if not test:
            self.tags.add(name)
            return True
        meant = self.who(test)
        if meant is None:
            why = "machines are told apart here by their architecture, iPXE, network, or as listed machines"
            self.draft.lost(node.mark, f"the class {name!r} ({test[:60]})", why)
            return False
        self.architectures[name] = meant
        return True

    def who(self, test: str) -> frozenset[str] | None:
        """Return the architectures that a test is true for; None if it is about something else."""
        found: frozenset[str] = frozenset()
        for either in re.split(r"\s+or\s+", test.strip()):
            meant = frozenset((EVERYBODY,))
            for part in re.split(r"\s+and\s+", either):
                one = self._one(_bare(part))
                if one is None:
                    return None
                meant = one if meant == {EVERYBODY} else meant if one == {EVERYBODY} else meant & one
            found |= meant
        return found or None

    def _one(self, part: str) -> frozenset[str] | None:
        everybody, ipxe = frozenset((EVERYBODY,)), frozenset((IPXE,))
        if negated := _NOT.fullmatch(part):
            # iPXE's own setting wins over those of an architecture, so "but not iPXE" needs no place of its own.
            return everybody if self._one(_bare(negated["rest"])) == ipxe else None
        if member := _MEMBER.fullmatch(part):
            return self.architectures.get(member["name"])
        if exists := _EXISTS.fullmatch(part):
            return {175: ipxe, 93: everybody, 60: everybody}.get(code_of(exists["name"]) or 0)
        if found := _SUBSTRING.fullmatch(part):
            return _by_text(code_of(found["name"]), int(found["at"]), found["text"])
        if found := _EQUALS.fullmatch(part):
            if found["hex"] is not None and code_of(found["name"]) == 93:
                return _named(int(found["hex"], 16))
            return _by_text(code_of(found["name"]), 0, found["text"] or "")
        return None


def _bare(part: str) -> str:
    """A comparison without the parentheses around it."""
    part = part.strip()
    while part.startswith("(") and part.count("(") > part.count(")") - 1 and part.endswith(")"):
        part = part[1:-1].strip()
    if part.count("(") < part.count(")"):
        part = part.rstrip(") ") + ")" * part.count("(")
    while part.startswith("("):
        part = part[1:].strip()
    return part


def _by_text(code: int | None, at: int, value: str) -> frozenset[str] | None:
    if code == 77:
        return frozenset((IPXE,)) if value.lower().endswith("ipxe") and len(value) <= 5 else None
    if code != 60:
        return None
    if at in _NUMBERS_AT and value.isdecimal() and len(value) == 5:
        return _named(int(value))
    found = _CLASS.fullmatch(value) if at == 0 else None
    if found is None:
        return None
    return _named(int(found["arch"])) if found["arch"] else frozenset((EVERYBODY,))


def _named(code: int) -> frozenset[str] | None:
    found = BY_CODE.get(code)
    if found is None:
        return None
    return frozenset((found.platform if found.platform and not found.http else found.name,))
