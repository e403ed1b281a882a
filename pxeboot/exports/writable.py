"""What a farm's writable roots need of its images."""

from contextlib import suppress

from config.model import Farm
from pxeboot.image import store


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
