"""GRUB's network images for BIOS and UEFI, made from Debian's GRUB packages.

GRUB goes on from the server whose DHCPACK the firmware kept. Beside somebody else's DHCP server, that one has nothing
for it, and what our proxyDHCP offer said GRUB never sees. So each address that we are reached at has images of its
own, made when a machine first asks for one there: they hold a script that goes on from that address.
"""

import io
import logging
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from config.durable import replace_file
from pxeboot.bootfiles import grubcfg

log = logging.getLogger(__name__)

PLATFORMS = {"i386-pc": "grub-pc-bin", "x86_64-efi": "grub-efi-amd64-bin"}
"""GRUB platform → the Debian package that holds its modules."""

FOLDER = "grub"
"""The folder below the served root, and so the prefix that is compiled into the images."""

BUILT_IN = "normal http linux tftp net echo test sleep reboot all_video"
"""Modules put into the images, so that a boot does not fetch each of them by TFTP."""

GRUB_LIBRARY = Path("/usr/lib/grub")


@dataclass(frozen=True, slots=True)
class Kind:
    """How the image of one platform is made."""

    platform: str
    format: str
    """What grub-mkimage calls it."""
    modules: str
    """Those that are put into it, beside `BUILT_IN`: the card's driver, and what it takes to read its own script."""


SCRIPTED = "memdisk tar regexp configfile"

IMAGES: Mapping[str, Kind] = {
    f"{FOLDER}/i386-pc/core.0": Kind("i386-pc", "i386-pc-pxe", f"pxe {SCRIPTED}"),
    f"{FOLDER}/x86_64-efi/core.efi": Kind("x86_64-efi", "x86_64-efi", f"efinet {SCRIPTED}"),
}
"""The name of an image in the served tree → how it is made."""

OWN = "own"
"""The folder, in `FOLDER`, of the images that name their server."""

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


class Images:
    """The images that name their server, below `served`; safe to use from several threads."""

    def __init__(self, served: Path) -> None:
        """`served` is what `ensure` was given. What it makes anew begins without images of ours."""
        self._served = served
        self._making = Lock()
        self._refused: set[str] = set()

    def own(self, name: str, http: str) -> str:
        """Return the name, below `served`, of image `name` that goes on over HTTP from `http` (HOST or HOST:PORT).

        If it is not there it is made, which takes a tenth of a second. Where that cannot be done, `name` itself is
        returned: that image goes on from where the DHCPACK says.
        """
        own = f"{FOLDER}/{OWN}/{http}/{name.removeprefix(f'{FOLDER}/')}"
        if (self._served / own).exists():
            return own
        with self._making:
            if own in self._refused:
                return name
            if not (self._served / own).exists():
                try:
                    self._make(IMAGES[name], http, self._served / own)
                except (LoaderError, OSError) as error:
                    log.warning("machines can boot from %s only if DHCP is ours: %s", http, error)
                    self._refused.add(own)
                    return name
        return own

    def _make(self, kind: Kind, http: str, path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=WORK, dir=self._served) as work:
            image = Path(work) / path.name
            disk = Path(work) / "script.tar"
            disk.write_bytes(_tar(f"{FOLDER}/grub.cfg", grubcfg.first(http).encode()))
            argv = ["grub-mkimage", f"--format={kind.format}", f"--directory={GRUB_LIBRARY / kind.platform}"]
            argv += [f"--memdisk={disk}", f"--prefix=(memdisk)/{FOLDER}", f"--output={image}"]  # in this order
            status, said = _run([*argv, *kind.modules.split(), *BUILT_IN.split()], lambda: False)
            if status != 0:
                raise LoaderError(f"grub-mkimage failed: {said.strip().splitlines()[-1:]}")
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, image.read_bytes(), mode=0o644)


def _tar(name: str, data: bytes) -> bytes:
    """Return an archive with one file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def made_from() -> str:
    """Return what images made now are made from: the modules in them, and the GRUB that is installed."""
    lines = [BUILT_IN, *(f"{name}: {kind.modules}" for name, kind in IMAGES.items()), repr(grubcfg.first(""))]
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
