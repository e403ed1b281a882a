"""`pxeboot controller` for one cluster with `push`, on shorter terms than a farm may have.

python -m tests.support.push_controller KUBECONFIG LTS_CONF TTL_S LEAD_S
"""

import asyncio
import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path

from config.clusters import Cluster, Push
from pxeboot.controller import service
from pxeboot.controller.engine import Terms
from pxeboot.controller.keeper import Keeper


def main() -> None:
    """Keep the command until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for library in ("httpx2", "httpcore2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    kubeconfig, lts_conf, ttl_s, lead_s = sys.argv[1:]
    cluster = Cluster(kubeconfig=Path(kubeconfig), lts_conf=Path(lts_conf), push=Push(name="pxeboot-lts"))
    keeper = service.keeper("prod", cluster, Terms(ttl_s=float(ttl_s)), int(lead_s))
    asyncio.run(_run(keeper))


async def _run(keeper: Keeper) -> None:
    running = asyncio.create_task(keeper.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    main()
