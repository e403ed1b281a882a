"""Making images: from Debian packages, or from a root that somebody made otherwise.

Everything heavy is done by the tools that distributions are made with: mmdebstrap, mksquashfs, unsquashfs, tar,
mke2fs. What we add is the choice of the kernel, its initrd and the modules that a stock initrd lacks.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pxeboot.image import store
from pxeboot.image.disk import make_disk
from pxeboot.image.modules import in_initrd, inside, module_closure, only_modules, unpacked
from pxeboot.image.store import ImageError, StoredImage
from pxeboot.image.tools import Say, require_tools, run

BASE_PACKAGES = (
    "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "procps", "ca-certificates",
    "initramfs-tools", "busybox", "zstd", "nbd-client",
)  # fmt: skip
KERNEL_PACKAGE = "linux-image-amd64"

HOST_KEYS = "etc/ssh/ssh_host_*_key"
"""Where a root's private SSH host keys are."""

HOOK = """\
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
exec "$0" "$1"
"""
"""Runs a hook so that what it does by chroot finds these, as compilers of drivers want. They go when it ends."""

NOT_IN_AN_IMAGE = ("doc", "man", "info", "locale", "lintian")


@contextmanager
def workspace(near: Path) -> Iterator[Path]:
    """A temporary folder next to `near`, removed at the end whatever happens."""
    store.make_folder(near)
    folder = Path(tempfile.mkdtemp(prefix=".build-", dir=near))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def debian_root(
    root: Path, *, suite: str, packages: Sequence[str], kernel: str, hooks: Sequence[Path], say: Say
) -> None:
    """Make a Debian root folder with `packages` and a kernel; then run each hook with the folder as its argument."""
    require_tools("mmdebstrap")
    argv: list[str | Path] = ["mmdebstrap", "--variant=minbase", "--mode=root" if os.geteuid() == 0 else "--mode=auto"]
    argv.append("--include=" + ",".join([*BASE_PACKAGES, kernel, *packages]))
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in NOT_IN_AN_IMAGE]
    argv.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
    argv += [suite, root]
    run(argv, say)
    for hook in hooks:
        inside = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", HOOK] if os.geteuid() == 0 else []
        run([*inside, hook.resolve(), root], say, called=hook.name)


def clean(root: Path) -> None:
    """Take out what must differ from machine to machine, or is of no use in an image."""
    (root / "etc/machine-id").write_text("")
    for path in root.glob("etc/ssh/ssh_host_*"):
        path.unlink()
    for path in (*root.glob("var/cache/apt/*.bin"), *root.glob("var/cache/apt/archives/*.deb")):
        path.unlink()
    for folder in ("var/lib/apt/lists", "tmp", "var/tmp"):
        for path in (root / folder).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def warn_of_host_keys(root: Path, say: Say) -> None:
    """Name the SSH host keys in a root that somebody made: all machines would have them, and all who read it."""
    names = sorted(str(path.relative_to(root)) for path in root.glob(HOST_KEYS))
    if names:
        say(
            f"warning: SSH host keys are in the image: {', '.join(names)}; whoever can fetch it has them. Machines "
            "replace them at boot; better remove them from the root"
        )


def newest(root: Path, pattern: str) -> Path:
    """Return the file in /boot that matches `pattern` and has the highest version. Raises `ImageError`."""

    def version(path: Path) -> list[tuple[int, str]]:
        parts = path.name.partition("-")[2].replace("-", ".").split(".")
        return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

    found = sorted((p for p in (root / "boot").glob(pattern) if p.is_file() and not p.is_symlink()), key=version)
    if not found:
        raise ImageError(f"the root has no /boot/{pattern}; install a kernel in it, or give --kernel and --initrd")
    return inside(root, found[-1])


def squash(root: Path, squashfs: Path, level: int, say: Say) -> None:
    """Pack a root folder. Every file is in it but those of /boot, which the machine gets by other names.

    What the kernel was configured with stays: kubeadm refuses to join where it cannot read that.
    """
    require_tools("mksquashfs")
    argv: list[str | Path] = ["mksquashfs", root, squashfs, "-comp", "zstd", "-Xcompression-level", str(level)]
    run([*argv, "-noappend", "-no-progress", "-xattrs", "-wildcards", "-e", "boot/!(config-*)"], say)


