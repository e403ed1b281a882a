"""The part of the controller that shares DHCP leases, alone.

python -m tests.support.serve_leases FARM
"""

import asyncio
import logging
import sys
from pathlib import Path

from aiohttp import web

from config.load import load
from pxeboot.controller.lease_service import LeaseService
from pxeboot.kube.api import Api


async def serve(path: Path) -> None:
    """Serve the leases of the cluster that the farm shares them in, at `server.controller`."""
    farm = load(path)
    name = farm.dhcp.shared
    assert name is not None
    cluster = farm.clusters[name]
    service = LeaseService(name, Api(name, cluster.kubeconfig), cluster.namespace, farm)
    app = web.Application()
    app.router.add_get(f"/v1/dhcp/leases/{name}/events", service.events)
    app.router.add_post(f"/v1/dhcp/leases/{name}", service.writes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    farm.server.controller.unlink(missing_ok=True)
    await web.UnixSite(runner, str(farm.server.controller)).start()
    print("ready", flush=True)
    await service.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    asyncio.run(serve(Path(sys.argv[1])))
