"""nbdkit and our catalogue, without the rest of the daemon: run as a process of its own by the tests.

    python -m tests.support.serve_nbdkit FARM.yaml PORT

Listens on 127.0.0.1. Prints a line of JSON whenever the state of nbdkit has changed.
"""

import asyncio
import json
import logging
import signal
import socket
import sys
from pathlib import Path

from config.load import load
from nbd.overlay import Overlays
from pxeboot.exports.catalogue import Catalogue
from pxeboot.exports.pin_store import PinStore
from pxeboot.nbdkit.door import Door
from pxeboot.nbdkit.engine import Engine


async def serve(path: Path, port: int) -> None:
    """Serve the images of a farm until SIGTERM."""
    farm = load(path)
    state = farm.server.state
    state.mkdir(parents=True, exist_ok=True)
    disks = Overlays(state / "overlays")
    catalogue = Catalogue(farm, who=lambda _: None, pins=PinStore(state / "pins"), disks=disks)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    at = state / "nbdkit.sock"
    engine = Engine(farm.nbd.nbdkit, farm.images, at, farm.nbd.tls, state / "nbdkit")
    door = Door(at, catalogue, lambda event: print(json.dumps({"event": event.detail}), flush=True), engine)
    await door.open()
    sock = socket.create_server(("127.0.0.1", port))
    tasks = [asyncio.create_task(door.run()), asyncio.create_task(engine.run(sock, "lo"))]
    last: dict[str, object] = {}
    while not stop.is_set():
        child = next(iter(engine.children), None)
        now: dict[str, object] = {
            "serves": engine.serves,
            "pid": None if child is None else child.pid,
            "open": door.open_exports,
            "readers": len(catalogue.readers.every()),
            "counters": dict(engine.counts + door.counts),
        }
        if now != last:
            print(json.dumps(now), flush=True)
            last = now
        await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(name)s:%(message)s")
asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
