"""The controller's process: what each cluster needs, put together, and kept running for itself."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from config.model import Cluster, Farm
from pxeboot import descriptors, systemd
from pxeboot.controller import service
from pxeboot.controller.boot_service import BootKeeper
from pxeboot.controller.boots import Terms
from pxeboot.controller.following import Clusters, prepare
from pxeboot.controller.keeper import Keeper
from pxeboot.controller.lease_service import LeaseService
from pxeboot.controller.talking import Events, Route, Talking, Tokens, application
from pxeboot.controller.watched import Watched, samples
from pxeboot.kube.api import Api
from pxeboot.metrics.sample import Sample
from pxeboot.reloading.reloader import Reloader
from pxeboot.reloading.state import Reloads
from pxeboot.reloading.watching import Source

log = logging.getLogger("controller")

PAUSE_S = 5.0
"""After a fault of our own, before that cluster is served again."""


class Process:
    """All that keeps something of a farm's clusters. Raises `service.Conflict` when two of them would quarrel."""

    def __init__(self, farm: Farm) -> None:
        """Make the keepers; nothing is asked of any cluster yet."""
        minted = {name: cluster.minted for name, cluster in farm.clusters.items()}
        self._farm = self._wanted = farm
        self._socket = farm.server.controller
        self._events = Events()
        shared = [name for name, kind in minted.items() if kind == "shared"]
        self.shared: dict[str, Keeper] = dict(zip(shared, service.keepers(farm), strict=True))
        self._apis: dict[str, Api] = {}
        self.boots = {
            name: self._boot_keeper(name, farm.clusters[name]) for name, kind in minted.items() if kind == "boot"
        }
        self._leases = self._lease_service(farm)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """What keeps each cluster, by its name."""
        self._changes: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._unreadable: Sequence[str] = ()
        self.reloads = Reloads(None, time.time())

    def _reloader(self, source: Source) -> Reloader[Clusters]:
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)

        def swap(new: Clusters) -> None:
            self._wanted = new.farm
            change = asyncio.create_task(self.follow(new.farm), name="clusters")
            self._changes.add(change)
            change.add_done_callback(self._changes.discard)

        return Reloader(source, self.reloads, lambda: self._wanted, prepare, swap, asked=asked, name="controller")

    async def follow(self, farm: Farm) -> None:
        """Keep the clusters of another farm. Those that are as they were notice nothing. Raises nothing.

        One that changed begins anew, as after a restart: the daemon is made to connect again, and tells of the boots
        that wait. One that we fail with keeps none of the others from being kept.
        """
        async with self._changing:
            before, self._farm = self._farm, farm
            if self._leases is not None:
                self._leases.follow(farm)
            changed = [name for name in {**before.clusters, **farm.clusters}
                       if before.clusters.get(name) != farm.clusters.get(name)]  # fmt: skip
            for name in changed:
                try:
                    await self._drop(name)
                    if (cluster := farm.clusters.get(name)) is not None:
                        self._keep(name, cluster)
                except Exception:
                    log.exception("%s: a fault of the controller itself; it is not kept before a restart", name)
            if changed:
                self._events.close()
                await self._look_at_credentials()

    async def _drop(self, name: str) -> None:
        """Keep a cluster no more. What it has stays: its tokens are good until they expire."""
        self.shared.pop(name, None)
        self.boots.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            log.info("%s: is not kept any more as it was", name)
        if (api := self._apis.pop(name, None)) is not None:
            await api.close()

    def _keep(self, name: str, cluster: Cluster) -> None:
        keeper: Keeper | BootKeeper
        match cluster.minted:
            case "shared":
                keeper = self.shared[name] = service.keeper(name, cluster)
            case "boot":
                keeper = self.boots[name] = self._boot_keeper(name, cluster)
            case None:
                return
        self._tasks[name] = asyncio.create_task(supervised(name, keeper.run))
        log.info("%s: is kept from now on", name)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to keep."""
        return bool(self.shared or self.boots or self._leases)

    async def run(self, listen: tuple[str, int] | None = None, source: Source | None = None) -> None:
        """Keep all of it until SIGTERM or SIGINT; serve metrics at the address and port `listen`.

        The clusters follow `source`, the farm's file; SIGHUP has it read at once.

        Raises `OSError` if the socket that the daemon needs cannot be, or that address.
        """
        loop = asyncio.get_running_loop()
        descriptors.say_seldom()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with AsyncExitStack() as stack:
            await self._talk(stack)
            if listen is not None:
                await stack.enter_async_context(Watched(listen, self._samples))
            for name, run in self._parts():
                self._tasks[name] = asyncio.create_task(supervised(name, run))
            tasks = [asyncio.create_task(self._reloader(source).run(), name="reload")] if source is not None else []
            await self._look_at_credentials()
            ready = asyncio.Event()
            ready.set()
            tasks.append(asyncio.create_task(systemd.keep_alive(self.standing, ready), name="watchdog"))
            await stop.wait()
            systemd.notify("STOPPING=1")
            if self._leases is not None:
                self._leases.close()
            tasks += [*self._tasks.values(), *self._changes]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for api in self._apis.values():
                await api.close()

    def standing(self) -> str:
        """Return what `systemctl status` shows: what is kept, and what a person should look at.

        >>> Process(Farm()).standing()
        'keeps no cluster'
        """
        parts = [f"keeps {', '.join(sorted(self._farm.clusters)) or 'no cluster'}", *self._unreadable]
        if self.reloads.refused:
            parts.append(f"the farm's file is refused: {self.reloads.refused[0]}")
        return "; ".join(parts)

    async def _look_at_credentials(self) -> None:
        """Take note of credentials that we cannot read, and log those that are new. Each request tries them again."""
        before = self._unreadable
        self._unreadable = await asyncio.to_thread(_unreadable, self._farm)
        for line in self._unreadable:
            if line not in before:
                log.error("%s", line)

    async def _talk(self, stack: AsyncExitStack) -> None:
        """Open the socket. Shared tokens are kept without one as well: only people ask for them there."""
        app = application(
            self.boots, self.shared, self._events, self._routes(), lambda: {"configuration": self.reloads.as_json()}
        )
        try:
            await stack.enter_async_context(Talking(self._socket, app, self._events))
        except OSError as error:
            if self.boots or self._leases:
                raise
            log.warning("nobody can ask for tokens at %s: %s", self._socket, error)

    def _samples(self) -> Iterator[Sample]:
        kept: dict[str, Tokens] = {**self.shared, **self.boots}
        yield from samples(kept, self._events.counts)
        if self._leases is not None:
            yield Sample("pxeboot_controller_shared_leases", self._leases.count)

    def _parts(self) -> Sequence[tuple[str, Callable[[], Awaitable[None]]]]:
        parts: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        parts += [(name, keeper.run) for name, keeper in self.shared.items()]
        parts += [(name, boots.run) for name, boots in self.boots.items()]
        if self._leases is not None:
            parts.append(("shared leases", self._leases.run))
        return parts

    def _boot_keeper(self, name: str, cluster: Cluster) -> BootKeeper:
        terms = Terms(ttl_s=cluster.boot_token_ttl_s, api_server=cluster.api_server)
        return BootKeeper(self._api(name, cluster), terms, self._events.tell, cluster.api_address)

    def _lease_service(self, farm: Farm) -> LeaseService | None:
        """What shares the leases of `dhcp.shared` among several servers, if they are to be."""
        name = farm.dhcp.shared
        if name is None:
            return None
        cluster = farm.clusters[name]
        return LeaseService(name, self._api(name, cluster), cluster.namespace, farm)

    def _api(self, name: str, cluster: Cluster) -> Api:
        """The API of a cluster, one for all that speak to it, so that what limits them limits them together."""
        if name not in self._apis:
            self._apis[name] = Api(name, cluster.kubeconfig, cluster.api_server)
        return self._apis[name]

    def _routes(self) -> Sequence[Route]:
        leases = self._leases
        if leases is None:
            return ()

        async def writes(request: web.Request) -> web.StreamResponse:
            return await leases.writes(request) if _is_for(leases, request) else _unknown()

        async def events(request: web.Request) -> web.StreamResponse:
            return await leases.events(request) if _is_for(leases, request) else _unknown()

        path = "/v1/dhcp/leases/{cluster}"
        return Route("POST", path, writes), Route("GET", f"{path}/events", events)


def _unreadable(farm: Farm) -> Sequence[str]:
    """Return which clusters have credentials that we cannot read now."""
    lines = []
    for name, cluster in sorted(farm.clusters.items()):
        if cluster.kubeconfig is None:
            continue
        try:
            cluster.kubeconfig.read_bytes()
        except OSError as error:
            lines.append(f"{name}: {cluster.kubeconfig} cannot be read: {error.strerror}")
    return lines


def _is_for(leases: LeaseService, request: web.Request) -> bool:
    return request.match_info["cluster"] == leases.name


def _unknown() -> web.Response:
    return web.json_response({"error": "the controller shares no leases in this cluster"}, status=404)


async def supervised(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a part until cancelled. A fault of our own in it is logged, and it begins again; the others go on."""
    while True:
        try:
            await run()
            log.error("%s: ended by itself; it begins again in %g s", name, PAUSE_S)
        except Exception:
            log.exception("%s: a fault of the controller itself; it begins again in %g s", name, PAUSE_S)
        await asyncio.sleep(PAUSE_S)
