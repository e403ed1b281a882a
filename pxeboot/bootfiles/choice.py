"""Which image a machine boots: its pool's, or the one that somebody chose for it."""

from dataclasses import replace

from pxeboot.bootfiles.imagefiles import ImageFiles
from pxeboot.bootfiles.machine import Machine
from pxeboot.image import store
from pxeboot.intents import Intent, parse_image


def told(machine: Machine, intent: Intent) -> Machine:
    """Return the machine with the image that somebody chose for it, if somebody did, as that of its pool."""
    if not intent.image:
        return machine
    return replace(machine, pool=machine.pool.model_copy(update={"image": parse_image(intent.image)[0]}))


def image_of(images: ImageFiles, machine: Machine, intent: Intent) -> store.StoredImage:
    """Return the version of an image that a machine boots from the network. Raises `store.ImageError`."""
    if not intent.image:
        return images.version(machine.pool.image, "")
    try:
        return images.version(*parse_image(intent.image))
    except store.ImageError as error:
        raise store.ImageError(f"it is to boot the image {intent.image[:60]}, says {intent.whence}: {error}") from None
