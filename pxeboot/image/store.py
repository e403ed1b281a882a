"""The image store: a folder of immutable images, and names that point to them.

    STORE/by-sha256/<id>/{vmlinuz,initrd.img,root.squashfs,[root.ext4],modules/*.ko,SHA256SUMS}
    STORE/<name> -> by-sha256/<id>

An image's id is the sha256 of its SHA256SUMS, so it stands for every byte of it, and `sha256sum -c` checks it. A
name is a link that is swapped by a rename: whoever resolved it before keeps the image it saw.
"""

import errno
import hashlib
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from config.durable import sync_folder
from pxeboot.image import aside

KERNEL = "vmlinuz"
INITRD = "initrd.img"
SQUASHFS = "root.squashfs"
DISK = "root.ext4"
"""The same root in a file system that can be written; not every image has it."""
MODULES = "modules"
SUMS = "SHA256SUMS"
BY_DIGEST = "by-sha256"

_DIGEST = re.compile("[0-9a-f]{64}")
_FILE = re.compile(rf"(?:{MODULES}/)?[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SWAP = re.compile(r"\..+\.[0-9]+")

LEFT_OVER_S = 86400.0
"""How old what a killed `pxeboot image` left behind has to be before another one removes it, in seconds."""


class ImageError(Exception):
    """An image that is not there, not whole, or not usable; the text is for a person."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One immutable image on disk."""

    image_id: str
    folder: Path
    sums: dict[str, str]
    """File name → sha256, as in SHA256SUMS."""

    @property
    def in_store(self) -> bool:
        """Whether its folder is named by its digest, so that nothing else can ever be there."""
        return self.folder.name == self.image_id

    @property
    def squashfs_sha256(self) -> str:
        """The digest that a machine checks before it uses its root."""
        return self.sums[SQUASHFS]

    @property
    def has_disk(self) -> bool:
        """Whether it can be the root of machines that write to theirs."""
        return DISK in self.sums

    @property
    def modules(self) -> list[Path]:
        """Kernel modules that a stock initrd lacks, in the order in which they load."""
        return [self.folder / name for name in sorted(self.sums) if name.startswith(f"{MODULES}/")]

    @property
    def size_bytes(self) -> int:
        """The size of the squashfs."""
        return (self.folder / SQUASHFS).stat().st_size

    def look_again(self) -> None:
        """Raise `ImageError` if it was removed since it was opened. Cheaper than to open it again."""
        if not (self.folder / SUMS).is_file():
            raise ImageError(f"{self.folder}: the image was removed just now")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_digest(name: str) -> bool:
    """Return whether a folder of this name is a version of an image."""
    return _DIGEST.fullmatch(name) is not None


def open_image(path: Path) -> StoredImage:
    """Return the image that a name (a link in a store) or an image's own folder stands for.

    The link is followed once, here; what is returned names the immutable folder. Raises `ImageError`.
    """
    folder = Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a loop
    try:
        listing = (folder / SUMS).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: no image here ({error.strerror}); `pxeboot image add` makes one") from None
    image_id = hashlib.sha256(listing).hexdigest()
    if _DIGEST.fullmatch(folder.name) and folder.name != image_id:
        raise ImageError(f"{folder}: {SUMS} is not what it was when the image was added; add the image again")
    sums = {}
    for line in listing.decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if not _DIGEST.fullmatch(digest) or not _FILE.fullmatch(name):
            raise ImageError(f"{folder}: {SUMS} holds {line[:200]!r}, which `pxeboot image` does not write")
        sums[name] = digest
    missing = [name for name in (KERNEL, INITRD, SQUASHFS) if name not in sums or not (folder / name).is_file()]
    if missing:
        raise ImageError(f"{folder}: {', '.join(missing)} missing; add the image again")
    return StoredImage(image_id, folder, sums)


def seal(folder: Path) -> StoredImage:
    """Write SHA256SUMS over everything in `folder`, flush it all to disk and make it read-only.

    Everybody may read it, whatever the umask: the daemon is another user than who makes images.
    """
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
    listing = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names)
    (folder / SUMS).write_text(listing)
    for path in (*sorted(folder.rglob("*")), folder):
        path.chmod(0o755 if path.is_dir() else 0o444)
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    return open_image(folder)


def check_name(name: str) -> None:
    """Raise `ImageError` if `name` cannot be an image's name."""
    if not _NAME.fullmatch(name) or name == BY_DIGEST:
        raise ImageError(f"{name!r} cannot be an image's name; use letters, digits, '.', '_' and '-'")


def publish(store: Path, name: str, staged: Path) -> StoredImage:
    """Move a finished folder into the store under its digest, and point `name` to it, atomically.

    `staged` lies in the same file system as the store and is gone afterwards. An image that the store already
    holds is kept as it is. Raises `ImageError` if `name` cannot be an image's name.
    """
    check_name(name)
    image = seal(staged)
    final = store / BY_DIGEST / image.image_id
    with aside.kept(final.parent):
        try:
            staged.rename(final)
            sync_folder(final.parent)
        except OSError:  # a folder that is not empty is not replaced
            if not final.is_dir():
                raise
            for path in (final, *final.rglob("*")):  # it may have been made before we saw to this
                path.chmod(0o755 if path.is_dir() else 0o444)
            shutil.rmtree(staged)
        link = store / f".{name}.{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(BY_DIGEST) / image.image_id)
        link.rename(store / name)
        sync_folder(store)
        return open_image(store / name)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, for everybody to read, whatever the umask.

    Raises `OSError`.
    """
    for path in (*reversed(folder.parents), folder):
        with suppress(FileExistsError):
            path.mkdir()
            path.chmod(0o755)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def staging(store: Path) -> Path:
    """Return a new empty folder inside the store to prepare an image in."""
    make_folder(store / BY_DIGEST)
    sweep(store)
    folder = store / BY_DIGEST / f".new-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def sweep(store: Path) -> None:
    """Remove what a `pxeboot image` that was killed left in the store: all our temporary names begin with a dot.

    What it was about to remove is put back, or removed, unless somebody is at that now.
    """
    with suppress(aside.Busy), aside.alone(store / BY_DIGEST):
        aside.recover(store / BY_DIGEST)
    for path in (*store.glob(".*"), *(store / BY_DIGEST).glob(".new-*")):
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime > time.time() - LEFT_OVER_S:
                continue
            if path.is_symlink() and _SWAP.fullmatch(path.name):
                path.unlink()
            elif path.name.startswith((".new-", ".build-")):
                shutil.rmtree(path, ignore_errors=True)
