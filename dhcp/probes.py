"""Asks by ARP whether an address is in use, before it is offered (RFC 2131 section 3.1 (2), RFC 5227)."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from dhcp import arp
from dhcp.sockets import Sockets, attach_filter

log = logging.getLogger("dhcp")

MOST = 256
"""Probes at once. Beyond it addresses are offered unprobed, so that a farm that is switched on at once gets them."""
REPEAT_S = 0.08
"""When to ask again: the first packet on a wire is the one that is lost."""
DECIDE_S = 0.2
"""How long an answer may take. It is on the same wire; the client's patience is four seconds for all of us."""
_DRAIN = 64
_LARGEST = 256


@dataclass(slots=True)
class _Probe:
    client: bytes
    free: Callable[[], None]
    taken: Callable[[str], None]
    timer: asyncio.TimerHandle | None = None


class Prober:
    """The probes that are out on one interface. It costs nothing while there are none."""

    def __init__(self, sockets: Sockets) -> None:
        self.unprobed = 0
        """How many addresses were offered without asking, because too many probes were out or none could be sent."""
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._out: dict[IPv4Address, _Probe] = {}

    def ask(self, address: IPv4Address, client: bytes, free: Callable[[], None], taken: Callable[[str], None]) -> None:
        """Call `taken` with the MAC of who uses `address`, or `free` when nobody says so in `DECIDE_S`.

        `client` is the link address of the machine that is to have it, which may still use it itself. Asked again
        about the same address meanwhile, only the newest question is answered: the client repeated itself.
        """
        if (probe := self._out.get(address)) is not None:
            probe.client, probe.free, probe.taken = client, free, taken
            return
        if len(self._out) >= MOST or not self._listen() or not self._send(address):
            self.unprobed += 1
            free()
            return
        probe = self._out[address] = _Probe(client, free, taken)
        probe.timer = self._loop.call_later(REPEAT_S, self._repeat, address)

    def postpones(self, address: IPv4Address, then: Callable[[], None]) -> bool:
        """Return whether `address` is asked about now; `then` is called in place of what was to be when it is free.

        A client that repeats itself meanwhile, or whose message came twice, is otherwise offered it unprobed.
        """
        probe = self._out.get(address)
        if probe is None:
            return False
        probe.free = then
        return True

    def close(self) -> None:
        """Forget all of them; nobody is called any more."""
        for probe in self._out.values():
            if probe.timer is not None:
                probe.timer.cancel()
        self._out.clear()
        self._loop.remove_reader(self._sockets.arp)

    def _listen(self) -> bool:
        """Let answers in; False if that is impossible."""
        if self._out:
            return True
        self._drain()  # answers that came too late for the last probe
        try:
            attach_filter(self._sockets.arp, arp.FILTER)
        except OSError:
            return False
        self._loop.add_reader(self._sockets.arp, self._drain)
        return True

    def _repeat(self, address: IPv4Address) -> None:
        self._send(address)
        self._out[address].timer = self._loop.call_later(DECIDE_S - REPEAT_S, self._decide, address, None)

    def _decide(self, address: IPv4Address, mac: str | None) -> None:
        probe = self._out.pop(address)
        if probe.timer is not None:
            probe.timer.cancel()
        if not self._out:
            self._loop.remove_reader(self._sockets.arp)
            with suppress(OSError):
                attach_filter(self._sockets.arp, arp.NOTHING)
        try:
            probe.free() if mac is None else probe.taken(mac)
        except Exception:
            log.exception("dhcp failed after a probe for %s", address)

    def _send(self, address: IPv4Address) -> bool:
        try:
            interface, _, _, hardware_type, mac = self._sockets.arp.getsockname()
            if hardware_type != arp.ETHERNET:
                return False
            self._sockets.arp.sendto(arp.probe(mac, address), (interface, arp.ETHERTYPE, 0, 0, arp.EVERYBODY))
        except OSError:  # the interface went away, or its queue is full
            return False
        return True

    def _drain(self) -> None:
        for _ in range(_DRAIN):
            try:
                data = self._sockets.arp.recv(_LARGEST)
            except OSError:  # there is no more, or the interface went down
                return
            try:
                heard = arp.decode(data)
            except arp.MalformedPacket:
                continue
            probe = self._out.get(heard.sender)
            if probe is not None and heard.sender_mac != probe.client:
                self._decide(heard.sender, heard.sender_mac.hex(":"))
