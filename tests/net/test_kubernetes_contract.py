"""What the controller and joining machines rely on in the Kubernetes API, asked of a real control plane and of the
stand-in alike: the stand-in is as good as these tests. By plain HTTP, without any of our own client."""

import base64
import hmac
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.control_plane import DEPLOY, ControlPlane
from tests.support.kube_client import APPLY, MERGE, STRATEGIC, Client, Object
from tests.support.kube_objects import (
    BOOT,
    CLUSTER_INFO,
    DEFAULT,
    MACHINES,
    NODES,
    REQUESTS,
    SECRETS,
    SIGNER,
    authenticates,
    certificate,
    decide,
    new_token,
    service_account_token,
    signing_request,
    token_secret,
)
from tests.support.kube_thread import running_api, until

pytestmark = pytest.mark.net

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/pxeboot/leases"


@dataclass
class Cluster:
    """A cluster with rbac.yaml applied. `forget` makes versions so far too old to watch from."""

    admin: Client
    controller: Client
    forget: Callable[[], None]


@pytest.fixture(scope="module", params=["real", "stand-in"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp(request.param)
    apply: Callable[[Path], object]
    forget: Callable[[], None]
    with ExitStack() as stack:
        if request.param == "real":
            plane = stack.enter_context(ControlPlane(folder))
            kubeconfig, apply = plane.kubeconfig, plane.apply

            def forget() -> None:
                plane.kill_api()  # what it remembers of changes is in its memory
                plane.start_api()
        else:
            api = stack.enter_context(running_api(folder))
            kubeconfig = api.api.kubeconfig

            def apply(path: Path) -> object:
                return api.do(api.api.apply(path.read_text()))

            def forget() -> None:
                api.do(api.api.compact())

        apply(DEPLOY / "rbac.yaml")
        admin = Client.of(kubeconfig, folder / "admin")
        yield Cluster(admin, admin.with_token(service_account_token(admin, "pxeboot", "pxeboot-controller")), forget)


# What tests make.


def machine(cluster: Cluster, **terms: Any) -> Client:
    """A machine with a token of its own."""
    token = new_token()
    assert cluster.controller.post(SECRETS, token_secret(token, **terms)).status == 201
    return cluster.admin.with_token(token)


def signatures(cluster: Cluster) -> dict[str, str]:
    """The signatures of cluster-info, by token id, as nobody in particular reads them."""
    data = Client(cluster.admin.url, cluster.admin.ca).get(CLUSTER_INFO).body["data"]
    return {key.removeprefix("jws-kubeconfig-"): jws for key, jws in data.items() if key.startswith("jws-")}


def lease(name: str, holder: str = "a", **metadata: str) -> Object:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


# Tokens.


def test_a_token_that_may_sign_signs_cluster_info(cluster: Cluster) -> None:
    token = new_token()
    name, _, secret = token.partition(".")
    made = cluster.controller.post(SECRETS, token_secret(token))
    assert made.status == 201
    until(lambda: name in signatures(cluster), "cluster-info is signed")
    info = cluster.controller.get(CLUSTER_INFO).body["data"]
    header, payload, signature = info[f"jws-kubeconfig-{name}"].split(".")
    assert not payload  # it is detached
    assert json.loads(unpadded(header)) == {"alg": "HS256", "kid": name}
    signed = f"{header}.{padless(info['kubeconfig'].encode())}"
    assert padless(hmac.digest(secret.encode(), signed.encode(), "sha256")) == signature


def test_a_token_that_may_not_sign_does_not(cluster: Cluster) -> None:
    silent, signing = new_token(), new_token()
    assert cluster.controller.post(SECRETS, token_secret(silent, signing=False)).status == 201
    assert cluster.controller.post(SECRETS, token_secret(signing)).status == 201
    until(lambda: signing[:6] in signatures(cluster), "cluster-info is signed with the other")
    assert silent[:6] not in signatures(cluster)


def test_a_deleted_token_signs_nothing_and_opens_nothing(cluster: Cluster) -> None:
    """At once; but an API server that was asked knows whom a token stands for, for 10 s more."""
    token = new_token()
    assert cluster.controller.post(SECRETS, token_secret(token)).status == 201
    until(lambda: token[:6] in signatures(cluster), "cluster-info is signed")
    until(lambda: cluster.admin.with_token(token).get(REQUESTS).status == 200, "it authenticates")
    path = f"{SECRETS}/bootstrap-token-{token[:6]}"
    assert cluster.controller.delete(path).status == 200
    assert cluster.controller.delete(path).status == 404
    until(lambda: token[:6] not in signatures(cluster), "the signature goes")
    until(lambda: cluster.admin.with_token(token).get(REQUESTS).status == 401, "it authenticates no more")


def test_an_expired_token_is_refused_and_deleted_by_the_cluster(cluster: Cluster) -> None:
    token = new_token()
    assert cluster.controller.post(SECRETS, token_secret(token, lives_s=3)).status == 201
    path = f"{SECRETS}/bootstrap-token-{token[:6]}"
    until(lambda: cluster.admin.get(path).status == 404, "it is deleted")
    assert cluster.admin.with_token(token).get(REQUESTS).status == 401
    until(lambda: token[:6] not in signatures(cluster), "the signature goes")


@pytest.mark.parametrize("wrong", ["000000.0000000000000000", "none", "a.b", "000000.ffff"])
def test_a_token_that_is_none_is_refused(cluster: Cluster, wrong: str) -> None:
    assert cluster.admin.with_token(wrong).get(REQUESTS).status == 401


def test_a_token_cannot_name_a_group_outside_the_bootstrappers(cluster: Cluster) -> None:
    token = new_token()
    assert cluster.controller.post(SECRETS, token_secret(token, groups=["system:masters"])).status == 201
    later = new_token()
    assert cluster.controller.post(SECRETS, token_secret(later)).status == 201
    until(lambda: cluster.admin.with_token(later).get(REQUESTS).status == 200, "a later one authenticates")
    assert cluster.admin.with_token(token).get(REQUESTS).status == 401


def test_the_same_token_is_not_made_twice(cluster: Cluster) -> None:
    secret = token_secret(new_token())
    assert cluster.controller.post(SECRETS, secret).status == 201
    again = cluster.controller.post(SECRETS, secret)
    assert (again.status, again.reason) == (409, "AlreadyExists")


def test_a_dry_run_tells_whether_a_token_is_there_and_makes_none(cluster: Cluster) -> None:
    secret = token_secret(new_token())
    path = f"{SECRETS}?dryRun=All"
    assert cluster.controller.post(path, secret).status == 201
    assert cluster.controller.post(path, secret).status == 201
    assert cluster.controller.post(SECRETS, secret).status == 201
    again = cluster.controller.post(path, secret)
    assert (again.status, again.reason) == (409, "AlreadyExists")


def test_anybody_may_read_cluster_info_and_nothing_else(cluster: Cluster) -> None:
    nobody = Client(cluster.admin.url, cluster.admin.ca)
    assert "kubeconfig" in nobody.get(CLUSTER_INFO).body["data"]
    for path in (NODES, SECRETS, REQUESTS, "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"):
        refused = nobody.get(path)
        assert (refused.status, refused.reason) == (403, "Forbidden")


# Certificates.


def test_a_request_says_who_made_it_whatever_its_body_says(cluster: Cluster, tmp_path: Path) -> None:
    asking = machine(cluster)
    _, request = signing_request(tmp_path, "m1", username="kubernetes-admin", groups=["system:masters"], uid="1")
    authenticates(asking)
    made = asking.post(REQUESTS, request)
    assert made.status == 201
    spec = made.body["spec"]
    assert spec["username"].startswith("system:bootstrap:")
    assert set(spec["groups"]) == {"system:bootstrappers", "system:authenticated", MACHINES, BOOT}
    assert spec["signerName"] == SIGNER


def test_nothing_approves_the_request_of_our_group_by_itself(cluster: Cluster, tmp_path: Path) -> None:
    """And kubeadm's own group is approved at once, so that the silence is no accident."""
    ours, theirs = machine(cluster), machine(cluster, groups=[DEFAULT])
    requests = {}
    for name, asking in {"ours": ours, "theirs": theirs}.items():
        authenticates(asking)
        _, requests[name] = signing_request(tmp_path, f"n-{name}")
        assert asking.post(REQUESTS, requests[name]).status == 201
    certificate(cluster.admin, requests["theirs"])
    time.sleep(1)
    answer = ours.get(f"{REQUESTS}/{requests['ours']['metadata']['name']}")
    assert not answer.body.get("status")


def test_an_approved_request_gives_a_certificate_that_registers_that_node_and_no_other(
    cluster: Cluster, tmp_path: Path
) -> None:
    asking = machine(cluster)
    authenticates(asking)
    key, request = signing_request(tmp_path, "m2")
    assert asking.post(REQUESTS, request).status == 201
    assert decide(cluster.controller, request, "Approved").status == 200
    path = tmp_path / "node.crt"
    path.write_bytes(certificate(cluster.admin, request))
    node = Client(cluster.admin.url, cluster.admin.ca, certificate=path, key=key)
    assert node.post(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "m2"}}).status == 201
    other = node.post(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "m3"}})
    assert (other.status, other.reason) == (403, "Forbidden")
    # Nor can it give itself the role of a control plane.
    body = {"metadata": {"labels": {"node-role.kubernetes.io/master": ""}}}
    assert node.call("PATCH", f"{NODES}/m2", body, MERGE).status == 403
    assert node.get(SECRETS).status == 403


