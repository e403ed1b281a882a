"""How tables for people fit their terminal."""

import os
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

NARROW = 100
"""Columns. Below, the last column of a wide table is put on lines of its own; a pipe counts as so wide."""
_SHARE = 10
"""Columns of the terminal for each of a table. With fewer, cells stand one after the other, not below each other."""
_GAP = 2
_LEAST = 8


def console() -> Console:
    """Return the terminal, as wide as it is or as COLUMNS says."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console()
    return Console(width=NARROW)


def stacked(columns: Sequence[str], rows: Iterable[tuple[Sequence[Text], Text]], width: int) -> RenderableType:
    """Return a table of short cells, each row with a text below it, for a terminal of `width` columns."""
    listed = [(cells, below) for cells, below in rows]
    widths = [
        max([len(column), *(cells[i].cell_len for cells, _ in listed)]) for i, column in enumerate(columns)
    ]  # fmt: skip
    if width < _SHARE * len(columns) and sum(widths) + _GAP * (len(widths) - 1) > width:
        return _paragraphs(listed)
    while sum(widths) + _GAP * (len(widths) - 1) > width and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    head = [Text(column, style="bold") for column in columns]
    out: list[RenderableType] = [_line(head, widths), Text("─" * min(width, sum(widths) + _GAP * (len(widths) - 1)))]
    for cells, below in listed:
        out.append(_line(cells, widths))
        if below.plain:
            out.append(Padding(below, (0, 0, 0, _GAP)))
    return Group(*out)


def _paragraphs(rows: Iterable[tuple[Sequence[Text], Text]]) -> RenderableType:
    """Return each row as a line that is wrapped between its cells, and the text below it."""
    out: list[RenderableType] = []
    for cells, below in rows:
        said = [cell for cell in cells if cell.plain]
        head = Text.assemble((said[0].plain, "bold")) if said else Text()
        out.append(head)
        rest = (Text("  ").join(said[1:]), below)
        out += [Padding(text, (0, 0, 0, _GAP)) for text in rest if text.plain]
    return Group(*out)


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Table:
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for width in widths:
        grid.add_column(width=width, overflow="fold")
    grid.add_row(*cells)
    return grid
