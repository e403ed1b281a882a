"""Our client of the Kubernetes API, at work for a test on the stand-in."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from pxeboot.kube.api import Api
from pxeboot.kube.times import running_clock
from tests.support.kube_thread import ThreadedApi


class Clock:
    """A client's clock that a test moves, so that nothing is over because the machine was slow."""

    def __init__(self) -> None:
        self.now = 1000.0
        """In seconds, since no moment in particular."""

    def __call__(self) -> float:
        return self.now


def run(kubeconfig: Path, work: Callable[[Api], Awaitable[None]], clock: Callable[[], float] = running_clock) -> None:
    """Do `work` with a client that is closed afterwards. Raises `TimeoutError` after five minutes."""

    async def bounded() -> None:
        api = Api("prod", kubeconfig, clock=clock)
        try:
            async with asyncio.timeout(300):
                await work(api)
        finally:
            await api.close()

    asyncio.run(bounded())


def asked(server: ThreadedApi) -> int:
    """Return how many requests the stand-in was sent."""
    return len(server.api.requests)
