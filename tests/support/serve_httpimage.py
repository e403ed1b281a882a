"""The HTTP server alone, for tests: `python -m tests.support.serve_httpimage FOLDER [--address A] [--port N]`.

With `--tls CERTIFICATE KEY [--client-ca FILE]` it listens with TLS too, and prints `tls N` before `port N`.

Files of FOLDER are served as they are; those below `images/` are immutable; a name that begins with `made/` or
`secret/` is its own content, of 100 times the name. Reports of the stage `system` are accepted. It prints
`port N` when it listens, then each event and report as a line of JSON.
"""

import argparse
import asyncio
import hashlib
import json
import logging
import signal
import sys
from ipaddress import IPv4Address
from pathlib import Path

from config.content import Content, Made
from config.delivery import Tls
from config.events import Event, Stage
from httpimage.handshakes import Door
from httpimage.tls import Credentials
from httpimage.transport import application, open_socket, serve
from pxeboot.bootfiles.root import Root


class Folder:
    """The lookup: files of one folder as the daemon opens them, and bytes made on the spot."""

    def __init__(self, path: Path) -> None:
        self._root = Root(path)

    async def __call__(self, name: str, peer: IPv4Address) -> Content | None:
        """Return what `name` is."""
        if name.startswith(("made/", "secret/")):
            data = name.encode() * 100
            return Made(name, data, hashlib.sha256(data).hexdigest(), secret=name.startswith("secret/"))
        return self._root.open(name, immutable=name.startswith("images/"))


def stage_of(name: str) -> Stage | None:
    """Return the stage by the file's name."""
    return {"vmlinuz": Stage.KERNEL, "root.squashfs": Stage.FETCH}.get(name.rpartition("/")[2])


def tell(event: Event) -> None:
    """Print an event."""
    print(json.dumps([str(event.peer), event.stage, event.detail, event.bytes_sent]), flush=True)


def accept(peer: IPv4Address, stage: str, text: str) -> bool:
    """Print a report, and accept it if it is of the stage `system`."""
    print(json.dumps([str(peer), "report", stage, text]), flush=True)
    return stage == "system"


async def run(folder: Path, address: str, port: int, tls: Tls | None = None) -> None:
    """Serve until cancelled."""
    sock = open_socket(address, port)
    door = None
    async with asyncio.TaskGroup() as tasks:
        if tls is not None:
            door = Door(open_socket(address, 0), Credentials(tls))
            tasks.create_task(door.credentials.watch())
            print("tls", door.sock.getsockname()[1], flush=True)
        print("port", sock.getsockname()[1], flush=True)
        await serve(sock, application(Folder(folder), tell, stage_of, accept), door)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", type=Path, nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--client-ca", type=Path)
    arguments = parser.parse_args()
    tls = None
    if arguments.tls:
        tls = Tls(certificate=arguments.tls[0], key=arguments.tls[1], client_ca=arguments.client_ca)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    asyncio.run(run(arguments.folder, arguments.address, arguments.port, tls))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in its background
    main()
