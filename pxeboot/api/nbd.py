"""GET /v1/nbd: who reads what by NBD, what each machine booted, the disks that machines write to, and counters.

`disks_trouble` says why the disks are not known, if they are not.
"""

from collections.abc import Sequence

from aiohttp import web

from nbd.exports import Export
from nbd.transport import Activity, Service
from pxeboot.api.control import Route, answer
from pxeboot.exports.pins import Pin
from pxeboot.exports.readers import Reader
from pxeboot.exports.roots import Roots


def routes(roots: Roots, service: Service) -> Sequence[Route]:
    """Return the route that answers from `roots`, and from what the connections of `service` count."""

    async def asked(_: web.Request) -> web.Response:
        seen = {id(activity.export): activity for activity in service.connections()}
        connections = [
            reader_json(reader, export, seen.get(id(export)) if export is not None else None)
            for reader, export in roots.catalogue.readers.every()
        ]
        try:
            disks, trouble = await roots.looked_up(roots.disks.machines), None
        except OSError as error:  # the rest is known all the same
            disks, trouble = [], error.strerror or str(error) or "the disk does not answer"
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
                "disks_trouble": trouble,
                "counters": {
                    "refused": roots.catalogue.refused,
                    "damaged_pins": roots.pins.damaged,
                    **service.counters,
                },
            }
        )

    return [Route("GET", "/v1/nbd", asked)]


def reader_json(reader: Reader, export: Export | None, activity: Activity | None) -> dict[str, object]:
    """Return an open export as JSON values, with what was done with it; times are seconds since 1970."""
    counts = {
        "reads": activity.reads if activity else 0,
        "read_bytes": activity.read_bytes if activity else 0,
        "writes": activity.writes if activity else 0,
        "written_bytes": activity.written_bytes if activity else 0,
        "tls": activity is not None and activity.secure,
    }
    return counts | {
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
