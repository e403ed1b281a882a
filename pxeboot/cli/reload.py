"""`pxeboot reload`: have the daemon read the farm's file again, and say what came of it."""

import http.client
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pxeboot.cli import asking

if TYPE_CHECKING:
    from rich.text import Text

PATIENCE_S = 60.0
"""Reading 10,000 machines takes the daemon half a second; a slow disk may take longer."""


@click.command()
@click.option("-c", "--config", "configuration", type=asking.ANY_PATH,
              help=f"The farm's file: where the daemon is.  [default: {asking.FARM}, if there]")  # fmt: skip
@click.option("--control", type=asking.ANY_PATH,
              help=f"The daemon's control socket.  [default: the farm's, else {asking.CONTROL}]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(configuration: Path | None, control: Path | None, as_json: bool) -> None:
    """Have the daemon read its farm's file again now.

    It does so by itself a second after the file changed. Exit status: 0 if the daemon serves what the file says, 1 if
    the file is refused, and what was served before stays.
    """
    control = asking.control_socket(control, configuration)
    try:
        code, answer = asking.ask(control, "/v1/reload", method="PUT", patience_s=PATIENCE_S)
    except (OSError, http.client.HTTPException, ValueError) as error:
        click.echo(f"pxeboot reload: {asking.no_answer(control, error)}", err=True)
        sys.exit(1)
    if code != 200:
        click.echo(f"pxeboot reload: {answer.get('error', code)}", err=True)
        sys.exit(1)
    refused = answer["result"] == "refused"
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        sys.exit(1 if refused else 0)
    for line in answer["mistakes"]:
        click.echo(line, err=True)
    for line in answer["needs_restart"]:
        click.echo(f"needs a restart: {line}", err=True)
    click.echo(said(answer), err=refused)
    sys.exit(1 if refused else 0)


def said(answer: Mapping[str, Any]) -> str:
    """Return in a line what came of it."""
    path = answer["configuration"]["path"]
    match answer["result"]:
        case "taken":
            return f"{path} is served from now on: read in {answer['took_s']:.2f} s"
        case "unchanged":
            return f"{path} says what is served"
        case _:
            return f"{path} is refused, and what was served before stays"


def trouble(answer: Mapping[str, Any]) -> "list[Text]":
    """Return, of what the status says, a red line for a file that is refused, and a yellow one for each setting that
    waits for a restart."""
    from rich.text import Text

    stands = answer.get("configuration") or {}
    lines = []
    if stands.get("refused"):
        mistakes = stands["refused"]
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        lines.append(Text(f"{stands['path']} is refused, and what was served before stays", style="bold red"))
        lines.append(Text(f"  {mistakes[0]}{more}", style="red"))
    lines += [Text(f"needs a restart: {line}", style="yellow") for line in stands.get("needs_restart", ())]
    return lines
