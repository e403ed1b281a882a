"""Kea's option-def and option-data. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from config.dhcpoptions import code_of
from config.yamltree import Node
from pxeboot.imports.found import Draft, tree
from pxeboot.imports.kea_text import items, text
from pxeboot.imports.levels import Levels, Settings
from pxeboot.imports.options import untyped

_OURS = ("dhcp4", "")
_TYPES = {
    "string": "text", "ipv4-address": "ip", "boolean": "bool", "uint8": "uint8", "uint16": "uint16",
    "uint32": "uint32", "int32": "int32", "binary": "hex", "empty": "hex",
}  # fmt: skip
"""Types of Kea in our words."""
_ROUTE = re.compile(r"\s*-\s*")
_ROUTES = (121, 249)


@dataclass(slots=True)
class Options:
    """Reads options into the places of a farm."""

    draft: Draft
    levels: Levels
    _codes: dict[tuple[str, str], int] = field(default_factory=dict)
    _words: dict[tuple[str, int], str] = field(default_factory=dict)
    _spaces: dict[str, int] = field(default_factory=dict)

    def define(self, definitions: Sequence[Node]) -> None:
        """Learn what `option-def` says."""
        for node in definitions:
            number, space = text(node, "code"), text(node, "space") or "dhcp4"
            if not number.isdecimal():
                continue
            self._codes[space, text(node, "name")] = int(number)
            if (word := _TYPES.get(text(node, "type"))) is not None:
                self._words[space, int(number)] = word
            if inner := text(node, "encapsulate"):
                self._spaces[inner] = int(number)

    def say(self, places: Sequence[Settings], listed: Sequence[Node]) -> None:
        """Take a list `option-data` for some places."""
        for node in listed:
            self._one(places, node)

    def _one(self, places: Sequence[Settings], node: Node) -> None:
        name, number, space = text(node, "name"), text(node, "code"), text(node, "space") or "dhcp4"
        what = f"the option {name or number!r}"
        if classes := items(node, "client-classes"):
            self.draft.lost(classes[0].mark, what, "it is for some classes only; put it into the class")
            return
        code = int(number) if number.isdecimal() else self._codes.get((space, name)) or code_of(name)
        if code is None:
            self.draft.lost(node.mark, what, "there is no such option, and no option-def names it")
            return
        raw = text(node, "csv-format") == "false"
        data = text(node, "data").strip()
        values = [value.replace("\\,", ",").strip() for value in re.split(r"(?<!\\),", data)] if data else []
        word = self._words.get((space, code))
        if space not in _OURS:
            self._inside(places, node, space, code, values, "hex" if raw else word)
            return
        if code in _ROUTES and not raw:
            values = [part for value in values for part in _ROUTE.split(value, maxsplit=1)]
        key: str | None
        if raw and values:
            key = self._raw(places, code, data, node)
        else:
            key = self.levels.option(places, code, values, node.mark, word)
        if key is None or key == "lease_s":
            return
        for flag, setting in (("always-send", "always_send"), ("never-send", "never_send")):
            if text(node, flag) == "true":
                for settings in places:
                    sent = [one.value for one in settings[setting].items] if setting in settings else []
                    settings[setting] = tree([*sent, *([] if key in sent else [key])], node.mark)

    def _raw(self, places: Sequence[Settings], code: int, data: str, node: Node) -> str | None:
        """An option whose bytes are written in hex."""
        digits = data.removeprefix("0x").replace(":", "").replace(" ", "")
        if self.levels.option([{}], code, [digits], node.mark, "hex") is None:
            return None
        for settings in places:
            settings.setdefault("options", {})[str(code)] = tree({"hex": digits}, node.mark)
        return str(code)

    def _inside(
        self, places: Sequence[Settings], node: Node, space: str, code: int, values: list[str], word: str | None
    ) -> None:
        outer = self._spaces.get(space)
        if space.startswith("vendor-encapsulated-options") or outer == 43:
            why = "what PXE clients are told in option 43 is decided here for each of them"
            self.draft.note(node.mark, f"the option {code} of {space}", why)
        elif outer is None:
            self.draft.lost(node.mark, f"the option {code} of {space}", "no option-def says in which option that is")
        else:
            value = {word: ",".join(values)} if word else untyped(values)
            self.levels.inside(places, outer, {str(code): value if values else {"hex": "01"}}, node.mark)
