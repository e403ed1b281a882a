"""Which images may be chosen for a machine in place of its pool's, and which version a name with a digest means."""

import os
from collections.abc import Collection
from http import HTTPStatus

from config.model import Farm
from pxeboot.image import store
from pxeboot.intents import parse_image


class Refused(Exception):
    """What somebody says cannot be done; the text is for them, and `status` is that of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        """Say why."""
        super().__init__(text)
        self.status = status


def resolved(farm: Farm, wanted: str) -> str:
    """Return NAME, or NAME@ID with all 64 digits, of what somebody wrote. Blocks on the disk; raises `Refused`."""
    try:
        name, beginning = parse_image(wanted)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
    setting = farm.images.get(name)
    if setting is None:
        known = ", ".join(farm.images) or "none"
        raise Refused(HTTPStatus.NOT_FOUND, f"no image {name!r} is in the farm's file; it has {known}")
    try:
        if not beginning:
            store.open_image(setting.path)
            return name
        found = [one for one in versions(farm, name) if one.startswith(beginning)]
        if len(found) != 1:
            many = "several versions" if found else "no version"
            raise Refused(HTTPStatus.NOT_FOUND, f"{many} in the store of image {name} begin with {beginning}")
        store.open_image(setting.path.parent / store.BY_DIGEST / found[0])
    except store.ImageError as error:
        raise Refused(HTTPStatus.NOT_FOUND, str(error)) from None
    return f"{name}@{found[0]}"


def versions(farm: Farm, name: str) -> list[str]:
    """Return the digests of all versions in the store that an image of the farm is in. Blocks on the disk."""
    try:
        entries = os.listdir(farm.images[name].path.parent / store.BY_DIGEST)
    except OSError:
        return []
    return sorted(entry for entry in entries if store.is_digest(entry))


def allowed(farm: Farm, machines: Collection[str], image: str) -> None:
    """Raise `Refused` if one of these machines cannot have another image than its pool's, and this is one."""
    name, image_id = parse_image(image)
    wanted = frozenset(machines)
    for pool in farm.pools:
        machine = next((node.name for node in pool.nodes if node.name in wanted), None)
        if machine is None or (name == pool.image and not image_id):
            continue
        tls = farm.nbd.tls
        if pool.root != "http" and tls is not None and name in tls.only:
            why = f"{machine} reads its root by NBD without TLS, and nbd.tls.only names the image {name}"
            raise Refused(HTTPStatus.CONFLICT, why)
        if pool.writable is not None and pool.writable.keep == "always":
            why = f"{machine} keeps its disk (`keep: always` of pool {pool.name}), which another image would cost it"
            raise Refused(HTTPStatus.CONFLICT, why)
