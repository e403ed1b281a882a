"""node.cpio of a machine, put together of what the farm's file, its lts.conf files and its image say now."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Address
from pathlib import Path

from config.content import Made
from config.model import Cluster, Pool
from pxeboot.bootfiles import archive
from pxeboot.bootfiles.imagefiles import ImageFiles
from pxeboot.bootfiles.lts import lts_of
from pxeboot.bootfiles.machine import Farmhouse, Machine
from pxeboot.image import store
from pxeboot.seldom import Seldom

log = logging.getLogger(__name__)


class Archives:
    """Makes the archives of a farm's machines. All of it blocks on the disk; safe to use from several threads."""

    def __init__(
        self,
        house: Farmhouse,
        images: ImageFiles,
        *,
        server_for: Callable[[IPv4Address], IPv4Address],
        node: Mapping[str, bytes],
        nbd_port: Callable[[Pool], int] | None,
        now: Callable[[], datetime],
        seldom: Seldom,
        told: Callable[[Machine], Machine] = lambda machine: machine,
    ) -> None:
        """Make them as `pxeboot.bootfiles.tree.Tree` is told to; `told` gives a machine the image that it boots."""
        self._house = house
        self._images = images
        self._server_for = server_for
        self._node = node
        self._nbd_port = nbd_port
        self._now = now
        self._seldom = seldom
        self._told = told

    def make(
        self, image_id: str, machine: Machine, card: str, failed: Callable[[str], None], join: str = ""
    ) -> Made | None:
        """Return the archive of `machine`, booting from `card`; None, told to `failed`, if it cannot be made.

        `join` is where it fetches its join command, once.
        """
        image = self._images.by_digest(image_id)
        if image is None:
            failed(f"image {image_id[:12]!r} is not here")
            return None
        booting = self._house.machine(card, machine.ip, machine.name)
        if booting is None:
            return None
        try:
            return self._node_cpio(self._told(booting), image, join)
        except Exception as error:
            # Whatever it is, this machine cannot boot, and the person who wonders why looks at the machine.
            if self._seldom(booting.name, "no archive"):
                log.exception("%s will not boot: its node.cpio cannot be made", booting.name)
            reason = error if isinstance(error, OSError) else type(error).__name__
            failed(f"its node.cpio cannot be made: {reason}")
            return None

    def _node_cpio(self, machine: Machine, image: store.StoredImage, join: str) -> Made:
        farm = self._house.farm
        server = self._server_for(machine.ip)
        port = farm.server.http_port
        cluster = self.cluster(machine)
        root = archive.Root(
            image_id=image.image_id,
            squashfs_sha256=image.squashfs_sha256,
            size_bytes=image.size_bytes,
            modules=modules(image.folder, tuple(image.modules)),
            server=f"http://{server}" if port == 80 else f"http://{server}:{port}",
            nbd_host=str(server),
            nbd_port=farm.server.nbd_port if self._nbd_port is None else self._nbd_port(machine.pool),
            join_key=cluster.join_key if cluster is not None else "",
            join_once=join,
            netconsole_port=farm.machine_logs.netconsole_port,
        )
        files = {path: file_bytes(setting.from_, setting.content) for path, setting in farm.node.files.items()}
        data = archive.node_cpio(machine, root, self.lts(machine), farm.node, files, self._node)
        return made("node.cpio", data, secret=True)

    def lts(self, machine: Machine, seldom: Seldom | None = None) -> dict[str, str]:
        """Return the lts.conf keys of one machine, as they are now; `seldom` says what is logged of that."""
        return lts_of(self._house.farm, machine, self._now(), seldom or self._seldom)

    def cluster(self, machine: Machine) -> Cluster | None:
        """Return the cluster that a machine joins."""
        return self._house.farm.clusters[machine.pool.cluster] if machine.pool.cluster else None


def file_bytes(path: Path | None, content: str | None) -> bytes:
    """Return a configured file's bytes. Raises `OSError`."""
    return path.read_bytes() if path is not None else (content or "").encode()


@lru_cache(maxsize=8)
def modules(folder: Path, paths: tuple[Path, ...]) -> tuple[tuple[str, bytes], ...]:
    """Return name and bytes of an image's modules; the folder is immutable, so they are read once."""
    return tuple((path.name, path.read_bytes()) for path in paths)


def made(name: str, data: bytes, *, secret: bool = False) -> Made:
    """Return content made now, with its digest as its validator."""
    return Made(name, data, hashlib.sha256(data).hexdigest(), secret)
