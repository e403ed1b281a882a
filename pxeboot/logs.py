"""What the daemon says, on standard error: a line for each thing, `INFO dhcp 52:54:00:12:34:56 has 10.77.0.99`."""

import logging
import select
import sys
from contextlib import suppress
from typing import TextIO

_PIECE = 1000
"""Characters that are written at once: whoever has room at all has room for these, which are at most 4,000 bytes, less
than PIPE_BUF."""


class Lines(logging.Handler):
    """Writes records as lines, with less ado than `logging.StreamHandler` and its formatter.

    Lines that nobody reads, from a full pipe or a journal that has stopped, are left out and counted: to wait for
    the reader would stop every server with it.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._room: select.poll | None = None
        self._left_out = 0
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
            text = record.getMessage()
            if record.exc_info or record.stack_info:
                text = self._with_traceback.format(record)
            told = f"{self._cut}WARNING {self._left_out} lines were left out: nobody read them\n"
            if self._left_out and self._write(told):
                self._left_out = 0
            if self._left_out or not self._write(f"{record.levelname} {text}\n"):
                self._left_out += 1
        except Exception:
            self.handleError(record)

    def _write(self, text: str) -> bool:
        """Write as much as there is room for; return whether that was all."""
        for begin in range(0, len(text), _PIECE):
            if self._room is not None and not self._room.poll(0):
                self._cut = "\n" if begin else self._cut
                return False
            self._stream.write(text[begin : begin + _PIECE])
            self._stream.flush()
        self._cut = ""
        return True


def begin(level: int, stream: TextIO | None = None) -> None:
    """Log to standard error from now on.

    Where in our code a line comes from, and in which thread and process, is in none of them; so that is not found
    out either, which would be a third of a line's cost.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # documented in "Optimization" of the logging library
    logging.basicConfig(level=level, handlers=[Lines(stream or sys.stderr)])
