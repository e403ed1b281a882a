"""What the daemon says, on standard error: a line for each thing, `INFO dhcp 52:54:00:12:34:56 has 10.77.0.99`."""

import logging
import sys
from typing import TextIO


class Lines(logging.Handler):
    """Writes records as lines, with less ado than `logging.StreamHandler` and its formatter."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._with_traceback = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Standard error that cannot be written to is no reason to stop."""
        try:
            text = record.getMessage()
            if record.exc_info or record.stack_info:
                text = self._with_traceback.format(record)
            self._stream.write(f"{record.levelname} {text}\n")
            self._stream.flush()
        except Exception:
            self.handleError(record)


def begin(level: int, stream: TextIO | None = None) -> None:
    """Log to standard error from now on.

    Where in our code a line comes from, and in which thread and process, is in none of them; so that is not found
    out either, which would be a third of a line's cost.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # documented in "Optimization" of the logging library
    logging.basicConfig(level=level, handlers=[Lines(stream or sys.stderr)])
