"""Watches of a stand-in that does what a bad day does; the real API server is in test_kube_watching."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pxeboot.kube.api import Api
from pxeboot.kube.cache import Change
from pxeboot.kube.nodes import Node, decode_node
from pxeboot.kube.paths import NODES, Object
from pxeboot.kube.watching import Watch
from tests.support.kube_api import Fault
from tests.support.kube_client_at import asked, run
from tests.support.kube_thread import ThreadedApi, running_api

pytestmark = pytest.mark.net


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadedApi]:
    with running_api(tmp_path / "api") as server:
        yield server


class Followed:
    """A watch of Nodes, and all that it told."""

    def __init__(
        self, api: Api, on_change: Callable[[Change[Node]], None] | None = None, *, watch_s: int = 20
    ) -> None:
        self.changes: list[tuple[str, bool]] = []
        self.syncs: list[tuple[bool, str]] = []
        self.watch: Watch[Node] = Watch(
            api, NODES, decode_node, on_change or self.change, on_sync=self.sync, watch_s=watch_s
        )
        self.task = asyncio.create_task(self.watch.run())

    def change(self, change: Change[Node]) -> None:
        self.changes.append((change.name, change.new is not None))

    def sync(self, in_sync: bool, why: str) -> None:
        self.syncs.append((in_sync, why))

    async def until(self, holds: Callable[[], bool], within_s: float = 90) -> None:
        async with asyncio.timeout(within_s):
            while True:
                if holds():
                    return
                await asyncio.sleep(0.02)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def make_node(server: ThreadedApi, name: str) -> None:
    server.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def test_a_watch_that_is_cut_goes_on_and_tells_what_came_and_went_meanwhile(server: ThreadedApi) -> None:
    make_node(server, "m1")
    make_node(server, "m2")

    async def work(api: Api) -> None:
        seen = Followed(api)
        await seen.until(lambda: seen.watch.in_sync)
        assert seen.changes == [("m1", True), ("m2", True)]
        server.inject(Fault.DOWN)
        await seen.until(lambda: not seen.watch.in_sync)
        server.do(server.api.delete("/api/v1/nodes/m1"))
        server.do(server.api.apply("{apiVersion: v1, kind: Node, metadata: {name: m3}}"))
        server.inject(Fault.NONE)
        await seen.until(lambda: seen.watch.in_sync)
        assert seen.changes[2:] == [("m1", False), ("m3", True)]
        assert sorted(seen.watch.values) == ["m2", "m3"]
        assert [in_sync for in_sync, _ in seen.syncs] == [True, False, True]
        await seen.end()

    run(server.api.kubeconfig, work)


def test_a_watch_whose_time_is_over_goes_on_without_another_list(server: ThreadedApi) -> None:
    make_node(server, "m1")

    async def work(api: Api) -> None:
        seen = Followed(api, watch_s=2)

        def verbs() -> list[str]:
            return [verb for _, verb, path in server.api.asked if path == NODES.path()]

        await seen.until(lambda: verbs().count("watch") >= 3)
        assert verbs().count("list") == 1
        assert [in_sync for in_sync, _ in seen.syncs] == [True]
        await seen.end()

    run(server.api.kubeconfig, work)


def test_a_version_that_is_forgotten_costs_one_more_list_and_tells_nothing_twice(server: ThreadedApi) -> None:
    make_node(server, "m1")

    async def work(api: Api) -> None:
        seen = Followed(api, watch_s=2)
        await seen.until(lambda: seen.watch.in_sync)
        await asyncio.sleep(1.2)
        server.inject(Fault.GONE)
        make_node(server, "m2")
        await seen.until(lambda: ("m2", True) in seen.changes)
        server.inject(Fault.NONE)
        make_node(server, "m3")
        await seen.until(lambda: "m3" in seen.watch.values and seen.watch.in_sync)
        assert seen.changes == [("m1", True), ("m2", True), ("m3", True)]
        await seen.end()

    run(server.api.kubeconfig, work)


async def restore(server: ThreadedApi, versions_back: int) -> None:
    """Put the API back to where it was so many versions ago, with the objects that it has now."""
    server.api.store.version -= versions_back
    server.api.store.changes.clear()


@pytest.mark.parametrize("ill", [Fault.TOO_MANY_REQUESTS, Fault.INTERNAL, Fault.DOWN])
def test_an_api_that_was_put_back_to_an_earlier_state_is_listed_again(server: ThreadedApi, ill: Fault) -> None:
    """It says nothing of what changes until it is where we were: a watch from there is silent, and no error."""
    for number in range(20):
        make_node(server, f"m{number}")

    async def work(api: Api) -> None:
        seen = Followed(api, watch_s=2)
        await seen.until(lambda: seen.watch.in_sync)
        server.inject(ill)
        await seen.until(lambda: not seen.watch.in_sync)
        server.do(restore(server, 15))
        server.inject(Fault.NONE)
        await seen.until(lambda: seen.watch.in_sync)
        make_node(server, "new")
        await seen.until(lambda: ("new", True) in seen.changes)
        await seen.end()

    run(server.api.kubeconfig, work)


class Hurried(Api):
    """A client whose watches the server ends in good order, but before their time, as one does that begins anew."""

    def stream(self, path: str, query: Mapping[str, str]):  # type: ignore[no-untyped-def]
        """Ask for a watch that ends sooner than whoever asks expects."""
        return super().stream(path, {**query, "timeoutSeconds": "2"})


def test_a_server_that_ends_a_watch_early_and_is_in_an_earlier_state_makes_us_out_of_sync(
    server: ThreadedApi, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever compares versions would else think that he knows better than what is listed."""
    for number in range(20):
        make_node(server, f"m{number}")

    async def work(_: Api) -> None:
        api = Hurried("prod", server.api.kubeconfig)
        seen = Followed(api)
        await seen.until(lambda: seen.watch.in_sync)
        server.do(restore(server, 15))
        await seen.until(lambda: len(seen.syncs) == 3)
        assert [in_sync for in_sync, _ in seen.syncs] == [True, False, True]
        assert "earlier state" in seen.syncs[1][1]
        make_node(server, "new")
        await seen.until(lambda: ("new", True) in seen.changes)
        await seen.end()
        await api.close()

    run(server.api.kubeconfig, work)
    assert caplog.text.count("earlier state") == 1


