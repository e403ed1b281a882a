"""Making images: from Debian packages, or from a root that somebody made otherwise.

Everything heavy is done by the tools that distributions are made with: mmdebstrap, mksquashfs, unsquashfs, tar.
What we add is the choice of the kernel, its initrd and the modules that a stock initrd lacks.
"""

import gzip
import lzma
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pxeboot.image import store
from pxeboot.image.store import ImageError, StoredImage

Say = Callable[[str], None]

BASE_PACKAGES = (
    "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "procps", "ca-certificates",
    "initramfs-tools", "busybox", "zstd", "nbd-client",
)  # fmt: skip
KERNEL_PACKAGE = "linux-image-amd64"

NEEDED_MODULES = ("squashfs", "overlay")
"""What a stock Debian initrd lacks for a squashfs root with a writable overlay."""

HOST_KEYS = "etc/ssh/ssh_host_*_key"
"""Where a root's private SSH host keys are."""

NOT_IN_AN_IMAGE = ("doc", "man", "info", "locale", "lintian")


def require_tools(*names: str) -> None:
    """Raise `ImageError` that names every command that is not installed, and its Debian package."""
    packages = {"mksquashfs": "squashfs-tools", "unsquashfs": "squashfs-tools", "grub-mknetdir": "grub-common"}
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        wanted = " ".join(sorted({packages.get(name, name) for name in missing}))
        raise ImageError(f"{', '.join(missing)} not found; apt-get install {wanted}")


def run(argv: Sequence[str | Path], say: Say) -> None:
    """Run a command; show its last lines if it fails. Raises `ImageError`."""
    say("  " + " ".join(str(word) for word in argv)[:160])
    result = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if result.returncode != 0:
        tail = "\n".join(result.stdout.splitlines()[-15:])
        raise ImageError(f"{Path(argv[0]).name} failed with status {result.returncode}:\n{tail}")


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
        run([hook.resolve(), root], say)


def clean(root: Path) -> None:
    """Take out what must differ from machine to machine, or is of no use in an image."""
    (root / "etc/machine-id").write_text("")
    for path in root.glob("etc/ssh/ssh_host_*"):
        path.unlink()
    for path in root.glob("var/cache/apt/*.bin"):
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


def inside(root: Path, path: Path) -> Path:
    """Return `path` if it lies in `root`, links and all; a root that somebody made must not publish our own files.

    Raises `ImageError` if it does not.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise ImageError(f"{path} leads out of the root")
    return path


def only_modules(root: Path) -> str:
    """Return the one kernel version that the root has modules for. Raises `ImageError` for none or several."""
    versions = {path.parent.name for path in root.glob("*/modules/*/modules.dep")}
    versions |= {path.parent.name for path in root.glob("usr/lib/modules/*/modules.dep")}
    if len(versions) != 1:
        found = ", ".join(sorted(versions)) or "none"
        raise ImageError(f"the kernel's file name says no version and the root has modules for: {found}")
    return versions.pop()


def module_closure(root: Path, kernel_version: str) -> list[Path]:
    """Return the modules a stock initrd lacks, each after those it depends on. Built-in ones are left out.

    Raises `ImageError` if the root has no module index for this kernel, or lacks one of them.
    """
    base = root / "usr/lib/modules" / kernel_version
    if not base.is_dir():
        base = root / "lib/modules" / kernel_version
    try:
        index = inside(root, base / "modules.dep").read_text()
        built_in = inside(root, base / "modules.builtin").read_text()
    except OSError as error:
        raise ImageError(f"no kernel modules for {kernel_version} in the root: {error}") from None
    builtin = {Path(line).name.split(".")[0] for line in built_in.splitlines()}
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in index.splitlines():
        path, _, rest = line.partition(":")
        needs[Path(path).name.split(".")[0]] = (path, rest.split())
    ordered: list[Path] = []
    for name in NEEDED_MODULES:
        if name in builtin:
            continue
        if name not in needs:
            raise ImageError(f"kernel {kernel_version} has no module {name}; a squashfs root needs it")
        path, dependencies = needs[name]
        # modules.dep lists the nearest dependency first; the farthest one has to be loaded first.
        wanted = (inside(root, base / p) for p in [*reversed(dependencies), path])
        ordered += [module for module in wanted if module not in ordered]
    return ordered


def unpacked(module: Path) -> bytes:
    """Return a module's bytes without its compression. busybox insmod takes plain ones only. Raises `ImageError`."""
    try:
        match module.suffix:
            case ".xz":
                return lzma.decompress(module.read_bytes())
            case ".gz":
                return gzip.decompress(module.read_bytes())
            case ".zst":
                require_tools("zstd")
                return subprocess.run(["zstd", "-dc", module], check=True, capture_output=True).stdout
            case _:
                return module.read_bytes()
    except (OSError, EOFError, zlib.error, lzma.LZMAError, subprocess.CalledProcessError) as error:
        raise ImageError(f"the module {module} cannot be unpacked: {error}") from None


def squash(root: Path, squashfs: Path, level: int, say: Say) -> None:
    """Pack a root folder. Every file is in it but /boot, which the machine gets by other names."""
    require_tools("mksquashfs")
    argv: list[str | Path] = ["mksquashfs", root, squashfs, "-comp", "zstd", "-Xcompression-level", str(level)]
    run([*argv, "-noappend", "-no-progress", "-xattrs", "-wildcards", "-e", "boot/*"], say)


def add_root(
    root: Path,
    folder: Path,
    name: str,
    *,
    squashfs: Path | None = None,
    kernel: Path | None = None,
    initrd: Path | None = None,
    level: int = 15,
    say: Say,
) -> StoredImage:
    """Add a root folder (and its squashfs, if it is already packed) to the image store `folder` as `name`."""
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
        for number, module in enumerate(module_closure(root, version)):
            plain = module.name.split(".")[0]
            (staged / store.MODULES / f"{number:02}-{plain}.ko").write_bytes(unpacked(module))
        if squashfs is None:
            squash(root, staged / store.SQUASHFS, level, say)
        else:
            shutil.copyfile(squashfs, staged / store.SQUASHFS)
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
    say: Say,
) -> StoredImage:
    """Build an image from Debian's packages alone. Raises `ImageError`."""
    with workspace(folder) as work:
        root = work / "root"
        debian_root(root, suite=suite, packages=packages, kernel=kernel, hooks=hooks, say=say)
        clean(root)
        return add_root(root, folder, name, level=level, say=say)


def add(
    folder: Path,
    name: str,
    source: Path,
    *,
    kernel: Path | None = None,
    initrd: Path | None = None,
    level: int = 15,
    say: Say,
) -> StoredImage:
    """Add a squashfs, a tar or a root folder that somebody made otherwise. Raises `ImageError`."""
    if source.is_dir():
        return add_root(source, folder, name, kernel=kernel, initrd=initrd, level=level, say=say)
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
            return add_root(root, folder, name, squashfs=source, kernel=kernel, initrd=initrd, say=say)
        root.mkdir()
        run(["tar", "--numeric-owner", "--xattrs", "-xpf", source, "-C", root], say)
        return add_root(root, folder, name, kernel=kernel, initrd=initrd, level=level, say=say)
