"""Which kernel modules an image brings: those that its root needs and its own initrd lacks."""

import gzip
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Collection
from pathlib import Path

from pxeboot.image.store import ImageError
from pxeboot.image.tools import require_tools

NEEDED_MODULES = ("squashfs", "overlay")
"""What a stock Debian initrd lacks for a squashfs root with a writable overlay."""

CHECKSUM = "crc32c_generic"
DISK_MODULES = (CHECKSUM, "ext4")
"""For a root in ext4, in the order in which they load. Debian's initrd has them, unless it was made to be small. Newer
kernels have the checksum without a module."""

_HEADER = 110
_TRAILER = b"TRAILER!!!"


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


def module_closure(
    root: Path, kernel_version: str, *, disk: bool = False, in_initrd: Collection[str] = ()
) -> list[Path]:
    """Return the modules a stock initrd lacks, each after those it depends on. Built-in ones are left out.

    With `disk`, those for a root in ext4 as well, unless they are `in_initrd`.

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
    wanted = list(NEEDED_MODULES)
    if disk:
        wanted += [name for name in DISK_MODULES if name not in in_initrd]
    for name in wanted:
        if name in builtin or (name == CHECKSUM and name not in needs):
            continue
        if name not in needs:
            kind = "an ext4" if name in DISK_MODULES else "a squashfs"
            raise ImageError(f"kernel {kernel_version} has no module {name}; {kind} root needs it")
        path, dependencies = needs[name]
        # modules.dep lists the nearest dependency first; the farthest one has to be loaded first.
        chain = (inside(root, base / p) for p in [*reversed(dependencies), path])
        ordered += [module for module in chain if module not in ordered]
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


def in_initrd(initrd: Path) -> set[str]:
    """Return the names of the kernel modules in an initrd; empty for one of a kind that we do not know.

    It is one or several newc archives (microcode first), the last one compressed.
    """
    try:
        rest = initrd.read_bytes()
        names: set[str] = set()
        while rest:
            if rest.startswith((b"070701", b"070702")):
                found, end = _names(rest)
                names |= found
                rest = rest[end:].lstrip(b"\0")
            elif (plain := _decompressed(rest)) is not None:
                rest = plain
            else:
                break
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, subprocess.CalledProcessError):
        return set()
    return names


def _decompressed(data: bytes) -> bytes | None:
    """Return what a compressed archive holds; None if it is of a kind that we do not know."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return lzma.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd") and shutil.which("zstd") is not None:
        return subprocess.run(["zstd", "-dc"], input=data, check=True, capture_output=True).stdout
    return None


def _names(archive: bytes) -> tuple[set[str], int]:
    """Return the modules of a newc archive, and where it ends. Raises `ValueError` for one that is cut off."""
    names: set[str] = set()
    at = 0
    while True:
        header = archive[at : at + _HEADER]
        size, name_size = int(header[54:62], 16), int(header[94:102], 16)
        path = archive[at + _HEADER : at + _HEADER + name_size - 1]
        at = -(-(at + _HEADER + name_size) // 4) * 4
        at = -(-(at + size) // 4) * 4
        if path == _TRAILER:
            return names, at
        file = path.rpartition(b"/")[2]
        if b"/modules/" in path and b".ko" in file:
            names.add(file.decode(errors="replace").partition(".ko")[0].replace("-", "_"))
