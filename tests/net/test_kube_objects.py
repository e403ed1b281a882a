"""What the controller does to objects of the API, with the controller's own rights, in a real control plane."""

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from config.clusters import Push
from config.model import Taint
from pxeboot.controller.token import Token
from pxeboot.kube.api import Api
from pxeboot.kube.errors import Conflict, Unavailable
from pxeboot.kube.leases import Lease, create_lease, delete_lease, get_lease, replace_lease
from pxeboot.kube.nodes import Heartbeat, apply_owned, decode_node, heartbeat, node, set_unknown
from pxeboot.kube.objects import read_text, write_text
from pxeboot.kube.paths import NODES, REQUESTS
from pxeboot.kube.requests import Request, approve, decode_request, deny
from pxeboot.kube.tokens import cluster_info, create_token, delete_token
from tests.support.control_plane import ControlPlane
from tests.support.kube_thread import until
from tests.support.segment import CommandFailed

pytestmark = pytest.mark.net

T = TypeVar("T")
GROUPS = ("system:bootstrappers:pxeboot:machines",)
PUSH = Push(kind="Secret", namespace="pxeboot", name="pxeboot-lts")
GPU = Taint(key="gpu", value="true", effect="NoSchedule")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a real API server may take longer than the controller waits for an answer."""
    monkeypatch.setattr("pxeboot.kube.api.REQUEST_S", 60.0)


@pytest.fixture
def do(kubeconfig: Path) -> Callable[[Callable[[Api], Awaitable[T]]], T]:
    """Run something with an `Api` that is closed after it."""

    def do(work: Callable[[Api], Awaitable[T]]) -> T:
        async def run() -> T:
            api = Api("prod", kubeconfig)
            try:
                return await work(api)
            finally:
                await api.close()

        return asyncio.run(run())

    return do


Do = Callable[[Callable[[Api], Awaitable[object]]], object]


async def signed(api: Api, token: Token) -> dict[str, str]:
    """Wait until cluster-info is signed for the token, and return it."""
    async with asyncio.timeout(60):
        while True:
            info = await cluster_info(api) or {}
            if f"jws-kubeconfig-{token.id}" in info:
                return info
            await asyncio.sleep(0.1)


def test_a_token_is_made_once_signed_for_and_deleted_without_ever_being_read(do: Do) -> None:
    token = Token.make()

    async def work(api: Api) -> None:
        for is_new in (True, False):
            made = await create_token(api, token, time.time() + 600, GROUPS, signing=True, description="a test")
            assert made is is_new
        await signed(api, token)
        assert await delete_token(api, token.id) is True
        assert await delete_token(api, token.id) is False
        with pytest.raises(Unavailable) as refused:
            await api.call("GET", "/api/v1/namespaces/kube-system/secrets")
        assert refused.value.status == 403

    do(work)


def test_a_token_that_does_not_sign_is_in_no_cluster_info(plane: ControlPlane, do: Do) -> None:
    silent, signing = Token.make(), Token.make()

    async def work(api: Api) -> None:
        await create_token(api, silent, time.time() + 600, GROUPS, signing=False, description="a test")
        await create_token(api, signing, time.time() + 600, GROUPS, signing=True, description="a test")
        signatures = await signed(api, signing)
        assert f"jws-kubeconfig-{silent.id}" not in signatures

    do(work)
    found = json.loads(
        plane.kubectl("-n", "kube-system", "get", "secret", f"bootstrap-token-{silent.id}", "-o", "json")
    )
    assert found["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "pxeboot",
        "app.kubernetes.io/instance": "prod",
    }


def test_the_clock_of_the_api_server_is_known(do: Do) -> None:
    async def work(api: Api) -> None:
        assert api.skew_s == 0.0
        await cluster_info(api)
        assert api.skew_s != 0.0
        assert abs(api.skew_s) < 60  # by so much its answer may have been late here

    do(work)


def made_request(plane: ControlPlane, folder: Path, name: str) -> Request:
    """A kubelet's request for a certificate, as openssl writes it."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(folder / "key"))
    subject = f"/O=system:nodes/CN=system:node:{name}"
    made = subprocess.run(["openssl", "req", "-new", *key, "-subj", subject], capture_output=True, check=True)
    body = {
        "apiVersion": REQUESTS.api_version,
        "kind": REQUESTS.kind,
        "metadata": {"name": name, "annotations": {"a.person/wrote": "this"}},
        "spec": {
            "request": base64.b64encode(made.stdout).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "key encipherment", "client auth"],
        },
    }
    groups = [f"--as-group={group}" for group in (*GROUPS, "system:authenticated")]
    plane.kubectl("create", "--as=system:bootstrap:abcdef", *groups, "-f", "-", text_in=json.dumps(body))
    return seen_request(plane, name)


