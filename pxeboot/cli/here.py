"""`pxeboot check --here`: does this host have what serving the farm takes?"""

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from config.model import Farm
    from pxeboot.selftest.findings import Finding

WITHOUT_ROOT = "without root"
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def look(farm: "Farm") -> "list[Finding]":
    """Return what is wrong on this host, as far as whoever asks may see.

    What a person may not do says nothing about the daemon, except in a container, where both are the same user.
    """
    from config.advice import advice
    from pxeboot.selftest import run
    from pxeboot.selftest.files import look_controller
    from pxeboot.selftest.findings import Finding, in_order
    from pxeboot.selftest.pod import surroundings
    from pxeboot.selftest.ports import answering

    daemon, found = None, []
    try:
        daemon = answering(farm.server.control)
    except PermissionError:
        what = f"whether a pxeboot serve runs already cannot be asked: {farm.server.control} is for root and its group"
        found.append(Finding("note", "control socket", what))
    found += [*run.look(farm, daemon), *look_controller(farm)]
    found += [Finding("note", "farm", line) for line in advice(farm) if farm.server.interfaces]
    powerless = any(finding.about == "capabilities" for finding in found)
    if powerless and (daemon is not None or not surroundings().container):
        what = "this was looked at without root, who alone sees whose a port is, and the rules of the firewall"
        found = [finding for finding in found if finding.about not in ("capabilities", "firewall")]
        found.append(Finding("note", WITHOUT_ROOT, what, "sudo pxeboot check --here FILE"))
    return in_order(found)


def show(farm: "Farm", summary: str, *, as_json: bool) -> None:
    """Say what is wrong on this host, and exit with status 1 if machines would not boot because of it."""
    from pxeboot.selftest.findings import as_json as values

    found = look(farm)
    wrong = any(finding.level == "error" for finding in found)
    if as_json:
        click.echo(json.dumps({"mistakes": [], "findings": values(found)}, indent=2))
        sys.exit(1 if wrong else 0)
    from rich.table import Table
    from rich.text import Text

    from pxeboot import screen

    console = screen.console()
    console.print(Text(summary), soft_wrap=True)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=7)
    table.add_column(overflow="fold")
    for finding in found:
        table.add_row(Text(finding.level, style=_STYLES[finding.level]), Text(finding.what))
        if finding.remedy:
            table.add_row("", Text(f"→ {finding.remedy}"))
    console.print(table)
    if wrong:
        console.print(Text("Machines would not boot from this host.", style="bold red"))
    else:
        partly = any(finding.about == WITHOUT_ROOT for finding in found)
        seen = ", as far as one sees without root" if partly else ""
        console.print(Text(f"This host can serve it{seen}.", style="green"))
    sys.exit(1 if wrong else 0)
