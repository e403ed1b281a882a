"""Which machines `pxeboot probe` plays just now: they are answered as ever, and no boot begins by that. Pure.

A card is played from when a probe was given its address. That ends when the machine itself asks for its address, or
after `MOST_S`, longer than any probe takes.
"""

from collections import OrderedDict

MOST_S = 300.0
MOST = 1000
"""Cards that are remembered; of more, the one that was played first counts as a machine again."""
FOLDER = "probe"
"""Where the menu of a probe says that the archive of its boot is, which is another one in every boot of a machine."""


class Played:
    """The cards that are played, by their MACs."""

    def __init__(self) -> None:
        """Start with none."""
        self._until_s: OrderedDict[str, float] = OrderedDict()

    def begin(self, mac: str, now_s: float) -> None:
        """Take in that a probe has the address of this card. `now_s` is of a clock that nobody can set."""
        self._until_s.pop(mac, None)
        self._until_s[mac] = now_s + MOST_S
        if len(self._until_s) > MOST:
            self._until_s.popitem(last=False)

    def end(self, mac: str) -> None:
        """Take in that the machine itself is there."""
        self._until_s.pop(mac, None)

    def plays(self, mac: str, now_s: float) -> bool:
        """Return whether a probe has the address of this card."""
        return now_s < self._until_s.get(mac, now_s)
