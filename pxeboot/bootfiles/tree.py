"""The tree of names that a machine may fetch, through TFTP and HTTP alike.

    grub/...                               GRUB's modules, files on disk, and its network images: those for our address
    grub/grub.cfg, grub/grub.cfg-01-MAC    made for whoever asks
    images/ID/{vmlinuz,initrd.img,root.squashfs,SHA256SUMS}     one immutable image
    images/NAME/...                        the same of the version that a name points to now
    images/.../FILE.sha256                 the digest of such a file
    images/ID/01-MAC/node.cpio             made for whoever asks, to go with that image; not for a machine that joins
                                           with a command of its own, whose archive has a name that is good once
                                           (`pxeboot.joining.door`)
    lts.conf, lts/KEY                      made for whoever asks: all keys, or the value of one as it is now
    you                                    the address that whoever asks has here, and its machine's name or "-": it
                                           tells `pxeboot probe` of a translation of addresses in between
    intent/started, intent/no-disk         what GRUB is to do once all is loaded, or when it found no disk to boot
    anything else                          a file of the farm's `server.files`, for everybody

Who asks is the holder of the source address: a machine gets its own files and nobody else's.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from config.content import Content, Made
from config.events import Event, Report, Stage
from config.model import Farm, Pool
from pxeboot.bootfiles import archive, choice, grubcfg, loader, preview
from pxeboot.bootfiles.archives import Archives, made
from pxeboot.bootfiles.imagefiles import ImageFiles, has_file
from pxeboot.bootfiles.lookups import Lookups, Places, handed_over
from pxeboot.bootfiles.machine import Farmhouse, Machine
from pxeboot.bootfiles.names import is_ours
from pxeboot.bootfiles.root import Root
from pxeboot.image import store
from pxeboot.intents import Boot, Intent
from pxeboot.played import FOLDER
from pxeboot.seldom import Seldom
from pxeboot.written import both, done

log = logging.getLogger(__name__)

MENU = re.compile(r"grub\.cfg(?:-01-(?P<card>[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5})|-[0-9A-F]{1,8})?")
"""What GRUB asks for in turn: the name of its card, of its address, of its address with a digit less each time, none.

(GRUB manual, "Network".)
"""

_TOPS = frozenset({"grub", "images", "intent", "lts", "lts.conf", "you"})
"""What the names of ours begin with. A name that begins otherwise needs no look at the disk to be missing."""

KEPT_S = 8.0
"""How long a menu waits for what its machine boots to be on disk. GRUB waits longer; a disk that hangs, for ever."""

Tell = Callable[[Stage, str], None]
"""Tells people what became of a machine: a stage, and a line about it."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who a source address belongs to."""

    mac: str
    """The card that the address was given to; "" when only the farm's file says whose it is."""
    name: str
    """The name of a machine that the farm does not list."""
    played: bool = False
    """Whether it is `pxeboot probe` that has it now: it is given what the machine would be, and no boot begins."""


@dataclass(frozen=True, slots=True)
class _Menu:
    """A menu that must not leave before it is on disk what its machine boots."""

    content: Made
    kept: "Future[None]"
    otherwise: Made
    """What leaves if that cannot be kept."""

    def close(self) -> None:
        """Nothing to give back."""


def _not_noted(_: Machine, __: store.StoredImage | None) -> "Future[None]":
    """Keep nothing of a boot."""
    return done()


def stage_of(name: str) -> Stage | None:
    """Return the stage that a machine reaches by fetching `name`; None for what is not worth telling.

    >>> stage_of("grub/x86_64-efi/core.efi")
    <Stage.LOADER: 'loader'>
    """
    last = name.rpartition("/")[2]
    if last.startswith("grub.cfg"):
        return Stage.MENU
    return {
        "core.0": Stage.LOADER,
        "core.efi": Stage.LOADER,
        store.KERNEL: Stage.KERNEL,
        "node.cpio": Stage.INITRD,
        store.INITRD: Stage.INITRD,
        store.SQUASHFS: Stage.FETCH,
    }.get(last)


@dataclass(frozen=True, slots=True)
class _Served:
    """One farm, as it is served. Who asks is answered from one of them, though another one may come meanwhile."""

    house: Farmhouse
    images: ImageFiles
    archives: Archives
    files: Root | None

    def may(self, machine: Machine, card: str) -> bool:
        """Return whether this card's archive is given to this machine by a name that anybody knows."""
        return card in machine.macs and not self.joins_alone(machine)

    def joins_alone(self, machine: Machine) -> bool:
        """Return whether a machine joins with a command of its own."""
        cluster = self.archives.cluster(machine)
        return cluster is not None and cluster.per_boot


