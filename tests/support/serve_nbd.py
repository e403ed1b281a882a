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
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from config.content import OpenFile
from config.events import Event
from nbd import transport


def open_file(path: Path) -> OpenFile | None:
    """Open a regular file, or return None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    return OpenFile(path.name, fd, os.fstat(fd).st_size, etag="test", modified_s=None)


async def main(address: str, port: int, folder: Path) -> None:
    """Serve until SIGTERM."""

    async def open_export(name: str, peer: IPv4Address) -> OpenFile | None:
        return None if "/" in name else open_file(folder / (name or "default"))

    async def list_exports(peer: IPv4Address) -> Sequence[str]:
        return sorted(os.listdir(folder))

    def report(event: Event) -> None:
        print(json.dumps({"peer": str(event.peer), "stage": event.stage, "detail": event.detail}), flush=True)

    sock = transport.open_socket(address, port)
    print(json.dumps({"ready": sock.getsockname()[1]}), flush=True)
    server = asyncio.ensure_future(transport.serve(sock, open_export, list_exports, report))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.cancel)
    with suppress(asyncio.CancelledError):
        await server


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG if os.environ.get("NBD_DEBUG") else logging.INFO)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
