"""The controller's side of shared leases, on the stand-in API: what it carries out, what it refuses, what it tells."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, web
from aiohttp.test_utils import TestClient, TestServer

from config.model import Farm
from dhcp.leases import NEVER, SOMEBODY, Lease, State
from dhcp.shared_wire import (
    Beat,
    Done,
    Entry,
    Gone,
    Listing,
    News,
    Outcome,
    Refused,
    Remove,
    Synced,
    Unknown,
    Wish,
    Write,
    dump_wishes,
    news_of,
    outcomes_of,
)
from pxeboot.controller.lease_service import LeaseService
from pxeboot.kube.api import Api
from tests.support.kube_api import Fault
from tests.support.kube_client_at import run
from tests.support.kube_thread import ThreadedApi, running_api

pytestmark = pytest.mark.net

RULES = Path(__file__).parents[2] / "deploy/kubernetes/rbac.yaml"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/pxeboot/leases"
A1, A2 = IPv4Address("10.77.0.10"), IPv4Address("10.77.0.11")
X, Y = "02:00:00:00:00:01", "02:00:00:00:00:02"
END = 2_000_000_000
FARM = Farm.model_validate({"dhcp": {"subnets": [{"subnet": "10.77.0.0/24", "pool": f"{A1}-{A2}"}]}})
PATIENCE_S = 90


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadedApi]:
    with running_api(tmp_path / "api") as server:
        server.do(server.api.apply(RULES.read_text()))
        yield server


def entry(client: str = X, address: IPv4Address = A1, expires: int = END) -> Entry:
    return Entry(Lease(address, client, expires), expires + 3600)


class Daemon:
    """What a daemon says to the service, and hears."""

    def __init__(self, client: "TestClient[web.Request, web.Application]", service: LeaseService) -> None:
        self._client = client
        self.service = service
        self.heard: list[News] = []

    async def ask(self, *wishes: Wish) -> list[Outcome]:
        async with self._client.post("/leases", data=dump_wishes(list(wishes))) as response:
            assert response.status == 200
            return outcomes_of(await response.read())

    async def made(self, wish: Write) -> Entry:
        """Have it carried out, which succeeds."""
        [outcome] = await self.ask(wish)
        assert isinstance(outcome, Done)
        assert outcome.entry is not None
        return outcome.entry

    async def listen(self) -> None:
        with suppress(ClientError):
            async with self._client.get("/leases/events") as response:
                async for line in response.content:
                    if (news := news_of(line)) is not None:
                        self.heard.append(news)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if holds():
                    return
                await asyncio.sleep(0.02)


def serving(server: ThreadedApi, work: Callable[[Daemon], Awaitable[None]]) -> None:
    """Do `work` with a service that is in sync, as somebody who hears what it tells."""

    async def serve(api: Api) -> None:
        service = LeaseService("prod", api, "pxeboot", FARM)
        app = web.Application()
        app.add_routes([web.post("/leases", service.writes), web.get("/leases/events", service.events)])
        async with TestClient(TestServer(app)) as client:
            daemon = Daemon(client, service)
            tasks = [asyncio.create_task(service.run()), asyncio.create_task(daemon.listen())]
            await daemon.until(lambda: Synced() in daemon.heard)
            await work(daemon)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(server.api.controller_kubeconfig(), serve)


def test_an_address_is_whose_create_came_first_and_is_changed_only_as_it_is(server: ThreadedApi) -> None:
    async def work(daemon: Daemon) -> None:
        outcomes = await daemon.ask(Write(entry(X)), Write(entry(Y)))
        [kept] = [outcome.entry for outcome in outcomes if isinstance(outcome, Done)]
        assert kept is not None
        [refused] = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        assert refused.current == kept
        renewed = entry(kept.lease.client, expires=END + 60)
        now = await daemon.made(Write(renewed, kept.version))
        assert await daemon.ask(Write(entry(Y), kept.version)) == [Refused(now)]
        assert await daemon.ask(Remove(A1, kept.version)) == [Refused(now)]
        assert await daemon.ask(Remove(A1, now.version)) == [Done(None)]
        assert await daemon.ask(Write(renewed, now.version)) == [Refused(None)], "what is gone is not replaced"
        await daemon.until(lambda: any(isinstance(news, Gone) and news.address == A1 for news in daemon.heard))
        assert now in daemon.heard

    serving(server, work)


def test_an_object_of_our_name_that_is_somebody_elses_is_left_alone_and_its_address_too(server: ThreadedApi) -> None:
    name = "dhcp-10-77-0-10"
    theirs = {"metadata": {"name": name}, "spec": {"holderIdentity": "another program"}}
    server.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **theirs})

    async def work(daemon: Daemon) -> None:
        [outcome] = await daemon.ask(Write(entry()))
        assert isinstance(outcome, Refused)
        assert outcome.current is not None
        assert outcome.current.lease == Lease(A1, SOMEBODY, NEVER, State.DECLINED)
        assert A1 not in [news.lease.address for news in daemon.heard if isinstance(news, Entry)]
        [found] = [each for each in server.api.store.objects.values() if each["metadata"]["name"] == name]
        assert found["spec"] == theirs["spec"]
        server.do(server.api.delete(f"{LEASES}/{name}"))
        await daemon.made(Write(entry()))

    serving(server, work)


def test_what_somebody_deletes_or_writes_by_hand_is_told(server: ThreadedApi) -> None:
    async def work(daemon: Daemon) -> None:
        kept = await daemon.made(Write(entry()))
        await daemon.until(lambda: kept in daemon.heard)
        path = f"{LEASES}/dhcp-10-77-0-10"
        found = server.do(current(server, "dhcp-10-77-0-10"))
        server.replace(path, {**found, "metadata": {**found["metadata"], "annotations": {}}})
        odd = Lease(A1, SOMEBODY, NEVER, State.DECLINED)
        await daemon.until(lambda: any(isinstance(news, Entry) and news.lease == odd for news in daemon.heard))
        server.do(server.api.delete(path))
        await daemon.until(lambda: any(isinstance(news, Gone) for news in daemon.heard))

    serving(server, work)


async def current(server: ThreadedApi, name: str) -> dict[str, Any]:
    return next(each for each in server.api.store.objects.values() if each["metadata"]["name"] == name)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.INTERNAL, Fault.TOO_MANY_CREATED, Fault.LOST])
def test_an_api_that_is_ill_leaves_a_write_open_tells_so_and_is_shared_again_when_it_is_well(
    server: ThreadedApi, fault: Fault
) -> None:
    async def work(daemon: Daemon) -> None:
        server.inject(fault)
        daemon.heard.clear()
        [outcome] = await daemon.ask(Write(entry()))
        assert isinstance(outcome, Unknown)
        await daemon.until(lambda: any(isinstance(news, Beat) and news.trouble for news in daemon.heard))
        asked, began = len(server.api.requests), time.monotonic()
        await asyncio.sleep(3)
        assert len(server.api.requests) - asked <= 3 + time.monotonic() - began, "no storm"
        server.inject(Fault.NONE)
        await daemon.until(lambda: Listing() in daemon.heard and Synced() in daemon.heard)
        [again] = await daemon.ask(Write(entry()))
        if fault is Fault.LOST:  # it was carried out
            assert isinstance(again, Refused)
            assert again.current is not None
            assert replace(again.current, version="") == entry()
        else:
            assert isinstance(again, Done)

    serving(server, work)


@pytest.mark.parametrize("skew_s", [30.0, -30.0])
def test_by_a_clock_that_is_wrong_nothing_is_written_or_told(
    server: ThreadedApi, skew_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(daemon: Daemon) -> None:
        with monkeypatch.context() as wrong:
            wrong.setattr(Api, "skew_s", property(lambda _: skew_s))
            said = "this machine's clock is 30 s off the API server's"
            assert await daemon.ask(Write(entry())) == [Unknown(said)]
            await daemon.until(lambda: Beat(said) in daemon.heard)
            assert all(kind.kind != "Lease" for kind, _, _ in server.api.store.objects)
            daemon.heard.clear()
        await daemon.until(lambda: Synced() in daemon.heard)
        await daemon.made(Write(entry()))

    serving(server, work)
