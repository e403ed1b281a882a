"""Our client of the Kubernetes API, at work for a test on the stand-in."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from pxeboot.kube.api import Api
from tests.support.kube_thread import ThreadedApi


def run(kubeconfig: Path, work: Callable[[Api], Awaitable[None]]) -> None:
    """Do `work` with a client that is closed afterwards. Raises `TimeoutError` after a minute."""

    async def bounded() -> None:
        api = Api("prod", kubeconfig)
        try:
            async with asyncio.timeout(60):
                await work(api)
        finally:
            await api.close()

    asyncio.run(bounded())


def asked(server: ThreadedApi) -> int:
    """Return how many requests the stand-in was sent."""
    return len(server.api.requests)
