"""`pxeboot image remove` and `pxeboot image prune`: delete images that no machine uses."""

import http.client
import sys
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING, Never

import click

from pxeboot.cli import asking, completing

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    from pxeboot.image.removal import Users

    P = ParamSpec("P")
    T = TypeVar("T")

STORE = Path("/srv/pxeboot/images")


def fail(error: Exception) -> Never:
    """Say in words what went wrong, and exit with status 1."""
    from pxeboot.plainly import plainly

    words = plainly(error, "give --store a folder of yours") if isinstance(error, OSError) else str(error)
    click.echo(f"pxeboot image: {words}", err=True)
    sys.exit(1)


def users_at(control: Path, *, force: bool) -> "Users":
    """Return who says which machines use an image: the daemon at `control`. With `force`, its word does not count."""
    from pxeboot.image.store import ImageError

    def users(image_id: str) -> list[str]:
        try:
            status, answer = asking.ask(control, f"/v1/images/{image_id}/users")
            if status != 200:
                raise ValueError(answer.get("error", status))
        except (OSError, http.client.HTTPException, ValueError) as error:
            if force:
                return []
            reason = asking.no_answer(control, error)
            raise ImageError(f"{reason} Only it knows who reads an image; --force removes it all the same") from None
        found = [f"{user['who']} {user['how']}" for user in answer["users"]]
        if found and force:
            click.echo(f"pxeboot image: {image_id[:16]} goes although {', '.join(found)}", err=True)
            return []
        return found

    return users


def _options(function: "Callable[P, T]") -> "Callable[P, T]":
    for option in (
        click.option("--store", "folder", type=asking.ANY_PATH, default=STORE, show_default=True,
                     help="The image store."),
        click.option("--force", is_flag=True, help="Also when machines use it, or no daemon can say so."),
        click.option("-c", "--config", "configuration", type=asking.ANY_PATH,
                     help=f"The farm's file: where the daemon is.  [default: {asking.FARM}, if there]"),
        click.option("--control", type=asking.ANY_PATH,
                     help=f"The daemon's control socket.  [default: the farm's, else {asking.CONTROL}]"),
    ):  # fmt: skip
        function = option(function)
    return function


def store_at(folder: Path) -> Path:
    """Return the folder of an image store; say that there is none and exit with status 1."""
    from pxeboot.image.store import ImageError

    try:
        there = S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except OSError as error:
        fail(error)
    if not there:
        fail(ImageError(f"there is no image store at {folder}; `pxeboot image build NAME` makes one"))
    return folder


@click.command()
@click.argument("image", metavar="NAME|ID", shell_complete=completing.images)
@_options
def remove(image: str, folder: Path, force: bool, configuration: Path | None, control: Path | None) -> None:
    """Remove the image NAME with its version, or the version ID.

    A version that another name has too stays, and so does one that a machine reads, has booted, or is about to fetch;
    then nothing changes. The daemon is asked. An ID may be its first 6 digits or more.
    """
    from pxeboot.image import removal
    from pxeboot.image.store import ImageError

    try:
        users = users_at(asking.control_socket(control, configuration), force=force)
        for line in removal.remove(store_at(folder), image, users):
            click.echo(f"removed: {line}" if not line.startswith("not ") else line)
    except (ImageError, OSError) as error:
        fail(error)


@click.command()
@click.option("--keep", type=click.IntRange(0), default=0, show_default=True,
              help="So many of the newest versions without a name stay.")  # fmt: skip
@_options
def prune(keep: int, folder: Path, force: bool, configuration: Path | None, control: Path | None) -> None:
    """Remove the versions that no name points to and that no machine uses.

    What a machine uses stays, and is said. The daemon is asked.
    """
    from pxeboot.image import removal
    from pxeboot.image.store import ImageError

    try:
        users = users_at(asking.control_socket(control, configuration), force=force)
        for image_id, used in removal.prune(store_at(folder), keep, users):
            click.echo(f"removed: version {image_id[:16]}" if used is None else str(used))
    except (ImageError, OSError) as error:
        fail(error)
