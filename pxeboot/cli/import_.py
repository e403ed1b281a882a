"""`pxeboot import`: what people have, as a farm's file."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pxeboot.cli import asking

if TYPE_CHECKING:
    from pxeboot.imports.found import Imported, Source

_FILE = click.argument("file", type=asking.ANY_PATH)
_OUTPUT = click.option(
    "-o", "--output", type=asking.ANY_PATH, help="Write the farm there, and not to standard output."
)
_FORCE = click.option("--force", is_flag=True, help="Replace a file that is there.")
_JSON = click.option("--json", "as_json", is_flag=True, help="An object with `farm`, `left` and `todo`.")
_PRIVATE = 0o600
_PUBLIC = 0o644

EPILOG = """Exit status: 0 if everything came along; 1 if something did not, or nothing could be read. What did not is
on standard error, with FILE:LINE:COLUMN, and at the top of the farm's file."""


class Failed(click.ClickException):
    """The text says why nothing was imported; exit status 1."""

    def show(self, file: Any = None) -> None:
        """Print it on standard error."""
        click.echo(f"pxeboot import: {self.message}", err=True)


@click.group(epilog=EPILOG)
def command() -> None:
    """Turn the configuration of another boot server into a farm's file.

    It is written to standard output. Each value says which line it comes from; what cannot be carried over is said.
    """


@command.command(epilog=EPILOG)
@_FILE
@_OUTPUT
@_FORCE
@_JSON
def kubefarm(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Take the machines, tags and node settings of kubefarm's values.yaml."""
    from pxeboot.imports import kubefarm as reader

    finish("kubefarm", [file], output, lambda sources: reader.read(sources[0]), as_json=as_json, force=force)


@command.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=asking.ANY_PATH, metavar="FILE...")
@_OUTPUT
@_FORCE
@_JSON
def dnsmasq(files: tuple[Path, ...], output: Path | None, force: bool, as_json: bool) -> None:
    """Take the DHCP and TFTP of dnsmasq.conf, and of the files that it names."""
    from pxeboot.imports import dnsmasq as reader

    def read(sources: "Sequence[Source]") -> "Imported":
        return reader.read(sources, beside(files[0]))

    finish("dnsmasq", files, output, read, as_json=as_json, force=force)


@command.command(epilog=EPILOG)
@_FILE
@_OUTPUT
@_FORCE
@_JSON
def dhcpd(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Take ISC's dhcpd.conf, and the files that it includes."""
    from pxeboot.imports import dhcpd as reader

    def read(sources: "Sequence[Source]") -> "Imported":
        return reader.read(sources[0], beside(file))

    finish("dhcpd", [file], output, read, as_json=as_json, force=force)


@command.command(epilog=EPILOG)
@_FILE
@_OUTPUT
@_FORCE
@_JSON
def kea(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Take Kea's kea-dhcp4.conf, which is JSON with comments."""
    from pxeboot.imports import kea as reader

    finish("kea", [file], output, lambda sources: reader.read(sources[0]), as_json=as_json, force=force)


def finish(
    kind: str,
    files: Sequence[Path],
    output: Path | None,
    read: "Callable[[Sequence[Source]], Imported]",
    *,
    as_json: bool,
    force: bool,
) -> None:
    """Read the files, write the farm, say what was left out, and exit."""
    from pxeboot.imports.found import NotReadable
    from pxeboot.imports.sound import sound
    from pxeboot.imports.write import text

    if output is not None and output.exists() and not force:
        raise Failed(f"{output} is there already; --force replaces it")
    sources = [source(file) for file in files]
    try:
        imported = sound(read(sources))
    except NotReadable as error:
        raise Failed(str(error)) from None
    if as_json:
        left = [asdict(one) for one in imported.left]
        click.echo(json.dumps({"farm": imported.farm, "left": left, "todo": imported.todo}, indent=2))
    written = text(imported, f"pxeboot import {kind} {shlex.join(map(str, files))}")
    if output is not None:
        write(output, written, secret="root_password_hash" in imported.farm.get("node", {}))
    elif not as_json:
        click.echo(written, nl=False)
    say(imported, output, as_json=as_json)
    sys.exit(1 if any(one.lost for one in imported.left) else 0)


def say(imported: "Imported", output: Path | None, *, as_json: bool) -> None:
    """Say on standard error what was left out, what is to be done, and what there is now."""
    if not as_json:
        for one in imported.left:
            click.echo(str(one), err=True)
        for line in imported.todo:
            click.echo(f"to do: {line}", err=True)
    if output is not None:
        from config.model import Farm
        from pxeboot.cli.check import counted

        lost = sum(one.lost for one in imported.left)
        rest = f"; {lost} {'thing' if lost == 1 else 'things'} did not come along" if lost else ""
        click.echo(f"{output}: {counted(Farm.model_validate(imported.farm))}{rest}", err=True)


def source(file: Path) -> "Source":
    """Return one file that was named; say why it cannot be read and exit with status 1."""
    from pxeboot.imports.found import Source

    try:
        return Source(str(file), file.read_bytes().decode("utf-8-sig", "backslashreplace"))
    except OSError as error:
        raise Failed(f"{file} cannot be read: {error.strerror}") from None


def beside(first: Path) -> "Callable[[str, bool], Sequence[Source] | str]":
    """Return what opens the files that other files name: where they say, else beside the first file.

    Who imports on another machine than the old server's has copied its files, and not to the same place.
    """
    from pxeboot.imports.found import Source

    def found(path: Path) -> Path:
        near = first.parent / path.name
        return first.parent / path if not path.is_absolute() else path if path.exists() or not near.exists() else near

    def opened(name: str, folder: bool) -> "Sequence[Source] | str":
        path = found(Path(name))
        try:
            paths = sorted(one for one in path.iterdir() if one.is_file()) if folder else [path]
            return [Source(str(one), one.read_bytes().decode("utf-8", "backslashreplace")) for one in paths]
        except (OSError, ValueError) as error:
            return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"

    return opened


def write(path: Path, text: str, *, secret: bool) -> None:
    """Write the farm's file. With a password's hash in it, it is for its owner alone."""
    try:
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE if secret else _PUBLIC),
            "w",
            encoding="utf-8",
        ) as file:
            if secret:
                os.fchmod(file.fileno(), _PRIVATE)
            file.write(text)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}") from None
