"""GET /v1/dhcp: how the DHCP server is: what it serves, how full its pools are, what it did not answer and why."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address

from aiohttp import web

from dhcp.engine import Server
from dhcp.fast import FastPath
from dhcp.leases import Lease
from dhcp.plan import DynamicPool, Plan
from dhcp.store import LeaseStore
from pxeboot.api.control import Route, answer
from pxeboot.serving import Serving


def routes(
    server: Server,
    store: LeaseStore,
    fast: FastPath,
    serving: Serving,
    shared: Callable[[], Mapping[str, object] | None] = lambda: None,
) -> Sequence[Route]:
    """Return the routes that answer from the DHCP server and what it is served by.

    `shared` tells how it is with the leases that several servers share; None: they are this one's own.
    """

    async def dhcp(_: web.Request) -> web.Response:
        now, records = store.clock(), tuple(server.leases)
        return await answer(
            {
                "serves": serving.served,
                "waits": dict(serving.waits),
                "cannot_store": store.degraded,
                "shared": shared(),
                "pools": await asyncio.to_thread(pools_json, server.plan, records, now),
                "answered_the_short_way": fast.hits,
                "not_answered": {reason.name: count for reason, count in server.counts.items()},
                "transport": serving.counts(),
            }
        )

    return [Route("GET", "/v1/dhcp", dhcp)]


def pools_json(plan: Plan, records: Sequence[Lease], now: float) -> list[Mapping[str, object]]:
    """Return how full each pool is: `used` addresses are leased or in quarantine, of `size` that can be given."""
    used = sorted(int(lease.address) for lease in records if lease.holds(now))
    return [
        {
            "subnet": str(network.network),
            "first": str(IPv4Address(pool.first)),
            "last": str(IPv4Address(pool.last)),
            "size": len(pool) - len(pool.excluded),
            "used": _used(pool, used),
        }
        for network in plan.networks
        for pool in network.pools
    ]


def _used(pool: DynamicPool, used: Sequence[int]) -> int:
    """Return how many of `used` are in the pool. They are in their order: 100,000 leases may lie in 50 pools."""
    return sum(
        used[i] not in pool.excluded for i in range(bisect_left(used, pool.first), bisect_right(used, pool.last))
    )
