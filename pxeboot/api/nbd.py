"""GET /v1/nbd: who reads what by NBD, what each machine booted, the disks that machines write to, and counters."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from nbd.exports import Export
from pxeboot.api.control import Route, answer
from pxeboot.exports.pins import Pin
from pxeboot.exports.readers import Reader
from pxeboot.exports.roots import Roots

Traffic = Callable[[], Mapping[int, Mapping[str, object]]]
"""What came and went by each connection, by the `id` of its export."""


def routes(roots: Roots, traffic: Traffic = dict, counters: Callable[[], Mapping[str, int]] = dict) -> Sequence[Route]:
    """Return the route that answers from `roots`, and from what the connections count."""

    async def asked(_: web.Request) -> web.Response:
        seen = traffic()
        connections = [
            reader_json(reader, export) | dict(seen.get(id(export), {}))
            for reader, export in roots.catalogue.readers.every()
        ]
        disks = await asyncio.to_thread(roots.disks.machines)
        return await answer(
            {
                "connections": connections,
                "pins": [pin_json(pin) for pin in roots.pins.every()],
                "disks": [
                    {
                        "machine": disk.machine,
                        "id": disk.image_id,
                        "where": disk.where,
                        "keep": disk.keep,
                        "changed_bytes": disk.changed_bytes,
                        "limit_bytes": disk.limit_bytes,
                        "connections": disk.connections,
                    }
                    for disk in disks
                ],
                "counters": {
                    "refused": roots.catalogue.refused,
                    "damaged_pins": roots.pins.damaged,
                    **counters(),
                },
            }
        )

    return [Route("GET", "/v1/nbd", asked)]


def reader_json(reader: Reader, export: Export | None) -> dict[str, object]:
    """Return an open export as JSON values; times are seconds since 1970."""
    return {
        "machine": reader.machine,
        "address": str(reader.peer),
        "export": reader.name,
        "id": reader.image_id,
        "writable": reader.writable,
        "since_s": reader.since_s,
        "size_bytes": None if export is None else export.size_bytes,
        "description": "" if export is None else export.description,
    }


def pin_json(pin: Pin) -> dict[str, object]:
    """Return what a machine booted as JSON values."""
    return {
        "machine": pin.machine,
        "image": pin.image,
        "id": pin.image_id,
        "address": str(pin.address),
        "since_s": pin.since_s,
        "writable": None if pin.writable is None else pin.writable.model_dump(),
    }
