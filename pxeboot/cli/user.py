"""`pxeboot user`: who may change what machines boot, on the web page."""

import sys
from pathlib import Path
from typing import NoReturn

import click

from pxeboot.cli import asking


@click.command()
@click.argument("name")
@click.option("--file", "path", type=asking.ANY_PATH,
              help="Set the line in FILE, which `web.users` names; it is printed unless given.")  # fmt: skip
@click.option("--remove", is_flag=True, help="Take NAME out of FILE.")
def command(name: str, path: Path | None, remove: bool) -> None:
    """Make the line for a person who may change what machines boot on the web page, with a password.

    The password is asked for on the terminal, or is the first line of standard input; never an argument, which
    everybody on the host could read. The running daemon reads FILE again by itself.
    """
    from pxeboot.web import passwords

    if not passwords.NAME.fullmatch(name):
        raise click.UsageError(f"{name!r} cannot be a name; use letters, digits, '.', '_', '@' and '-', 64 at most")
    if remove and path is None:
        raise click.UsageError("--remove from which file? Give --file FILE")
    text = _read(path) if path is not None else ""
    listed = any(line.strip().partition(":")[0] == name for line in text.splitlines())
    if remove and not listed:
        _fail(f"{path} lists no {name}")
    kept = None if remove else passwords.keep(_password(name, passwords.LEAST))
    if path is None:
        click.echo(f"{name}:{kept}")
        return
    _write(path, passwords.replaced(text, name, kept))
    done = "is not in" if remove else "has a new password in" if listed else "is in"
    click.echo(f"{name} {done} {path}, which its group may read: {path.group()}")


def _password(name: str, least: int) -> str:
    """Return the password; exit with status 1 if it is none."""
    if sys.stdin.isatty():
        password = click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt="The same again", err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < least:
        _fail(f"a password has {least} characters or more")
    return str(password)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{path} cannot be read: {error.strerror if isinstance(error, OSError) else 'it is no text'}")


def _write(path: Path, text: str) -> None:
    from config.durable import replace_file

    try:
        replace_file(path, text.encode())
    except OSError as error:
        _fail(f"{path} cannot be written: {error.strerror}")


def _fail(why: str) -> NoReturn:
    click.echo(f"pxeboot user: {why}", err=True)
    sys.exit(1)
