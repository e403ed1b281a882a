"""`pxeboot node`: what machines are to do when they boot, and how to change it."""

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from pxeboot.cli import asking, completing
from pxeboot.cli.status import ago
from pxeboot.intents import Boot, parse_image

ALLOWED = "|".join(Boot)


def wanted(words: tuple[str, ...], *, once: bool = False) -> tuple[list[str], dict[str, object]]:
    """Return (names, what is to change) of the words of a command line. Raises `click.UsageError`.

    >>> wanted(("m1", "m2", "boot=local"))
    (['m1', 'm2'], {'boot': 'local'})
    """
    names = list(dict.fromkeys(word for word in words if "=" not in word))
    for word in names:
        asking.named(word)
        if word in list(Boot):
            raise click.UsageError(f"do you mean boot={word}?")
    change: dict[str, object] = {}
    for key, _, value in (word.partition("=") for word in words if "=" in word):
        if key not in ("boot", "image"):
            raise click.UsageError(f"{key!r} cannot be changed; boot={ALLOWED} and image=NAME[@ID] can")
        if key == "boot" and value not in list(Boot):
            raise click.UsageError(f"boot={value}: it must be one of {ALLOWED}")
        if key == "image" and value:
            try:
                parse_image(value)
            except ValueError as error:
                raise click.UsageError(f"image={error}") from None
        if change.get(key, value) != value:
            raise click.UsageError(f"{key}={change[key]} or {key}={value}?")
        change[key] = value
    if once:
        if not change.get("image"):
            raise click.UsageError("--once goes with image=NAME; to boot from the network once, say boot=once")
        change["once"] = True
    return names, change


def ask(control: Path, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Return the daemon's answer; say why there is none, or what it refuses, and exit with status 1."""
    try:
        status, answer = asking.ask(control, path, method=method, body=body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        click.echo(f"pxeboot node: {asking.no_answer(control, error)}", err=True)
        sys.exit(1)
    if status != 200:
        click.echo(f"pxeboot node: {asking.refusal(control, answer, status)}", err=True)
        sys.exit(1)
    return answer


def line(node: dict[str, Any], now_s: float) -> str:
    """Return what one machine is to do, in a line."""
    whence = f"{node['by']}, {node['origin']}" if node.get("by") else node["origin"]
    if node["since_s"] is not None:
        whence += f", {ago(max(0.0, now_s - node['since_s']))} ago"
        if node["configured"] is not None:
            whence += f"; the farm's file says {node['configured']}"
    image = ""
    if node.get("image"):
        name, _, image_id = node["image"].partition("@")
        image = f"  image={name}{'@' * bool(image_id)}{image_id[:12]}{', once' if node['image_once'] else ''}"
    return f"{node['name']}  boot={node['boot']}{image}  ({whence})"


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
@click.argument("words", nargs=-1, metavar="[NAME|MAC|ADDRESS]... [boot=netboot|local|refuse|once] [image=NAME[@ID]]",
                shell_complete=completing.words_of_node)  # fmt: skip
@click.option("--pool", "pools", multiple=True, shell_complete=completing.pools,
              help="All machines that the farm's file lists in POOL (repeatable).")  # fmt: skip
@click.option("--once", is_flag=True, help="The image is for the next boot only.")
@click.option("-c", "--config", "configuration", type=asking.ANY_PATH,
              help=f"The farm's file: where the daemon is.  [default: {asking.FARM}, if there]")  # fmt: skip
@click.option("--control", type=asking.ANY_PATH,
              help=f"The daemon's control socket.  [default: the farm's, else {asking.CONTROL}]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    words: tuple[str, ...],
    pools: tuple[str, ...],
    once: bool,
    configuration: Path | None,
    control: Path | None,
    as_json: bool,
) -> None:
    """Show what machines do when they boot, or change it from their next boot on.

    boot=netboot: from the network, every time. boot=local: from their own disk. boot=refuse: not at all, and they
    are told so. boot=once: from the network one time, from then on from their own disk.

    image=NAME: another image of the farm's than their pool's; NAME@ID: this very version of it, by the beginning of
    its digest (`pxeboot image list`). image= (nothing): their pool's again.

    A change holds from their next boot on; nothing that runs is touched. It lasts, over the restart of the daemon
    too, until the next. Without a NAME, shows all machines. A MAC may have colons, dashes, dots or nothing between.
    """
    names, change = wanted(words, once=once)
    if change and not names and not pools:
        said = " ".join(f"{key}={value}" for key, value in change.items() if key != "once")
        raise click.UsageError(f"{said} of which machines? Give a NAME, or --pool POOL")
    control = asking.control_socket(control, configuration)
    chosen = list(dict.fromkeys([*names, *(name for pool in pools for name in members(control, pool))]))
    if change:
        nodes = ask(control, "PUT", "/v1/nodes", {"names": chosen} | change)["nodes"]
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