def seen_request(plane: ControlPlane, name: str) -> Request:
    return decode_request(json.loads(plane.kubectl("get", "csr", name, "-o", "json")))


def test_a_request_that_is_approved_gets_its_certificate_and_is_approved_once(
    plane: ControlPlane, do: Do, tmp_path: Path
) -> None:
    request = made_request(plane, tmp_path, "m1")
    assert request.waits
    assert request.username == "system:bootstrap:abcdef"
    assert set(request.groups) >= {*GROUPS}
    assert request.pem.startswith(b"-----BEGIN CERTIFICATE REQUEST-----")

    async def work(api: Api) -> None:
        assert await approve(api, request, "PxebootBoot", "it is booting now") is True
        assert await approve(api, request, "PxebootBoot", "again") is True
        assert await deny(api, request, "PxebootBoot", "too late") is False

    do(work)
    until(lambda: seen_request(plane, "m1").issued, "the certificate")
    raw = json.loads(plane.kubectl("get", "csr", "m1", "-o", "json"))
    assert [(c["type"], c["reason"], c["message"]) for c in raw["status"]["conditions"]] == [
        ("Approved", "PxebootBoot", "it is booting now")
    ]
    assert raw["metadata"]["annotations"]["a.person/wrote"] == "this"


def test_a_request_that_is_denied_stays_denied(plane: ControlPlane, do: Do, tmp_path: Path) -> None:
    request = made_request(plane, tmp_path, "m2")

    async def work(api: Api) -> None:
        assert await deny(api, request, "PxebootBoot", "no such boot") is True
        assert await deny(api, request, "PxebootBoot", "again") is True
        assert await approve(api, request, "PxebootBoot", "after all") is False

    do(work)
    assert seen_request(plane, "m2").denied


def test_a_request_of_the_same_name_that_is_another_one_is_not_approved(
    plane: ControlPlane, do: Do, tmp_path: Path
) -> None:
    judged = made_request(plane, tmp_path, "m3")
    plane.kubectl("delete", "csr", "m3")

    async def work(api: Api) -> object:
        return await approve(api, judged, "PxebootBoot", "it is booting now")

    assert do(work) is False  # there is none
    made_request(plane, tmp_path, "m3")
    assert do(work) is False  # there is one that nobody judged
    assert seen_request(plane, "m3").waits


