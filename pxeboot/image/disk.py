"""A root in a file system that can be written (root.ext4), for machines that write to their disk over NBD.

It is made of the image's squashfs, so that both hold the same root, and by mke2fs, which needs no mount and no
loop device.
"""

import os
import re
import subprocess
import uuid
from pathlib import Path

from pxeboot.image import store
from pxeboot.image.store import ImageError
from pxeboot.image.tools import Say, require_tools, run

BLOCK_BYTES = 4096
LEAST_BYTES = 16 << 20
"""Below this, mke2fs makes no journal."""
MOST_BYTES = 16 << 40
"""What ext4 can hold in blocks of 4096 bytes with 32-bit numbers; a sparse file in ext4 ends there, too."""

FEATURES = (
    *("has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg"),
    *("sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum"),
)
"""Named, so that a newer mke2fs does not make what the kernel of Debian 12 cannot mount."""

FIXED_S = 1_000_000_000
"""The time that the file system says it was made at. That of its files is theirs."""

_OURS = uuid.UUID("5f0a6b8e-0f7c-4f0e-9d53-70786562746f")
_SIZE = re.compile(r"([0-9]{1,15})([KMGT])(?:i?B)?", re.IGNORECASE)
_POWER = {"K": 10, "M": 20, "G": 30, "T": 40}


def parse_size(text: str) -> int:
    """Return the bytes that a size such as 4G or 512M stands for (powers of 1024). Raises `ImageError`.

    >>> parse_size("4G")
    4294967296
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ImageError(f"{text!r} is no size; write such as 4G or 512M")
    size_bytes = int(found[1]) << _POWER[found[2].upper()]
    if not LEAST_BYTES <= size_bytes <= MOST_BYTES:
        raise ImageError(f"{text} is no size for a disk; from 16M to 16T")
    return size_bytes // BLOCK_BYTES * BLOCK_BYTES


def make_disk(squashfs: Path, disk: Path, size_bytes: int, work: Path, say: Say) -> None:
    """Make the sparse file `disk`, an ext4 of `size_bytes` that holds what `squashfs` does.

    The root is unpacked into the folder `work`, which is the caller's to remove. Owners, modes, times, hard links,
    devices, extended attributes and capabilities are kept. Nothing is set aside for root, as nobody else writes; no
    inode table is left for the machine to initialise, as its zeros would be copied for each machine.

    Raises `ImageError`, also when the root does not fit.
    """
    require_tools("unsquashfs", "mke2fs", "dumpe2fs")
    if os.geteuid() != 0:
        raise ImageError("only root can make a root.ext4, as its files would otherwise belong to whoever makes it")
    root = work / "disk"
    run(["unsquashfs", "-no-progress", "-quiet", "-d", root, squashfs], say)
    identity = uuid.uuid5(_OURS, store.sha256_of(squashfs))
    with disk.open("xb") as file:
        file.truncate(size_bytes)
    argv: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK_BYTES), "-I", "256", "-i", "16384"]
    argv += ["-m", "0", "-L", "pxeboot", "-U", str(identity), "-O", ",".join(("none", *FEATURES))]
    extended = f"hash_seed={identity},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=1"
    try:
        run([*argv, "-E", extended, "-d", root, disk], say, {"E2FSPROGS_FAKE_TIME": str(FIXED_S)})
    except ImageError as error:
        if (needed := taken(root)) > size_bytes or "Could not allocate" in str(error):
            text = f"the root does not fit into {mib(size_bytes)}: it takes {mib(needed)}, and ext4 some of its own"
            raise ImageError(f"{text}; give --ext4 a larger size") from None
        raise
    say(f"  {store.DISK}: {mib(size_bytes)}, of which {mib(free(disk))} are free")


def taken(root: Path) -> int:
    """Return how many bytes the files of a folder take in whole blocks, each hard link once."""
    inodes = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(folder, name))
            inodes[status.st_ino] = max(status.st_blocks * 512, BLOCK_BYTES if name in folders else 0)
    return sum(inodes.values())


def free(disk: Path) -> int:
    """Return how many bytes of an ext4 are free. Raises `ImageError`."""
    result = subprocess.run(["dumpe2fs", "-h", disk], capture_output=True, text=True)
    found = re.search(r"^Free blocks: +([0-9]+)$", result.stdout, re.MULTILINE)
    if result.returncode != 0 or found is None:
        raise ImageError(f"dumpe2fs cannot read what mke2fs made: {result.stderr.strip()[-300:]}")
    return int(found[1]) * BLOCK_BYTES


def mib(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / (1 << 20):,.0f} MiB"
