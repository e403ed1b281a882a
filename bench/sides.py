"""Two sides or more of a comparison: who used how much processor time, and the table of what came out."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from bench.dhcp_cpu import machine_s, process_s

OURS = "pxeboot"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    label: str
    values: Mapping[str, float]
    """A figure for each server."""
    digits: int = 0
    """How many stand after the point."""
    ratio: float | None = None
    """Ours against the peer's."""
    wanted: str = ""
    good: bool | None = None
    """Whether what is wanted was reached; None if nothing is wanted, or it was not measured."""


def render(table: Sequence[Row], names: Sequence[str], against: str = "ratio") -> str:
    """Return the table as text, with a column for each of `names`; `against` is the head of the ratios."""
    head = ["", *names, against, "wanted", ""]
    lines = [head]
    for row in table:
        figures = [_figure(row.values.get(name), row.digits) for name in names]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = {True: "reached", False: "MISSED", None: ""}[row.good]
        lines.append([row.label, *figures, ratio, row.wanted, verdict])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for line in lines:
        first, *middle, wanted, verdict = (
            cell.ljust(width) if column in (0, len(head) - 2) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        text.append("   ".join((first, *middle, wanted, verdict.strip())).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


def reached(table: Iterable[Row]) -> bool:
    """Tell whether no line's target was missed."""
    return all(row.good is not False for row in table)


def family(pid: int) -> list[int]:
    """Return a process and all its children that live, theirs included: nginx's work is done by children."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):  # ended since it was listed
                found += map(int, task.read_text().split())
    return found


def used_s(pids: Iterable[int]) -> float:
    """Return the processor time of these processes until now, in seconds: utime and stime, all threads together."""
    return sum(process_s(Path(f"/proc/{pid}/stat").read_text()) for pid in pids)


def family_s(pid: int) -> float:
    """Return the processor time of a server and all below it until now, in seconds, from /proc/PID/stat (proc(5)).

    A child that ended is counted once it is waited for, which `used_s` leaves out; one that runs counts by itself.
    """
    total = 0
    for process in family(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended since it was listed
            continue
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def resident_mb(pids: Iterable[int]) -> float:
    """Return the memory of these processes now, in MB."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Processors:
    """Watches how much of the machine's processors is used by anybody."""

    def __init__(self) -> None:
        self._began = time.monotonic(), machine_s(Path("/proc/stat").read_text())

    def busy(self) -> float:
        """Return how many processors were busy on average since the beginning, interrupts left out."""
        at, used = self._began
        return (machine_s(Path("/proc/stat").read_text()) - used) / max(0.01, time.monotonic() - at)


def _figure(value: float | None, digits: int) -> str:
    if value is None or isnan(value):
        return "-"
    return "never" if value == float("inf") else f"{value:,.{digits}f}"
