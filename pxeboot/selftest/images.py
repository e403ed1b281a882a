"""Whether the images of a farm hold what its machines load. What takes reading them whole is not looked at."""

import struct
from collections.abc import Iterator
from pathlib import Path

from config.model import Farm
from pxeboot.bootfiles.root import not_there
from pxeboot.exports.writable import writable_without_disk
from pxeboot.image import store
from pxeboot.selftest.findings import Finding, Level

_SUPERBLOCK = struct.Struct("<I36xQ")  # s_magic and bytes_used of a squashfs 4.0
_SQUASHFS = 0x73717368


def look(farm: Farm) -> list[Finding]:
    """Return what is missing in the images that pools boot, and in the folder of static files."""
    used = {pool.image for pool in farm.pools}
    found: list[Finding] = []
    for name, image in farm.images.items():
        found += _image(name, image.path, used=name in used)
    for line in writable_without_disk(farm):
        what, _, remedy = line.partition("; ")
        found.append(Finding("warning", "images", what, remedy))
    if (missing := not_there(farm.server.files)) is not None:
        found.append(Finding("warning", "server.files", f"server.files: {missing}"))
    return found


def _image(name: str, path: Path, *, used: bool) -> Iterator[Finding]:
    about = f"image {name}"
    try:
        image = store.open_image(path)
        files = {file: image.folder / file for file in image.sums}
        sizes = {file: there.stat().st_size for file, there in files.items()}
        squashfs = _squashfs_bytes(files[store.SQUASHFS])
    except (store.ImageError, OSError) as error:
        why, _, remedy = str(error).partition("; ")
        level: Level = "error" if used else "warning"
        yield Finding(level, about, f"machines of image {name} will not boot: {why}", remedy)
        return
    again = f"add image {name} again (pxeboot image add)"
    empty = [file for file, size in sizes.items() if not size]
    if empty:
        yield Finding("error", about, f"{', '.join(empty)} of image {name} is empty", again)
    elif squashfs is None:
        yield Finding("error", about, f"{store.SQUASHFS} of image {name} is no squashfs", again)
    elif squashfs > sizes[store.SQUASHFS]:
        short = f"{sizes[store.SQUASHFS]} bytes of {squashfs}"
        yield Finding("error", about, f"{store.SQUASHFS} of image {name} is cut off: {short}", again)
    if not used:
        yield Finding("note", about, f"no pool boots image {name}")


def _squashfs_bytes(path: Path) -> int | None:
    """Return how long a squashfs is, as it says itself; None if it is none. Raises `OSError`."""
    with path.open("rb") as file:
        head = file.read(_SUPERBLOCK.size)
    if len(head) < _SUPERBLOCK.size:
        return None
    magic, size = _SUPERBLOCK.unpack(head)
    return size if magic == _SQUASHFS else None
