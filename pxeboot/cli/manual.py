"""`pxeboot manual`: the manual pages, put where `man` finds them."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

from pxeboot.cli import asking

FOR_ALL = Path("/usr/local/share/man")
FOR_ONE = Path(".local/share/man")
"""Below one's home; `man` looks there if `.local/bin` beside it is in PATH."""
SECTION = "man1"


def usual() -> Path:
    """Return where the pages go unless it is said: for everybody if we are root, else for who asks."""
    return FOR_ALL if os.geteuid() == 0 else Path.home() / FOR_ONE


def searched() -> list[Path] | None:
    """Return where `man` looks, links followed; None if it is not installed."""
    program = shutil.which("manpath")
    if program is None:
        return None
    told = subprocess.run([program, "-q"], capture_output=True, text=True, check=False).stdout
    return [Path(folder).resolve() for folder in told.strip().split(":") if folder]


def seen(folder: Path) -> str:
    """Return how one looks at the pages that are in `folder`."""
    where = searched()
    if where is None:
        return "`man` is not installed here: apt-get install man-db"
    if folder.resolve() in where:
        return "`man pxeboot` shows the first"
    return f"`man` does not look there by itself: `man -M {folder} pxeboot` shows the first"


@click.command()
@click.argument("folder", required=False, type=asking.ANY_PATH)
def command(folder: Path | None) -> None:
    """Write the manual pages, so that `man pxeboot` works after an installation by pip.

    They go to FOLDER/man1. Without FOLDER: to /usr/local/share/man for everybody if you are root, else to
    .local/share/man of your home. The Debian package has them already.
    """
    from config.durable import replace_file
    from pxeboot.image.store import make_folder
    from pxeboot.reference import manual

    folder = folder or usual()
    made = manual.pages(time.time())
    try:
        make_folder(folder / SECTION)
        for name, text in made.items():
            replace_file(folder / SECTION / name, text.encode(), 0o644)
    except OSError as error:
        click.echo(f"pxeboot manual: {error.filename or folder}: {error.strerror}; give another FOLDER", err=True)
        sys.exit(1)
    click.echo(f"{len(made)} manual pages are in {folder / SECTION}; {seen(folder)}")
