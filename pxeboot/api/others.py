"""GET /v1/others: the DHCP and PXE servers of others that were noticed, those in conflict with us first."""

from collections.abc import Sequence

from aiohttp import web

from dhcp.others import Given, Other, Others
from pxeboot.api.control import Route, answer


def routes(others: Others) -> Sequence[Route]:
    """Return the routes that answer from `others`."""

    async def all_of_them(_: web.Request) -> web.Response:
        return await answer({"others": [other_json(other) for other in others], "unlisted": others.unlisted})

    return [Route("GET", "/v1/others", all_of_them)]


def other_json(other: Other) -> dict[str, object]:
    """Return one server as JSON values; times are seconds since 1970. `boot_file` is as it came from the network."""
    return {
        "server_id": str(other.server_id),
        "mac": other.mac or None,
        "interface": other.interface,
        "relay": str(other.relay) if other.relay else None,
        "standing": other.standing.value,
        "what": other.words(),
        "first_seen_s": other.first_seen,
        "last_seen_s": other.last_seen,
        "count": other.count,
        "proxy": other.proxy,
        "port_4011": other.boot_server,
        "machines": [*other.machines],
        "address": _given_json(other.address),
        "boot": _given_json(other.boot),
        "refused": _given_json(other.refused),
        "taken": _given_json(other.taken),
    }


def _given_json(given: Given | None) -> dict[str, object] | None:
    if given is None:
        return None
    return {
        "time_s": given.time,
        "message_type": given.message_type.name if given.message_type else None,
        "mac": given.mac,
        "machine": given.machine,
        "address": str(given.address) if given.address else None,
        "lease_s": given.lease_s,
        "subnet_mask": str(given.subnet_mask) if given.subnet_mask else None,
        "router": str(given.router) if given.router else None,
        "boot_file": given.boot_file or None,
        "next_server": str(given.next_server) if given.next_server else None,
        "boots": given.boots or None,
    }
