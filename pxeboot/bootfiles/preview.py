"""What a machine would be given now, for people to read: no boot begins by looking, and nothing secret is in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from config.model import Farm
from pxeboot.bootfiles import choice, grubcfg
from pxeboot.bootfiles.archives import Archives
from pxeboot.bootfiles.imagefiles import ImageFiles
from pxeboot.bootfiles.machine import Machine
from pxeboot.bootfiles.masked import mask, mask_lts
from pxeboot.image import store
from pxeboot.intents import Boot, Intent
from pxeboot.seldom import Seldom

ONCE_FOLDER = "(a-name-that-is-good-once)"
"""Stands for the name of the folder that the archive of one boot is in."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The boot files of one machine, as it would get them now; secrets are masked."""

    grub_cfg: str
    lts: Mapping[str, str]
    """The keys of its lts.conf."""
    image: str
    """The name of the image that it boots from the network."""
    image_id: str
    """The version of it; "" if it is not there."""
    trouble: str = ""
    """Why it would not boot, if so."""


class Quiet(Seldom):
    """Never lets anything be logged: whoever only looks has no machine that boots without something."""

    def __call__(self, *_: object) -> bool:
        """Return False."""
        return False


def preview(
    machine: Machine, intent: Intent, farm: Farm, images: ImageFiles, archives: Archives, http: str
) -> Preview:
    """Return what a machine would be given. `http` is as for `grubcfg.boot`. Blocks on the disk; changes nothing."""
    machine, trouble, image = choice.told(machine, intent), "", None
    try:
        image = choice.image_of(images, machine, intent)
        if machine.pool.writable is not None and not image.has_disk:
            trouble = f"its root is to be writable, and the image {machine.pool.image} has no {store.DISK}"
    except store.ImageError as error:
        trouble = str(error)
    known = [farm.node.root_password_hash or ""]
    join_keys = {cluster.join_key for cluster in farm.clusters.values()}
    return Preview(
        grub_cfg=mask(_menu(machine, intent, image, http, archives, trouble), known),
        lts=mask_lts(archives.lts(machine, Quiet()), join_keys, known),
        image=machine.pool.image,
        image_id="" if image is None else image.image_id,
        trouble=trouble if intent.boot in (Boot.NETBOOT, Boot.ONCE) else "",
    )


def _menu(
    machine: Machine, intent: Intent, image: store.StoredImage | None, http: str, archives: Archives, trouble: str
) -> str:
    if intent.boot is Boot.REFUSE:
        return grubcfg.refused(machine.name, intent.origin)
    if intent.boot is Boot.LOCAL:
        return grubcfg.local(machine.name, http, intent.origin)
    if image is None:
        return grubcfg.no_image(machine)
    if trouble:
        return grubcfg.no_disk(machine)
    cluster = archives.cluster(machine)
    folder = ONCE_FOLDER if cluster is not None and cluster.per_boot else ""
    return grubcfg.boot(machine, f"http://{http}", http, image.image_id, folder, once=intent.asks_leave)
