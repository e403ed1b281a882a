"""Options in a dhcpd.conf: those it defines itself, and what it says of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from config.dhcpoptions import code_of
from pxeboot.imports.dhcpd_text import Statement
from pxeboot.imports.found import Draft
from pxeboot.imports.levels import Levels, Settings
from pxeboot.imports.options import untyped

_ROUTES = (121, 249)
_NAMES = {"pxe-system-type": 93, "pxe-interface-id": 94, "pxe-client-id": 97, "default-url": 114}
"""Names of dhcpd that are not in our catalogue."""


@dataclass(slots=True)
class Definitions:
    """The options that a file defines, and those that it sets."""

    draft: Draft
    levels: Levels
    codes: dict[str, int] = field(default_factory=dict)
    """Options by the name that the file gives them."""
    _words: dict[str, str] = field(default_factory=dict)
    """The types of those, where our own words can say them."""
    _spaces: dict[str, int] = field(default_factory=dict)
    """Spaces of sub-options, and the option that such a space is in."""

    def define(self, found: Sequence[Statement]) -> None:
        """Learn `option NAME code NUMBER = TYPE`, wherever it stands."""
        for one in found:
            if one.block is not None:
                self.define(one.block)
            match one.rest:
                case [name, "code", number, "=", *kind] if one.key == "option" and number.isdecimal():
                    self.codes[name] = int(number)
                    if (word := _word(" ".join(kind))) is not None:
                        self._words[name] = word
                    if kind[:1] == ["encapsulate"] and len(kind) > 1:
                        self._spaces[kind[1]] = int(number)
                case _:
                    pass

    def code(self, name: str) -> int | None:
        """Return the number of an option, None if there is no such."""
        return self.codes.get(name) or _NAMES.get(name) or code_of(name)

    def say(self, places: Sequence[Settings], one: Statement) -> None:
        """Take `option NAME VALUE, ...` for some places."""
        rest = one.rest
        if not rest or rest[0] == "space" or rest[1:2] == ["code"]:
            return
        name, values = rest[0], rest[1:]
        if values[:1] == ["="]:
            self.draft.lost(one.mark, one.text, "an expression cannot be carried over; write its value")
            return
        space, dot, _ = name.partition(".")
        code = self.code(name)
        if dot:
            self._inside(places, one, space, code, values)
            return
        if code is None:
            self.draft.lost(one.mark, one.text, f"there is no option {name!r}, and this file does not define it")
            return
        if code in _ROUTES and all(value.isdecimal() for value in values):
            routes = routes_of([int(value) for value in values])
            if routes is None:
                self.draft.lost(one.mark, one.text, "these bytes are no routes (RFC 3442)")
            else:
                values = routes
                self.levels.option(places, code, values, one.mark)
            return
        self.levels.option(places, code, values, one.mark, self._words.get(name))

    def _inside(
        self, places: Sequence[Settings], one: Statement, space: str, code: int | None, values: list[str]
    ) -> None:
        outer = self._spaces.get(space)
        if space.lower() in ("pxe", "pxelinux") and outer is None:
            known = self.codes.get(f"{space}.{one.rest[0].partition('.')[2]}")
            if space.lower() == "pxelinux" and known is not None:  # its space is not encapsulated: 208 to 211
                self.levels.option(places, known, values, one.mark)
            else:
                why = "what PXE clients are told in option 43 is decided here for each of them"
                self.draft.note(one.mark, one.text, why)
            return
        if outer is None or code is None:
            self.draft.lost(one.mark, one.text, f"this file does not say in which option {space!r} is, or its number")
            return
        value = {self._words[one.rest[0]]: ",".join(values)} if one.rest[0] in self._words else untyped(values)
        self.levels.inside(places, outer, {str(code): value if values else {"hex": "01"}}, one.mark)


def _word(kind: str) -> str | None:
    """A type of dhcpd in our words; None for those that a value shows by itself.

    >>> _word("unsigned integer 16"), _word("array of ip-address"), _word("string")
    ('uint16', 'ip', None)
    """
    kind = kind.removeprefix("array of ")
    found = {"text": "text", "ip-address": "ip", "boolean": "bool", "signed integer 32": "int32"}.get(kind)
    sizes = {f"unsigned integer {size}": f"uint{size}" for size in (8, 16, 32)}
    return found or sizes.get(kind)


def routes_of(octets: Sequence[int]) -> list[str] | None:
    """Return the routes that bytes say (RFC 3442), as networks and routers in turn; None if they are none.

    >>> routes_of([24, 10, 17, 0, 10, 28, 0, 3])
    ['10.17.0.0/24', '10.28.0.3']
    """
    rest, found = [*octets], []
    while rest:
        length = rest.pop(0)
        size = -(-length // 8)
        if length > 32 or len(rest) < size + 4 or any(not 0 <= octet < 256 for octet in rest[: size + 4]):
            return None
        packed = bytes(rest[:size] + [0] * (4 - size))
        found += [f"{IPv4Address(packed)}/{length}", str(IPv4Address(bytes(rest[size : size + 4])))]
        del rest[: size + 4]
    return found
