"""Small images and roots that look like real ones to the store, the builder and the servers. Nothing boots them."""

import hashlib
from pathlib import Path

from pxeboot.image import store
from pxeboot.image.store import StoredImage

VERSION = "1.0"
_SUPERBLOCK = 96
"""Bytes that the shortest squashfs has."""


def add_image(
    folder: Path, name: str = "node", marker: str = "one", size_bytes: int = 73_728, disk_bytes: int = 0
) -> StoredImage:
    """Put an image into the store `folder` and point `name` to it; other `marker`s make other images.

    With `disk_bytes`, it has a disk too that can be written to.
    """
    staged = store.staging(folder)
    for file, size in ((store.KERNEL, 3000), (store.INITRD, 5000), (store.SQUASHFS, size_bytes)):
        (staged / file).write_bytes(noise(f"{file} {marker}", size))
    if disk_bytes:
        (staged / store.DISK).write_bytes(noise(f"{store.DISK} {marker}", disk_bytes))
    (staged / store.MODULES).mkdir()
    for number, module in enumerate(("squashfs", "overlay")):
        (staged / store.MODULES / f"{number:02}-{module}.ko").write_bytes(noise(f"{module} {marker}", 500))
    return store.publish(folder, name, staged)


def noise(seed: str, size: int) -> bytes:
    """Return `size` bytes that look random and are the same each time; those of a squashfs begin like one."""
    data = hashlib.shake_128(seed.encode()).digest(size)
    if seed.startswith(store.SQUASHFS) and size >= 48:  # what it is, and at byte 40 how long
        data = b"hsqs" + data[4:40] + _SUPERBLOCK.to_bytes(8, "little") + data[48:]
    return data


def make_root(root: Path, version: str = VERSION, modules: dict[str, tuple[str, bytes]] | None = None) -> Path:
    """Make a root folder with a kernel, its initrd and modules, such as a distribution has.

    `modules` is the path below kernel/ → what it needs (as modules.dep lists it), and its bytes.
    """
    listed = modules if modules is not None else {
        "fs/squashfs/squashfs.ko": ("", b"squashfs module"),
        "fs/overlayfs/overlay.ko": ("", b"overlay module"),
    }  # fmt: skip
    (root / "boot").mkdir(parents=True, exist_ok=True)
    (root / f"boot/vmlinuz-{version}").write_bytes(noise(f"kernel {version}", 2000))
    (root / f"boot/initrd.img-{version}").write_bytes(noise(f"initrd {version}", 2000))
    base = root / "lib/modules" / version
    base.mkdir(parents=True, exist_ok=True)
    index = ""
    for path, (needs, data) in listed.items():
        (base / "kernel" / path).parent.mkdir(parents=True, exist_ok=True)
        (base / "kernel" / path).write_bytes(data)
        index += f"kernel/{path}: {' '.join(f'kernel/{need}' for need in needs.split())}".rstrip() + "\n"
    (base / "modules.dep").write_text(index)
    (base / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/hostname").write_text("made-elsewhere\n")
    return root
