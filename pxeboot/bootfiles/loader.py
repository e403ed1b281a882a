"""GRUB's network images for BIOS and UEFI, made from Debian's GRUB packages."""

import logging
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

PLATFORMS = {"i386-pc": "grub-pc-bin", "x86_64-efi": "grub-efi-amd64-bin"}
"""GRUB platform → the Debian package that holds its modules."""

FOLDER = "grub"
"""The folder below the served root, and so the prefix that is compiled into the images."""

BUILT_IN = "normal http linux tftp net echo test sleep reboot all_video"
"""Modules put into the images, so that a boot does not fetch each of them by TFTP."""

GRUB_LIBRARY = Path("/usr/lib/grub")

STAMP = "made-from"
"""The file beside the images that says what they were made from."""

WORK = ".grub-"
"""What the folders begin with that images are made in."""

ASK_EVERY_S = 0.05


class LoaderError(Exception):
    """GRUB's images cannot be made; the text says what to install."""


class Halted(Exception):
    """We were told to stop before the images were made."""


def ensure(served: Path, halted: Callable[[], bool] = lambda: False) -> None:
    """Make GRUB's images below `served`, if they are not there or another GRUB is installed than they were made from.

    They appear all at once or not at all. Images stay as they are where GRUB is not installed. Blocks for a second
    or two, or until `halted`, which is asked often. The folder must be ours alone. Raises `LoaderError`, `Halted`.
    """
    sweep(served)
    there = all((served / FOLDER / platform).is_dir() for platform in PLATFORMS)
    missing = [package for platform, package in PLATFORMS.items() if not (GRUB_LIBRARY / platform).is_dir()]
    if shutil.which("grub-mknetdir") is None:
        missing.append("grub-common")
    if missing:
        if there:
            return
        raise LoaderError(f"GRUB is not installed; apt-get install {' '.join(missing)}")
    stamp = made_from()
    if there and _read(served / FOLDER / STAMP) == stamp:
        return
    try:
        _make(served, stamp, halted)
    except LoaderError as error:
        if not there:
            raise
        log.warning("GRUB's images stay as they were: %s", error)


def made_from() -> str:
    """Return what images made now are made from: the modules in them, and the GRUB that is installed."""
    lines = [BUILT_IN]
    for platform in PLATFORMS:
        for name in ("kernel.img", "moddep.lst"):
            path = GRUB_LIBRARY / platform / name
            try:
                found = path.stat()
                lines.append(f"{path} {found.st_size} {found.st_mtime_ns}")
            except OSError as error:
                lines.append(f"{path} {error.strerror}")
    return "\n".join(lines) + "\n"


def sweep(served: Path) -> None:
    """Remove what a pxeboot that was killed left half made."""
    for left in served.glob(f"{WORK}*"):
        shutil.rmtree(left, ignore_errors=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _make(served: Path, stamp: str, halted: Callable[[], bool]) -> None:
    served.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=WORK, dir=served) as work:
        argv = ["grub-mknetdir", f"--net-directory={work}", f"--subdir={FOLDER}", f"--modules={BUILT_IN}"]
        status, said = _run(argv, halted)
        if status != 0:
            raise LoaderError(f"grub-mknetdir failed: {said.strip().splitlines()[-1:]}")
        made = Path(work) / FOLDER
        made.chmod(0o755)
        (made / STAMP).write_text(stamp, encoding="utf-8")
        if (served / FOLDER).exists():
            (served / FOLDER).rename(Path(work) / "old")
        made.rename(served / FOLDER)
        os.sync()


def _run(argv: list[str], halted: Callable[[], bool]) -> tuple[int, str]:
    """Run a command, and return its exit status and what it said. Whatever happens, it has ended."""
    # In a session of its own, so that what it starts can be ended with it, and a terminal's ^C is ours to handle.
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            while not halted():
                with suppress(subprocess.TimeoutExpired):
                    said, _ = process.communicate(timeout=ASK_EVERY_S)
                    return process.returncode, said
            raise Halted(argv[0])
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
