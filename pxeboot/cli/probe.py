"""`pxeboot probe`: act as a machine would, and show what it is told."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from pxeboot.cli import probe_boot, probe_places, probe_tftp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from pxeboot.probe.answers import Answer
    from pxeboot.probe.client import Client
    from pxeboot.probe.dhcp import Result
    from pxeboot.probe.words import Here


class _Boots(click.Group):
    """A group whose command is `boot` where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `boot` in front of options that are its own."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["boot", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Boots)
def command() -> None:
    """Act as a machine that boots, and say what is wrong, and where. Without a COMMAND: boot."""


command.add_command(probe_boot.command, "boot")
command.add_command(probe_tftp.command, "tftp")


@command.command(short_help="List every DHCP answer to a machine, and what is wrong with them.")
@click.option("--interface", help="Ask on this one; it needs no address. Default: the only one that is up.")
@click.option("--arch", default="uefi-x64", show_default=True, metavar="NAME|CODE",
              help="What the machine is: bios, uefi-x64, uefi-arm64, ... or the number of option 93.")  # fmt: skip
@click.option("--mac", help="The machine's MAC. Default: a random one.")
@click.option("--class", "kind", type=click.Choice(["pxe", "http", "ipxe", "plain"]), default="pxe", show_default=True,
              help="How it boots; plain: a system that only wants an address.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0.1, max=300), default=5.0, show_default=True, metavar="S",
              help="Listen for so many seconds.")  # fmt: skip
@click.option("--request", is_flag=True, help="Take the address too, and release it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def dhcp(
    interface: str | None, arch: str, mac: str | None, kind: str, timeout: float, request: bool, as_json: bool
) -> None:
    """Ask for an address and something to boot as firmware does, and list every answer.

    Exit status: 0 if exactly one server answers and the machine would boot, 1 if not, with what is wrong; 2 if that
    cannot be told from here, since this is the server itself.
    """
    from pxeboot.probe.client import Client, Kind, architecture

    try:
        client = Client(Kind(kind), architecture(arch, Kind(kind)), probe_places.mac_of(mac), marked=True)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    interface = interface or probe_places.only_interface()
    try:
        import pxeboot.probe.dhcp as probing
    except ImportError as error:
        click.echo(f"pxeboot probe: {error}; install what it needs: pip install 'pxeboot[probe]'", err=True)
        sys.exit(1)
    try:
        result = probing.probe(client, interface, timeout, request=request)
    except OSError as error:
        click.echo(f"pxeboot probe: cannot ask on {interface}: {probe_places.why(error)}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(_json(client, interface, result), indent=2))
    else:
        _show(client, interface, result)
    sys.exit(2 if result.here is not None else 1 if result.problems else 0)


def _json(client: "Client", interface: str, result: "Result") -> dict[str, Any]:
    from pxeboot.explain.as_json import steps_json
    from pxeboot.probe.answers import answer_json

    address_from, boot_from = result.verdict.address_from, result.verdict.boot_from
    return {
        "interface": interface,
        "mac": client.mac.hex(":"),
        "class": client.kind.value,
        "architecture": client.architecture.name,
        "answers": [answer_json(answer) for answer in result.answers],
        "address_from": result.answers.index(address_from) if address_from else None,
        "boot_from": result.answers.index(boot_from) if boot_from else None,
        "next": steps_json(result.verdict.steps),
        "taken": answer_json(result.taken) if result.taken else None,
        "problems": [*result.problems],
        "remedy": result.remedy,
        "not_from_here": None if result.here is None else result.here.why,
    }


def _show(client: "Client", interface: str, result: "Result") -> None:
    from rich.table import Table
    from rich.text import Text

    from pxeboot import screen
    from pxeboot.probe.answers import boot_words

    console = screen.console()
    wide = not console.is_terminal  # whoever reads a pipe wants lines whole, and a person words
    what = client.kind.value if client.kind == "plain" else f"{client.architecture.words} ({client.kind.value})"
    console.print(Text(f"{client.mac.hex(':')}, {what}, asked on {interface}", style="bold"))
    verdict = result.verdict
    for answer in result.answers:
        roles = ["the address"] if answer is verdict.address_from else []
        roles += ["what to boot"] if answer is verdict.boot_from else []
        taken = f": the machine takes {' and '.join(roles)} from it" if roles else ""
        console.print()
        console.print(Text(f"{_title(answer)}{taken}", style="green" if roles else "yellow"), soft_wrap=wide)
        table = Table(box=None, padding=(0, 2), show_header=False)
        table.add_column("field", style="dim")
        table.add_column("value", overflow="fold")
        for field, value in _rows(answer):
            table.add_row(field, Text(value))
        console.print(table)
    console.print()
    if result.here is not None:
        for line in (*probe_places.not_from_here(result.here), *_beside(result.here, result.answers)):
            console.print(line)
        return
    for step in verdict.steps:
        said = Text(f"It {step.what}", style="" if step.ok else "red") + Text(f" ({step.because})", style="dim")
        console.print(said, soft_wrap=wide)
    fails = bool(verdict.steps) and not verdict.steps[-1].ok
    if not fails and verdict.address_from is not None and (client.kind == "plain" or verdict.boot_from is not None):
        boot = f", and boots {boot_words(verdict.boot_from)}" if verdict.boot_from else ""
        console.print(Text(f"The machine takes {verdict.address_from.address}{boot}."), soft_wrap=wide)
    if result.taken is not None and result.taken.message_type == "ACK":
        delay = f"{result.taken.delay_s * 1000:.1f} ms"
        console.print(Text(f"It was given {result.taken.address} after {delay}, and has released it."))
    for problem in result.problems:
        console.print(Text(f"wrong: {problem}", style="bold red"), soft_wrap=wide)
    if result.remedy:
        console.print(Text(f"→ {result.remedy}"), soft_wrap=wide)


def _beside(here: "Here", answers: "Sequence[Answer]") -> "list[Text]":
    """What it means that others than the server of this host answer."""
    from rich.text import Text

    return [Text(f"note: {here.others([answer.name for answer in answers])}", style="yellow")] * bool(answers)


def _title(answer: "Answer") -> str:
    kind = "proxy OFFER" if answer.proxy and answer.message_type == "OFFER" else answer.message_type
    return f"{kind} of {answer.server_id} ({answer.mac}) after {answer.delay_s * 1000:.1f} ms"


def _rows(answer: "Answer") -> list[tuple[str, str]]:
    from pxeboot.probe.answers import vendor_words

    mask = f", mask {answer.subnet_mask}" if answer.subnet_mask else ""
    lease = f", for {answer.lease_s} s" if answer.lease_s is not None else ""
    rows = [
        ("address", f"{answer.address}{mask}{lease}" if answer.address else ""),
        ("routers", ", ".join(map(str, answer.routers))),
        ("boot file", repr(answer.boot_file) if answer.boot_file else ""),
        ("next server", str(answer.next_server or "")),
        ("TFTP server (66)", repr(answer.tftp_server) if answer.tftp_server else ""),
        ("class (60)", repr(answer.vendor_class) if answer.vendor_class else ""),
        ("vendor (43)", "\n".join(vendor_words(answer.vendor_options))),
        ("then", "UEFI firmware asks UDP port 4011 for the file" if answer.asks_4011 else ""),
        ("through relay", str(answer.relay or "")),
        ("says", repr(answer.message) if answer.message else ""),
        ("size", f"{answer.size_bytes} bytes"),
    ]
    return [(field, value) for field, value in rows if value]