def test_a_denied_request_gives_nothing_and_stays_denied(cluster: Cluster, tmp_path: Path) -> None:
    asking = machine(cluster)
    authenticates(asking)
    _, request = signing_request(tmp_path, "m4")
    assert asking.post(REQUESTS, request).status == 201
    assert decide(cluster.controller, request, "Denied").status == 200
    both = decide(cluster.controller, request, "Approved")
    assert (both.status, both.reason) == (422, "Invalid")
    time.sleep(1)
    status = cluster.admin.get(f"{REQUESTS}/{request['metadata']['name']}").body["status"]
    assert [condition["type"] for condition in status["conditions"]] == ["Denied"]
    assert "certificate" not in status


def test_an_approval_of_what_has_changed_is_a_conflict(cluster: Cluster, tmp_path: Path) -> None:
    asking = machine(cluster)
    authenticates(asking)
    _, request = signing_request(tmp_path, "m5")
    made = asking.post(REQUESTS, request).body
    path = f"{REQUESTS}/{made['metadata']['name']}"
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert cluster.admin.call("PATCH", path, labels, MERGE).status == 200
    made["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": ""}]}
    stale = cluster.controller.put(f"{path}/approval", made)
    assert (stale.status, stale.reason) == (409, "Conflict")


# Objects that are shared.


