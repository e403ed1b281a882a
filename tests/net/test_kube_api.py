"""The client of the API against a stand-in that does what a bad day does; the real one is in test_kube_watching."""

import asyncio
import base64
import json
import logging
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from lightkube.config.kubeconfig import KubeConfig

from pxeboot.controller.token import Token
from pxeboot.kube.api import CONNECTIONS_AGE_S, Api
from pxeboot.kube.errors import Held, Unavailable
from pxeboot.kube.paths import NODES
from pxeboot.kube.tokens import cluster_info
from tests.support.kube_api import Fault
from tests.support.kube_client_at import Clock, asked, run
from tests.support.kube_credentials import make_ca
from tests.support.kube_thread import ThreadedApi, running_api

pytestmark = pytest.mark.net

PAUSE_S = 1.1
"""After a first failure nothing is sent for a second at most."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadedApi]:
    with running_api(tmp_path / "api") as server:
        yield server


FAULTS = [
    pytest.param(Fault.UNAUTHORIZED, 401, "HTTP 401: Unauthorized", id="401"),
    pytest.param(Fault.TOO_MANY_REQUESTS, 429, "HTTP 429: too many requests", id="429"),
    pytest.param(Fault.INTERNAL, 500, "HTTP 500: etcd is unwell", id="500"),
    pytest.param(Fault.HANG, None, "no answer within 5 s", id="hang"),
    pytest.param(Fault.DOWN, None, ".*Error: .*", id="down"),
]


@pytest.mark.parametrize(("fault", "status", "reason"), FAULTS)
def test_every_failure_is_one_kind_of_error_and_then_nothing_is_sent_for_a_while(
    server: ThreadedApi, fault: Fault, status: int | None, reason: str
) -> None:
    clock = Clock()

    async def work(api: Api) -> None:
        await cluster_info(api)
        server.inject(fault)
        with pytest.raises(Unavailable) as failed:
            await cluster_info(api)
        assert failed.value.status == status
        assert re.fullmatch(reason, str(failed.value))
        before, wait_s = asked(server), 0.0
        for _ in range(100):  # a hundred machines that ask for their tokens
            with pytest.raises(Held) as held:
                await cluster_info(api)
            wait_s = held.value.retry_after_s or 0.0
            assert wait_s
        assert asked(server) == before
        server.inject(Fault.NONE)
        clock.now += wait_s
        await cluster_info(api)

    run(server.api.kubeconfig, work, clock)


def test_what_the_server_asks_for_is_obeyed(server: ThreadedApi) -> None:
    clock = Clock()

    async def work(api: Api) -> None:
        server.inject(Fault.TOO_MANY_REQUESTS)
        with pytest.raises(Unavailable) as failed:
            await cluster_info(api)
        assert failed.value.retry_after_s == 3
        with pytest.raises(Held) as held:
            await cluster_info(api)
        assert held.value.retry_after_s == 3
        clock.now += 2.9
        with pytest.raises(Held):
            await cluster_info(api)
        clock.now += 0.1
        with pytest.raises(Unavailable) as failed:
            await cluster_info(api)
        assert failed.value.status == 429

    run(server.api.kubeconfig, work, clock)


def test_an_answer_that_is_no_json_is_an_error_too(server: ThreadedApi) -> None:
    async def work(api: Api) -> None:
        server.inject(Fault.NONSENSE)
        with pytest.raises(Unavailable, match="could not be understood"):
            await cluster_info(api)

    run(server.api.kubeconfig, work)


def test_an_error_about_a_secret_quotes_nothing(server: ThreadedApi) -> None:
    token = Token.make()

    async def work(api: Api) -> None:
        body = {"metadata": {"name": token.secret.upper()}, "stringData": {"x": token.secret}}  # no name of an object
        for path in ("/api/v1/namespaces/kube-system/secrets", f"/api/v1/namespaces/x/secrets/{token.secret}"):
            with pytest.raises(Unavailable) as refused:
                await api.call("POST", path, body=body)
            assert refused.value.status
            assert re.fullmatch("HTTP [0-9]+ ?[A-Za-z]*", str(refused.value))

    run(server.api.kubeconfig, work)


def test_a_request_that_is_refused_for_itself_holds_up_nobody(server: ThreadedApi) -> None:
    async def work(api: Api) -> None:
        for _ in range(20):
            with pytest.raises(Unavailable) as failed:
                await api.call("GET", NODES.path(name="nobody"))
            assert failed.value.status == 404
        await cluster_info(api)

    run(server.api.kubeconfig, work)


def test_another_ca_is_refused_and_taken_when_the_file_has_it(server: ThreadedApi, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    right = server.api.kubeconfig.read_text()
    wrong = json.loads(right)
    other = tmp_path / "other"
    other.mkdir()
    make_ca(other)
    wrong["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(
        (other / "ca.crt").read_bytes()
    ).decode()
    kubeconfig.write_text(json.dumps(wrong))
    clock = Clock()

    async def work(api: Api) -> None:
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await cluster_info(api)
        assert asked(server) == 0
        kubeconfig.write_text(right)
        clock.now += PAUSE_S
        assert await cluster_info(api) is not None

    run(kubeconfig, work, clock)


def test_credentials_that_cannot_be_used_are_told_without_being_quoted(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"

    async def work(api: Api) -> None:
        for text in ("", "clusters: 3", "a: [", "clusters: [{name: s3cr3t}]", "s3cr3t", "current-context: x"):
            kubeconfig.write_text(text)
            with pytest.raises(Unavailable, match="credentials cannot be") as failed:
                await cluster_info(api)
            assert "s3cr3t" not in str(failed.value)
        kubeconfig.unlink()
        with pytest.raises(Unavailable, match="not found"):
            await api.own()

    run(kubeconfig, work)


def with_token_file(server: ThreadedApi, token_file: Path, kubeconfig: Path) -> str:
    """Write a kubeconfig as a pod has it: its token is in a file. Return the administrator's token."""
    said = json.loads(server.api.kubeconfig.read_text())
    token = said["users"][0]["user"].pop("token")
    said["users"][0]["user"]["tokenFile"] = token_file.name  # relative to the kubeconfig
    kubeconfig.write_text(yaml.safe_dump(said))
    return str(token)


