"""`pxeboot image`: build, add, list and remove images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pxeboot.cli import asking
from pxeboot.cli.image_remove import STORE, fail, prune, remove, store_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from pxeboot.image.store import StoredImage


def say(text: str) -> None:
    """Show a step to whoever waits for it."""
    click.echo(text, err=True)


store_option = click.option(
    "--store", "folder", type=asking.ANY_PATH, default=STORE, show_default=True, help="The image store."
)
ext4_option = click.option(
    "--ext4",
    "size",
    metavar="SIZE",
    help="Also as a disk of SIZE (such as 4G) that machines can write to, for pools with `writable`.",
)
level_option = click.option(
    "--level",
    type=click.IntRange(1, 22),
    default=15,
    show_default=True,
    help="zstd level of the squashfs; 3 packs twenty times faster and 15 % larger.",
)


@click.group()
def command() -> None:
    """Make bootable images: immutable, named by their sha256."""


def finish(make: "Callable[[], StoredImage]") -> None:
    """Run `make`, and say what it made, or in words why not."""
    from pxeboot.image.store import ImageError

    try:
        image = make()
    except (ImageError, OSError) as error:
        fail(error)
    say(f"image {image.image_id}, squashfs of {image.size_bytes / 1e6:.1f} MB")
    click.echo(image.folder)


@command.command()
@click.argument("name")
@store_option
@level_option
@ext4_option
@click.option("--suite", default="bookworm", show_default=True, help="The Debian release.")
@click.option("--package", "packages", multiple=True, help="Another package to install (repeatable).")
@click.option(
    "--packages-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with a package a line; # begins a comment.",
)
@click.option("--kernel", default="linux-image-amd64", show_default=True, help="The kernel's package.")
@click.option(
    "--hook",
    "hooks",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A program that is run with the root folder as its argument, to customise it (repeatable).",
)
def build(
    name: str,
    folder: Path,
    level: int,
    size: str | None,
    suite: str,
    packages: tuple[str, ...],
    packages_from: Path | None,
    kernel: str,
    hooks: tuple[Path, ...],
) -> None:
    """Build the image NAME from Debian's packages, and point NAME to it."""
    from pxeboot.image import build as builder
    from pxeboot.image.disk import parse_size

    wanted = list(packages)
    if packages_from is not None:
        try:
            text = packages_from.read_text("utf-8")
        except UnicodeDecodeError:
            raise click.UsageError(f"{packages_from} is no list of packages: it is no text") from None
        except OSError as error:
            fail(error)
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        wanted += [line for line in lines if line]
    finish(
        lambda: builder.build(
            folder,
            name,
            suite=suite,
            packages=wanted,
            kernel=kernel,
            hooks=hooks,
            level=level,
            disk_bytes=parse_size(size) if size else None,
            say=say,
        )
    )


@command.command()
@click.argument("name")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@store_option
@level_option
@ext4_option
@click.option("--kernel", type=click.Path(exists=True, path_type=Path), help="Unless the newest of its /boot.")
@click.option("--initrd", type=click.Path(exists=True, path_type=Path), help="Unless the one of that kernel.")
def add(
    name: str,
    source: Path,
    folder: Path,
    level: int,
    size: str | None,
    kernel: Path | None,
    initrd: Path | None,
) -> None:
    """Add SOURCE (a squashfs, a tar or a root folder) as the image NAME, and point NAME to it."""
    from pxeboot.image import build as builder
    from pxeboot.image.disk import parse_size

    finish(
        lambda: builder.add(
            folder,
            name,
            source,
            kernel=kernel,
            initrd=initrd,
            level=level,
            disk_bytes=parse_size(size) if size else None,
            say=say,
        )
    )


@command.command("list")
@store_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_images(folder: Path, as_json: bool) -> None:
    """List the images of a store, and the names that point to them."""
    import json

    from pxeboot.image import store

    names: dict[str, list[str]] = {}
    try:
        for link in sorted(store_at(folder).iterdir()):
            if link.is_symlink() and not link.name.startswith("."):
                names.setdefault(link.resolve().name, []).append(link.name)
        paths = sorted((folder / store.BY_DIGEST).glob("[0-9a-f]*"))
    except OSError as error:
        fail(error)
    found: list[StoredImage] = []
    for path in paths:
        try:
            found.append(store.open_image(path))
        except store.ImageError as error:
            click.echo(f"pxeboot image: {error}", err=True)
    if not found and not as_json:
        say(f"no image is in {folder}; `pxeboot image build NAME` makes one")
    if as_json:
        listed = [
            {"id": image.image_id, "names": names.get(image.image_id, []), "size_bytes": image.size_bytes}
            for image in found
        ]
        click.echo(json.dumps({"images": listed}))
        return
    for image in found:
        called = " ".join(names.get(image.image_id, []))
        click.echo(f"{image.image_id[:16]}  {image.size_bytes / 1e6:8.1f} MB  {called}")


command.add_command(remove)
command.add_command(prune)