def applied(name: str, data: dict[str, str], **metadata: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data}


def test_apply_changes_its_own_keys_and_leaves_the_others(cluster: Cluster) -> None:
    path = f"{CONFIG_MAPS}/one"
    assert cluster.admin.post(CONFIG_MAPS, applied("one", {"theirs": "1"})).status == 201
    mine = f"{path}?fieldManager=pxeboot&force=true"
    assert cluster.admin.call("PATCH", mine, applied("one", {"mine": "1"}), APPLY).status == 200
    body = {"data": {"theirs": "2"}, "metadata": {"annotations": {"a": "b"}}}
    assert cluster.admin.call("PATCH", path, body, MERGE).status == 200
    after = cluster.admin.call("PATCH", mine, applied("one", {"mine": "2"}), APPLY)
    assert after.body["data"] == {"theirs": "2", "mine": "2"}
    assert after.body["metadata"]["annotations"] == {"a": "b"}
    gone = cluster.admin.call("PATCH", mine, applied("one", {}), APPLY)
    assert gone.body["data"] == {"theirs": "2"}


def test_apply_is_a_conflict_where_another_manager_owns_the_key(cluster: Cluster) -> None:
    path = f"{CONFIG_MAPS}/two"
    assert cluster.admin.call("PATCH", f"{path}?fieldManager=a", applied("two", {"k": "1"}), APPLY).status == 201
    refused = cluster.admin.call("PATCH", f"{path}?fieldManager=b", applied("two", {"k": "2"}), APPLY)
    assert (refused.status, refused.reason) == (409, "Conflict")
    forced = cluster.admin.call("PATCH", f"{path}?fieldManager=b&force=true", applied("two", {"k": "2"}), APPLY)
    assert forced.body["data"] == {"k": "2"}


