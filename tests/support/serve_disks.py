"""Serves disks that machines write to, by NBD, with nothing of the daemon but `nbd.transport` and `nbd.overlay`.

    python -m tests.support.serve_disks ADDRESS PORT FOLDER [RULE=VALUE ...]

The export `node/NAME` is a disk of its own over FOLDER/root; any other name is that file itself. The rules are those
of `config.exports.Writable`. Disks in files lie in FOLDER/../overlays. Prints `{"ready": PORT}`. Ends at SIGTERM; at
SIGUSR1 the machine `boots` boots.
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
from config.exports import Writable
from nbd import transport
from nbd.exports import Asked, Export, FileExport, Refused
from nbd.overlay import Overlays


class Machines:
    """A catalogue of machines' disks."""

    def __init__(self, folder: Path, rules: Writable) -> None:
        self._folder = folder
        self._rules = rules
        self.overlays = Overlays(folder.parent / "overlays")

    async def open(self, asked: Asked) -> Export | Refused:
        """Open a disk."""
        return await asyncio.to_thread(self._open, asked.name)

    def _open(self, name: str) -> Export | Refused:
        kind, _, machine = name.partition("/")
        path = self._folder / ("root" if kind == "node" else kind)
        if not path.is_file():
            return Refused.UNKNOWN
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(fd)
        file = OpenFile(path.name, fd, status.st_size, etag="test", modified_s=None, device=status.st_dev)
        return self.overlays.attach(machine, "a", file, self._rules, name) if machine else FileExport(name, file)

    async def names(self, peer: IPv4Address, secure: bool) -> Sequence[str]:
        """Return the names of the files."""
        return sorted(os.listdir(self._folder))


async def main(address: str, port: int, folder: Path, rules: Writable) -> None:
    """Serve until SIGTERM."""
    machines = Machines(folder, rules)
    sock = transport.open_socket(address, port)
    print(json.dumps({"ready": sock.getsockname()[1]}), flush=True)
    server = asyncio.ensure_future(transport.serve(sock, machines, lambda event: None))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.cancel)
    loop.add_signal_handler(signal.SIGUSR1, machines.overlays.booting, "boots")
    with suppress(asyncio.CancelledError):
        await server


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(
        main(
            sys.argv[1],
            int(sys.argv[2]),
            Path(sys.argv[3]),
            Writable.model_validate(dict(rule.split("=", 1) for rule in sys.argv[4:])),
        )
    )
