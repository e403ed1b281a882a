"""`pxeboot status NAME --log`: what a machine sent while it booted, and what we logged about it."""

import time
from collections.abc import Sequence
from typing import Any

BAD = frozenset(("emergency", "alert", "critical", "error"))
COLOURS = dict.fromkeys(BAD, "red") | {"warning": "yellow"}


def log_lines(told: Sequence[dict[str, Any]], begin_s: float) -> Any:
    """Return the lines as a table; `begin_s` is when the boot began, and times are since then."""
    from rich.table import Table
    from rich.text import Text

    if not told:
        return Text(
            "nothing was logged of this boot; machine_logs in the farm's file has us receive more", style="dim"
        )
    out = Table.grid(padding=(0, 2))
    out.add_column(justify="right", no_wrap=True)
    out.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
    out.add_column(overflow="fold")
    for line in told:
        style = COLOURS.get(line["severity"])
        out.add_row(
            f"{line['at_s'] - begin_s:.1f} s", Text(line["source"], style="dim"), Text(line["text"], style or "")
        )
    return out


def note_lines(boot: dict[str, Any]) -> list[Any]:
    """Return a yellow line for each thing that the machine's own log says is wrong."""
    from rich.text import Text

    return [
        Text(f"{note['at_s'] - boot['started_s']:8.1f} s  its log says: {note['text']}", style="yellow")
        for note in boot.get("notes", ())
    ]


def begin_of(machine: dict[str, Any]) -> float:
    """Return when its newest boot began, in seconds since 1970."""
    boot = machine.get("boot")
    return float(boot["started_s"]) if boot else time.time()
