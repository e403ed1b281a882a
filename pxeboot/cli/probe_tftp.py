"""`pxeboot probe tftp`: fetch a file as a client would, and show how that went."""

import json
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pxeboot.cli.keeping import Keeping, keeping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pxeboot.probe.tftp import Result
    from pxeboot.probe.transfer import Address, Attempt

_PORT = 69
_NO_BLKSIZE = 0


def _blksize(_context: click.Context, _parameter: click.Parameter, value: int) -> int:
    if value != _NO_BLKSIZE and not 8 <= value <= 65464:
        raise click.BadParameter(f"{value} is none; RFC 2348 allows 8 to 65464, and 0 asks for none")
    return value


def _windowsize(_context: click.Context, _parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        raise click.BadParameter(
            "tftpy, which plays the client, cannot ask for a window (RFC 7440); try atftp or curl"
        )


@click.command(short_help="Fetch a file by TFTP, and say how that went.")
@click.argument("server", metavar="SERVER[:PORT]")
@click.argument("file")
@click.option("--blksize", type=int, default=1468, show_default=True, metavar="N", callback=_blksize,
              help="Ask for blocks of so many bytes; 0: do not ask, which is 512.")  # fmt: skip
@click.option("--tsize/--no-tsize", default=True, help="Ask for the file's size, as most clients do.")
@click.option("--timeout", type=click.FloatRange(min=0.1, max=60), default=2.0, show_default=True, metavar="S",
              help="Say the last again after so many seconds of silence; after five times give up.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Keep it there, once all has arrived.")  # fmt: skip
@click.option("--interface", help="Ask on this one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--windowsize", type=int, expose_value=False, hidden=True, callback=_windowsize)
def command(
    server: str,
    file: str,
    blksize: int,
    tsize: bool,
    timeout: float,
    output: Path | None,
    interface: str | None,
    as_json: bool,
) -> None:
    """Fetch FILE from SERVER by TFTP, and say which options were granted, how fast it was and what was sent again.

    The client is tftpy, which asks for no window (RFC 7440). If blocks do not arrive, smaller ones are tried.

    Exit status: 0 if the file arrived and firmware would have taken it, 1 if not, with what is wrong.
    """
    if not file:
        raise click.UsageError("which FILE?")
    host, port = _host_and_port(server)
    try:
        import pxeboot.probe.tftp as probing
    except ImportError as error:
        _fail(f"{error}; install what it needs: pip install 'pxeboot[probe]'")
    address = _address(host), port
    options = ({"blksize": blksize} if blksize != _NO_BLKSIZE else {}) | ({"tsize": 0} if tsize else {})
    with ExitStack() as opened:
        kept: Keeping | None = None
        try:
            if output is not None:
                kept = opened.enter_context(keeping(output))
        except OSError as error:
            _fail(f"{output} cannot be written: {error.strerror}")
        sink = None if kept is None else kept.file
        try:
            result = probing.probe(address, file, options, timeout, interface=interface, output=sink)
            if kept is not None and result.attempts[-1].complete:
                kept.keep()
        except OSError as error:
            _fail(_why(address, interface, output, error))
    if as_json:
        click.echo(json.dumps(_json(file, result), indent=2))
    else:
        _show(file, result, output)
    sys.exit(1 if result.verdict.problems else 0)


def _fail(why: str) -> "Any":
    click.echo(f"pxeboot probe: {why}", err=True)
    sys.exit(1)


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, digits = text.partition(":")
    if not host or (colon and not (digits.isascii() and digits.isdecimal() and 0 < int(digits[:9]) < 65536)):
        raise click.UsageError(f"{text!r} is no server; write an IPv4 address or a name, such as 10.28.0.1 or tftp:69")
    return host, int(digits) if colon else _PORT


def _address(host: str) -> str:
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        _fail(f"{host!r} has no IPv4 address; is the name right?")
    return str(found[0][4][0])


def _why(server: "Address", interface: str | None, output: Path | None, error: OSError) -> str:
    import errno

    match error.errno:
        case errno.ENODEV:
            return f"there is no interface {interface}"
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return f"no route leads to {server[0]}{f' on {interface}' if interface else ''}"
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG | errno.EIO:
            return f"{output} cannot be written: {error.strerror}"
        case _:
            return f"{server[0]} cannot be asked: {error.strerror or error}"


def _attempt_json(attempt: "Attempt") -> dict[str, Any]:
    return {
        "asked": dict(attempt.asked),
        "granted": None if attempt.granted is None else dict(attempt.granted),
        "answered_by": _address_json(attempt.answered),
        "also_answered": [_address_json(stranger) for stranger in attempt.strangers],
        "first_answer_ms": None if attempt.first_answer_s is None else round(attempt.first_answer_s * 1000, 3),
        "complete": attempt.complete,
        "size_bytes": attempt.size_bytes,
        "seconds": round(attempt.seconds, 6),
        "bytes_per_s": round(attempt.size_bytes / attempt.seconds) if attempt.seconds else None,
        "blocks": attempt.blocks,
        "blocks_again": attempt.blocks_again,
        "oacks_again": attempt.options_again,
        "sent_again": attempt.sent_again,
        "error": None if attempt.error is None else {"code": attempt.error[0], "message": attempt.error[1]},
    }


def _address_json(address: "Address | None") -> dict[str, Any] | None:
    return None if address is None else {"address": address[0], "port": address[1]}


def _json(file: str, result: "Result") -> dict[str, Any]:
    last = result.attempts[-1]
    return {
        "server": _address_json(last.server),
        "file": file,
        "complete": last.complete,
        "sha256": result.sha256 if last.complete else None,
        "attempts": [_attempt_json(attempt) for attempt in result.attempts],
        "problems": [*result.verdict.problems],
        "notes": [*result.verdict.notes],
    }


def _show(file: str, result: "Result", output: Path | None) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from pxeboot import screen

    console = screen.console()
    first, last = result.attempts[0], result.attempts[-1]
    host, port = first.server
    console.print(
        Text(f"{file!r} from {host}{f' port {port}' if port != _PORT else ''}", style="bold"), soft_wrap=True
    )
    for attempt in result.attempts:
        table = Table.grid(padding=(0, 2, 0, 0))  # a digest has 64 letters: no room for more at 80 columns
        table.add_column("field", style="dim")
        table.add_column("value", overflow="fold")
        for field, value in _rows(attempt):
            table.add_row(field, Text(value))
        if attempt.complete and output is not None:
            table.add_row("kept in", Text(str(output)))
        if attempt.complete:
            table.add_row("sha256", Text(result.sha256))
        console.print(Padding(table, (0, 0, 0, 2)))
        if attempt is not last:
            console.print(Text(f"No block of {attempt.blksize} bytes came. Once more, with smaller ones:"))
    if last.complete:
        console.print(Text("It arrived whole.", style="green" if not result.verdict.problems else ""))
    for note in result.verdict.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    for problem in result.verdict.problems:
        console.print(Text(f"wrong: {problem}", style="bold red"))


def _rows(attempt: "Attempt") -> list[tuple[str, str]]:
    rows = [("asked", _options(attempt.asked) or "no options")]
    if attempt.answered is None:
        return rows
    host, port = attempt.answered
    kind = "the port that was asked" if port == attempt.server[1] else "a port of its own"
    after = f", after {attempt.first_answer_s * 1000:.1f} ms" if attempt.first_answer_s is not None else ""
    if attempt.granted is not None or attempt.blocks:
        rows.append(("granted", _options(attempt.granted or {}) or "nothing"))
    rows.append(("answered by", f"{host} port {port}, {kind}{after}"))
    if attempt.blocks:
        rows.append(("arrived", f"{attempt.size_bytes:,} bytes in {_count(attempt.blocks, 'block')}"))
        rows.append(("time", f"{attempt.seconds:.3f} s{_rate(attempt)}"))
        rows.append(("sent again", _again(attempt)))
    return rows


def _options(options: "Mapping[str, str]") -> str:
    return ", ".join(f"{_plain(name)} {_plain(value)}" for name, value in options.items())


def _plain(text: str) -> str:
    """Return what a server wrote, as it is if it is a word."""
    return text if text.isascii() and text.isalnum() and len(text) < 40 else f"{text[:40]!r}"


def _rate(attempt: "Attempt") -> str:
    if not attempt.size_bytes or not attempt.seconds:
        return ""
    rate = attempt.size_bytes / attempt.seconds
    for unit, size in (("MB/s", 1e6), ("kB/s", 1e3)):
        if rate >= size:
            return f", {rate / size:.1f} {unit}"
    return f", {rate:.0f} bytes/s"


def _again(attempt: "Attempt") -> str:
    theirs = attempt.blocks_again + attempt.options_again
    said = [f"{_count(theirs, 'packet')} by the server"] if theirs else []
    said += [f"{_count(attempt.sent_again, 'packet')} by us"] if attempt.sent_again else []
    return ", ".join(said) or "nothing"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"
