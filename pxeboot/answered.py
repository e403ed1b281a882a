"""The DHCP answers that machines were given last, for people to look at: what was asked, and what was sent."""

from collections.abc import Sequence
from dataclasses import dataclass

from dhcp.actions import Action, Datagram, Happened, Probe
from dhcp.replies import Destination, Send
from dhcp.request import Arrival

MOST = 2048
"""Machines whose newest answer is kept, 1 to 5 kB each; the oldest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a machine that boots."""

    asked: bytes
    """The request, as it came."""
    arrival: Arrival
    reply: Datagram | Send
    at_s: float
    """When it was decided, on the clock of the leases. It left then, but for one that waits for a disk or a probe."""

    @property
    def data(self) -> bytes:
        """The answer, as it was sent."""
        return self.reply.data if isinstance(self.reply, Datagram) else self.reply.pack().data

    @property
    def destination(self) -> Destination:
        """Where it was sent to."""
        return self.reply.destination


class Answered:
    """Keeps the newest answer of each machine that boots, by its MAC. Only what is part of a boot is kept."""

    def __init__(self) -> None:
        """Start with none."""
        self._kept: dict[str, tuple[bytes, Arrival, Datagram | Send, float]] = {}

    def note(self, asked: bytes, arrival: Arrival, actions: Sequence[Action | Datagram], now: float) -> None:
        """Take in what is done about a request. Cheap, as it is called for each one: under a microsecond."""
        for action in actions:
            if isinstance(action, Happened) and action.boots and not action.played:
                self._keep(action.mac, asked, arrival, actions, now)
                return
            if isinstance(action, Probe):
                self.note(asked, arrival, action.then, now)

    def _keep(
        self, mac: str, asked: bytes, arrival: Arrival, actions: Sequence[Action | Datagram], now: float
    ) -> None:
        kept = self._kept
        for reply in actions:
            if isinstance(reply, (Datagram, Send)):
                kept.pop(mac, None)
                kept[mac] = asked, arrival, reply, now
                break
        if len(kept) > MOST:
            del kept[next(iter(kept))]

    def of(self, mac: str) -> Answer | None:
        """Return the newest answer to the machine with this MAC, if it was given one while it booted."""
        kept = self._kept.get(mac)
        return None if kept is None else Answer(*kept)

    def __len__(self) -> int:
        return len(self._kept)
