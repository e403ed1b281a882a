"""How large a packet may be on the way to us, where large ones vanish."""

from pxeboot.probe import web
from pxeboot.probe.transfer import Address

HEADERS = 40
"""Of IPv4 and TCP."""
SIZES = (1400, 1360, 1240, 1000, 536)
"""Segments that are tried in turn: for VXLAN, most tunnels, the least MTU of IPv6, anything."""

SILENCE_S = 1.5
"""A server that was heard says the same again well within this time."""


def passes(server: Address, name: str, source: str | None, length: int) -> int | None:
    """Return the largest segment of `SIZES` with which `length` bytes of `name` arrive; None if with none."""
    wanted = {"Range": f"bytes=0-{length - 1}"}
    for size in SIZES:
        got = web.fetch(server, name, source, headers=wanted, most=length, mss=size, silence_s=SILENCE_S)
        if got.stuck is None and got.body:
            return size
    return None
