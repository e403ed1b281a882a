"""How commands find the farm's file and the running daemon, and why there is no answer, in plain words."""

import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from config.model import Farm

FARM = Path("/etc/pxeboot/farm.yaml")
CONTROL = Path("/run/pxeboot/control.sock")
PATIENCE_S = 5.0
LISTED = "; `pxeboot node` lists those that there are"


class _Path(click.Path):
    """A path that click does not try to read: whoever may not is told so in our words, with exit status 1."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. An empty word, as of a variable that is not set, would be the folder we are in."""
        if value == "":
            self.fail("an empty word is no path", param, ctx)
        return super().convert(value, param, ctx)


ANY_PATH = _Path(path_type=Path, readable=False)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, patience_s: float = PATIENCE_S) -> None:
        """Talk to the daemon whose control socket is at `path`."""
        super().__init__("pxeboot", timeout=patience_s)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises `OSError`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(
    control: Path, path: str, *, method: str = "GET", body: object = None, patience_s: float = PATIENCE_S
) -> tuple[int, dict[str, Any]]:
    """Return the daemon's (HTTP status, answer). Raises `OSError`, `http.client.HTTPException` or `ValueError`."""
    connection = UnixConnection(control, patience_s)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError("no JSON object")
    return response.status, answer


def named(word: str | None) -> str | None:
    """Return the word for a machine. Raises `click.UsageError` for an empty one, as of a variable that is not set."""
    if word is not None and not word.strip():
        raise click.UsageError("an empty word names no machine")
    return word


def refusal(control: Path, answer: dict[str, Any], status: int) -> str:
    """Return why the daemon refuses something; of a machine that nobody knows, with the name that is nearest."""
    said = str(answer.get("error", f"{control} answers with status {status}"))
    word = answer.get("unknown")
    return f"{said}{_alike(control, word)}" if isinstance(word, str) else said


def _alike(control: Path, word: str) -> str:
    """Return "; did you mean ...?", or what shows the machines that there are."""
    from pxeboot.meant import alike

    try:
        _, names = ask(control, "/v1/names")
        macs, machines = dict(names["macs"]), [*names["machines"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ""
    return alike(word, machines, macs) or LISTED


def no_answer(control: Path, error: OSError | http.client.HTTPException | ValueError) -> str:
    """Return why `ask` raised, for whoever asked."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return f"no daemon has its control socket at {control}; is `pxeboot serve` running?"
        case ConnectionRefusedError():
            return f"no daemon listens at {control} any more; is `pxeboot serve` running?"
        case PermissionError():
            return f"{control}: only root and the socket's group may ask"
        case TimeoutError():
            return f"the daemon at {control} does not answer in time"
        case OSError() if error.strerror:
            return f"no answer at {control}: {error.strerror}"
        case _:
            return f"what answers at {control} is no `pxeboot serve`"


def farm_file(given: Path | None) -> Path | None:
    """Return the farm's file: the one that was given, else the usual one where it can be seen."""
    return given or (FARM if os.access(FARM, os.R_OK) else None)


def loaded(path: Path) -> "Farm":
    """Return a farm; say what is wrong with it and exit with status 1."""
    from config.load import ConfigErrors, load

    try:
        return load(path)
    except ConfigErrors as error:
        click.echo(str(error), err=True)
        sys.exit(1)


def control_socket(control: Path | None, given: Path | None) -> Path:
    """Return where the daemon is asked: the socket that was given, else that of the farm, else the usual one.

    A farm's file that was not given, and is wrong, counts as none: it may be in the middle of a change.
    """
    if control is not None:
        return control
    if given is not None:
        return loaded(given).server.control
    from config.load import ConfigErrors, load

    usual = farm_file(None)
    try:
        return load(usual).server.control if usual else CONTROL
    except ConfigErrors:
        return CONTROL
