"""An explanation for a person who was woken up by it: what becomes of the machine, what it does next, each field."""

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from config.marks import Where
from dhcp.models import Step
from dhcp.replies import EVERYBODY
from dhcp.request import BOOT_SERVER_PORT
from pxeboot.explain.compare import Compared
from pxeboot.explain.explanation import Answer, Explanation
from pxeboot.explain.ground import Source
from pxeboot.explain.in_short import in_short
from pxeboot.explain.rows import Row
from pxeboot.screen import NARROW, stacked

_QUIET = ("op", "htype", "hlen", "hops", "xid", "secs", "chaddr")
"""Fields that are the same in every answer, or the client's own: in one line."""


def show(console: Console, one: Explanation, *, title: str, notes: Iterable[str] = ()) -> None:
    """Print an explanation."""
    console.print(Text(title, style="bold"), soft_wrap=True)
    for note in notes:
        console.print(Text(f"  {note}", style="dim"), soft_wrap=True)
    console.print(Text(in_short(one), style="bold green" if one.boots else "bold red"))
    console.print()
    console.print(_summary(one))
    if one.answer is not None:
        console.print()
        console.print(_table(one.answer, console.width))
        for heading, rows in (
            ("no room for", one.answer.left_out),
            ("configured, and not sent", one.answer.not_sent),
        ):
            if rows:
                console.print(Text(f"{heading}:", style="bold"))
                console.print(_unsent(rows, console.width))
    if one.boot_server is not None:
        second = one.boot_server
        console.print()
        show(console, second, title=f"then it asks UDP {BOOT_SERVER_PORT}, and is told:")


def show_compared(console: Console, one: Compared, title: str) -> None:
    """Print one request of a capture, beside what was really answered."""
    show(console, one.explanation, title=title)
    if not one.real:
        console.print(Text("in the capture: nobody answered it", style="dim"))
        return
    for real in one.real:
        console.print()
        head = f"in the capture: {real.server} answered it in frame {real.captured.number}"
        if one.explanation.answer is None:
            console.print(Text(f"{head}; we would not", style="bold"))
        elif not real.differs:
            console.print(Text(f"{head}, as we would", style="bold green"))
        else:
            console.print(Text(f"{head}; ours differs in", style="bold"))
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
            for column in ("field or option", real.server, "ours"):
                table.add_column(column, overflow="fold", ratio=None if column == "field or option" else 1)
            for difference in real.differs:
                table.add_row(difference.name, Text(difference.theirs or "-"), Text(difference.ours or "-"))
            console.print(table)
    who = one.explanation.model.value
    console.print(_block("so it", one.took, who))
    if one.would_take:
        console.print(_block("with ours too", one.would_take, who))


def _summary(one: Explanation) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("what", style="dim", no_wrap=True)
    table.add_column("words", overflow="fold")
    for name, words in _lines(one):
        table.add_row(name, words)
    return table


def _lines(one: Explanation) -> Iterator[tuple[str, Text]]:
    if one.answer is None:
        yield "answer", Text("none", style="bold red")
    else:
        answer = one.answer
        size = f"{len(answer.packed.data)} of {answer.send.size_limit} bytes"
        delay = f", {answer.send.delay_s:g} s late by a quirk" if answer.send.delay_s else ""
        good = "bold green" if one.boots else "bold yellow"
        yield "answer", Text(f"{answer.kind}, {size}{delay}", style=good)
    if one.problem is not None:
        yield "wrong", Text(one.problem.words, style="bold red")
        yield "change", Text(one.problem.advice) + _at(one.problem.where)
    yield from _steps("next", one.steps, one.model.value)
    if one.intent is not None:
        style = "" if one.intent.intent.boot == "netboot" else "bold yellow"
        said = Text(f"{one.intent.intent.boot}", style=style) + Text(f" ({one.intent.intent.origin})")
        yield "intent", said + _at(one.intent.where) + Text(f": {one.intent.follows}")
    if one.network is not None:
        yield "network", _sourced(one.network)
    if one.answer is not None:
        message, to = one.answer.send.message, one.answer.send.destination
        probe = "; looked for by ARP before it is offered" if one.answer.probed else ""
        yield "address", Text(f"{message.yiaddr}, ") + _sourced(one.answer.address) + Text(probe)
        where = f"{to.hardware.hex(':')}, " if to.hardware is not None else ""
        at = f"{where}{to.address}:{to.port}" if to.address != EVERYBODY else f"{to.address}:{to.port}"
        yield "goes to", Text(f"{at}, ") + _sourced(one.answer.destination)
    deciding = [quirk for quirk in one.quirks if quirk.decides]
    for i, quirk in enumerate(deciding):
        words = Text(quirk.name, style="cyan") + Text(f" decides {', '.join(quirk.decides)}") + _at(quirk.where)
        if quirk.source:
            words += Text(f" [{quirk.source}]", style="dim")
        yield ("quirks" if not i else ""), words
    if one.beside is not None:
        offers = f"another server is taken to offer {one.beside.yiaddr}, and nothing to boot"
        yield "beside us", Text(offers)