@pytest.mark.parametrize("fault", [Fault.GONE, Fault.INTERNAL, Fault.DOWN])
def test_four_watches_of_a_server_that_fails_are_no_storm(server: ThreadedApi, fault: Fault) -> None:
    """Those of a server that is up and forgets everything at once have their own back-off each."""

    async def work(api: Api) -> None:
        server.inject(fault)
        before, began = asked(server), time.monotonic()
        watches = [Followed(api) for _ in range(4)]
        await asyncio.sleep(5)
        each = 4 if fault is Fault.GONE else 1
        assert asked(server) - before <= each * (time.monotonic() - began + 3)
        for watch in watches:
            await watch.end()

    run(server.api.kubeconfig, work)


def test_an_object_that_cannot_be_read_hides_no_other(server: ThreadedApi, caplog: pytest.LogCaptureFixture) -> None:
    make_node(server, "odd")
    make_node(server, "m1")

    def decode(raw: Object) -> str:
        if raw["metadata"]["name"] == "odd":
            raise ValueError("a person's note")
        return str(raw["metadata"]["name"])

    async def work(api: Api) -> None:
        watch: Watch[str] = Watch(api, NODES, decode, lambda change: None)
        task = asyncio.create_task(watch.run())
        async with asyncio.timeout(90):
            while True:
                await asyncio.sleep(0.02)
                if watch.in_sync:
                    break
        assert watch.values == {"m1": "m1"}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(server.api.kubeconfig, work)
    assert "'odd' is left out" in caplog.text
    assert "note" not in caplog.text


def test_a_fault_in_what_is_told_of_a_change_ends_nothing(
    server: ThreadedApi, caplog: pytest.LogCaptureFixture
) -> None:
    make_node(server, "m1")

    def bug(change: Change[Node]) -> None:
        raise RuntimeError("a bug")

    async def work(api: Api) -> None:
        seen = Followed(api, bug)
        await seen.until(lambda: "m1" in seen.watch.values)
        make_node(server, "m2")
        await seen.until(lambda: "m2" in seen.watch.values)
        assert seen.watch.in_sync
        await seen.end()

    run(server.api.kubeconfig, work)
    assert caplog.text.count("a fault of the controller itself") == 2