def test_apply_with_an_old_version_is_a_conflict(cluster: Cluster) -> None:
    path = f"{CONFIG_MAPS}/three?fieldManager=pxeboot&force=true"
    first = cluster.admin.call("PATCH", path, applied("three", {"k": "1"}), APPLY).body["metadata"]["resourceVersion"]
    second = cluster.admin.call("PATCH", path, applied("three", {"k": "2"}, resourceVersion=first), APPLY)
    assert second.status == 200
    stale = cluster.admin.call("PATCH", path, applied("three", {"k": "3"}, resourceVersion=first), APPLY)
    assert (stale.status, stale.reason) == (409, "Conflict")
    assert cluster.admin.get(f"{CONFIG_MAPS}/three").body["data"] == {"k": "2"}


def test_apply_of_the_same_changes_no_version(cluster: Cluster) -> None:
    path = f"{CONFIG_MAPS}/four?fieldManager=pxeboot"
    first = cluster.admin.call("PATCH", path, applied("four", {"k": "1"}), APPLY).body
    again = cluster.admin.call("PATCH", path, applied("four", {"k": "1"}), APPLY).body
    assert first["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]


def test_one_condition_of_a_node_is_merged_among_the_others(cluster: Cluster) -> None:
    cluster.admin.post(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "m6"}})
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    other = {"type": "DiskPressure", "status": "False", "reason": "Enough"}
    body: Object = {"status": {"conditions": [ready, other], "nodeInfo": {"bootID": "b"}}}
    set_up = cluster.admin.call("PATCH", f"{NODES}/m6/status", body, STRATEGIC)
    assert set_up.status == 200
    unknown = {"type": "Ready", "status": "Unknown", "reason": "Booting", "message": "it boots"}
    for _ in range(20):  # the cluster's own controllers change a new Node too
        version = cluster.controller.get(f"{NODES}/m6").body["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "status": {"conditions": [unknown]}}
        after = cluster.controller.call("PATCH", f"{NODES}/m6/status", body, STRATEGIC)
        if after.status != 409:
            break
    assert after.status == 200
    states = {c["type"]: c["status"] for c in after.body["status"]["conditions"]}
    assert (states["Ready"], states["DiskPressure"]) == ("Unknown", "False")
    assert after.body["status"]["nodeInfo"]["bootID"] == "b"
    body["status"]["conditions"][0]["status"] = "True"
    stale = cluster.controller.call("PATCH", f"{NODES}/m6/status", body, STRATEGIC)
    assert (stale.status, stale.reason) == (409, "Conflict")


def changed(cluster: Cluster, name: str, body: Callable[[Object], Object]) -> Object:
    """A Node after the controller's merge patch, made of the Node as it is: others change a new one too."""
    for _ in range(20):
        answer = cluster.controller.call(
            "PATCH", f"{NODES}/{name}", body(cluster.controller.get(f"{NODES}/{name}").body["metadata"]), MERGE
        )
        if answer.status != 409:
            break
    assert answer.status == 200
    return answer.body


def test_labels_and_taints_of_a_node_are_merged_while_it_is_as_it_was_read(cluster: Cluster) -> None:
    labels = {"kept": "1", "gone": "1"}
    metadata = {"name": "m7", "labels": labels}
    assert cluster.admin.post(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata}).status == 201
    cordon = {"spec": {"unschedulable": True}, "metadata": {"annotations": {"theirs": "x"}}}
    assert cluster.admin.call("PATCH", f"{NODES}/m7", cordon, MERGE).status == 200
    taint = {"key": "gpu", "value": "true", "effect": "NoSchedule"}

    def ours(known: Object) -> Object:
        as_read = {"uid": known["uid"], "resourceVersion": known["resourceVersion"]}
        more: Object = {"labels": {"gone": None, "new": "2"}, "annotations": {"pxeboot/owned": "{}"}}
        return {"metadata": {**as_read, **more}, "spec": {"taints": [taint]}}

    after = changed(cluster, "m7", ours)
    found = {key: after["metadata"]["labels"].get(key) for key in ("kept", "gone", "new")}
    assert found == {"kept": "1", "gone": None, "new": "2"}
    assert after["metadata"]["annotations"].items() >= {"theirs": "x", "pxeboot/owned": "{}"}.items()
    assert after["spec"]["unschedulable"] is True
    assert taint in after["spec"]["taints"]
    other = {"uid": "11111111-1111-1111-1111-111111111111"}
    for known, reason in (
        ({"resourceVersion": "1"}, (409, "Conflict")),
        ({"resourceVersion": "1", **other}, (409, "Conflict")),  # it was made again
        (other, (422, "Invalid")),
    ):
        stale = {"metadata": {**known, "labels": {"new": "3"}}}
        refused = cluster.controller.call("PATCH", f"{NODES}/m7", stale, MERGE)
        assert (refused.status, refused.reason) == reason
    without = changed(cluster, "m7", lambda known: {"metadata": {"uid": known["uid"]}, "spec": {"taints": None}})
    assert taint not in without["spec"].get("taints", [])
    assert without["metadata"]["labels"]["new"] == "2"


