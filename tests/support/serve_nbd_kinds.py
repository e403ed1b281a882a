"""Serves the files of a folder by NBD as `tests.support.serve_nbd` does, and more kinds of exports than that.

    python -m tests.support.serve_nbd_kinds ADDRESS PORT FOLDER [offered|required CERTIFICATE KEY [CLIENT_CA]]

`disk` can be written, which changes a copy in memory that all connections share. `secret` is there with TLS only.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import httpimage.tls
from config.content import OpenFile
from config.delivery import Certificate
from config.exports import Writable
from nbd import transport
from nbd.actions import TlsMode
from nbd.exports import Asked, Export, Refused
from nbd.overlay import Overlays
from tests.support.serve_nbd import Folder

MODES = {"offered": TlsMode.OFFERED, "required": TlsMode.REQUIRED}


class Kinds:
    """A catalogue."""

    def __init__(self, folder: Path, overlays: Path) -> None:
        self._folder = folder
        self._images = Folder(folder)
        self._overlays = Overlays(overlays)

    async def open(self, asked: Asked) -> Export | Refused:
        """Open a file, or the disk over one."""
        if asked.name == "secret" and not asked.secure:
            return Refused.TLS_REQUIRED
        if asked.name != "disk":
            return await self._images.open(asked)
        return await asyncio.to_thread(self._disk)

    def _disk(self) -> Export:
        fd = os.open(self._folder / "disk", os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(fd)
        file = OpenFile("disk", fd, status.st_size, etag="test", modified_s=None, device=status.st_dev)
        return self._overlays.attach("machine", "image", file, Writable(limit_mib=64), "disk")

    async def names(self, peer: IPv4Address, secure: bool) -> Sequence[str]:
        """Return the names of the files."""
        return [name for name in await self._images.names(peer, secure) if secure or name != "secret"]


async def main(address: str, port: int, folder: Path, tls: list[str], overlays: Path) -> None:
    """Serve until SIGTERM."""
    settings = None
    if tls:
        mode, certificate, key, *client_ca = tls
        files = Certificate(
            certificate=Path(certificate), key=Path(key), client_ca=Path(client_ca[0]) if client_ca else None
        )
        context = httpimage.tls.context_of(files, "nbd.tls")
        settings = transport.Tls(MODES[mode], lambda: context)
    sock = transport.open_socket(address, port)
    print(json.dumps({"ready": sock.getsockname()[1]}), flush=True)
    server = asyncio.ensure_future(transport.serve(sock, Kinds(folder, overlays), lambda _: None, settings))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.cancel)
    with suppress(asyncio.CancelledError):
        await server


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with tempfile.TemporaryDirectory() as overlays:
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:], Path(overlays)))
