"""A root folder to run node/'s scripts in: busybox as in a stock initrd, and what node.cpio brings."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

from tests.support.cpio_reader import Unpacked
from tests.support.segment import lacking

ROOT = "system"
"""The folder of the system that is prepared, below the initramfs."""

_ENTER = 'mount -o bind /dev "$0/dev" && exec chroot "$0" "$@"'


def install(program: str, root: Path, name: str | None = None) -> None:
    """Put a program of ours and its libraries into `root`, at /bin/`name`."""
    path = shutil.which(program)
    if path is None:
        lacking(f"needs {program}")
    (root / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, root / "bin" / (name or program))
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+) \(0x", listed):
        place = root / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, place)


def busybox_root(root: Path, shell: str) -> Path:
    """Make a root with busybox, its applets, and `shell` (busybox or dash) as /bin/sh."""
    install("busybox", root)
    for name in ("proc", "sys", "dev", "run", "tmp", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet not in ("busybox", "sh"):
            (root / "bin" / applet).symlink_to("busybox")
    if shell == "dash":
        install("dash", root, "sh")
    else:
        (root / "bin/sh").symlink_to("busybox")
    return root


def unpack_into(root: Path, entries: dict[str, Unpacked]) -> None:
    """Write an archive's entries below `root`, as the kernel does."""
    for path, entry in entries.items():
        place = root / path
        if entry.is_folder:
            place.mkdir(exist_ok=True)
            place.chmod(entry.permissions)
        elif entry.target is not None:
            place.symlink_to(entry.target)
        else:
            place.write_bytes(entry.data)
            place.chmod(entry.permissions)


PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def inside(root: Path, *argv: str, path: str = PATH) -> list[str]:
    """Return a command that runs `argv` with `root` as its root, in a mount namespace: no mount of it outlives it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        lacking("needs root and unshare, to run scripts in a root of their own")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, str(root)]
    return [*command, "/bin/env", "-i", f"PATH={path}", *argv]


def run_inside(root: Path, *argv: str, path: str = PATH) -> subprocess.CompletedProcess[str]:
    """Run a command with `root` as its root, to its end."""
    return subprocess.run(inside(root, *argv, path=path), capture_output=True, text=True, check=False, timeout=30)


def mode(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.lstat().st_mode)
