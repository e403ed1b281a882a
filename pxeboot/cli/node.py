"""`pxeboot node`: what machines are to do when they boot, and how to change it."""

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from pxeboot.cli import asking
from pxeboot.cli.status import ago
from pxeboot.intents import Boot

ALLOWED = "|".join(Boot)


def wanted(words: tuple[str, ...]) -> tuple[list[str], Boot | None]:
    """Return (names, boot) of the words of a command line. Raises `click.UsageError`.

    >>> wanted(("m1", "m2", "boot=local"))
    (['m1', 'm2'], <Boot.LOCAL: 'local'>)
    """
    names = list(dict.fromkeys(word for word in words if "=" not in word))
    for word in names:
        if word in list(Boot):
            raise click.UsageError(f"do you mean boot={word}?")
    boot = None
    for key, _, value in (word.partition("=") for word in words if "=" in word):
        if key != "boot":
            raise click.UsageError(f"{key!r} cannot be changed; boot={ALLOWED} can")
        if value not in list(Boot):
            raise click.UsageError(f"boot={value}: it must be one of {ALLOWED}")
        if boot is not None and boot != value:
            raise click.UsageError(f"boot={boot} or boot={value}?")
        boot = Boot(value)
    return names, boot


def ask(control: Path, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Return the daemon's answer; say why there is none, or what it refuses, and exit with status 1."""
    try:
        status, answer = asking.ask(control, path, method=method, body=body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        click.echo(f"pxeboot node: {asking.no_answer(control, error)}", err=True)
        sys.exit(1)
    if status != 200:
        click.echo(f"pxeboot node: {answer.get('error', status)}", err=True)
        sys.exit(1)
    return answer


def line(node: dict[str, Any], now_s: float) -> str:
    """Return what one machine is to do, in a line."""
    whence = node["origin"]
    if node["since_s"] is not None:
        whence += f", {ago(max(0.0, now_s - node['since_s']))} ago"
        if node["configured"] is not None:
            whence += f"; the farm's file says {node['configured']}"
    return f"{node['name']}  boot={node['boot']}  ({whence})"


def members(control: Path, pool: str) -> list[str]:
    """Return the names of a pool's machines; exit with status 1 if there is no such pool, or nobody in it."""
    answer = ask(control, "GET", "/v1/nodes")
    if pool not in answer["pools"]:
        known = ", ".join(answer["pools"]) or "none"
        click.echo(f"pxeboot node: no pool {pool!r} is in the farm's file; it has {known}", err=True)
        sys.exit(1)
    names = [node["name"] for node in answer["nodes"] if node["pool"] == pool]
    if not names:
        click.echo(f"pxeboot node: the farm's file lists no machine of pool {pool!r}", err=True)
        sys.exit(1)
    return names


@click.command()
@click.argument("words", nargs=-1, metavar="[NAME|MAC]... [boot=netboot|local|refuse|once]")
@click.option("--pool", "pools", multiple=True, help="All machines that the farm's file lists in POOL (repeatable).")
@click.option("-c", "--config", "configuration", type=asking.ANY_PATH,
              help=f"The farm's file: where the daemon is.  [default: {asking.FARM}, if there]")  # fmt: skip
@click.option("--control", type=asking.ANY_PATH,
              help=f"The daemon's control socket.  [default: the farm's, else {asking.CONTROL}]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    words: tuple[str, ...],
    pools: tuple[str, ...],
    configuration: Path | None,
    control: Path | None,
    as_json: bool,
) -> None:
    """Show what machines do when they boot, or change it from their next boot on.

    boot=netboot: from the network, every time. boot=local: from their own disk. boot=refuse: not at all, and they
    are told so. boot=once: from the network one time, from then on from their own disk. A change lasts, over the
    restart of the daemon too, until the next. Without a NAME, shows all machines.
    """
    names, boot = wanted(words)
    if boot is not None and not names and not pools:
        raise click.UsageError(f"boot={boot} of which machines? Give a NAME, or --pool POOL")
    control = asking.control_socket(control, configuration)
    chosen = list(dict.fromkeys([*names, *(name for pool in pools for name in members(control, pool))]))
    if boot is not None:
        nodes = ask(control, "PUT", "/v1/nodes", {"names": chosen, "boot": boot})["nodes"]
    elif chosen:
        nodes = [ask(control, "GET", f"/v1/nodes/{quote(name, safe='')}") for name in chosen]
    else:
        nodes = ask(control, "GET", "/v1/nodes")["nodes"]
    if as_json:
        click.echo(json.dumps({"nodes": nodes}, indent=2))
        return
    now_s = time.time()
    for node in nodes:
        click.echo(line(node, now_s))
