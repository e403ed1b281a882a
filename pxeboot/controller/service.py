"""The controller's process: for each cluster a task that looks, asks its engine, and does what it says."""

import asyncio
import logging
import random
import signal
import time
from collections.abc import Callable, Sequence

from config.model import Farm
from pxeboot.controller import engine
from pxeboot.controller.kube import KubeApi, Unavailable
from pxeboot.controller.lts_file import LtsFile
from pxeboot.controller.token import rfc3339

log = logging.getLogger("controller")

LONGEST_SLEEP_S = 60.0
"""However far away the next look seems: the wall clock may have been set back."""


class Conflict(ValueError):
    """Two clusters are told to write to the same section of the same file."""


class Keeper:
    """Keeps the join command of one cluster. `clock` tells seconds since 1970."""

    def __init__(
        self, name: str, api: KubeApi, file: LtsFile, terms: engine.Terms, clock: Callable[[], float] = time.time
    ) -> None:
        self._name = name
        self._api = api
        self._file = file
        self._engine = engine.Engine(terms)
        self._clock = clock
        self._trouble = ""

    async def run(self) -> None:
        """Look and act until cancelled, which leaves lts.conf whole: it is replaced without giving up the loop."""
        try:
            while True:
                await self._round()
                await self._sleep()
        finally:
            await self._api.close()

    async def run_once(self) -> bool:
        """Look and act until lts.conf holds a fresh token; return False at the first failure."""
        try:
            while await self._round():
                if self._engine.settled:
                    return True
                await self._sleep()
            return False
        finally:
            await self._api.close()

    async def _sleep(self) -> None:
        await asyncio.sleep(min(max(0.0, self._engine.deadline - self._clock()), LONGEST_SLEEP_S))

    async def _round(self) -> bool:
        """One look and what follows from it. Return whether nothing failed; the engine has set when to come back."""
        published: engine.Published | None = None
        retry_after_s = None
        try:
            published = self._file.read()
            await self._obey(self._engine.expire(published, self._clock()))
            seen = await self._look(published)
            trouble = await self._obey(self._engine.observe(seen, self._clock()))
        except Unavailable as error:
            await self._api.close()
            trouble, retry_after_s = f"the Kubernetes API: {error}", error.retry_after_s
            failed = True
        except (OSError, ValueError) as error:
            trouble, failed = f"{self._file.path}: {error}", True
        except Exception as error:
            log.exception("%s: a fault of the controller itself", self._name)
            trouble, failed = f"a fault of the controller itself ({type(error).__name__})", True
        else:
            failed = False
        if failed:
            await self._back_off(published, retry_after_s)
        self._tell(trouble)
        return not trouble

    async def _back_off(self, published: engine.Published | None, retry_after_s: float | None) -> None:
        jitter = random.random()
        try:
            await self._obey(self._engine.failed(published, self._clock(), jitter, retry_after_s))
        except (OSError, ValueError) as error:
            log.error("%s: the expired join command could not be taken out: %s", self._name, error)

    async def _look(self, published: engine.Published | None) -> engine.Observation:
        """Ask the API for all that the engine wants to know. Raises `Unavailable`."""
        join = published.join if published else None
        return engine.Observation(
            tokens=await self._api.tokens(frozenset({join.token.id} if join else ())),
            cluster_info=await self._api.cluster_info(),
            own=await self._api.own(),
            published=published,
        )

    async def _obey(self, actions: Sequence[engine.Action]) -> str:
        """Carry out the actions in order; the first that fails ends it. Return what the engine complained of.

        Raises `Unavailable`, `OSError` and `ValueError`.
        """
        complaint = ""
        for action in actions:
            match action:
                case engine.Mint(expires):
                    token = await self._api.create(expires)
                    log.info("%s: made token %s, good until %s", self._name, token.id, rfc3339(expires))
                case engine.Push(join, expires, doubt):
                    self._file.publish(join, expires)
                    log.info(
                        "%s: machines join %s with token %s until %s: written to %s",
                        *(self._name, join.discovery.server, join.token.id, rfc3339(expires), self._file.path),
                    )
                    if doubt:
                        log.warning("%s: the CA is that of our own kubeconfig, because %s", self._name, doubt)
                case engine.Delete(token_id):
                    await self._api.delete(token_id)
                    log.info("%s: deleted token %s, which no machine holds any more", self._name, token_id)
                case engine.Retract(expired):
                    self._file.retract()
                    log.warning(
                        "%s: machines cannot join: the command expired at %s and is out of %s",
                        *(self._name, rfc3339(expired), self._file.path),
                    )
                case engine.Complain(reason):
                    complaint = reason
        return complaint

    def _tell(self, trouble: str) -> None:
        """Say what goes wrong when it begins or changes, and that it ended; not at every round between."""
        if trouble and trouble != self._trouble:
            log.warning("%s: no fresh join command: %s", self._name, trouble)
        elif self._trouble and not trouble:
            log.info("%s: works again", self._name)
        self._trouble = trouble


def keepers(farm: Farm) -> list[Keeper]:
    """Return a keeper for every cluster of the farm. Raises `Conflict`."""
    places: dict[tuple[str, str], str] = {}
    shared = {name: cluster for name, cluster in farm.clusters.items() if cluster.minted == "shared"}
    for name, cluster in shared.items():
        assert cluster.lts_conf is not None  # `config.clusters` sees to it
        other = places.setdefault((str(cluster.lts_conf.resolve()), cluster.section), name)
        if other != name:
            raise Conflict(
                f"clusters {other} and {name} both write to section [{cluster.section}] of {cluster.lts_conf}"
            )
    return [
        Keeper(
            name,
            KubeApi(name, cluster.kubeconfig, cluster.api_server),
            LtsFile(cluster.lts_conf, cluster.section, cluster.join_key),
            engine.Terms(ttl_s=cluster.token_ttl_s, api_server=cluster.api_server),
        )
        for name, cluster in shared.items()
        if cluster.lts_conf is not None
    ]


async def run_once(all_keepers: Sequence[Keeper]) -> bool:
    """One round of every cluster; return whether each now has a fresh join command."""
    return all(await asyncio.gather(*(keeper.run_once() for keeper in all_keepers)))


async def run(all_keepers: Sequence[Keeper]) -> None:
    """Keep every cluster's join command until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(keeper.run()) for keeper in all_keepers]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (stopped, *tasks):
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