def _steps(name: str, steps: Sequence[Step], who: str) -> Iterator[tuple[str, Text]]:
    for i, step in enumerate(steps):
        said = f"{who}: {step.what}" if not i else step.what
        words = Text(said, style="" if step.ok else "red") + Text(f" ({step.because})", style="dim")
        yield ("" if i else name), words


def _block(name: str, steps: Sequence[Step], who: str) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("what", style="dim", no_wrap=True)
    table.add_column("words", overflow="fold")
    for label, words in _steps(name, steps, who):
        table.add_row(label, words)
    return table


def _table(answer: Answer, width: int) -> RenderableType:
    quiet = [row for row in answer.fields if row.name in _QUIET]
    words = ", ".join(f"{row.name} {row.value}" for row in quiet if row.name != "chaddr")
    size = str(sum(row.size_bytes for row in quiet))
    head = (Text("header"), Text(words), Text(size)), Text("fixed, or the client's own (RFC 2131 table 3)")
    rows = [head]
    for row in answer.rows:
        if row not in quiet:
            label = Text(f"{row.label}, in {row.inside}" if row.inside else row.label)
            rows.append(((label, Text(row.value), Text(str(row.size_bytes))), _row_source(row)))
    columns = ("field or option", "value", "bytes")
    if width < NARROW:
        return stacked(columns, rows, width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    table.add_column(columns[0], overflow="fold", max_width=30)
    table.add_column(columns[1], overflow="fold", max_width=26)
    table.add_column(columns[2], justify="right", no_wrap=True)
    table.add_column("from", overflow="fold", ratio=1)
    for cells, source in rows:
        table.add_row(*cells, source)
    return table


def _unsent(rows: Sequence[Row], width: int) -> RenderableType:
    listed = [
        (
            (Text(row.label), Text(row.value)),
            Text(row.sent) + _at(row.sent_where) + Text("; " if row.sent else "") + _sourced(row.source),
        )
        for row in rows
    ]
    if width < NARROW:
        return stacked(("option", "value"), listed, width)
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column("option", overflow="fold", max_width=30)
    table.add_column("value", overflow="fold", max_width=26)
    table.add_column("why", overflow="fold", ratio=1)
    for cells, why in listed:
        table.add_row(*cells, why)
    return table


def _row_source(row: Row) -> Text:
    said = _sourced(row.source)
    if row.sent and row.sent not in ("asked for", "unasked: the protocol wants it"):
        said += Text(f"; {row.sent}", style="dim") + _at(row.sent_where)
    return said


def _sourced(source: Source) -> Text:
    words = Text(source.why) + _at(source.where)
    for lost in source.overrode:
        words += Text(f"; over {lost.value}, {lost.level}", style="dim") + _at(lost.where)
    return words + Text(f"; {source.note}" if source.note else "")


def _at(where: Where | None) -> Text:
    return Text() if where is None else Text(f" {where}", style="bold blue")
