"""The options of DHCP that an import finds, by the place of the farm that they hold for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from config.dhcpoptions import OWN_OPTIONS, encode, name_of
from config.yamltree import Mark, Scalar
from pxeboot.imports.found import Draft, tree
from pxeboot.imports.options import LEASE_TIME, said
from pxeboot.imports.words import lease_s

Settings = dict[str, Any]
"""What one place says, by the keys of `config.dhcp.DhcpOptions`."""

_VENDOR_CLASS = 60
_OUR_CLASSES = ("PXEClient", "HTTPClient", "AAPLBSDPC")


@dataclass(slots=True)
class Levels:
    """Places that say options: for everybody, by tag, by architecture, by network, by shared network."""

    draft: Draft
    everywhere: Settings = field(default_factory=dict)
    tags: dict[str, Settings] = field(default_factory=dict)
    architectures: dict[str, Settings] = field(default_factory=dict)
    networks: dict[IPv4Network, Settings] = field(default_factory=dict)
    shared: dict[str, Settings] = field(default_factory=dict)

    def option(
        self, places: Sequence[Settings], code: int, values: Sequence[str], mark: Mark, word: str | None = None
    ) -> str | None:
        """Put option `code` into each of the places, and return its key; say why not, and return None."""
        if code == LEASE_TIME and len(values) == 1 and (seconds := lease_s(values[0])) is not None:
            for settings in places:
                settings["lease_s"] = Scalar(mark, seconds)
            return "lease_s"
        if code in OWN_OPTIONS or (code == _VENDOR_CLASS and values and values[0] in _OUR_CLASSES):
            self.draft.note(mark, f"option {code} ({name_of(code)})", "it is decided here for each answer")
            return None
        try:
            key, value = said(code, values, word)
        except ValueError as error:
            text = str(error)
            self.draft.lost(
                mark, f"option {code} ({name_of(code)})", text.partition(f"({name_of(code)}): ")[2] or text
            )
            return None
        for settings in places:
            put(settings, key, value, mark)
        return str(next(iter(value))) if key == "options" else key

    def inside(self, places: Sequence[Settings], outer: int, inner: dict[str, Any], mark: Mark) -> str | None:
        """Put sub-options into option `outer` in each of the places, and return its name; say why not, and None."""
        name = name_of(outer)
        try:
            encode(name, inner)
        except ValueError as error:
            self.draft.lost(mark, f"option {outer} ({name})", str(error).partition(f"({name}): ")[2] or str(error))
            return None
        for settings in places:
            options = settings.setdefault("options", {})
            held = options.get(name)
            if isinstance(held, dict):
                held.update(inner)
            else:
                options[name] = dict(inner)
        return name

    def file(self, places: Sequence[Settings], key: str, value: str, mark: Mark) -> None:
        """Put `boot_file`, `server_name` or `next_server` into each of the places."""
        for settings in places:
            settings[key] = Scalar(mark, value)

    def dhcp(self, more: Settings, subnets: list[Any]) -> Settings:
        """Return the farm's `dhcp`."""
        made: Settings = dict(more)
        if subnets:
            made["subnets"] = subnets
        made |= self.everywhere
        if self.shared:
            made["shared_networks"] = self.shared
        if self.architectures:
            made["architectures"] = {name: self.architectures[name] for name in self.architectures}
        return made


def put(settings: Settings, key: str, value: object, mark: Mark) -> None:
    """Put one setting among others; `options` are added to those that are there, and the newest counts."""
    if key == "options" and isinstance(value, dict):
        settings.setdefault("options", {}).update({name: tree(one, mark) for name, one in value.items()})
    else:
        settings[key] = tree(value, mark)
