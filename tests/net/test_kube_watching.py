"""Watches, the elector and the controller's own token, while a real API server is killed, frozen and forgetful."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import yaml

from pxeboot.kube.api import Api
from pxeboot.kube.cache import Change
from pxeboot.kube.elector import Elector, own_identity
from pxeboot.kube.errors import Unavailable
from pxeboot.kube.leases import get_lease
from pxeboot.kube.nodes import Node, decode_node
from pxeboot.kube.paths import NODES
from pxeboot.kube.tokens import cluster_info
from pxeboot.kube.watching import Watch
from tests.support.control_plane import ControlPlane
from tests.support.kube_thread import ROOT, until

pytestmark = pytest.mark.net

BACK_S = 90.0
"""At the latest, on a busy machine, something works again after the API does."""


@pytest.fixture(scope="module")
def controllers(plane: ControlPlane) -> Path:
    """The controller's credentials, which may not watch Nodes; a test does it as the administrator."""
    return plane.controller_kubeconfig()


@asynccontextmanager
async def without_api(plane: ControlPlane) -> AsyncIterator[None]:
    """Kill the API server for a while."""
    await asyncio.to_thread(plane.kill_api)
    try:
        yield
    finally:
        await asyncio.to_thread(plane.start_api)


class Followed:
    """A watch of Nodes, and what it told of their coming and going."""

    def __init__(self, api: Api, *, watch_s: int = 20, labels: str = "") -> None:
        self.changes: list[tuple[str, bool]] = []
        self.watch: Watch[Node] = Watch(api, NODES, decode_node, self._change, watch_s=watch_s, labels=labels)

    def _change(self, change: Change[Node]) -> None:
        if change.old is None or change.new is None:
            self.changes.append((change.name, change.new is not None))


@asynccontextmanager
async def following(api: Api, *, watch_s: int = 20, labels: str = "") -> AsyncIterator[Followed]:
    followed = Followed(api, watch_s=watch_s, labels=labels)
    task = asyncio.create_task(followed.watch.run())
    try:
        await become(lambda: followed.watch.in_sync)
        yield followed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def become(holds: Callable[[], bool], within_s: float = BACK_S) -> None:
    async with asyncio.timeout(within_s):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)


def run(kubeconfig: Path, work: Callable[[Api], Awaitable[None]]) -> None:
    async def run() -> None:
        api = Api("prod", kubeconfig)
        try:
            await work(api)
        finally:
            await api.close()

    asyncio.run(run())


async def make(plane: ControlPlane, name: str, group: str) -> None:
    metadata = {"name": name, "labels": {"group": group}}
    body = json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    await asyncio.to_thread(plane.kubectl, "create", "-f", "-", text_in=body)


def test_a_watch_outlives_an_api_server_that_is_killed_and_tells_what_changed(plane: ControlPlane) -> None:
    async def work(api: Api) -> None:
        await make(plane, "k1", "killed")
        async with following(api, labels="group=killed") as seen:
            assert seen.changes == [("k1", True)]
            await make(plane, "k2", "killed")
            await become(lambda: ("k2", True) in seen.changes)
            async with without_api(plane):
                await become(lambda: not seen.watch.in_sync)
            await asyncio.to_thread(plane.kubectl, "delete", "node", "k1")
            await make(plane, "k3", "killed")
            await become(lambda: seen.watch.in_sync and "k3" in seen.watch.values and "k1" not in seen.watch.values)
            assert sorted(seen.changes) == [("k1", False), ("k1", True), ("k2", True), ("k3", True)]

    run(plane.kubeconfig, work)


def test_an_api_server_that_has_stopped_is_noticed_and_then_found_again(plane: ControlPlane) -> None:
    async def work(api: Api) -> None:
        async with following(api, watch_s=2) as seen:
            plane.freeze()
            try:
                await become(lambda: not seen.watch.in_sync)
                with pytest.raises(Unavailable):
                    await cluster_info(api)
            finally:
                plane.thaw()
            await become(lambda: seen.watch.in_sync)
            await make(plane, "f1", "frozen")
            await become(lambda: "f1" in seen.watch.values)

    run(plane.kubeconfig, work)


class Forgetful(Api):
    """A client whose every other watch begins at a version of long ago, as if it had slept meanwhile."""

    watches = 0

    def stream(self, path: str, query: Mapping[str, str]):  # type: ignore[no-untyped-def]
        """Ask for what the API has long forgotten."""
        self.watches += 1
        return super().stream(path, query if self.watches % 2 else {**query, "resourceVersion": "1"})


def test_a_version_that_the_api_has_forgotten_is_no_loss(plane: ControlPlane) -> None:
    async def work(_: Api) -> None:
        async with without_api(plane):
            pass  # its memory of changes begins anew
        api = Forgetful("prod", plane.kubeconfig)
        async with following(api, watch_s=2, labels="group=forgotten") as seen:
            await make(plane, "g1", "forgotten")
            await become(lambda: api.watches > 2)
            await make(plane, "g2", "forgotten")
            await become(lambda: ("g2", True) in seen.changes)
            assert seen.changes == [("g1", True), ("g2", True)]
        await api.close()

    run(plane.kubeconfig, work)