def test_apply_of_one_key_of_a_secret_leaves_the_others(cluster: Cluster) -> None:
    secrets, mine = "/api/v1/namespaces/default/secrets", {"lts.conf": "Mg=="}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "five"}, "type": "Opaque"}
    made = cluster.admin.post(secrets, {**secret, "data": {"theirs": "MQ=="}})
    assert made.status == 201
    version = {"name": "five", "resourceVersion": made.body["metadata"]["resourceVersion"]}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": version, "data": mine}
    path = f"{secrets}/five?fieldManager=pxeboot&force=true"
    after = cluster.admin.call("PATCH", path, body, APPLY)
    assert (after.status, after.body["data"]) == (200, {"theirs": "MQ==", **mine})
    assert after.body["type"] == "Opaque"
    stale = cluster.admin.call("PATCH", path, {**body, "data": {"lts.conf": "Mw=="}}, APPLY)
    assert (stale.status, stale.reason) == (409, "Conflict")


def test_a_lease_is_made_once_and_replaced_only_as_it_was_read(cluster: Cluster) -> None:
    made = cluster.controller.post(LEASES, lease("one"))
    assert made.status == 201
    again = cluster.controller.post(LEASES, lease("one", "b"))
    assert (again.status, again.reason) == (409, "AlreadyExists")
    version = made.body["metadata"]["resourceVersion"]
    path = f"{LEASES}/one"
    assert cluster.controller.put(path, lease("one", "b", resourceVersion=version)).status == 200
    stale = cluster.controller.put(path, lease("one", "c", resourceVersion=version))
    assert (stale.status, stale.reason) == (409, "Conflict")
    assert cluster.controller.get(path).body["spec"]["holderIdentity"] == "b"


