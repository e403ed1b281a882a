"""Which machines `pxeboot probe` plays just now: they are answered as ever, and no boot begins by that. Pure.

A card is played from when a probe was given its address. That ends when the machine itself is heard, soon after the
probe gave the address back, or after `MOST_S`, longer than any probe takes. Anybody can send what begins it, so it
does not while the machine is between its address and what it boots: nobody would say then who asked for the menu.
"""

from collections import OrderedDict
from math import inf

MOST_S = 300.0
JUST_S = 60.0
"""So long after a machine was given its address it is not played: it fetches its menu and its archive then."""
AFTER_S = 5.0
"""So long a card is played once its address was given back: what the probe broke off may be told late."""
MOST = 1000
"""Cards that are remembered; of more, the one that was played first counts as a machine again."""
MOST_JUST = 4000
"""Machines whose last address is remembered; of more, the one that got its first can be played at once."""
FOLDER = "probe"
"""Where the menu of a probe says that the archive of its boot is, which is another one in every boot of a machine."""


class Played:
    """The cards that are played, by their MACs. All times are of a clock that nobody can set."""

    def __init__(self) -> None:
        """Start with none."""
        self._until_s: OrderedDict[str, float] = OrderedDict()
        self._boots_s: OrderedDict[str, float] = OrderedDict()
        """When a machine that boots was given its address."""

    def begin(self, mac: str, now_s: float) -> bool:
        """Take in that a probe has the address of this card; False if its machine got it just now, and counts."""
        if now_s - self._boots_s.get(mac, -inf) < JUST_S:
            return False
        _put(self._until_s, mac, now_s + MOST_S, MOST)
        return True

    def leave(self, mac: str, now_s: float) -> None:
        """Take in that the probe gave the address back."""
        if mac in self._until_s:
            self._until_s[mac] = min(self._until_s[mac], now_s + AFTER_S)

    def boots(self, mac: str, now_s: float) -> None:
        """Take in that the machine itself was given its address, and boots."""
        self.end(mac)
        _put(self._boots_s, mac, now_s, MOST_JUST)

    def end(self, mac: str) -> None:
        """Take in that the machine itself is there."""
        self._until_s.pop(mac, None)

    def plays(self, mac: str, now_s: float) -> bool:
        """Return whether a probe has the address of this card."""
        return now_s < self._until_s.get(mac, now_s)


def _put(into: OrderedDict[str, float], mac: str, at_s: float, most: int) -> None:
    """Remember a time, and forget the one that was put there first where they are more than `most`."""
    into.pop(mac, None)
    into[mac] = at_s
    if len(into) > most:
        into.popitem(last=False)
