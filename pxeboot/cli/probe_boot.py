"""`pxeboot probe boot`: walk the whole chain of a boot, and say what is wrong where."""

import json
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from pxeboot.cli import probe_places

if TYPE_CHECKING:
    from config.interfaces import Link
    from pxeboot.probe.boot import Walk
    from pxeboot.probe.client import Client
    from pxeboot.probe.walk import Hop

_STYLES = {"fine": "green", "note": "yellow", "wrong": "bold red", "skipped": "dim"}
_ORDER = 13


@click.command(short_help="Walk the whole way of a boot, and say what is wrong where.")
@click.option("--interface", help="Boot on this one; it needs no address. Default: the only one that is up.")
@click.option("--arch", default="uefi-x64", show_default=True, metavar="NAME|CODE",
              help="What the machine is: bios, uefi-x64, uefi-x64-http, ... or the number of option 93.")  # fmt: skip
@click.option("--class", "kind", type=click.Choice(["pxe", "http", "ipxe"]),
              help="How it boots.  [default: as --arch says, else pxe]")  # fmt: skip
@click.option("--mac", help="The machine's MAC. Default: a random one, so that no machine is disturbed.")
@click.option("--yes", is_flag=True, help="With --mac: that machine is off, and may be played.")
@click.option("--timeout", type=click.FloatRange(min=0.1, max=300), default=3.0, show_default=True, metavar="S",
              help="Listen for DHCP answers for so many seconds.")  # fmt: skip
@click.option("--http-port", type=click.IntRange(1, 65535), default=80, show_default=True, metavar="N",
              help="The server's HTTP port, where the boot loader does not tell it (BIOS).")  # fmt: skip
@click.option("--nbd-port", type=click.IntRange(1, 65535), default=10809, show_default=True, metavar="N",
              help="The server's NBD port.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    interface: str | None,
    arch: str,
    kind: str | None,
    mac: str | None,
    yes: bool,
    timeout: float,
    http_port: int,
    nbd_port: int,
    as_json: bool,
) -> None:
    """Boot as a machine would, but for the kernel: DHCP, TFTP, GRUB's menu, HTTP, NBD.

    It takes an address, has it beside those of the interface meanwhile, and gives it back. The server answers it as
    it would the machine, and begins no boot by that: no status, no alert, no join. Needs root.

    Exit status: 0 if a machine would boot, 1 if not, with what is wrong and where; 2 if that cannot be told from
    here, since this is the server itself.
    """
    from pxeboot.probe.client import Client, Kind, architecture

    if mac is not None and not yes:
        raise click.UsageError(
            "--mac plays a machine that there is, and has its address meanwhile. Add --yes if it is off, or leave"
            " --mac out"
        )
    chosen = Kind(kind) if kind else Kind.HTTP if arch.endswith("-http") else Kind.PXE
    try:
        machine, card = architecture(arch, chosen), probe_places.mac_of(mac)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    interface = interface or probe_places.only_interface()
    try:
        import pxeboot.probe.boot as probing
    except ImportError as error:
        _fail(f"{error}; install what it needs: pip install 'pxeboot[probe]'")
    link = _link(interface)
    client = Client(chosen, machine, card, marked=True)
    for number in (signal.SIGTERM, signal.SIGHUP):  # what was taken is given back on the way out
        signal.signal(number, lambda *_: sys.exit(1))
    show = _silently if as_json else _Screen(client, interface).show
    walk = probing.Walk(client, link, timeout, show, http_port, nbd_port)
    try:
        walk.run()
    except OSError as error:
        _fail(f"cannot probe on {interface}: {probe_places.why(error)}")
    except KeyboardInterrupt:
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(_json(client, interface, walk), indent=2))
    else:
        _end(walk)
    sys.exit(1 if walk.wrong else 0 if walk.here is None else 2)


def _fail(why: str) -> NoReturn:
    click.echo(f"pxeboot probe: {why}", err=True)
    sys.exit(1)


def _link(interface: str) -> "Link":
    from config.interfaces import links

    found = links([interface]).get(interface)
    if found is None:
        _fail(f"cannot probe on {interface}: there is no such interface")
    if not found.mac:
        _fail(f"cannot probe on {interface}: it is no Ethernet interface")
    return found


def _json(client: "Client", interface: str, walk: "Walk") -> dict[str, object]:
    from pxeboot.probe.walk import as_json

    return {
        "interface": interface,
        "mac": client.mac.hex(":"),
        "class": client.kind.value,
        "architecture": client.architecture.name,
        "steps": as_json(walk.hops),
        "problems": [problem.what for hop in walk.hops for problem in hop.problems],
        "not_from_here": None if walk.here is None else walk.here.why,
    }


class _Screen:
    """Shows the steps as they end: a row each, with what is wrong below it."""

    def __init__(self, client: "Client", interface: str) -> None:
        from rich.text import Text

        from pxeboot import screen

        self.console = screen.console()
        what = f"{client.mac.hex(':')}, {client.architecture.words} ({client.kind.value}), boots on {interface}"
        self.console.print(Text(what, style="bold"), soft_wrap=True)
        self.console.print()

    def show(self, hop: "Hop") -> None:
        """Print a step."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 2, 0, 0))
        for width in (_ORDER, 7, 9):
            row.add_column(width=width)
        row.add_column(overflow="fold")
        took = "" if hop.took_s is None else _took(hop.took_s)
        lines = [Text(hop.detail)] if hop.detail else []
        for number, problem in enumerate(hop.problems, 1):
            lines.append(Text(problem.what, style="bold red"))
            again = any(later.remedy == problem.remedy for later in hop.problems[number:])
            lines += [Text(f"→ {problem.remedy}")] * (bool(problem.remedy) and not again)
        lines += [Text(note, style="yellow") for note in hop.notes]
        left = Text(hop.step), Text(hop.grade.value, style=_STYLES[hop.grade.value]), Text(took, justify="right")
        row.add_row(*left, Group(*lines))
        self.console.print(row)


def _silently(_: "Hop") -> None:
    """Show nothing yet."""


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _end(walk: "Walk") -> None:
    from rich.text import Text

    from pxeboot import screen

    console = screen.console()
    console.print()
    where = [hop.step for hop in walk.hops if hop.problems]
    if walk.here is not None:
        if where:
            console.print(Text(f"What is wrong is at: {', '.join(where)}.", style="bold red"))
        for line in probe_places.not_from_here(walk.here):
            console.print(line)
    elif where == ["link"]:
        console.print(Text("Nothing was tried: see link.", style="bold red"))
    elif where:
        console.print(
            Text(f"A machine would not boot well. What is wrong is at: {', '.join(where)}.", style="bold red")
        )
    else:
        console.print(Text("A machine would boot.", style="bold green"))
