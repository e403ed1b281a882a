"""GET /v1/leases: the dynamic leases that the DHCP server keeps. Configured machines need none, and are not here."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from itertools import islice

from aiohttp import web

from dhcp.engine import Server
from dhcp.leases import NEVER, Lease, State
from dhcp.plan import Host
from dhcp.store import LeaseStore
from pxeboot.api.control import Route

_BREATH = 200
"""Leases written as JSON before others may have the interpreter: a millisecond. A farm's are some megabytes."""


def routes(server: Server, store: LeaseStore) -> Sequence[Route]:
    """Return the routes that answer from the leases of `server`, kept in `store`."""

    async def leases(_: web.Request) -> web.Response:
        now = store.clock()
        records, hosts = tuple(server.leases), server.plan.by_mac
        head = {"now_s": now, "degraded": store.degraded}
        body = await asyncio.to_thread(_body, head, records, now, hosts)
        return web.Response(body=body, content_type="application/json")

    return [Route("GET", "/v1/leases", leases)]


def _body(head: Mapping[str, object], records: tuple[Lease, ...], now: float, hosts: Mapping[str, Host]) -> bytes:
    parts = []
    rest = iter(records)
    while some := [*islice(rest, _BREATH)]:
        listed = [lease_json(lease, now, host.name if (host := hosts.get(lease.mac)) else None) for lease in some]
        parts.append(json.dumps(listed)[1:-1])
        time.sleep(0.0001)
    return f'{json.dumps(head)[:-1]}, "leases": [{", ".join(parts)}]}}\n'.encode()


def lease_json(lease: Lease, now: float, machine: str | None) -> dict[str, object]:
    """Return one record as JSON values. `expires_s` is None for never; `machine` is a configured name or None."""
    return {
        "address": str(lease.address),
        "mac": lease.mac,
        "client": lease.client,
        "state": lease.state.value,
        "valid": lease.holds(now),
        "expires_s": None if lease.expires >= NEVER else lease.expires,
        "machine": machine,
    }


def lease_of(value: Mapping[str, object]) -> Lease:
    """Return the record that `lease_json` made."""
    expires = value["expires_s"]
    assert isinstance(expires, int | None)
    return Lease(
        IPv4Address(str(value["address"])),
        str(value["client"]),
        NEVER if expires is None else expires,
        State(str(value["state"])),
        str(value["mac"]),
    )
