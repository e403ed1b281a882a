"""GRUB's network images for BIOS and UEFI, made from Debian's GRUB packages."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PLATFORMS = {"i386-pc": "grub-pc-bin", "x86_64-efi": "grub-efi-amd64-bin"}
"""GRUB platform → the Debian package that holds its modules."""

FOLDER = "grub"
"""The folder below the served root, and so the prefix that is compiled into the images."""

BUILT_IN = "normal http linux tftp net echo test sleep reboot all_video"
"""Modules put into the images, so that a boot does not fetch each of them by TFTP."""

GRUB_LIBRARY = Path("/usr/lib/grub")


class LoaderError(Exception):
    """GRUB's images cannot be made; the text says what to install."""


def ensure(served: Path) -> None:
    """Make GRUB's images below `served` unless they are there; they appear all at once or not at all.

    Blocks for a second or two. Raises `LoaderError`.
    """
    if all((served / FOLDER / platform).is_dir() for platform in PLATFORMS):
        return
    missing = [package for platform, package in PLATFORMS.items() if not (GRUB_LIBRARY / platform).is_dir()]
    if shutil.which("grub-mknetdir") is None:
        missing.append("grub-common")
    if missing:
        raise LoaderError(f"GRUB is not installed; apt-get install {' '.join(missing)}")
    served.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".grub-", dir=served) as work:
        argv = ["grub-mknetdir", f"--net-directory={work}", f"--subdir={FOLDER}", f"--modules={BUILT_IN}"]
        result = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode != 0:
            raise LoaderError(f"grub-mknetdir failed: {result.stdout.strip().splitlines()[-1:]}")
        made = Path(work) / FOLDER
        made.chmod(0o755)
        shutil.rmtree(served / FOLDER, ignore_errors=True)
        made.rename(served / FOLDER)
        os.sync()
