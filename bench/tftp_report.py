"""What was measured, as a table of ratios, and whether it is enough. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

OURS = "pxeboot"


class Scenario(StrEnum):
    """What is measured."""

    ONE = "one"
    """curl, alone."""
    EIGHT = "eight"
    """Eight curls at once."""
    WINDOW = "window"
    """atftp with windowsize 16."""


@dataclass(frozen=True, slots=True)
class Target:
    """What we are to reach: so many times the fastest of some peers."""

    label: str
    times: float
    peers: tuple[str, ...]

    @property
    def wanted(self) -> str:
        """The target as a person reads it."""
        best = self.peers[0] if len(self.peers) == 1 else "the best"
        return f">= {self.times:g} x {best}"


TARGETS: Mapping[Scenario, Target] = {
    Scenario.ONE: Target("curl, one client, MB/s", 1.0, ("dnsmasq",)),
    Scenario.EIGHT: Target("curl, eight clients at once, MB/s", 1.0, ("dnsmasq", "tftpd-hpa", "atftpd")),
    Scenario.WINDOW: Target("atftp, windowsize 16, MB/s", 2.0, ("atftpd",)),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: a file, or eight, fetched from one server."""

    size_bytes: int
    """Of all files together."""
    took_s: float
    cpu_s: float
    """Of the server."""
    clients_s: float = 0.0
    """Of all clients."""
    others: float = 0.0
    """Processors that somebody else used meanwhile, who disturbs the measurement."""

    @property
    def mb_per_s(self) -> float:
        """Megabytes a second."""
        return self.size_bytes / self.took_s / 1e6

    @property
    def cpu_per_gb(self) -> float:
        """The server's processor seconds for 10^9 bytes."""
        return self.cpu_s * 1e9 / self.size_bytes


Results = Mapping[tuple[Scenario, str], Sequence[Run]]
"""One run for each round, by scenario and server."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    label: str
    values: Mapping[str, float]
    """A figure for each server."""
    ratio: float | None = None
    """Our median against that of the fastest of the target's peers."""
    wanted: str = ""
    reached: bool | None = None


def rows(results: Results) -> list[Row]:
    """Return two lines for each scenario that was measured: how fast, and what it cost the server."""
    table: list[Row] = []
    for scenario, target in TARGETS.items():
        runs = {name: items for (which, name), items in results.items() if which is scenario and items}
        if not runs:
            continue
        speed = {name: median(run.mb_per_s for run in items) for name, items in runs.items()}
        best = max((speed[name] for name in target.peers if name in speed), default=0.0)
        ratio = speed[OURS] / best if best and OURS in speed else None
        reached = None if ratio is None else ratio >= target.times
        # tftpd-hpa has nobody wait for its children, so nobody learns what they used.
        cpu = {name: used for name, items in runs.items() if (used := median(run.cpu_per_gb for run in items)) > 0.1}
        table.append(Row(target.label, speed, ratio, target.wanted, reached))
        table.append(Row("   the server's processor, in s for each GB", cpu))
    return table


def missed(table: Sequence[Row]) -> list[Row]:
    """Return the lines whose target was measured and not reached."""
    return [row for row in table if row.reached is False]


def render(table: Sequence[Row], names: Sequence[str]) -> str:
    """Return the table as text, with a column for each of `names`."""
    head = ["", *names, "ratio", "wanted", ""]
    lines = [head]
    for row in table:
        figures = [f"{row.values[name]:.2f}" if name in row.values else "-" for name in names]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = {True: "reached", False: "MISSED", None: ""}[row.reached]
        lines.append([row.label, *figures, ratio, row.wanted, verdict])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for line in lines:
        cells = (
            cell.ljust(width) if column in (0, len(head) - 2) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line[:-1], widths, strict=False))
        )
        text.append("   ".join((*cells, line[-1])).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)
