"""`pxeboot status`: who is booting, and how far."""

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from pxeboot.cli import asking, completing, joins, machine_log, reload
from pxeboot.cli.asking import UnixConnection as UnixConnection


def ask(control: Path, path: str) -> dict[str, Any]:
    """Return the daemon's answer; say why there is none, or what it refuses, and exit with status 1."""
    try:
        status, answer = asking.ask(control, path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        click.echo(f"pxeboot status: {asking.no_answer(control, error)}", err=True)
        sys.exit(1)
    if status != 200:
        click.echo(f"pxeboot status: {asking.refusal(control, answer, status)}", err=True)
        sys.exit(1)
    return answer


def ago(seconds: float) -> str:
    """Return a duration as a person says it.

    >>> ago(75)
    '1 min 15 s'
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


LEAST_WHAT = 30
"""Columns of the terminal for what machines do; with less, it goes on lines of its own."""
COLOURS = {
    "failed": "red", "refused": "red", "waiting": "cyan",
    "system": "green", "disk": "green", "joined": "green", "ready": "bold green",
}  # fmt: skip
"""Of the stages; the others are yellow, on the way."""
MOST_POOLS = 12
"""Pools of addresses whose fill is shown, the fullest; all are in the JSON."""


def table(machines: list[dict[str, Any]], now: float, width: int = 120) -> Any:
    """Return the table of all machines; where there is no room beside it, what each does is below it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pxeboot.screen import NARROW, stacked

    if not machines:
        return Text("no machine has booted yet", style="dim")
    pools = any(machine["pool"] for machine in machines)
    intents = any(machine.get("intent", "netboot") != "netboot" for machine in machines)
    columns = ["machine", "address", *["pool"] * pools, *["intent"] * intents, "stage", "since"]
    rows = []
    for machine in machines:
        boot = machine["boot"]
        step = boot["steps"][-1] if boot and boot["steps"] else None
        stage = step["stage"] if step else "-"
        stuck = machine.get("state") == "stuck"
        colour = "bold red" if stuck else COLOURS.get(stage, "yellow")
        cells = [
            Text(machine["name"]),
            Text(machine["ip"] or machine["mac"]),
            *[Text(machine["pool"])] * pools,
            *[Text(machine.get("intent", ""))] * intents,
            Text(stage, style=colour),
            Text(ago(now - step["first_s"]) if step else "-"),
        ]
        what = Text(step["detail"] if step else "")
        if stuck and machine["trouble"] != what.plain:
            what.append(f"{what.plain and chr(10)}{machine['trouble']}", style="red")
            what.append(f" {machine['look'].replace('`', '')}")
        if boot and boot.get("refused"):
            what.append(f"{what.plain and chr(10)}{boot['refused']}", style="red")
        rows.append((cells, what))
    taken = sum(max(len(column), *(cells[i].cell_len for cells, _ in rows)) + 3 for i, column in enumerate(columns))
    if width < max(NARROW, taken + LEAST_WHAT):
        return stacked(columns, rows, width)
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        out.add_column(column, overflow="ellipsis", no_wrap=True)
    out.add_column("what", overflow="fold")
    for cells, what in rows:
        out.add_row(*cells, what)
    return out


def timeline(machine: dict[str, Any]) -> Any:
    """Return the table of one machine's newest boot, a row a step."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    boot = machine["boot"]
    title = f"{machine['name']}  {machine['mac']}  {machine['ip']}"
    if machine.get("intent", "netboot") != "netboot":
        title += f"  boot={machine['intent']}"
    if machine.get("image"):
        name, _, image_id = machine["image"].partition("@")
        title += f"  image={name}{'@' * bool(image_id)}{image_id[:12]}{' once' if machine['image_once'] else ''}"
    if (root := machine.get("root")) is not None:
        title += f"\n{root_line(root)}"
    out = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    if not (boot and boot["steps"]):
        return Text.assemble((title, "bold"), "\nit has not booted yet")
    out.add_column("at", justify="right")
    out.add_column("stage")
    out.add_column("what", overflow="fold")
    for step in boot["steps"]:
        style = COLOURS[step["stage"]] if step["stage"] in ("failed", "refused", "ready") else None
        took = f"{step['first_s'] - boot['started_s']:.1f} s"
        out.add_row(took, step["stage"], Text(step["detail"]), style=style)
    return out


def root_line(root: dict[str, Any]) -> str:
    """Return what a machine's root by NBD is.

    >>> root_line({"image": "node", "id": "ab" * 32, "writable": False, "connections": 1})
    'root: image node abababababab by NBD, connected'
    """
    kind = "a disk of its own over image" if root["writable"] else "image"
    connected = "connected" if root["connections"] else "not connected now"
    return f"root: {kind} {root['image']} {root['id'][:12]} by NBD, {connected}"


def roots(machines: list[dict[str, Any]]) -> list[Any]:
    """Return a line on the machines that have their roots by NBD; none while there are none."""
    from rich.text import Text

    found = [machine["root"] for machine in machines if machine.get("root")]
    if not found:
        return []
    connected = sum(bool(root["connections"]) for root in found)
    plural = "" if len(found) == 1 else "s"
    line = f"{len(found)} machine{plural} booted from NBD, {connected} of them connected"
    return [Text(line, style="dim")]


def other_servers(others: list[dict[str, Any]], now: float) -> list[Any]:
    """Return a line for each DHCP server of somebody else: red if it is in our way, yellow if it might be.

    One that is expected, beside our proxyDHCP, is there to show that it still is.
    """
    from rich.text import Text

    styles = {"conflict": "bold red", "expected": "dim"}
    return [
        Text(
            f"{'the DHCP server beside us' if other['standing'] == 'expected' else 'another DHCP server'}:"
            f" {other['server_id']} ({other['mac'] or 'its MAC was not seen'}) on"
            f" {other['interface']} {other['what']}; seen {ago(now - other['last_seen_s'])} ago",
            style=styles.get(other["standing"], "yellow"),
        )
        for other in others
    ]


def fill(pools: list[dict[str, Any]]) -> list[Any]:
    """Return a line for each pool of addresses that has some left, the fullest first; `troubles` has the others."""
    from rich.text import Text

    some = [pool for pool in pools if pool["used"] < pool["size"]]
    left = sorted(some, key=lambda pool: float(pool["used"] / pool["size"]))
    lines = [
        f"pool {pool['first']}-{pool['last']}: {pool['used']} of {pool['size']} addresses used"
        for pool in reversed(left[-MOST_POOLS:])
    ]
    if len(left) > MOST_POOLS:
        lines.append(f"and {len(left) - MOST_POOLS} more pools, less full (--json has all)")
    return [Text(line, style="dim") for line in lines]


def queue(downloads: dict[str, Any]) -> list[Any]:
    """Return a line on the root images that are being sent; none while there are none."""
    from rich.text import Text

    running, crawling, waiting = downloads["running"], downloads["crawling"], downloads["waiting"]
    if not (running or crawling or waiting):
        return []
    sent = f"{running} of at most {downloads['at_most']} root images are being sent"
    if crawling:
        sent += f", {crawling} more hardly move{'s' if crawling == 1 else ''}"
    if not waiting:
        return [Text(sent, style="dim")]
    return [Text(f"{sent}; {waiting} machine{'s wait' if waiting > 1 else ' waits'} for a turn", style="cyan")]


def troubles(dhcp: dict[str, Any]) -> list[Any]:
    """Return a red line for each thing that keeps DHCP from serving: the disk, an interface, a full pool."""
    from rich.text import Text

    lines = [f"interface {name} is not served: {lacks}" for name, lacks in dhcp["waits"].items()]
    if dhcp["cannot_store"]:
        lines.append(f"no leases are given, because they cannot be stored: {dhcp['cannot_store']}")
    shared = dhcp.get("shared") or {}
    if shared.get("trouble"):
        waiting = dhcp["not_answered"].get("AWAY", 0)
        line = f"leases of cluster {shared['cluster']} cannot be shared: {shared['trouble']}; who has one keeps it"
        lines.append(f"{line}, {waiting} requests of others were not answered")
    full = [pool for pool in dhcp["pools"] if pool["used"] >= pool["size"]]
    lines += [f"the pool {pool['first']}-{pool['last']} has no address left" for pool in full]
    return [Text(line, style="bold red") for line in lines]


def self_test(found: list[dict[str, str]]) -> list[Any]:
    """Return a line for each error and warning of the daemon's self-test, with what to do."""
    from rich.text import Text

    styles = {"error": "bold red", "warning": "yellow"}
    return [
        Text(f"{finding['what']}{': ' * bool(finding['remedy'])}{finding['remedy']}", style=styles[finding["level"]])
        for finding in found
        if finding["level"] in styles
    ]


@click.command()
@click.argument("name", metavar="[NAME|MAC|ADDRESS]", required=False, shell_complete=completing.machines)
@click.option("-c", "--config", "configuration", type=asking.ANY_PATH,
              help=f"The farm's file: where the daemon is.  [default: {asking.FARM}, if there]")  # fmt: skip
@click.option("--control", type=asking.ANY_PATH,
              help=f"The daemon's control socket.  [default: the farm's, else {asking.CONTROL}]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--watch", is_flag=True, help="Go on, and show every change.")
@click.option("--report", is_flag=True, help="With NAME: what the machine said it became.")
@click.option("--log", is_flag=True, help="With NAME: what it and we logged of its newest boot.")
def command(
    name: str | None,
    configuration: Path | None,
    control: Path | None,
    as_json: bool,
    watch: bool,
    report: bool,
    log: bool,
) -> None:
    """Show every machine that boots or has booted, or the newest boot of NAME step by step.

    A machine may be named by a MAC, with colons, dashes, dots or nothing between, or by its address.
    """
    name = asking.named(name)
    if (report or log) and not name:
        raise click.UsageError(f"--{'report' if report else 'log'} needs the NAME of a machine")
    control = asking.control_socket(control, configuration)
    path = f"/v1/machines/{quote(name, safe='')}" if name else "/v1/status"
    if as_json:
        whole = ask(control, f"{path}/log?boot=-1" if log else path)
        if not name:
            whole |= ask(control, "/v1/others") | ask(control, "/v1/findings")
            whole |= {part: ask(control, f"/v1/{part}") for part in ("dhcp", "tftp", "downloads", "nbd")}
        click.echo(json.dumps(whole, indent=2))
        return
    if report:
        click.echo(ask(control, path).get("report", "").rstrip())
        return
    from rich.console import Group
    from rich.live import Live

    from pxeboot import screen

    def view() -> Any:
        answer, now = ask(control, path), time.time()
        if log:
            logged = ask(control, f"{path}/log?boot=-1")["lines"] if answer["boot"] else []
            return machine_log.log_lines(logged, machine_log.begin_of(answer))
        if name:
            return Group(timeline(answer), *machine_log.note_lines(answer["boot"] or {}))
        others = other_servers(ask(control, "/v1/others")["others"], now)
        dhcp = ask(control, "/v1/dhcp")
        sending = queue(ask(control, "/v1/downloads"))
        joining = joins.lines(answer, joins.clusters(answer), now)
        machines = table(answer["machines"], now, console.width)
        return Group(
            *self_test(ask(control, "/v1/findings")["findings"]),
            machines,
            *sending,
            *roots(answer["machines"]),
            *reload.trouble(answer),
            *troubles(dhcp),
            *joining,
            *others,
            *fill(dhcp["pools"]),
        )

    console = screen.console()
    if not watch:
        console.print(view())
        return
    try:
        with Live(view(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(0.5)
                live.update(view(), refresh=True)
    except KeyboardInterrupt:
        return
