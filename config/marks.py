"""Where in a farm's file a setting stands: a place in the model → FILE:LINE. Pure; whoever has the text hands it in.

The model itself knows no lines. What explains an answer to a person reads the file's tree once more and asks here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from config import dhcpoptions
from config.yamltree import Mapping, Place, Scalar, Sequence, find, mark_of, read

_SETTINGS: dict[int, str] = {
    3: "routers",
    6: "domain_name_servers",
    7: "log_servers",
    15: "domain_name",
    26: "mtu",
    28: "broadcast_address",
    42: "ntp_servers",
    119: "domain_search",
    121: "static_routes",
}
"""Options that have a setting of their own in `config.dhcp.DhcpOptions`."""


@dataclass(frozen=True, slots=True)
class Where:
    """A setting in a file."""

    file: str
    line: int
    setting: str
    """Its keys with dots, and indices from 0 in brackets, such as dhcp.subnets[0].routers."""

    def __str__(self) -> str:
        return f"{PurePath(self.file).name}:{self.line}"


class Marks:
    """The lines of one file. A farm that was made without a file has none."""

    def __init__(self, file: str = "", text: str = "") -> None:
        """Read `text`, which `config.load` has found right. Raises `yamltree.NotReadable`."""
        self._file = file
        self._root = read(text, lambda *_: None) if text else None

    def of(self, place: Place) -> Where | None:
        """Return where the setting at `place` is written; None if it is not there, but decided by its default."""
        if self._root is None or find(self._root, place) is None:
            return None
        return Where(self._file, mark_of(self._root, place, key=True)[0], dotted(place))

    def nearest(self, place: Place) -> Where | None:
        """Return where the setting at `place` is, or else what would hold it."""
        while place:
            if (found := self.of(place)) is not None:
                return found
            place = place[:-1]
        return None

    def option(self, place: Place, code: int) -> Where | None:
        """Return where the options at `place` set option `code`, by its own setting or by name or number."""
        for key in self._keys((*place, "options")):
            if dhcpoptions.code_of(key) == code:
                return self.of((*place, "options", key))
        return self.of((*place, _SETTINGS[code])) if code in _SETTINGS else None

    def listed(self, place: Place, setting: str, code: int) -> Where | None:
        """Return where the list `setting` (always_send or never_send) at `place` names option `code`."""
        found = None if self._root is None else find(self._root, (*place, setting))
        for i, item in enumerate(found.items if isinstance(found, Sequence) else ()):
            if isinstance(item, Scalar) and dhcpoptions.code_of(item.value or "") == code:
                return self.of((*place, setting, i))
        return None

    def _keys(self, place: Place) -> Iterator[str]:
        found = None if self._root is None else find(self._root, place)
        if isinstance(found, Mapping):
            yield from found.items


def dotted(place: Place) -> str:
    """Return a place as a person writes it.

    >>> dotted(("dhcp", "subnets", 0, "routers"))
    'dhcp.subnets[0].routers'
    """
    out = ""
    for part in place:
        out += f"[{part}]" if isinstance(part, int) else f".{part}"
    return out.removeprefix(".")