def test_a_list_of_many_pages_is_told_whole(plane: ControlPlane) -> None:
    nodes = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"p{number}", "labels": {"group": "pages"}}}
        for number in range(20)
    ]
    plane.kubectl("create", "-f", "-", text_in=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))

    async def work(api: Api) -> None:
        pages = 0
        whole = api.call

        async def in_pages(method: str, path: str, **more: object) -> object:
            nonlocal pages
            pages += 1
            query = more.pop("query", {})
            assert isinstance(query, dict)
            return await whole(method, path, query={**query, "limit": "7"})

        api.call = in_pages  # type: ignore[method-assign, assignment]
        async with following(api, labels="group=pages") as seen:
            assert len(seen.watch.values) == 20
            assert pages == 3

    run(plane.kubeconfig, work)


def service_account_token(plane: ControlPlane, secret: str) -> str:
    """A token of the controller's account that ends with a Secret of that name."""
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": "pxeboot"}}
    plane.kubectl("create", "-f", "-", text_in=json.dumps(body))
    uid = plane.kubectl("-n", "pxeboot", "get", "secret", secret, "-o", "jsonpath={.metadata.uid}")
    bound = {"kind": "Secret", "apiVersion": "v1", "name": secret, "uid": uid}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}}
    path = "/api/v1/namespaces/pxeboot/serviceaccounts/pxeboot-controller/token"
    answer = plane.kubectl("create", "--raw", path, "-f", "-", text_in=json.dumps(request))
    return str(json.loads(answer)["status"]["token"])


async def refused(api: Api) -> None:
    """Wait until the API server takes the credentials no more, which it may do for 10 s, and close the client."""
    async with asyncio.timeout(120):
        with suppress(Unavailable):
            while True:
                await cluster_info(api)
                await asyncio.sleep(0.2)
    await api.close()


def test_a_service_account_token_that_was_rotated_is_taken_up_without_a_failure(
    plane: ControlPlane, controllers: Path, tmp_path: Path
) -> None:
    file, rotating = tmp_path / "token", tmp_path / "kubeconfig"
    said = yaml.safe_load(controllers.read_text())
    said["users"][0]["user"] = {"tokenFile": str(file)}
    rotating.write_text(yaml.safe_dump(said))
    first, second = service_account_token(plane, "first"), service_account_token(plane, "second")
    file.write_text(first)

    async def work(api: Api) -> None:
        assert await cluster_info(api)
        await asyncio.to_thread(plane.kubectl, "-n", "pxeboot", "delete", "secret", "first")
        await refused(Api("prod", rotating))
        file.write_text(second)
        assert await cluster_info(api)

    run(rotating, work)


def test_a_leader_whose_api_has_gone_leads_no_more_before_another_could(
    plane: ControlPlane, controllers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pxeboot.kube.elector._RELEASE_S", 60.0)  # it has two seconds for that, and a test has more

    async def work(api: Api) -> None:
        told: list[bool] = []
        identities = (own_identity(), own_identity())
        first = Elector(api, "pxeboot", "gone", identities[0], on_change=told.append, duration_s=6)
        second = Elector(api, "pxeboot", "gone", identities[1], duration_s=6)
        tasks = [asyncio.create_task(first.run())]
        await become(lambda: first.leads)
        tasks.append(asyncio.create_task(second.run()))
        await asyncio.sleep(1)
        assert not (first.leads and second.leads)
        async with without_api(plane):
            await become(lambda: not first.leads and not second.leads)
            await become(lambda: not told[-1])
            assert told == [True, False] * (len(told) // 2)
        await become(lambda: first.leads or second.leads)
        assert not (first.leads and second.leads)
        leader, other = (0, 1) if first.leads else (1, 0)
        tasks[leader].cancel()
        await asyncio.gather(tasks[leader], return_exceptions=True)
        lease = await get_lease(api, "pxeboot", "gone")
        assert lease is not None
        assert lease.holder != identities[leader], "it was given up, so that nobody has to wait for its end"
        await become(lambda: (first, second)[other].leads)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(controllers, work)


def test_a_leader_that_was_stopped_knows_when_it_wakes_that_it_leads_no_more(
    plane: ControlPlane, controllers: Path, tmp_path: Path
) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "tests.support.elect", str(controllers), name, "6"]
        with (tmp_path / name).open("wb") as log:
            return subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def said(name: str) -> list[str]:
        return (tmp_path / name).read_text().split("\n")[:-1]

    first = start("first")
    try:
        until(lambda: "1" in said("first"), "a leader", BACK_S)
        second = start("second")
        try:
            until(lambda: len(said("second")) > 20, "the second to run")
            assert "1" not in said("second")
            first.send_signal(signal.SIGSTOP)
            before = len(said("first"))
            until(lambda: "1" in said("second"), "another leader", BACK_S)
            first.send_signal(signal.SIGCONT)
            until(lambda: len(said("first")) > before + 20, "the first to go on")
            # The line that was being written when it stopped may still say that it led then.
            assert "1" not in said("first")[before + 1 :]
        finally:
            second.kill()
            second.wait()
    finally:
        first.kill()
        first.wait()