def add_root(
    root: Path,
    folder: Path,
    name: str,
    *,
    squashfs: Path | None = None,
    kernel: Path | None = None,
    initrd: Path | None = None,
    level: int = 15,
    disk_bytes: int | None = None,
    say: Say,
) -> StoredImage:
    """Add a root folder (and its squashfs, if it is already packed) to the image store `folder` as `name`.

    With `disk_bytes`, there is a root.ext4 of this size beside the squashfs. Raises `ImageError`.
    """
    store.check_name(name)
    kernel = kernel or newest(root, "vmlinu?-*")
    version = kernel.name.partition("-")[2] or only_modules(root)
    initrd = initrd or matching_initrd(root, version)
    warn_of_host_keys(root, say)
    staged = store.staging(folder)
    try:
        shutil.copyfile(kernel, staged / store.KERNEL)
        shutil.copyfile(initrd, staged / store.INITRD)
        (staged / store.MODULES).mkdir()
        has = in_initrd(initrd) if disk_bytes else ()
        for number, module in enumerate(module_closure(root, version, disk=bool(disk_bytes), in_initrd=has)):
            plain = module.name.split(".")[0]
            (staged / store.MODULES / f"{number:02}-{plain}.ko").write_bytes(unpacked(module))
        if squashfs is None:
            squash(root, staged / store.SQUASHFS, level, say)
        else:
            shutil.copyfile(squashfs, staged / store.SQUASHFS)
        if disk_bytes:
            with workspace(folder) as work:
                make_disk(staged / store.SQUASHFS, staged / store.DISK, disk_bytes, work, say)
        return store.publish(folder, name, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def matching_initrd(root: Path, version: str) -> Path:
    """Return the initrd of this kernel version (Debian, Fedora and openSUSE name it differently)."""
    for name in (f"initrd.img-{version}", f"initramfs-{version}.img", f"initrd-{version}"):
        if (root / "boot" / name).is_file():
            return inside(root, root / "boot" / name)
    raise ImageError(f"the root has no initrd for kernel {version} in /boot; run update-initramfs in it")


def build(
    folder: Path,
    name: str,
    *,
    suite: str = "bookworm",
    packages: Sequence[str] = (),
    kernel: str = KERNEL_PACKAGE,
    hooks: Sequence[Path] = (),
    level: int = 15,
    disk_bytes: int | None = None,
    say: Say,
) -> StoredImage:
    """Build an image from Debian's packages alone. Raises `ImageError`."""
    with workspace(folder) as work:
        root = work / "root"
        debian_root(root, suite=suite, packages=packages, kernel=kernel, hooks=hooks, say=say)
        clean(root)
        return add_root(root, folder, name, level=level, disk_bytes=disk_bytes, say=say)


def add(
    folder: Path,
    name: str,
    source: Path,
    *,
    kernel: Path | None = None,
    initrd: Path | None = None,
    level: int = 15,
    disk_bytes: int | None = None,
    say: Say,
) -> StoredImage:
    """Add a squashfs, a tar or a root folder that somebody made otherwise. Raises `ImageError`."""
    if source.is_dir():
        return add_root(
            source, folder, name, kernel=kernel, initrd=initrd, level=level, disk_bytes=disk_bytes, say=say
        )
    if not source.is_file():
        raise ImageError(f"{source}: no such file or folder")
    with workspace(folder) as work:
        root = work / "root"
        with source.open("rb") as file:
            is_squashfs = file.read(4) == b"hsqs"
        if is_squashfs:
            require_tools("unsquashfs")
            parts = ["boot", "lib/modules", "usr/lib/modules", HOST_KEYS]
            run(["unsquashfs", "-no-progress", "-quiet", "-no-xattrs", "-d", root, source, *parts], say)
            return add_root(
                root, folder, name, squashfs=source, kernel=kernel, initrd=initrd, disk_bytes=disk_bytes, say=say
            )
        root.mkdir()
        try:
            run(["tar", "--numeric-owner", "--xattrs", "-xpf", source, "-C", root], say)
        except ImageError as error:
            raise ImageError(f"{source} is no squashfs, and cannot be unpacked as a tar: {error}") from None
        return add_root(root, folder, name, kernel=kernel, initrd=initrd, level=level, disk_bytes=disk_bytes, say=say)