def test_a_lease_is_deleted_only_as_it_was_read(cluster: Cluster) -> None:
    made = cluster.controller.post(LEASES, lease("two")).body
    version, path = made["metadata"]["resourceVersion"], f"{LEASES}/two"
    assert cluster.controller.put(path, lease("two", "b", resourceVersion=version)).status == 200
    stale = cluster.controller.delete(path, {"preconditions": {"resourceVersion": version}})
    assert (stale.status, stale.reason) == (409, "Conflict")
    other = cluster.controller.delete(path, {"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}})
    assert (other.status, other.reason) == (409, "Conflict")
    uid = cluster.controller.get(path).body["metadata"]["uid"]
    assert cluster.controller.delete(path, {"preconditions": {"uid": uid}}).status == 200
    assert cluster.controller.get(path).status == 404


def test_a_lease_that_is_gone_is_made_again_by_a_replace_unless_that_names_its_uid(cluster: Cluster) -> None:
    """Even with an old resourceVersion. So whoever replaces a Lease that was an allocation must give its uid."""
    made = cluster.controller.post(LEASES, lease("four")).body["metadata"]
    version, uid, path = made["resourceVersion"], made["uid"], f"{LEASES}/four"
    assert cluster.controller.delete(path).status == 200
    stale = cluster.controller.put(path, lease("four", "b", resourceVersion=version, uid=uid))
    assert (stale.status, stale.reason) == (409, "Conflict")
    assert cluster.controller.get(path).status == 404
    assert cluster.controller.put(path, lease("four", "b", resourceVersion=version)).status == 201


def test_a_lease_that_was_made_again_is_not_replaced_as_the_old_one(cluster: Cluster) -> None:
    made = cluster.controller.post(LEASES, lease("five")).body["metadata"]
    assert cluster.controller.delete(f"{LEASES}/five").status == 200
    assert cluster.controller.post(LEASES, lease("five", "b")).status == 201
    for known in ({"uid": made["uid"]}, {"resourceVersion": made["resourceVersion"]}):
        stale = cluster.controller.put(f"{LEASES}/five", lease("five", "a", **known))
        assert (stale.status, stale.reason) == (409, "Conflict")


def test_a_lease_of_no_seconds_is_refused(cluster: Cluster) -> None:
    body = lease("three")
    body["spec"]["leaseDurationSeconds"] = 0
    refused = cluster.controller.post(LEASES, body)
    assert (refused.status, refused.reason) == (422, "Invalid")


# Watches.


def test_a_watch_goes_on_where_a_list_ended(cluster: Cluster) -> None:
    cluster.admin.post(CONFIG_MAPS, applied("watched", {"k": "1"}))
    listed = cluster.admin.get(f"{CONFIG_MAPS}?fieldSelector=metadata.name%3Dwatched").body
    assert [item["metadata"]["name"] for item in listed["items"]] == ["watched"]
    version = listed["metadata"]["resourceVersion"]
    assert cluster.admin.call("PATCH", f"{CONFIG_MAPS}/watched", {"data": {"k": "2"}}, MERGE).status == 200
    cluster.admin.post(CONFIG_MAPS, applied("unwatched", {}))
    assert cluster.admin.delete(f"{CONFIG_MAPS}/watched").status == 200
    cluster.admin.post(CONFIG_MAPS, applied("watched", {"k": "3"}))
    selected = "metadata.name=watched"
    with cluster.admin.watch(
        CONFIG_MAPS, fieldSelector=selected, resourceVersion=version, timeoutSeconds=20
    ) as events:
        seen = [(event["type"], event["object"]["data"]["k"]) for event in itertools.islice(events, 3)]
    assert seen == [("MODIFIED", "2"), ("DELETED", "2"), ("ADDED", "3")]


def test_a_watch_with_a_label_tells_of_objects_that_come_into_it_and_leave_it(cluster: Cluster) -> None:
    version = cluster.controller.get(LEASES).body["metadata"]["resourceVersion"]
    one = lease("labelled")
    assert cluster.controller.post(LEASES, one).status == 201
    for labels in ({"app": "x"}, {"app": "y"}):
        one["metadata"] = {**cluster.controller.get(f"{LEASES}/labelled").body["metadata"], "labels": labels}
        assert cluster.controller.put(f"{LEASES}/labelled", one).status == 200
    with cluster.controller.watch(LEASES, labelSelector="app=x", resourceVersion=version, timeoutSeconds=20) as events:
        seen = [event["type"] for event in itertools.islice(events, 2)]
    assert seen == ["ADDED", "DELETED"]


def test_a_watch_ends_by_its_time_and_has_a_bookmark_before(cluster: Cluster) -> None:
    """The bookmark is of a version that the watch has passed without an event of its own."""
    version = cluster.admin.get(NODES).body["metadata"]["resourceVersion"]
    query = {"fieldSelector": "metadata.name=nobody", "resourceVersion": version, "allowWatchBookmarks": "true"}
    for number in range(5):
        begun = time.monotonic()
        with cluster.admin.watch(NODES, **query, timeoutSeconds=5) as events:
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"passed-{number}"}}
            other = cluster.admin.post(NODES, node).body
            posted = time.monotonic()
            seen = list(events)
        assert time.monotonic() - begun > 3
        if posted - begun < 2:  # else the bookmark, which comes two seconds before the end, may have been before it
            break
    assert {event["type"] for event in seen} == {"BOOKMARK"}
    bookmark = seen[-1]["object"]
    assert int(bookmark["metadata"]["resourceVersion"]) >= int(other["metadata"]["resourceVersion"])
    assert (bookmark["kind"], bookmark["apiVersion"]) == ("Node", "v1")