def test_a_token_file_is_read_again_when_its_token_is_refused(server: ThreadedApi, tmp_path: Path) -> None:
    file, kubeconfig = tmp_path / "token", tmp_path / "kubeconfig"
    good = with_token_file(server, file, kubeconfig)
    file.write_text("not-any-more\n")
    clock = Clock()

    async def work(api: Api) -> None:
        with pytest.raises(Unavailable) as failed:
            await cluster_info(api)
        assert failed.value.status == 401
        clock.now += PAUSE_S
        file.write_text(good)
        before = asked(server)
        await cluster_info(api)
        assert asked(server) == before + 1

        api2 = Api("prod", kubeconfig)
        file.write_text("not-any-more\n")
        with pytest.raises(Unavailable):
            await cluster_info(api2)
        await cluster_info(api)  # what it has is good for a minute
        await api2.close()

    run(kubeconfig, work, clock)


def swap(folder: Path, number: int, **files: str) -> None:
    """Replace the files of a mounted volume all at once, as the kubelet does: each is a link into the folder `..data`,
    which is a link to the newest of many."""
    newest = folder / f"..{number}"
    newest.mkdir(parents=True)
    for name, text in files.items():
        (newest / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..data_tmp").symlink_to(newest.name)
    (folder / "..data_tmp").rename(folder / "..data")
    for old in folder.glob("..[0-9]*"):
        if old != newest:
            shutil.rmtree(old)


def test_the_token_of_a_pod_is_taken_up_when_the_kubelet_swaps_the_volume(
    server: ThreadedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the minute in which it is not read again by itself; and a CA that comes with it."""
    account = tmp_path / "account"
    good = json.loads(server.api.kubeconfig.read_text())["users"][0]["user"]["token"]
    other = tmp_path / "other"
    other.mkdir()
    make_ca(other)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.api.port))
    monkeypatch.setattr(KubeConfig, "from_service_account", partial(KubeConfig.from_service_account, account))
    clock = Clock()

    async def work() -> None:
        api = Api("prod", None, clock=clock)
        swap(account, 1, token="not-any-more", namespace="pxeboot", **{"ca.crt": server.api.ca.read_text()})
        with pytest.raises(Unavailable) as failed:
            await cluster_info(api)
        assert failed.value.status == 401
        clock.now += PAUSE_S
        swap(account, 2, token=good, namespace="pxeboot", **{"ca.crt": server.api.ca.read_text()})
        await cluster_info(api)
        swap(account, 3, token="not-yet", namespace="pxeboot", **{"ca.crt": (other / "ca.crt").read_text()})
        await cluster_info(api)  # with the connections and the token of a moment ago
        await api.close()
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await cluster_info(api)
        swap(account, 4, token=good, namespace="pxeboot", **{"ca.crt": server.api.ca.read_text()})
        clock.now += PAUSE_S
        await cluster_info(api)
        assert "set api_server" in str(await api.own())
        await api.close()

    asyncio.run(work())


def test_a_token_that_may_not_be_sent_is_not_quoted(server: ThreadedApi, tmp_path: Path) -> None:
    file, kubeconfig = tmp_path / "token", tmp_path / "kubeconfig"
    with_token_file(server, file, kubeconfig)
    file.write_text("s3cr3t\nof two lines\n")

    async def work(api: Api) -> None:
        with pytest.raises(Unavailable, match="credentials cannot be used") as failed:
            await cluster_info(api)
        assert "s3cr3t" not in str(failed.value)

    run(kubeconfig, work)


def test_after_an_outage_one_request_goes_first_and_of_the_others_none(server: ThreadedApi) -> None:
    clock = Clock()

    async def work(api: Api) -> None:
        server.inject(Fault.INTERNAL)
        with pytest.raises(Unavailable):
            await cluster_info(api)
        await api.close()  # so that connections have to be opened first
        clock.now += PAUSE_S
        before = asked(server)
        found = await asyncio.gather(*(cluster_info(api) for _ in range(50)), return_exceptions=True)
        assert asked(server) == before + 1
        assert sum(isinstance(error, Held) for error in found) == 49

    run(server.api.kubeconfig, work, clock)


def test_credentials_are_read_again_every_hour(server: ThreadedApi, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(server.api.kubeconfig.read_text())

    async def work() -> None:
        now = 1000.0
        api = Api("prod", kubeconfig, clock=lambda: now)
        await cluster_info(api)
        kubeconfig.write_text("clusters: 3")
        await cluster_info(api)
        now += CONNECTIONS_AGE_S + 1
        with pytest.raises(Unavailable, match="is not a kubeconfig"):
            await cluster_info(api)
        await api.close()

    asyncio.run(work())


def test_a_server_that_is_not_checked_is_warned_of_once(
    server: ThreadedApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = json.loads(server.api.kubeconfig.read_text())
    del said["clusters"][0]["cluster"]["certificate-authority-data"]
    said["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(said))

    async def work(api: Api) -> None:
        for _ in range(3):
            await cluster_info(api)
            await api.close()

    with caplog.at_level(logging.WARNING, "controller"):
        run(kubeconfig, work)
    assert caplog.text.count("the API server is not authenticated") == 1


def test_connections_that_are_in_use_are_closed_when_they_are_done(server: ThreadedApi) -> None:
    async def work(api: Api) -> None:
        query = {"watch": "true", "timeoutSeconds": "30"}
        async with api.stream(NODES.path(), query) as given:
            await api.close()
            await cluster_info(api)  # through others
            server.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "m1"}})
            async for chunk in given:
                assert b'"m1"' in chunk
                break

    run(server.api.kubeconfig, work)
