"""The tree of names behind TFTP and HTTP, for tests: `python -m tests.support.serve_tree FARM_YAML`.

Both servers listen on a port of their own choice of 127.0.0.1, or of the address given as second argument. Prints
`tftp PORT http PORT` once they do. Machines are whoever the farm's file says.
"""

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import httpimage.transport
import tftp.transport
from config.load import load
from pxeboot.bootfiles.tree import Tree, stage_of

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen."""

    tftp: int
    http: int


@contextmanager
def serving(farm: Path, log: Path) -> Iterator[Ports]:
    """Serve a farm from another process; `log` is what it prints."""
    argv = [sys.executable, "-m", "tests.support.serve_tree", str(farm)]
    with log.open("w") as output:
        process = subprocess.Popen(argv, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not log.read_text().startswith("tftp ") or "\n" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        words = log.read_text().split()
        yield Ports(int(words[1]), int(words[3]))
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()


async def main(farm: Path, address: str) -> None:
    """Serve until SIGTERM."""
    configured = load(farm)
    tree = Tree(configured, who=lambda _: None, server_for=lambda _: IPv4Address(address), node={})
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    http_socket = httpimage.transport.open_socket(address, 0)
    tftp_socket = tftp.transport.open_socket(address, port=0)
    app = httpimage.transport.application(tree.lookup, lambda _: None, stage_of, lambda *_: False)
    by_tftp = tftp.transport.serve(tftp_socket, tree.lookup, lambda _: None, stage_of, settings=configured.tftp)
    servers = [
        asyncio.create_task(httpimage.transport.serve(http_socket, app)),
        asyncio.create_task(by_tftp),
    ]
    print("tftp", tftp_socket.getsockname()[1], "http", http_socket.getsockname()[1], flush=True)
    await stop.wait()
    for server in servers:
        server.cancel()
    await asyncio.wait(servers)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"))
