"""The exports of a farm: what NBD serves, to whom.

Files are opened in threads of their own, so that a disk that hangs holds up neither the event loop nor the look-ups of
boot files; once it hangs, what comes is refused at once (`pxeboot.bootfiles.lookups`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from config.content import OpenFile
from config.events import Event, Report, Stage
from config.exports import Writable
from config.model import Farm
from nbd.exports import Asked, Export, FileExport, Refused
from nbd.mappings import Mappings
from pxeboot.bootfiles.imagefiles import ImageFiles
from pxeboot.bootfiles.lookups import Lookups, handed_over
from pxeboot.exports import access
from pxeboot.exports.access import OF_NODE, Named, Nothing, Own, Version, Wanted
from pxeboot.exports.pin_store import PinStore
from pxeboot.exports.pins import Pin
from pxeboot.exports.readers import Reader, Readers
from pxeboot.image import store
from pxeboot.image.store import StoredImage
from pxeboot.seldom import Seldom

log = logging.getLogger("pxeboot")

THREADS = 4
SHOWN = 12
"""So much of an image's id tells it from the others, for a person."""


class Disks(Protocol):
    """The disks that machines write to (`nbd.overlay.Overlays`)."""

    def attach(
        self, machine: str, image_id: str, base: OpenFile, rules: Writable, name: str, closed: Callable[[], None]
    ) -> Export:
        """Open the machine's disk over `base`, which is closed with it; then `closed` is called. Blocks."""


class _Image(FileExport):
    """An image's squashfs, and who is told when it is closed."""

    __slots__ = ("_closed",)

    def __init__(
        self, name: str, file: OpenFile, description: str, mappings: Mappings, closed: Callable[[], None]
    ) -> None:
        super().__init__(name, file, description, mappings)
        self._closed = closed

    def close(self) -> None:
        """Give the descriptor back."""
        try:
            super().close()  # a network file system may have something to say
        finally:
            self._closed()


class _NotServed(Exception):
    """Why somebody gets no export, in words."""

    def __init__(self, refused: Refused, why: str) -> None:
        super().__init__(why)
        self.refused = refused


