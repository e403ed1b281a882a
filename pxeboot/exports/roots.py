"""All that there is about roots by NBD, put together: the catalogue, the pins, the disks that are written to."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from config.events import Report
from config.model import Farm
from dhcp.plan import machine_name
from nbd.overlay import Overlays
from pxeboot.bootfiles.lookups import Lookups
from pxeboot.exports.boots import Boots
from pxeboot.exports.catalogue import Catalogue
from pxeboot.exports.pin_store import PinStore
from pxeboot.image import store

OVERLAYS = "overlays"
"""The folder of disks that are written to, below the state folder."""


NAMED = 5
"""So many of many machines are named in a line of the log."""

LOOK_S = 5.0
"""How long a person's question waits for the disks, in seconds."""

T = TypeVar("T")

log = logging.getLogger("pxeboot")


class Roots:
    """What the daemon knows of the roots that it serves by NBD."""

    def __init__(
        self,
        farm: Farm,
        pins: PinStore,
        who: Callable[[IPv4Address], str | None],
        report: Report,
        chosen: Callable[[str], Iterable[tuple[str, str]]] = lambda _: (),
    ) -> None:
        """Serve the images of `farm`. `who` says whose address one is; `report` hears what a machine did not get.

        `chosen` says which machines were told to boot a version, and as which image.
        """
        self._chosen = chosen
        self.farm = farm
        self.pins = pins
        self._folder = farm.server.state / OVERLAYS
        self.disks = Overlays(self._folder)
        self.boots = Boots(pins, self.disks, connected=lambda name: self.catalogue.readers.count(name))
        self.catalogue = Catalogue(farm, who=self.whose, pins=pins, disks=self.disks, report=report)
        self._who = who
        self._before: dict[str, str] = {}
        """The names that machines had when they booted, by those that a reload gave them since."""
        self._looks = Lookups(2, "questions")

    def swap(self, farm: Farm, stores: Sequence[Path] = ()) -> None:
        """Serve another farm from now on; `stores` are the paths of images that farms before it had.

        Pins, open exports and the disks of machines stay. One that has another name now, or none any more, is known
        by its cards until it boots again: its root is that of its old name.
        """
        booted = {pin.machine for pin in self.pins.every()}
        if booted or self._before:
            self._follow_names(farm, booted)
        self.farm = farm
        self.catalogue.swap(farm, stores)

    def _follow_names(self, farm: Farm, booted: set[str]) -> None:
        """Keep in mind as what machines booted whose names are others in `farm`, or another machine's.

        `booted` are the names that have a pin. Of 10,000 machines only those that matter are looked at closely.
        """
        matter = booted | self._before.keys()
        after = {node.name: node for pool in farm.pools for node in pool.nodes if node.name in matter}
        gone = []
        for node in (node for pool in self.farm.pools for node in pool.nodes if node.name in matter):
            now = after.get(node.name)
            if now is None or (node.macs != now.macs and set(node.macs).isdisjoint(now.macs)):
                gone.append(node)
        if not gone:
            return
        names = {mac: node.name for pool in farm.pools for node in pool.nodes for mac in node.macs}
        before = dict(self._before)
        for node in gone:  # whoever has the name from now on did not boot as that
            self._before.pop(node.name, None)
        for node in gone:
            booted_as = before.get(node.name, node.name)
            if booted_as in booted:
                called = {names.get(mac, machine_name(mac)) for mac in node.macs} - {booted_as}
                self._before |= dict.fromkeys(called, booted_as)

    def whose(self, address: IPv4Address) -> str | None:
        """Return the name of the machine that has an address now.

        Where nobody has a lease for it, it is the machine that booted from it last: what another DHCP server gave out,
        beside our proxyDHCP, is not known any more after a restart of this server, and the machine's root has to be.
        """
        name = self._named(address)
        if name is None and (pin := self.pins.at(address)) is not None:
            return pin.machine
        return name

    def _named(self, address: IPv4Address) -> str | None:
        """Return who has an address now, by the name that it booted with."""
        name = self._who(address)
        before = None if name is None else self._before.get(name)
        if name is None or before is None:
            return name
        was, own = self.pins.get(before), self.pins.get(name)
        if was is None:
            return name
        # A pin of its new name is from its own boot since, or another machine's that had the name before it.
        return before if own is None or was.address == address != own.address else name

    async def watch(self) -> None:
        """Look after what machines that have gone leave behind, until cancelled."""
        await asyncio.to_thread(self.tidy)
        await self.boots.watch(self._named, self.catalogue.readers.machines)

    def tidy(self) -> None:
        """Drop the disks of boots that are over, and tell of those that nobody may come back for. Blocks on the disk.

        A machine has a pin as long as its boot lasts. What is kept always stays, also for a machine that is missing in
        the farm's file: that may be a mistake in the file.
        """
        unlisted = []
        listed = {node.name for pool in self.farm.pools for node in pool.nodes}
        try:
            for kept in self.disks.machines():
                if kept.keep == "always":
                    if kept.machine not in listed and self.pins.get(kept.machine) is None:
                        unlisted.append(kept.machine)
                elif self.pins.get(kept.machine) is None and not kept.connections:
                    log.info("the disk of %s is dropped: its boot is over", kept.machine)
                    self.disks.booting(kept.machine)
        except OSError as error:
            log.warning("%s: %s", self._folder, error)
        if unlisted:
            log.warning("%s keeps disks of machines that the farm does not list: %s", self._folder,
                        ", ".join(unlisted[:NAMED]) + (", ..." if len(unlisted) > NAMED else ""))  # fmt: skip

    async def looked_up(self, look: Callable[[], T]) -> T:
        """Return what `look` finds, which may block on the state folder and the image stores.

        Raises `OSError`, of these `TimeoutError` for a disk that hangs: not in the threads that everything else has.
        """
        async with asyncio.timeout(LOOK_S):
            return await asyncio.wrap_future(self._looks.submit(look))

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
        for machine, image in self._chosen(image_id):
            found.setdefault(machine, f"is to boot it: image={image.partition('@')[0]}@{image_id[:12]}")
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
