"""Whether the images of a farm hold what its machines load. What takes reading them whole is not looked at."""

import os
import shlex
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
        if not (path / store.SUMS).exists():
            why, remedy = _absent(path)
        elif isinstance(error, store.ImageError):
            remedy = f"make it again: {_made(path)}"
        level: Level = "error" if used else "warning"
        yield Finding(level, about, f"machines of image {name} will not boot: {why}", remedy)
        return
    again = f"make it again: {_made(path)}"
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


def _absent(path: Path) -> tuple[str, str]:
    """Return what is at the path of an image that is none, and what makes one there."""
    if path.is_file():
        return f"{path} is a file, and an image is a folder", (
            f"`{_command('add', path.stem, path, store=path.parent)}` makes one of it; "
            f"then write `path: {path.parent / path.stem}`"
        )
    inside = _images_in(path)
    if inside:
        return (
            f"{path} is a store of images, and no image",
            f"write the path of one: {', '.join(map(str, inside[:4]))}",
        )
    if path.is_dir():
        return f"{path} is a folder without {store.SUMS}, so no image", f"let pxeboot make it: {_made(path)}"
    what = "is not there" if not path.is_symlink() else f"leads to {os.readlink(path)}, which is not there"
    return f"{path} {what}", _made(path)


def _images_in(folder: Path) -> list[Path]:
    try:
        return sorted(there for there in folder.iterdir() if (there / store.SUMS).is_file() and there.is_symlink())
    except OSError:
        return []


def _made(path: Path) -> str:
    """Return the command that makes the image of a path, in the store that its folder is."""
    try:
        store.check_name(path.name)
    except store.ImageError:
        return f"`pxeboot image build NAME --store {shlex.quote(str(path.parent))}`; then write NAME in the path"
    build = _command("build", path.name, store=path.parent)
    return f"`{build}`, or `image add` in place of `build` with a root that you have"


def _command(*words: str | Path, store: Path) -> str:
    return shlex.join(["pxeboot", "image", *map(str, words), "--store", str(store)])


def _squashfs_bytes(path: Path) -> int | None:
    """Return how long a squashfs is, as it says itself; None if it is none. Raises `OSError`."""
    with path.open("rb") as file:
        head = file.read(_SUPERBLOCK.size)
    if len(head) < _SUPERBLOCK.size:
        return None
    magic, size = _SUPERBLOCK.unpack(head)
    return size if magic == _SQUASHFS else None
