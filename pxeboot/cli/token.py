"""`pxeboot token`: the join tokens that the controller made, and how to take them back. No secret is ever shown."""

import http.client
import json
import re
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from pxeboot.cli import asking
from pxeboot.cli.status import ago

SOCKET = Path("/run/pxeboot-controller/controller.sock")
PATIENCE_S = 15.0
"""The controller asks the API server in between."""
ID = re.compile("[a-z0-9]{6}")


def controller_socket(socket: Path | None, given: Path | None) -> Path:
    """Return where the controller is asked: the socket that was given, else that of the farm, else the usual one.

    A farm's file that was not given, and is wrong, counts as none.
    """
    if socket is not None:
        return socket
    if given is not None:
        return asking.loaded(given).server.controller
    from config.load import ConfigErrors, load

    usual = asking.farm_file(None)
    try:
        return load(usual).server.controller if usual else SOCKET
    except ConfigErrors:
        return SOCKET


def no_answer(socket: Path, error: OSError | http.client.HTTPException | ValueError) -> str:
    """Return why there is no answer, for whoever asked."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return f"no controller has its socket at {socket}; is `pxeboot controller` running on this machine?"
        case ConnectionRefusedError():
            return f"no controller listens at {socket} any more; is `pxeboot controller` running?"
        case PermissionError():
            return f"{socket}: only root and the socket's group may ask"
        case TimeoutError():
            return f"the controller at {socket} does not answer in time"
        case OSError() if error.strerror:
            return f"no answer at {socket}: {error.strerror}"
        case _:
            return f"what answers at {socket} is no `pxeboot controller`"


def failed(why: str) -> None:
    """Say on standard error what went wrong."""
    click.echo(f"pxeboot token: {why}", err=True)


def ask(socket: Path, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    """Return the controller's (HTTP status, answer); say why there is none, and exit with status 1."""
    try:
        return asking.ask(socket, path, method=method, patience_s=PATIENCE_S)
    except (OSError, http.client.HTTPException, ValueError) as error:
        failed(no_answer(socket, error))
        sys.exit(1)


def tokens(socket: Path) -> list[dict[str, Any]]:
    """Return the tokens that the controller knows of, newest last; exit with status 1 if it does not say."""
    status, answer = ask(socket, "/v1/tokens")
    if status != 200 or not isinstance(answer.get("tokens"), list):
        failed(str(answer.get("error", f"what answers at {socket} is no `pxeboot controller`")))
        sys.exit(1)
    # Picked one by one, so that nothing is printed that nobody thought of.
    keys = ("cluster", "id", "node", "boot", "made_s", "expires_s", "state")
    return sorted(({key: token[key] for key in keys} for token in answer["tokens"]), key=lambda t: t["made_s"])


def ends(token: dict[str, Any], now_s: float) -> str:
    """Return when a token ends, as a person says it.

    >>> ends({"expires_s": 300.0}, 240.0)
    'in 1 min 0 s'
    """
    left_s = token["expires_s"] - now_s
    return f"in {ago(left_s)}" if left_s >= 0 else f"{ago(-left_s)} ago"


def table(found: list[dict[str, Any]], now_s: float, width: int) -> Any:
    """Return the tokens as a table; where there is no room beside it, the state of each is below it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pxeboot.screen import NARROW, stacked

    if not found:
        return Text("there is no token", style="dim")
    columns = ["token", "cluster", "node", "made", "ends"]
    rows = []
    for token in found:
        over = token["expires_s"] < now_s
        cells = [
            Text(token["id"]),
            Text(token["cluster"]),
            Text(token["node"]) if token["node"] else Text("all machines", style="dim"),
            Text(f"{ago(max(0.0, now_s - token['made_s']))} ago"),
            Text(ends(token, now_s), style="red" if over else ""),
        ]
        rows.append((cells, Text(token["state"])))
    if width < NARROW:
        return stacked(columns, rows, width)
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        out.add_column(column, overflow="ellipsis", no_wrap=True)
    out.add_column("state", overflow="fold")
    for cells, state in rows:
        out.add_row(*cells, state)
    return out


@click.group()
def command() -> None:
    """Show the join tokens that the controller made, or take some back.

    The controller is asked on its unix socket, on the machine where it runs. Secrets never leave it this way: a token
    is known by its first six letters, its id.
    """


_config = click.option(
    "-c", "--config", "configuration", type=asking.ANY_PATH,
    help=f"The farm's file: where the controller is.  [default: {asking.FARM}, if there]",
)  # fmt: skip
_socket = click.option("--socket", type=asking.ANY_PATH,
                       help=f"The controller's socket.  [default: the farm's, else {SOCKET}]")  # fmt: skip
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@command.command("list")
@_config
@_socket
@_json
def show(configuration: Path | None, socket: Path | None, as_json: bool) -> None:
    """Show who has a token, until when, and what it waits for."""
    found = tokens(controller_socket(socket, configuration))
    if as_json:
        click.echo(json.dumps({"tokens": found}, indent=2))
        return
    from pxeboot import screen

    console = screen.console()
    console.print(table(found, time.time(), console.width))


@command.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_config
@_socket
@_json
def revoke(ids: tuple[str, ...], configuration: Path | None, socket: Path | None, as_json: bool) -> None:
    """Delete tokens: no machine joins with them any more.

    A machine that has joined stays. One that has not is told at its next boot another token, or, where machines share
    one, as soon as the controller has made another.
    """
    for wanted in ids:
        if not ID.fullmatch(wanted):
            # What was typed may be a whole token, and is not repeated.
            raise click.UsageError(
                "an ID is the six letters or digits before a token's dot; `pxeboot token list` has it"
            )
    path = controller_socket(socket, configuration)
    found = tokens(path)
    chosen = [token for wanted in dict.fromkeys(ids) for token in found if token["id"] == wanted]
    if unknown := sorted(set(ids) - {token["id"] for token in chosen}):
        failed(f"the controller knows no token {', '.join(unknown)}; nothing was deleted")
        sys.exit(1)
    revoked, wrong = [], False
    for token in chosen:
        where = f"/v1/tokens/{quote(token['cluster'], safe='')}/{token['id']}"
        status, answer = ask(path, where, "DELETE")
        if status in (200, 404):  # gone in between is as good
            revoked.append(token)
            if not as_json:
                whose = f"of {token['node']}" if token["node"] else "that machines share; another one is made"
                click.echo(f"deleted token {token['id']} in {token['cluster']}, {whose}")
        else:
            wrong = True
            failed(f"{token['id']} in {token['cluster']} is still there: {answer.get('error', status)}")
    if as_json:
        click.echo(json.dumps({"revoked": [{"cluster": t["cluster"], "id": t["id"]} for t in revoked]}, indent=2))
    sys.exit(1 if wrong else 0)
