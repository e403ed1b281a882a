"""Serve DHCP, be killed, serve again: `python -m tests.support.serve_dhcp_again INTERFACE FARM.json LEASES`.

Each line on standard input starts a server process (which has the modules already, so that this takes no time) and is
answered with `serving PID`; when that process has ended, `ended STATUS` follows. The lease file is written anew all
the time, so that a kill meets every step of that.
"""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path

from config.model import Farm
from dhcp import journal, transport
from tests.support import serve_dhcp


class Announce(logging.Handler):
    """Says that the process serves when the transport logs it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        text = record.getMessage()
        if "serves" in text and not text.startswith("serving"):
            print("serving", os.getpid(), flush=True)
        elif record.levelno >= logging.WARNING:
            print(text, file=sys.stderr, flush=True)


def quiet(event: object) -> None:
    """Events are not printed: the test counts on the clients' list."""


def main(interface: str, farm: Path, leases: Path) -> None:
    """Serve as often as standard input says."""
    configuration = Farm.model_validate(json.loads(farm.read_text()))
    journal._FEW_LINES = -(1 << 40)
    serve_dhcp.tell = quiet
    logging.basicConfig(level=logging.INFO, handlers=[Announce()])
    transport.log.setLevel(logging.INFO)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            asyncio.run(serve_dhcp.main(interface, configuration, leases))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print("ended", status, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
