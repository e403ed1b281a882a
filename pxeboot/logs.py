"""What the daemon and the controller say, on standard error: a line for each finished thing.

As text, `INFO dhcp 52:54:00:12:34:56 has 10.77.0.99`, or as JSON, an object in each line, whose `logger` is a package.
A record says whom it is about by `extra`, with the names in `FIELDS`; the line of text says so anyway.
"""

import json
import logging
import select
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TextIO

Style = Literal["text", "json"]

FIELDS = ("machine", "mac", "ip", "stage", "file", "bytes", "seconds", "resent", "boot")
"""What a record may say besides its text: the machine's name, its MAC and address, the stage of its boot, the file
that it fetched, how many bytes of it, in how many seconds, how many blocks of those were sent again, and what it boots
from now on."""

BURST = 5000
"""Lines of level INFO that are written at once: a farm of 1,000 machines that boots makes some 15 for each."""
A_SECOND = 500
"""Such lines that are written a second from then on: a machine that fetches a file in a loop must not fill a disk.
Warnings and errors are not counted; whoever makes them sees to it that there are few."""
_UNREAD = "nobody read them"
_TOO_MANY = f"there were more than {A_SECOND} a second"
_PIECE = 1000
"""Characters that are written at once: whoever has room at all has room for these, which are at most 4,000 bytes, less
than PIPE_BUF."""
_JSON_PIECE = 4000
"""The same of JSON, which is ASCII: so an object is cut only if it is longer than that."""


class Lines(logging.Handler):
    """Writes records as lines, with less ado than `logging.StreamHandler` and its formatter.

    Lines that nobody reads, from a full pipe or a journal that has stopped, are left out and counted: to wait for
    the reader would stop every server with it. So are lines of level INFO above `A_SECOND`.
    """

    def __init__(
        self, stream: TextIO, style: Style = "text", hide: Callable[[str], str] | None = None, *, named: bool = False
    ) -> None:
        """Write to `stream`. `hide` takes secrets out; `named` puts the logger's name into a line of text."""
        super().__init__()
        self.style: Style = style
        self.left_out = 0
        """How many lines were left out since the start."""
        self._stream = stream
        self._hide = hide
        self._named = named
        self._room: select.poll | None = None
        self._untold: Counter[str] = Counter()
        """Lines that were left out and not told of yet, by why."""
        self._budget, self._at_s = float(BURST), time.monotonic()
        self._flooded = False
        self._cut = ""
        """What ends a line that was written in part."""
        with suppress(OSError):  # it is no file, but in memory
            fd = stream.fileno()
            self._room = select.poll()
            self._room.register(fd, select.POLLOUT)
        self._with_traceback = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Standard error that cannot be written to is no reason to stop."""
        try:
            if record.levelno == logging.INFO and not self._affordable():
                self._leave_out(_TOO_MANY)
                return
            if self._untold and self._write(self._cut + "".join(map(self._told, self._untold))):
                self._untold.clear()
            if self._untold or not self._write(self._line(record)):
                self._leave_out(_UNREAD)
        except Exception:
            self.handleError(record)

    def _affordable(self) -> bool:
        """Return whether one more line of level INFO may be written now."""
        now_s = time.monotonic()
        self._budget = min(BURST, self._budget + (now_s - self._at_s) * A_SECOND)
        self._at_s = now_s
        self._flooded = self._budget < (A_SECOND / 5 if self._flooded else 1)  # told of five times a second at most
        if self._flooded:
            return False
        self._budget -= 1
        return True

    def _leave_out(self, why: str) -> None:
        self._untold[why] += 1
        self.left_out += 1

    def _line(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if self.style == "json":
            return as_json(record, text, self._hide)
        if record.exc_info or record.stack_info:
            text = self._with_traceback.format(record)
        if self._named:
            text = f"{record.name} {text}"
        return f"{record.levelname} {self._hide(text) if self._hide else text}\n"

    def _told(self, why: str) -> str:
        """Return the line that says how many were left out."""
        text = f"{self._untold[why]} lines were left out: {why}"
        record = logging.LogRecord("pxeboot", logging.WARNING, "", 0, text, (), None)
        return as_json(record, text) if self.style == "json" else f"WARNING {text}\n"

    def _write(self, text: str) -> bool:
        """Write as much as there is room for; return whether that was all."""
        piece = _JSON_PIECE if self.style == "json" else _PIECE
        for begin in range(0, len(text), piece):
            if self._room is not None and not self._room.poll(0):
                self._cut = "\n" if begin else self._cut
                return False
            self._stream.write(text[begin : begin + piece])
            self._stream.flush()
        self._cut = ""
        return True


def as_json(record: logging.LogRecord, text: str, hide: Callable[[str], str] | None = None) -> str:
    """Return a record whose message is `text` as an object in a line of ASCII, which ends it.

    `time` is UTC, by RFC 3339; what a record does not say is not there.
    """
    seconds, thousandths = divmod(int(record.created * 1000), 1000)
    told: dict[str, object] = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{thousandths:03}Z",
        "level": record.levelname,
        "logger": record.name.partition(".")[0],
        "message": hide(text) if hide else text,
    }
    fields = record.__dict__
    for name in FIELDS:
        value = fields.get(name)
        if value is not None and value != "":
            told[name] = value if isinstance(value, int | float | str) else str(value)
    if record.exc_info:
        traceback = record.exc_text or logging.Formatter().formatException(record.exc_info)
        told["traceback"] = hide(traceback) if hide else traceback
    if record.stack_info:
        told["stack"] = record.stack_info
    return json.dumps(told) + "\n"


TRAFFIC_CONTROL = "pyroute2.netlink.rtnl.tcmsg.common"
"""Warns, where systemd hides most of /proc, that it cannot do what nobody asks it for."""


def begin(
    level: int, stream: TextIO | None = None, hide: Callable[[str], str] | None = None, *, named: bool = False
) -> Lines:
    """Log to standard error from now on, as text: how the farm wants it is not known yet (`settle`).

    Where in our code a line comes from, and in which thread and process, is in none of them; so that is not found
    out either, which would be a third of a line's cost.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # documented in "Optimization" of the logging library
    logging.getLogger(TRAFFIC_CONTROL).setLevel(logging.ERROR)
    lines = Lines(stream or sys.stderr, hide=hide, named=named)
    logging.basicConfig(level=level, handlers=[lines])
    return lines


def settle(style: Style) -> None:
    """Write lines as the farm wants them; as JSON, what Python itself would print to standard error too."""
    lines = written()
    if lines is None:
        return
    lines.style = style
    if style == "json":
        logging.captureWarnings(True)
        sys.excepthook = lambda kind, error, at: logging.getLogger("pxeboot").critical(
            "ended by a fault of its own", exc_info=(kind, error, at)
        )


def last_words(command: str, text: str) -> None:
    """Say why a command ends: `pxeboot COMMAND: TEXT` to standard error, or a line of JSON if those are wanted."""
    lines = written()
    if lines is not None and lines.style == "json":
        logging.getLogger("pxeboot").critical("%s", text)
    else:
        print(f"pxeboot {command}: {text}", file=sys.stderr)


def written() -> Lines | None:
    """Return what writes our lines; None if `begin` was not called."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, Lines)), None)
