"""Running the tools that images are made with."""

import os
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pxeboot.image.store import ImageError

Say = Callable[[str], None]
"""Shows a step to whoever waits for it."""

PACKAGES = {
    "mksquashfs": "squashfs-tools",
    "unsquashfs": "squashfs-tools",
    "grub-mknetdir": "grub-common",
    "mke2fs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
}
"""Command → Debian package, where they differ."""


def require_tools(*names: str) -> None:
    """Raise `ImageError` that names every command that is not installed, and its Debian package."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        wanted = " ".join(sorted({PACKAGES.get(name, name) for name in missing}))
        raise ImageError(f"{', '.join(missing)} not found; apt-get install {wanted}")


def run(
    argv: Sequence[str | Path], say: Say, settings: Mapping[str, str] | None = None, called: str | None = None
) -> None:
    """Run a command, with `settings` in its environment; show its last lines if it fails. Raises `ImageError`.

    `called` is what it is called in what is said of it, if that is not its first word.
    """
    say("  " + textwrap.shorten(" ".join(str(word) for word in argv), 160, placeholder=" ..."))
    environment = {**os.environ, **(settings or {})}
    result = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    )
    if result.returncode != 0:
        tail = "\n".join(result.stdout.splitlines()[-15:])
        raise ImageError(f"{called or Path(argv[0]).name} failed with status {result.returncode}:\n{tail}")