def ready_node(plane: ControlPlane, name: str) -> None:
    """A Node as a kubelet registers it, which is Ready."""
    labels = {"kubernetes.io/os": "linux"}
    plane.kubectl(
        "create",
        "-f",
        "-",
        text_in=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}),
    )
    conditions = [
        {"type": kind, "status": status, "reason": "Kubelet", "message": "as it says", "lastHeartbeatTime": None}
        for kind, status in (("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "False"))
    ]
    status = {"conditions": conditions, "nodeInfo": {"bootID": "b00t"}}

    def said() -> bool:
        body = json.loads(plane.kubectl("get", "node", name, "-o", "json"))
        body["status"] |= status
        path = NODES.path(name=name, part="status")
        try:
            plane.kubectl("replace", "--raw", path, "-f", "-", text_in=json.dumps(body))
        except CommandFailed as error:
            if "Conflict" not in str(error) and "has been modified" not in str(error):
                raise
            return False  # the cluster's own controllers have taken note of a new Node meanwhile
        return True

    until(said, f"{name} to be Ready")


def test_a_node_that_boots_again_is_unknown_and_nothing_else_of_it_changes(plane: ControlPlane, do: Do) -> None:
    ready_node(plane, "n1")
    plane.kubectl("annotate", "node", "n1", "a.person/wrote=this")

    async def work(api: Api) -> None:
        while True:
            before = await node(api, "n1")
            assert before is not None
            assert (before.ready, before.boot_id) == (True, "b00t")
            with suppress(Conflict):  # the cluster's own controllers change a Node that has become Ready
                after = await set_unknown(api, before, "PxebootBoot", "it boots again")
                break
        assert (after.ready, after.condition, after.uid) == (False, "Unknown", before.uid)
        with pytest.raises(Conflict):  # it is not as it was: the caller has to look again
            await set_unknown(api, before, "PxebootBoot", "it boots again")
        with pytest.raises(Unavailable) as gone:
            await set_unknown(api, replace(before, name="n0", uid="", resource_version=""), "PxebootBoot", "")
        assert gone.value.status == 404
        assert await node(api, "n0") is None

    do(work)
    raw = json.loads(plane.kubectl("get", "node", "n1", "-o", "json"))
    said = {c["type"]: (c["status"], c["message"]) for c in raw["status"]["conditions"]}
    assert said["MemoryPressure"][1] == said["DiskPressure"][1] == "as it says"
    assert raw["metadata"]["annotations"]["a.person/wrote"] == "this"
    assert raw["status"]["nodeInfo"]["bootID"] == "b00t"


def test_labels_and_taints_follow_the_configuration_and_a_cordon_stays(plane: ControlPlane, do: Do) -> None:
    ready_node(plane, "n2")
    plane.kubectl("cordon", "n2")
    plane.kubectl("taint", "node", "n2", "a-person=x:NoExecute")
    plane.kubectl("label", "node", "n2", "a-person=x", "rack=old")

    async def apply(api: Api, labels: dict[str, str], *taints: Taint) -> bool:
        return await apply_owned(api, "n2", labels, taints)

    assert do(lambda api: apply(api, {"rack": "1", "node-role.kubernetes.io/worker": ""}, GPU)) is True
    assert do(lambda api: apply(api, {"rack": "1", "node-role.kubernetes.io/worker": ""}, GPU)) is False
    raw = decode_node(json.loads(plane.kubectl("get", "node", "n2", "-o", "json")))
    assert raw.labels.items() >= {"rack": "1", "node-role.kubernetes.io/worker": "", "a-person": "x"}.items()
    assert {("gpu", "true", "NoSchedule"), ("a-person", "x", "NoExecute")} <= set(raw.taints)

    assert do(lambda api: apply(api, {"rack": "2"})) is True
    raw = decode_node(json.loads(plane.kubectl("get", "node", "n2", "-o", "json")))
    assert "node-role.kubernetes.io/worker" not in raw.labels
    assert raw.labels.items() >= {"kubernetes.io/os": "linux", "a-person": "x", "rack": "2"}.items()
    assert "gpu" not in {key for key, *_ in raw.taints}
    assert ("a-person", "x", "NoExecute") in raw.taints
    assert raw.unschedulable

    def tainted() -> bool:  # by the cluster's own controllers, when they have seen the cordon
        raw = decode_node(json.loads(plane.kubectl("get", "node", "n2", "-o", "json")))
        return "node.kubernetes.io/unschedulable" in {key for key, *_ in raw.taints}

    until(tainted, "the taint of a cordon")


def test_two_that_write_labels_at_once_both_get_their_way(plane: ControlPlane, do: Do) -> None:
    ready_node(plane, "n3")

    async def work(api: Api) -> None:
        for number in range(5):
            patch = {"metadata": {"labels": {"theirs": str(number)}}}
            theirs = api.call("PATCH", NODES.path(name="n3"), body=patch, content_type="application/merge-patch+json")
            await asyncio.gather(theirs, apply_owned(api, "n3", {"ours": str(number)}, [GPU]))
            found = await node(api, "n3")
            assert found is not None
            assert (found.labels["theirs"], found.labels["ours"]) == (str(number), str(number))

    do(work)


def test_a_kubelets_beat_is_seen_by_its_lease(plane: ControlPlane, do: Do) -> None:
    async def look(api: Api) -> object:
        return await heartbeat(api, "n4")

    assert do(look) is None
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n4"}}
    spec = {"holderIdentity": "n4", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.500000Z"}
    plane.kubectl("-n", "kube-node-lease", "create", "-f", "-", text_in=json.dumps({**lease, "spec": spec}))
    first = do(look)
    assert isinstance(first, Heartbeat)
    assert first.renewed_s == 1767225600.5
    patch = json.dumps({"spec": {"renewTime": "2026-01-01T00:00:10.500000Z"}})
    plane.kubectl("-n", "kube-node-lease", "patch", "lease", "n4", "-p", patch)
    assert do(look) != first


def test_of_two_that_make_change_or_delete_a_lease_one_does(do: Do) -> None:
    async def work(api: Api) -> None:
        mine = Lease("10.0.0.7", "me", 15, labels={"a": "b"}, annotations={"c": "d"})
        made = await create_lease(api, "pxeboot", mine)
        assert made is not None
        assert (made.holder, made.labels, made.annotations) == ("me", {"a": "b"}, {"c": "d"})
        assert await create_lease(api, "pxeboot", replace(mine, holder="you")) is None
        taken = await replace_lease(api, "pxeboot", replace(made, holder="you"))
        assert taken is not None
        assert await replace_lease(api, "pxeboot", replace(made, holder="me")) is None
        assert await delete_lease(api, "pxeboot", made) is False
        assert await get_lease(api, "pxeboot", "10.0.0.7") == taken
        assert await delete_lease(api, "pxeboot", taken) is True
        assert await delete_lease(api, "pxeboot", taken) is False
        assert await replace_lease(api, "pxeboot", taken) is None  # and is not made again by it
        assert await get_lease(api, "pxeboot", "10.0.0.7") is None

    do(work)


def test_a_text_is_written_while_it_is_as_it_was_read_and_all_else_in_the_object_stays(
    plane: ControlPlane, do: Do
) -> None:
    plane.kubectl("-n", "pxeboot", "patch", "secret", "pxeboot-lts", "-p", json.dumps({"stringData": {"other": "x"}}))

    async def work(api: Api) -> None:
        empty = await read_text(api, PUSH)
        assert empty is not None
        assert empty.text is None
        written = await write_text(api, PUSH, "[Default]\n", empty.resource_version)
        assert written.text == "[Default]\n"
        with pytest.raises(Conflict):
            await write_text(api, PUSH, "[Other]\n", empty.resource_version)
        assert await read_text(api, PUSH) == written
        with pytest.raises(Unavailable, match="apply rbac-push"):
            await write_text(api, Push(kind="ConfigMap", namespace="pxeboot", name="not-ours"), "x", None)

    do(work)
    data = json.loads(plane.kubectl("-n", "pxeboot", "get", "secret", "pxeboot-lts", "-o", "json"))["data"]
    assert sorted(data) == ["lts.conf", "other"]


def test_an_object_that_is_not_there_is_made_once(plane: ControlPlane) -> None:
    push = Push(kind="ConfigMap", namespace="pxeboot", name="made")

    async def work() -> None:
        api = Api("prod", plane.kubeconfig)
        assert await read_text(api, push) is None
        await write_text(api, push, "[Default]\n", None)
        with pytest.raises(Conflict):
            await write_text(api, push, "[Other]\n", None)
        found = await read_text(api, push)
        assert found is not None
        assert found.text == "[Default]\n"
        await api.close()

    asyncio.run(work())
