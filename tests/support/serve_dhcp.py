"""Serve DHCP and nothing else: `python -m tests.support.serve_dhcp INTERFACE FARM.json LEASES`.

FARM.json is a `config.model.Farm`. Each step of a boot is printed as a line: `MAC STAGE DETAIL`. Ends on SIGTERM.
"""

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from config.events import Event
from config.model import Farm
from dhcp.engine import Server
from dhcp.plan import plan
from dhcp.store import LeaseStore
from dhcp.transport import open_sockets, serve


def tell(event: Event) -> None:
    """Print an event, if a boot goes on by it."""
    if event.boots:
        print(event.peer, event.stage, event.detail, flush=True)


async def main(interface: str, configuration: Farm, leases: Path) -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(levelname)s %(message)s")
    sockets = open_sockets(interface)
    store = LeaseStore.open(leases)
    server = Server(plan(configuration), store.leases, store.clock())
    task = asyncio.create_task(serve(sockets, server, store, tell))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.wait([task])
    store.close()
    if not task.cancelled():
        task.result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Farm.model_validate(json.loads(Path(sys.argv[2]).read_text())), Path(sys.argv[3])))