class Catalogue:
    """Implements `nbd.exports.Catalogue`."""

    def __init__(
        self,
        farm: Farm,
        *,
        who: Callable[[IPv4Address], str | None],
        pins: PinStore,
        disks: Disks,
        report: Report = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Serve the images of `farm`. `who` says whose address one is; `report` hears what a machine did not get."""
        self.farm = farm
        self.readers = Readers()
        self.refused = 0
        """How often somebody was refused an export."""
        self._who = who
        self._pins = pins
        self._disks = disks
        self._report = report
        self._clock = clock
        self._seldom = Seldom()
        self._mappings = Mappings(time.monotonic)
        self._images = ImageFiles(farm.images, self._seldom)
        self._threads = Lookups(THREADS, "exports")
        # Of their own: where the machines' own disks are may hang alone, and most machines have none.
        self._disk_threads = Lookups(THREADS, "own disks")

    def swap(self, farm: Farm, stores: Sequence[Path] = ()) -> None:
        """Serve another farm from now on. What is open stays open, and what was booted is found in `stores`, too."""
        self.farm, self._images = farm, ImageFiles(farm.images, self._seldom, stores)

    async def open(self, asked: Asked) -> Export | Refused:
        """Open an export. Raises `OSError` for a broken disk, of these `TimeoutError` for one that hangs."""
        machine = self._who(asked.peer)
        try:
            if self.farm.nbd.access == "known" and machine is None:
                raise _NotServed(Refused.POLICY, "its address is no machine's of ours, and `nbd.access` is `known`")
            pin = None if machine is None else self._pins.get(machine)
            wanted = access.wanted(asked.name, self.farm, machine, pin)
            if isinstance(wanted, Nothing):
                raise _NotServed(Refused.UNKNOWN, wanted.why)
            writes = isinstance(wanted, Own) and wanted.pin.writable is not None
            threads = self._disk_threads if writes else self._threads
            return await handed_over(threads.submit(self._open, asked, wanted, machine, pin))
        except _NotServed as error:
            self._tell(asked, machine, error.refused, f"NBD export {asked.name!r}: {error}")
            return error.refused
        except OSError as error:
            text = f"NBD export {asked.name!r} cannot be opened: {error.strerror or error}"
            self._tell(asked, machine, error.errno, text)
            raise

    def _tell(self, asked: Asked, machine: str | None, kind: Refused | int | None, text: str) -> None:
        """Tell people. `kind` has few values, unlike the names that a client may make up to fill our log."""
        self.refused += 1
        if machine is not None and asked.keep:  # a machine that only looks around has not failed
            self._report(Event(asked.peer, Stage.FAILED, text))
        if self._seldom(asked.peer, kind, asked.name.startswith(OF_NODE)):
            log.warning("%s: %s", machine or asked.peer, text)

    def _open(self, asked: Asked, wanted: Named | Version | Own, machine: str | None, pin: Pin | None) -> Export:
        """Open it; blocks on the disk. Raises `_NotServed` and `OSError`."""
        image, names = self._find(wanted, pin)
        if not asked.secure and access.needs_tls(self.farm.nbd.tls, names):
            raise _NotServed(Refused.TLS_REQUIRED, "it is served with TLS only")
        rules = wanted.pin.writable if isinstance(wanted, Own) else None
        called = wanted.pin.image if isinstance(wanted, Own) else "/".join(names)
        label = f"image {called} {image.image_id[:SHOWN]}" if called else f"image {image.image_id[:SHOWN]}"
        reader = Reader(asked.peer, machine, asked.name, image.image_id, rules is not None, self._clock())
        number = self.readers.enter(reader)

        def leave() -> None:
            self.readers.leave(number)

        try:
            file = self._images.open(image, store.SQUASHFS if rules is None else store.DISK)
            if file is None:
                raise _NotServed(Refused.UNKNOWN, _lacks(label, rules))
            export: Export
            if rules is None or not isinstance(wanted, Own):
                try:
                    about = f"{label}, {file.size_bytes / 1e6:.1f} MB, read-only"
                    export = _Image(asked.name, file, about, self._mappings, leave)
                except OSError:
                    file.close()
                    raise
            else:
                export = self._disks.attach(wanted.pin.machine, image.image_id, file, rules, asked.name, leave)
                export.description = f"disk of {wanted.pin.machine} on {label}, {file.size_bytes / 1e6:.1f} MB"
        except BaseException:
            leave()
            raise
        self.readers.opened(number, export)
        return export

    def _find(self, wanted: Wanted, pin: Pin | None) -> tuple[StoredImage, list[str]]:
        """Return an image, and the names that it has. Raises `_NotServed`."""
        match wanted:
            case Named(name):
                try:
                    return self._images.current(name), [name]
                except store.ImageError as error:
                    raise _NotServed(Refused.UNKNOWN, str(error)) from None
            case Version(image_id):
                image = self._images.by_digest(image_id)
                if image is None:
                    raise _NotServed(Refused.UNKNOWN, f"no image {image_id[:SHOWN]} is in the store")
                return image, self._names_of(image_id, pin)
            case Own(own):
                image = self._images.by_digest(own.image_id)
                if image is None:
                    text = (
                        f"the image {own.image} {own.image_id[:SHOWN]}, which it booted, is not in the store any more"
                    )
                    raise _NotServed(Refused.UNKNOWN, text)
                return image, [own.image]
            case Nothing(why):
                raise _NotServed(Refused.UNKNOWN, why)

    def _names_of(self, image_id: str, pin: Pin | None) -> list[str]:
        """Return the names that point to a version now, and by which name the machine that asks booted it."""
        names = [pin.image] if pin is not None and pin.image_id == image_id else []
        tls = self.farm.nbd.tls
        if tls is not None and tls.only:  # nobody else needs them
            for name in self.farm.images:
                with suppress(store.ImageError):
                    if name not in names and self._images.current(name).image_id == image_id:
                        names.append(name)
        return names

    async def names(self, peer: IPv4Address, secure: bool) -> Sequence[str]:
        """Return the images that are there and that this client may have, and its own root. Raises `OSError`."""
        machine = self._who(peer)
        if self.farm.nbd.access == "known" and machine is None:
            return ()
        whole = await asyncio.wrap_future(self._threads.submit(self._images.whole))
        names = [name for name in whole if secure or not access.needs_tls(self.farm.nbd.tls, (name,))]
        pin = None if machine is None else self._pins.get(machine)
        if pin is not None and (secure or not access.needs_tls(self.farm.nbd.tls, (pin.image,))):
            names.append(OF_NODE + pin.machine)
        return names


def _lacks(label: str, rules: Writable | None) -> str:
    if rules is None:
        return f"{label} is not in the store any more"
    return f"{label} has no {store.DISK} to write to; make it again with --ext4"