class Tree:
    """What every machine may fetch. `lookup` is the seam that TFTP and HTTP are handed."""

    def __init__(
        self,
        farm: Farm,
        *,
        who: Callable[[IPv4Address], Asker | None],
        server_for: Callable[[IPv4Address], IPv4Address],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        node: Mapping[str, bytes],
        report: Report = lambda _: None,
        intent: Callable[[str], Intent] = lambda _: Intent(Boot.NETBOOT),
        start: Callable[[str], bool] = lambda _: True,
        begins: Callable[[Machine, store.StoredImage | None], "Future[None]"] = _not_noted,
        joins: Callable[[Machine, bool], "tuple[str, Future[None]]"] = lambda _, __: ("", done()),
        nbd_port: Callable[[Pool], int] | None = None,
    ) -> None:
        """Serve `farm`. `who` knows leases, `server_for` our address as a machine reaches it, `node` the scripts.

        `report` hears, in the event loop, of machines that will not boot because of something on our side, and of
        those that are sent to their disk. `intent` says what a machine is to do; `start` whether one that boots once
        may start its kernel, and notes that it does: it may block, and raise `OSError`. `begins` notes what a machine
        is about to boot, likewise; its menu leaves when the future is done. So does `joins`, told whether it boots
        from the network, which also names the folder of its archive, if that is good once. `nbd_port` says where the
        machines of a pool find their root by NBD, if not all at the farm's one port.
        """
        self._seldom = Seldom()
        self._who = who
        self._server_for = server_for
        self._now = now
        self._node = node
        self._report = report
        self._intent = intent
        self._start = start
        self._begins = begins
        self._joins = joins
        self._nbd_port = nbd_port
        self._grub = Root(farm.server.state / "boot")
        self._loaders = loader.Images(farm.server.state / "boot")
        self._found: dict[str, Path] = {}
        self.swap(farm)
        self._threads = Lookups(8, "lookup")
        # Of their own: a network file system that hangs must not keep machines from booting that need nothing of it.
        self._files_threads, self._image_threads = Lookups(4, "files"), Places(8, "image")

    def swap(self, farm: Farm, house: Farmhouse | None = None, stores: Sequence[Path] = ()) -> None:
        """Serve another farm from now on; `house` is its index, if there is one already. Its state folder stays.

        `stores` are the paths of images that farms before it had: machines that boot one of them get it whole.
        """
        house = house or Farmhouse(farm)
        images = ImageFiles(farm.images, self._seldom, stores, self._found)
        archives = Archives(
            *(house, images), server_for=self._server_for, node=self._node, nbd_port=self._nbd_port,
            now=self._now, seldom=self._seldom, told=self._told,
        )  # fmt: skip
        files = Root(farm.server.files, self._unreadable) if farm.server.files else None
        self._served = _Served(house, images, archives, files)

    @property
    def house(self) -> Farmhouse:
        """The farm that is served now, by its machines."""
        return self._served.house

    def _unreadable(self, name: str) -> None:
        if self._seldom("unreadable"):
            log.warning("%s: %r may not be read by us; machines are told that it is not there",
                        self.house.farm.server.files, name)  # fmt: skip

    def machine_of(self, mac: str, address: IPv4Address, name: str) -> Machine | None:
        """Return the machine that boots from this card, at this address; `name` is its name if it is not listed."""
        return self.house.machine(mac, address, name)

    def is_refused(self, machine: Machine) -> bool:
        """Return whether a machine is to be given nothing that was made for it."""
        return self._intent(machine.name).boot is Boot.REFUSE

    async def archive(self, image_id: str, machine: Machine, card: str, join: str) -> Made | None:
        """Return the archive of a machine that fetches its join command from `join`; None if it cannot be made.

        Raises `OSError` as `lookup` does.
        """
        tell = self._tell(machine.ip)
        work = self._image_threads.of(self._served.images.place(image_id)).submit(
            self._served.archives.make, image_id, machine, card, partial(tell, Stage.FAILED), join
        )
        return await handed_over(work)

    def machine_at(self, peer: IPv4Address) -> Machine | None:
        """Return the machine whose address this is, if the farm gives it something to boot."""
        return self._machine_of(self._served.house, self._who(peer), peer)

    def _machine_of(self, house: Farmhouse, asker: Asker | None, peer: IPv4Address) -> Machine | None:
        node = house.node_at(peer)
        if asker is None and node is not None:
            return house.machine(node.macs[0], peer, node.name) if node.macs else None
        if asker is None:
            return None
        return house.machine(asker.mac or (node.macs[0] if node and node.macs else ""), peer, asker.name)

    async def lookup(self, name: str, peer: IPv4Address) -> Content | None:
        """Return what `name` is for `peer`, or None. Disk is read in a thread.

        Raises `OSError` for a broken disk, of these `TimeoutError` for one that hangs and on which many wait already.
        """
        served = self._served
        asker = self._who(peer)
        machine, tell = self._machine_of(served.house, asker, peer), self._tell(peer)
        played = asker is not None and asker.played
        found: Content | None = None
        if name.partition("/")[0] in _TOPS:
            threads = self._threads_for(served, name, machine)
            seen = await handed_over(threads.submit(self._find, served, name, peer, machine, tell, played))
            found = await self._when_kept(seen, machine, tell) if isinstance(seen, _Menu) else seen
        if found is None and served.files is not None and not is_ours(name):
            found = await handed_over(self._files_threads.submit(served.files.open, name))
        if found is None and name.startswith("grub/") and name.endswith(".lst"):
            return Made(name, b"", "empty")  # GRUB likes an empty list better than an error, and goes on faster
        return found

    def _threads_for(self, served: _Served, name: str, machine: Machine | None) -> Lookups:
        """Return the threads of the disk that a name needs: that of an image, or ours."""
        match name.split("/"):
            case ["images", which, *_]:
                return self._image_threads.of(served.images.place(which))
            case ["grub", last] if last.startswith("grub.cfg") and machine is not None:
                intent = self._intent(machine.name)
                if intent.boot not in (Boot.LOCAL, Boot.REFUSE):
                    return self._image_threads.of(served.images.place(choice.told(machine, intent).pool.image))
        return self._threads

    def _tell(self, peer: IPv4Address) -> Tell:
        """Return what tells people of whoever asks, from any thread."""
        loop = asyncio.get_running_loop()

        def tell(stage: Stage, detail: str) -> None:
            with suppress(RuntimeError):  # we have stopped meanwhile
                loop.call_soon_threadsafe(self._report, Event(peer, stage, detail))

        return tell

    async def _when_kept(self, menu: _Menu, machine: Machine | None, tell: Tell) -> Made:
        """Return what a machine is told once it is on disk what it boots, or cannot be, or is not in time."""
        try:
            async with asyncio.timeout(KEPT_S):
                await asyncio.wrap_future(menu.kept)
        except OSError as error:
            why = error.strerror or str(error) or f"the disk did not answer within {KEPT_S:.0f} s"
            name = machine.name if machine is not None else "a machine"
            if self._seldom(name, "not kept"):
                log.error("%s may not boot: what it boots cannot be kept: %s", name, why)
            tell(Stage.FAILED, f"what it boots cannot be kept: {why}")
            return menu.otherwise
        return menu.content

    def _find(
        self, served: _Served, name: str, peer: IPv4Address, machine: Machine | None, tell: Tell, played: bool
    ) -> Content | _Menu | None:
        failed = partial(tell, Stage.FAILED)
        match name.split("/"):
            case ["grub", last] if last.startswith("grub.cfg"):
                return self._menu(served, last, machine, tell, played)
            case ["grub", _, "fs.lst"]:
                # With the real list, GRUB fetches 33 modules when it meets a partition that it cannot read.
                return Made(name, b"", "empty")
            case ["grub", *_] if name in loader.IMAGES:
                own = self._grub.open(self._loaders.own(name, self._http(peer)))
                return None if own is None else replace(own, name=name)
            case ["grub", *_]:
                return self._grub.open(name)
            case ["images", which, file] if has_file(file):
                content = served.images.find(which, file)
                if content is None and machine is not None:
                    failed(f"{file} of image {which[:12]!r} is not here")
                return content
            case ["intent", "started"] if machine is not None and not played:
                return self._may_start(machine, tell)
            case ["intent", "no-disk"] if machine is not None:
                failed("it is to boot from its own disk, and found none that can be booted")
                return made(name, b"# noted\n")
            case ["you"]:
                return made(name, f"{peer} {machine.name if machine is not None else '-'}\n".encode())
            case _ if machine is not None and self.is_refused(machine):
                return None  # nothing that was made for it: it holds a join token
            case ["images", image_id, mac, "node.cpio"] if machine is not None:
                card = mac.removeprefix("01-").replace("-", ":").lower()
                return served.archives.make(image_id, machine, card, failed) if served.may(machine, card) else None
            case ["lts.conf"] if machine is not None:
                return made(name, archive.lts_text(machine, served.archives.lts(machine)), secret=True)
            case ["lts", key] if machine is not None:
                value = served.archives.lts(machine).get(key)
                return None if value is None else made(key, value.encode(), secret=True)
        return None

    def _menu(
        self, served: _Served, last: str, machine: Machine | None, tell: Tell, played: bool
    ) -> Made | _Menu | None:
        """GRUB tries its card's name, then its address digit by digit, then grub.cfg: the first one is answered."""
        failed = partial(tell, Stage.FAILED)
        asked = MENU.fullmatch(last)
        if asked is None:
            return None
        card = (asked["card"] or "").replace("-", ":").lower()
        if machine is None:
            failed("nothing to boot: neither a pool nor `unknown` of its subnet lists it")
            return made(last, grubcfg.nothing(card or "unknown").encode())
        if (last != "grub.cfg" and not card) or (card and card not in machine.macs):
            return None
        booting = served.house.machine(card, machine.ip, machine.name) if card else machine
        if booting is None:
            return None
        begin = partial(self._begin, served, played)
        intent = self._intent(booting.name)
        if intent.boot in (Boot.LOCAL, Boot.REFUSE):
            begin(booting, None)
            return made(last, self._away(booting, intent, tell).encode())
        http, booting = self._http(machine.ip), choice.told(booting, intent)
        try:
            image = choice.image_of(served.images, booting, intent)
            if booting.pool.writable is not None and not image.has_disk:
                begin(booting, None)
                failed(f"its root is to be writable, and the image {booting.pool.image} has no {store.DISK}")
                return made(last, grubcfg.no_disk(booting).encode())
            folder, kept = begin(booting, image)
            image.look_again()  # since it was noted, nobody removes it
        except store.ImageError as error:
            if self._seldom(booting.name, "no image"):
                log.warning("%s will not boot: %s", booting.name, error)
            failed(str(error))
            if not played:
                self._joins(booting, False)
            return made(last, grubcfg.no_image(booting).encode())
        once = intent.asks_leave
        menu = made(last, grubcfg.boot(booting, f"http://{http}", http, image.image_id, folder, once=once).encode())
        if kept.done() and kept.exception() is None:
            return menu
        return _Menu(menu, kept, made(last, grubcfg.not_kept(booting).encode()))

    def _told(self, machine: Machine) -> Machine:
        return choice.told(machine, self._intent(machine.name))

    def preview(self, machine: Machine) -> preview.Preview:
        """Return what a machine would be given now. Nothing begins or is used up by that; blocks on the disk."""
        served = self._served
        intent, http = self._intent(machine.name), self._http(machine.ip)
        return preview.preview(machine, intent, served.house.farm, served.images, served.archives, http)

    def _begin(
        self, served: _Served, played: bool, machine: Machine, image: store.StoredImage | None
    ) -> "tuple[str, Future[None]]":
        """Note what a machine is about to boot; return what `joins` names, and what its menu waits for."""
        folder = FOLDER if played and image is not None and served.joins_alone(machine) else ""
        if played:  # nothing begins, and nothing ends
            return folder, done()
        try:
            folder, kept = self._joins(machine, image is not None)
            noted = self._begins(machine, image)
        except OSError as error:
            noted, kept = done(), Future()
            kept.set_exception(error)
        return folder, both(noted, kept)

    def _http(self, client: IPv4Address) -> str:
        """Return our HTTP server as GRUB writes it, HOST or HOST:PORT."""
        server, port = self._server_for(client), self.house.farm.server.http_port
        return f"{server}" if port == 80 else f"{server}:{port}"

    def _away(self, machine: Machine, intent: Intent, tell: Tell) -> str:
        """Return what GRUB is told of a machine that is not to boot from the network, and tell people."""
        if intent.boot is Boot.REFUSE:
            tell(Stage.FAILED, f"refused: its boot intent is refuse ({intent.origin})")
            return grubcfg.refused(machine.name, intent.origin)
        tell(Stage.DISK, f"goes on with its own disk: its boot intent is local ({intent.origin})")
        return grubcfg.local(machine.name, self._http(machine.ip), intent.origin)

    def _may_start(self, machine: Machine, tell: Tell) -> Content:
        """Return what GRUB does that has loaded kernel and initrd, after it was noted that it does."""
        try:
            started = self._start(machine.name)
        except OSError as error:
            log.error("%s may not boot: that it does cannot be kept: %s", machine.name, error)
            tell(Stage.FAILED, f"its boot intent cannot be kept: {error.strerror or error}")
            return made("started", b"")  # GRUB goes on to its last words, and starts again
        if started:
            return made("started", b"boot\n")
        return made("started", self._away(machine, self._intent(machine.name), tell).encode())
