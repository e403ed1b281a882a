"""`pxeboot check --here`: does this host have what serving the farm takes?"""

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from config.model import Farm

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def show(farm: "Farm", summary: str, *, as_json: bool) -> None:
    """Say what is wrong on this host, and exit with status 1 if machines would not boot because of it."""
    from pxeboot.selftest import run
    from pxeboot.selftest.files import look_controller
    from pxeboot.selftest.findings import as_json as values
    from pxeboot.selftest.findings import in_order

    found = in_order([*run.look(farm), *look_controller(farm)])
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
        console.print(Text("This host can serve it.", style="green"))
    sys.exit(1 if wrong else 0)
