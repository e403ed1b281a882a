"""Objects of the API, whole, bare and odd, as the values that we need of them."""

import base64
from functools import partial
from typing import Any

import pytest

from config.clusters import Push
from pxeboot.controller.request import LONGEST_BYTES
from pxeboot.kube.leases import Lease, decode_lease, encode_lease
from pxeboot.kube.nodes import Node, decode_node
from pxeboot.kube.objects import Text, decode_text
from pxeboot.kube.paths import LEASES, NODES, label_value
from pxeboot.kube.requests import Request, decode_request
from pxeboot.kube.times import micro_time, rfc3339_now, seconds

PEM = b"-----BEGIN CERTIFICATE REQUEST-----\n..."
REQUEST = {
    "metadata": {"name": "csr-x", "uid": "u", "creationTimestamp": "2025-01-01T00:00:00Z", "resourceVersion": "7"},
    "spec": {
        "request": base64.b64encode(PEM).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "username": "system:bootstrap:abcdef",
        "groups": ["system:bootstrappers", "system:authenticated"],
        "usages": ["digital signature", "client auth"],
    },
    "status": {},
}


def test_a_request_says_who_asks_for_what() -> None:
    assert decode_request(REQUEST) == Request(
        name="csr-x",
        uid="u",
        created_s=1735689600.0,
        username="system:bootstrap:abcdef",
        groups=("system:bootstrappers", "system:authenticated"),
        signer="kubernetes.io/kube-apiserver-client-kubelet",
        usages=("digital signature", "client auth"),
        pem=PEM,
    )


def test_no_more_is_kept_of_a_request_than_shows_that_it_is_too_long() -> None:
    spec = {"request": base64.b64encode(PEM + b"x" * 1_000_000).decode()}
    assert len(decode_request(REQUEST | {"spec": spec}).pem) == LONGEST_BYTES + 1


@pytest.mark.parametrize(
    ("conditions", "certificate", "approved", "denied", "waits"),
    [
        ([], "", False, False, True),
        (["Approved"], "", True, False, False),
        (["Approved"], "Q0VSVA==", True, False, False),
        (["Denied"], "", False, True, False),
        (["Failed"], "", False, False, True),
        (["Approved", "Failed"], "", True, False, False),
    ],
)
def test_a_request_says_what_was_decided(
    conditions: list[str], certificate: str, approved: bool, denied: bool, waits: bool
) -> None:
    status = {"conditions": [{"type": kind, "status": "True"} for kind in conditions], "certificate": certificate}
    request = decode_request(REQUEST | {"status": status})
    assert (request.approved, request.denied, request.waits, request.issued) == (
        approved,
        denied,
        waits,
        bool(certificate),
    )


@pytest.mark.parametrize("said", ["%%%", "QQ", 3, None, "é"])
def test_a_request_that_is_no_base64_is_an_empty_one(said: object) -> None:
    assert decode_request(REQUEST | {"spec": {"request": said}}).pem == b""


def test_a_node_says_whether_it_lives_and_which_boot_of_it() -> None:
    raw = {
        "metadata": {"name": "m1", "uid": "u", "labels": {"a": "b"}, "resourceVersion": "9"},
        "spec": {"unschedulable": True, "taints": [{"key": "gpu", "effect": "NoSchedule", "timeAdded": "x"}]},
        "status": {
            "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "Hostname", "address": "m1"}, {"type": "InternalIP", "address": "192.0.2.7"}],
            "nodeInfo": {"bootID": "b00t"},
        },
    }
    assert decode_node(raw) == Node(
        name="m1",
        uid="u",
        created_s=0.0,
        ready=False,
        condition="Unknown",
        boot_id="b00t",
        unschedulable=True,
        address="192.0.2.7",
        labels={"a": "b"},
        taints=(("gpu", "", "NoSchedule"),),
        resource_version="another, which does not count",
    )


def test_only_true_is_ready() -> None:
    for said, ready in (("True", True), ("true", False), ("False", False), ("Unknown", False)):
        assert decode_node({"status": {"conditions": [{"type": "Ready", "status": said}]}}).ready is ready


@pytest.mark.parametrize(
    "decode", [decode_request, decode_node, decode_lease, partial(decode_text, push=Push(name="x"))]
)
@pytest.mark.parametrize("raw", [{}, {"metadata": None, "spec": None, "status": None, "data": None}])
def test_an_object_that_says_nothing_is_read_as_one(decode: Any, raw: dict[str, Any]) -> None:
    decode(raw)


def test_a_lease_is_read_as_it_was_written() -> None:
    lease = Lease("10.0.0.7", "me", 15, 1735689600.25, 1735689601.5, 3, {"a": "b"}, {"c": "d"}, "u", "7")
    assert decode_lease(encode_lease(lease, "pxeboot")) == lease
    bare = encode_lease(Lease("x"), "pxeboot")
    assert "resourceVersion" not in bare["metadata"]
    assert "uid" not in bare["metadata"]
    assert decode_lease(bare) == Lease("x")


MAP, SECRET = Push(kind="ConfigMap", name="x"), Push(kind="Secret", name="x")


@pytest.mark.parametrize(
    ("push", "data", "text"),
    [
        (MAP, {"lts.conf": "[Default]\n", "other": "x"}, "[Default]\n"),
        (SECRET, {"lts.conf": base64.b64encode("[Ü]".encode()).decode()}, "[Ü]"),
        (SECRET, {"lts.conf": ""}, ""),
        (MAP, {"other": "x"}, None),
        (SECRET, {"lts.conf": "%%"}, None),
        (SECRET, {"lts.conf": "//79"}, None),
        (MAP, None, None),
    ],
)
def test_the_text_is_what_is_under_our_key(push: Push, data: object, text: str | None) -> None:
    found = decode_text({"metadata": {"resourceVersion": "7"}, "data": data}, push)
    assert (found.text, found.resource_version) == (text, "7")


def test_a_text_with_a_token_does_not_show_itself() -> None:
    assert "abcdef" not in repr(Text("--token abcdef.0123456789abcdef", "7"))


@pytest.mark.parametrize(
    "text", [None, 3, "", "soon", "2025-01-01", "2025-01-01T00:00:00", "99999999-01-01T00:00:00Z"]
)
def test_what_is_no_time_is_none(text: object) -> None:
    assert seconds(text) is None


def test_times_survive_both_ways() -> None:
    assert seconds(micro_time(1735689600.123456)) == pytest.approx(1735689600.123456)
    assert seconds("2025-01-01T00:00:00.123456789Z") == pytest.approx(1735689600.123456)
    now = seconds(rfc3339_now())
    assert now is not None
    assert now > 1.7e9


def test_paths_are_those_of_the_api() -> None:
    assert NODES.path() == "/api/v1/nodes"
    assert NODES.path(name="m1", part="status") == "/api/v1/nodes/m1/status"
    assert LEASES.path("pxeboot") == "/apis/coordination.k8s.io/v1/namespaces/pxeboot/leases"
    assert (NODES.api_version, LEASES.api_version) == ("v1", "coordination.k8s.io/v1")


@pytest.mark.parametrize("name", ["prod", "a.b-c_D9", "x" * 63])
def test_a_cluster_name_that_can_be_a_label_value_is_one(name: str) -> None:
    assert label_value(name) == name


@pytest.mark.parametrize("name", ["", "two words", "-x", "x" * 64, "Prød", "x\n"])
def test_any_other_cluster_name_becomes_a_digest(name: str) -> None:
    assert len(label_value(name)) == 32
    assert label_value(name).isalnum()
