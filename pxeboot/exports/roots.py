"""All that there is about roots by NBD, put together: the catalogue, the pins, the disks that are written to."""

import os
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from config.events import Report
from config.model import Farm
from nbd.overlay import Overlays
from pxeboot.exports.boots import Boots
from pxeboot.exports.catalogue import Catalogue
from pxeboot.exports.pin_store import PinStore
from pxeboot.image import store

OVERLAYS = "overlays"
"""The folder of disks that are written to, below the state folder."""


class Roots:
    """What the daemon knows of the roots that it serves by NBD."""

    def __init__(self, farm: Farm, pins: PinStore, who: Callable[[IPv4Address], str | None], report: Report) -> None:
        """Serve the images of `farm`. `who` says whose address one is; `report` hears what a machine did not get."""
        self.farm = farm
        self.pins = pins
        self.disks = Overlays(farm.server.state / OVERLAYS)
        self.boots = Boots(pins, self.disks)
        self.catalogue = Catalogue(farm, who=who, pins=pins, disks=self.disks, report=report)
        self._who = who

    async def watch(self) -> None:
        """Look after what machines that have gone leave behind, until cancelled."""
        await self.boots.watch(self._who, self.catalogue.readers.machines)

    def users(self, image_id: str) -> list[tuple[str, str]]:
        """Return (who, how) of everybody who uses this version. Blocks on the disk; raises `OSError`."""
        readers = [reader for reader, _ in self.catalogue.readers.every() if reader.image_id == image_id]
        found = {reader.who: f"reads it by NBD as {reader.name!r}" for reader in readers}
        for pin in self.pins.every():
            if pin.image_id == image_id:
                found.setdefault(pin.machine, "booted it")
        for machine in self.boots.fetching(image_id):
            found.setdefault(machine, "boots it now")
        for kept in self.disks.machines():
            if kept.image_id == image_id:
                found.setdefault(kept.machine, "has a disk of its own over it")
        names = [("the farm's file", f"has it as its image {name}") for name in self._names_of(image_id)]
        return [*sorted(found.items()), *names]

    def _names_of(self, image_id: str) -> list[str]:
        names = []
        for name, image in self.farm.images.items():
            with suppress(store.ImageError):
                folder = Path(os.path.realpath(image.path))
                if folder.name == image_id or store.open_image(folder).image_id == image_id:
                    names.append(name)
        return names

    def about(self, machine: str) -> dict[str, object]:
        """Return what the status of a machine says of its root: nothing, unless it booted from NBD."""
        pin = self.pins.get(machine)
        if pin is None:
            return {}
        root = {
            "image": pin.image,
            "id": pin.image_id,
            "since_s": pin.since_s,
            "writable": pin.writable is not None,
            "connections": self.catalogue.readers.count(machine),
        }
        return {"root": root}


def writable_without_disk(farm: Farm) -> list[str]:
    """Return a line for each pool whose machines are to write to a root that their image does not have.

    Blocks on the disk. An image that is not there is told of elsewhere.
    """
    lines = []
    for pool in farm.pools:
        with suppress(store.ImageError):
            if pool.writable is not None and not store.open_image(farm.images[pool.image].path).has_disk:
                lines.append(
                    f"machines of pool {pool.name} will not boot: their roots are to be writable, and the image "
                    f"{pool.image} has no {store.DISK}; make it again with --ext4"
                )
    return lines
