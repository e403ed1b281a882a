"""What machines that nobody listed may take: so many a second, and so many behind one port of a switch. Pure.

The counts are of this run: after a restart, a port has to show its clients again before it is full.
"""

from collections import OrderedDict

from config.dhcp import Limits
from dhcp.options import RelaySubOption
from dhcp.request import Request

MOST_CIRCUITS = 4096
"""Ports that are remembered; the one longest silent is forgotten first."""
COUNTED_S = 3600.0
"""How long a client counts after it was heard of: one that left must not keep its port full for days."""


class Counted:
    """How much of the limits is used."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._left = float(limits.discovers_per_second or 0)
        self._at = 0.0
        self._circuits: OrderedDict[tuple[bytes, bytes], dict[str, float]] = OrderedDict()

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return self.limits.discovers_per_second is not None or self.limits.clients_per_circuit is not None

    def shift(self, by_s: int) -> None:
        """Move every time by `by_s`: the wall clock was set."""
        self._at += by_s
        for clients in self._circuits.values():
            for client in clients:
                clients[client] += by_s

    def refuses(self, request: Request, now: float) -> str | None:
        """Return why an unlisted client's DHCPDISCOVER is not answered; None, and it counts, if it is."""
        full = self._circuit_is_full(request, now)
        if full is not None:
            return full
        most = self.limits.discovers_per_second
        if most is None:
            return None
        self._left = min(float(most), self._left + max(0.0, now - self._at) * most)
        self._at = now
        if self._left < 1:
            return f"more than {most} DHCPDISCOVERs of unlisted machines in a second"
        self._left -= 1
        return None

    def _circuit_is_full(self, request: Request, now: float) -> str | None:
        most, circuit = self.limits.clients_per_circuit, request.relay.get(RelaySubOption.CIRCUIT_ID)
        if most is None or circuit is None:
            return None
        key = (circuit, request.relay.get(RelaySubOption.REMOTE_ID, b""))
        clients = {client: at for client, at in self._circuits.pop(key, {}).items() if at > now - COUNTED_S}
        is_full = request.identity not in clients and len(clients) >= most
        if not is_full:
            clients[request.identity] = now
        self._circuits[key] = clients
        if len(self._circuits) > MOST_CIRCUITS:
            self._circuits.popitem(last=False)
        return f"port {circuit!r} has its {most} clients" if is_full else None