def test_a_watch_from_too_old_a_version_is_told_410(cluster: Cluster) -> None:
    """As an event, not as the HTTP status."""
    cluster.forget()
    with cluster.admin.watch(NODES, resourceVersion=1, timeoutSeconds=10) as events:
        first = next(events)
    assert first["type"] == "ERROR"
    assert (first["object"]["kind"], first["object"]["code"]) == ("Status", 410)


def test_a_watch_from_a_version_that_is_yet_to_come_is_silent_and_no_error(cluster: Cluster) -> None:
    """Whoever was ahead of an API whose backup was restored has to find that out himself."""
    version = int(cluster.admin.get(NODES).body["metadata"]["resourceVersion"])
    with cluster.admin.watch(NODES, resourceVersion=version + 1000, timeoutSeconds=5) as events:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "unheard-of"}}
        assert cluster.admin.post(NODES, node).status == 201
        assert "unheard-of" not in [event["object"]["metadata"].get("name") for event in events]
    with cluster.admin.watch(NODES, resourceVersion=version, timeoutSeconds=20) as events:
        assert "unheard-of" in [event["object"]["metadata"].get("name") for event in itertools.islice(events, 1)]


def test_a_watch_of_one_name_is_allowed_where_only_that_name_is(cluster: Cluster) -> None:
    """RBAC with names takes list and watch with a field selector."""
    path = "/api/v1/namespaces/kube-public/configmaps"
    named = f"{path}?fieldSelector=metadata.name%3Dcluster-info"
    assert cluster.controller.get(path).status == 403
    listed = cluster.controller.get(named)
    assert [item["metadata"]["name"] for item in listed.body["items"]] == ["cluster-info"]
    version, selected = listed.body["metadata"]["resourceVersion"], "metadata.name=cluster-info"
    with cluster.controller.watch(path, fieldSelector=selected, resourceVersion=version, timeoutSeconds=20) as events:
        token = new_token()
        assert cluster.controller.post(SECRETS, token_secret(token)).status == 201
        event = next(events)
    assert f"jws-kubeconfig-{token[:6]}" in event["object"]["data"]


def padless(data: bytes) -> str:
    """The base64url of JWS (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unpadded(text: str) -> bytes:
    """The bytes of it."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
