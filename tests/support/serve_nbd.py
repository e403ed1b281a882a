"""Serves the files of a folder by NBD, each under its name, with nothing of the daemon but `nbd.transport`.

    python -m tests.support.serve_nbd ADDRESS PORT FOLDER

Prints one JSON object a line: `{"ready": PORT}`, then one for each event. The empty name is the file `default`. Ends
at SIGTERM.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from config.content import OpenFile
from config.events import Event
from nbd import transport
from nbd.exports import Asked, Export, FileExport, Refused
from nbd.mappings import Mappings

SWITCH_S = 0.0005
"""As in `pxeboot.daemon`."""


MAPPINGS = Mappings(time.monotonic)


class Folder:
    """A catalogue of the files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self, asked: Asked) -> Export | Refused:
        """Open a file."""
        path = self._folder / (asked.name or "default")
        try:
            if "/" in asked.name:
                return Refused.UNKNOWN
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError):
            return Refused.UNKNOWN
        status = os.fstat(fd)
        file = OpenFile(path.name, fd, status.st_size, etag="test", modified_s=None, device=status.st_dev)
        return FileExport(asked.name, file, mappings=MAPPINGS)

    async def names(self, peer: IPv4Address, secure: bool) -> Sequence[str]:
        """Return the names of the files."""
        return sorted(os.listdir(self._folder))


async def main(address: str, port: int, folder: Path) -> None:
    """Serve until SIGTERM."""

    def report(event: Event) -> None:
        print(json.dumps({"peer": str(event.peer), "stage": event.stage, "detail": event.detail}), flush=True)

    sys.setswitchinterval(SWITCH_S)
    sock = transport.open_socket(address, port)
    server = asyncio.ensure_future(transport.serve(sock, Folder(folder), report))
    await asyncio.sleep(0)
    print(json.dumps({"ready": sock.getsockname()[1]}), flush=True)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.cancel)
    with suppress(asyncio.CancelledError):
        await server


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG if os.environ.get("NBD_DEBUG") else logging.INFO)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
