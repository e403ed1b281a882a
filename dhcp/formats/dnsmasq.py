"""dnsmasq's lease file. Pure.

    1790000000 52:54:00:12:34:56 10.77.0.99 n1 01:52:54:00:12:34:56

Expiry (0 for never), MAC (with a hardware type before it if that is not Ethernet: `20-`), address, name and client
identifier, `*` where there is none. DHCPv6 leases follow a line `duid ...`.
"""

from collections.abc import Iterable
from ipaddress import IPv6Address

from dhcp.formats.found import Found, Mistake, NotThisFormat, address, hardware, identity, number, octets
from dhcp.leases import NEVER, Lease, State


def read(data: bytes, *, by_client_id: bool = False) -> Found:
    """Return what is in a lease file. Raises `NotThisFormat`."""
    found = Found()
    lines = data.decode("latin-1").split("\n")
    for row, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if words[0] == "duid" or (len(words) >= 4 and _is_ipv6(words[2])):
            found.left_out["DHCPv6"] += words[0] != "duid"
            continue
        try:
            found.take(_lease(words, by_client_id))
        except Mistake as mistake:
            found.mistakes.append((row, str(mistake)))
    if found.mistakes and not found.leases and not found.left_out:
        raise NotThisFormat("no line is `EXPIRY MAC ADDRESS NAME CLIENT-ID`, as dnsmasq writes it")
    return found


def _lease(words: list[str], by_client_id: bool) -> Lease:
    if len(words) not in (4, 5):
        raise Mistake(f"{len(words)} words, expected EXPIRY MAC ADDRESS NAME CLIENT-ID")
    expires = number(words[0], "expiry")
    mac = hardware(words[1].rpartition("-")[2])
    client_id = octets(words[4]) if len(words) == 5 and words[4] != "*" else b""
    client, mac = identity(mac, client_id, by_client_id=by_client_id)
    return Lease(address(words[2]), client, expires or NEVER, State.BOUND, mac)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text.strip("[]"))
    except ValueError:
        return False
    return True


def write(leases: Iterable[Lease], now: float) -> str:
    """Return the leases that are valid `now` as dnsmasq keeps them, but for those that are `left_out`."""
    lines = []
    for lease in leases:
        if _trouble(lease, now) is None:
            client_id = bytes.fromhex(lease.client[3:]).hex(":") if lease.client.startswith("id:") else "*"
            expires = 0 if lease.expires >= NEVER else lease.expires
            lines.append(f"{expires} {lease.mac} {lease.address} * {client_id or '*'}\n")
    return "".join(lines)


def left_out(leases: Iterable[Lease], now: float) -> list[tuple[Lease, str]]:
    """Return the records that `write` leaves out, and why: such a file has no place for them."""
    return [(lease, why) for lease in leases if (why := _trouble(lease, now)) is not None]


def _trouble(lease: Lease, now: float) -> str | None:
    if not lease.holds(now):
        return "is over"
    if lease.state is State.DECLINED:
        return "is in quarantine"
    return "has no hardware address" if lease.mac.startswith("id:") else None
