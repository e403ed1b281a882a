"""Kea's memfile of DHCPv4 leases (kea-leases4.csv). Pure.

The first line names the columns; their number grew with Kea's versions, so they are found by name. A comma inside a
value is written `&#x2c`. A later row of an address replaces an earlier one, and a row with a lifetime of 0 removes it.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network

from dhcp.formats.found import Found, Mistake, NotThisFormat, address, hardware, identity, number, octets, quarantined
from dhcp.leases import NEVER, Lease, State

COLUMNS = (
    "address", "hwaddr", "client_id", "valid_lifetime", "expire", "subnet_id", "fqdn_fwd", "fqdn_rev", "hostname",
    "state", "user_context",
)  # fmt: skip
"""Of Kea 2.2; earlier and later versions read a file with these."""
NEEDED = ("address", "hwaddr", "client_id", "valid_lifetime", "expire")
FOR_EVER = 0xFFFF_FFFF
"""The lifetime of an infinite lease."""
_DEFAULT, _DECLINED, _RECLAIMED, _RELEASED = "0", "1", "2", "3"
_LEASE_S = 3600
"""The lifetime that is written for a lease that is over: Kea needs one, and we do not keep it."""


def read(data: bytes, *, by_client_id: bool = False) -> Found:
    """Return what is in a lease file. Raises `NotThisFormat`."""
    found = Found()
    lines = data.decode("latin-1").replace("\r\n", "\n").split("\n")
    names = lines[0].split(",")
    if not set(NEEDED) <= set(names):
        raise NotThisFormat(f"its first line does not name the columns {', '.join(NEEDED)}, as Kea's does")
    if "duid" in names:
        raise NotThisFormat("it has Kea's DHCPv6 leases")
    for row, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        values = line.split(",")
        try:
            if len(values) not in (len(names), len(names) - 1):  # an older Kea leaves out what it does not know
                raise Mistake(f"{len(values)} values, expected {len(names)}")
            _take(found, dict(zip(names, values, strict=False)), by_client_id)
        except Mistake as mistake:
            found.mistakes.append((row, str(mistake)))
    return found


def _take(found: Found, row: dict[str, str], by_client_id: bool) -> None:
    where = address(row["address"])
    lifetime_s = number(row["valid_lifetime"], "valid_lifetime", FOR_EVER)
    expires = number(row["expire"], "expire")
    state = row.get("state", _DEFAULT)
    if lifetime_s == 0:
        found.leases.pop(where, None)
        return
    if state == _DECLINED:
        found.take(quarantined(where, expires))
        return
    if state not in (_DEFAULT, _RECLAIMED, _RELEASED):
        raise Mistake(f"state {state[:60]!r} is none of 0 to 3")
    mac = hardware(row["hwaddr"]) if row["hwaddr"] else ""
    client, mac = identity(mac, octets(row["client_id"]) if row["client_id"] else b"", by_client_id=by_client_id)
    if state == _DEFAULT:
        found.take(Lease(where, client, NEVER if lifetime_s == FOR_EVER else expires, State.BOUND, mac))
    else:
        found.take(Lease(where, client, expires, State.RELEASED, mac))


def write(leases: Iterable[Lease], now: float, subnets: Sequence[IPv4Network] = ()) -> str:
    """Return the records as Kea keeps them. `subnets` are Kea's, in the order of their ids from 1 on.

    Without any, all are of subnet 1; with some, those of `nowhere` are left out: Kea would not find their subnet.
    """
    lines = [",".join(COLUMNS) + "\n"]
    for lease in leases:
        subnet_id = _subnet_id(lease, subnets)
        if subnet_id is None:
            continue
        client_id = bytes.fromhex(lease.client[3:]).hex(":") if lease.client.startswith("id:") else ""
        mac = "" if lease.mac.startswith("id:") else lease.mac
        state = {State.BOUND: _DEFAULT, State.DECLINED: _DECLINED, State.RELEASED: _RECLAIMED}[lease.state]
        if lease.state is State.DECLINED:
            mac = client_id = ""  # as Kea does: the address is nobody's
        lifetime_s = int(lease.expires - now) if now < lease.expires else _LEASE_S
        if lease.expires >= NEVER:
            lifetime_s = FOR_EVER
        expires = int(now) + FOR_EVER if lease.expires >= NEVER else max(lease.expires, _LEASE_S)
        lines.append(f"{lease.address},{mac},{client_id},{max(1, lifetime_s)},{expires},{subnet_id},0,0,,{state},\n")
    return "".join(lines)


def nowhere(leases: Iterable[Lease], subnets: Sequence[IPv4Network]) -> list[Lease]:
    """Return the records that `write` leaves out: their addresses are in none of `subnets`."""
    return [lease for lease in leases if _subnet_id(lease, subnets) is None]


def _subnet_id(lease: Lease, subnets: Sequence[IPv4Network]) -> int | None:
    if not subnets:
        return 1
    return next((n for n, subnet in enumerate(subnets, 1) if lease.address in subnet), None)
