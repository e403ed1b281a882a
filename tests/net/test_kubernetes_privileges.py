"""deploy/kubernetes/*.yaml at a real API server: enough for what pxeboot does, nothing more, and no more for a thief.

Enough: the functions of pxeboot.kube work with the kubeconfig that make-kubeconfig writes. Nothing more: each right
that is taken away breaks one of them. For a thief: what a stolen credential asks for beyond that is refused.
"""

import copy
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pxeboot.kube import objects
from pxeboot.kube.api import Api
from tests.support.control_plane import DEPLOY, ControlPlane
from tests.support.kube_client import MERGE, STRATEGIC, Client, Object
from tests.support.kube_credentials import openssl_ca_hash
from tests.support.kube_objects import (
    CLUSTER_INFO,
    NODES,
    REQUESTS,
    SECRETS,
    SIGNER,
    authenticates,
    certificate,
    decide,
    new_token,
    signing_request,
    token_secret,
)
from tests.support.kube_operations import GROUPS, NEEDED, NODE, PUSH, World, may, says_that_it_boots
from tests.support.kube_thread import until

pytestmark = pytest.mark.net

RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a real API server may take longer than the controller waits for an answer."""
    monkeypatch.setattr("pxeboot.kube.api.REQUEST_S", 60.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("plane")
    with ControlPlane(folder) as plane:
        kubeconfig = plane.controller_kubeconfig()
        admin, controller = Client.of(plane.kubeconfig, folder / "a"), Client.of(kubeconfig, folder / "c")
        assert admin.post(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}).status == 201
        token = new_token()
        assert admin.post(SECRETS, token_secret(token, groups=GROUPS)).status == 201
        machine = admin.with_token(token)
        authenticates(machine)
        yield World(plane, admin, kubeconfig, controller, machine, folder)


def documents() -> list[Object]:
    """All objects that an operator applies."""
    texts = [(DEPLOY / name).read_text() for name in ("rbac.yaml", "rbac-push.yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def rights() -> list[tuple[str, str, str]]:
    """Every right that they give, as the keys of `NEEDED` name them."""
    found = []
    for document in documents():
        name = document["metadata"]["name"]
        if document["kind"].endswith("Binding") and document["roleRef"]["name"].startswith("system:"):
            found.append((name, document["roleRef"]["name"], "*"))
        for rule in document.get("rules", ()):
            names = rule.get("resourceNames", ())
            parts = names if len(names) > 1 else rule["verbs"]
            found += [(name, resource, part) for resource in rule["resources"] for part in parts]
    return found


def without(document: Object, resource: str, part: str) -> Object:
    """The role without one right, the binding without its subjects."""
    less = copy.deepcopy(document)
    if part == "*":
        less["subjects"] = []
    for rule in less.get("rules", ()):
        for key in ("verbs", "resourceNames"):
            if resource in rule["resources"] and part in rule.get(key, ()):
                rule[key].remove(part)
    less["rules"] = [rule for rule in less.get("rules", ()) if rule["verbs"]]
    return less


def path_of(document: Object) -> str:
    """Where a role or binding is in the API."""
    plural = document["kind"].lower() + "s"
    namespace = document["metadata"].get("namespace")
    return "/".join([RBAC, *(("namespaces", namespace) if namespace else ()), plural, document["metadata"]["name"]])


def test_every_right_is_somebodys() -> None:
    assert sorted(rights()) == sorted(NEEDED)


@pytest.mark.parametrize("right", rights(), ids=lambda right: " ".join(right))
def test_without_this_right_something_fails(world: World, right: tuple[str, str, str]) -> None:
    role, resource, part = right
    kinds = ("Role", "ClusterRole") if part != "*" else ("ClusterRoleBinding",)
    document = next(d for d in documents() if d["metadata"]["name"] == role and d["kind"] in kinds)
    operation = NEEDED[right]
    assert may(world, operation)
    try:
        assert world.admin.put(path_of(document), without(document, resource, part)).status == 200
        until(lambda: not may(world, operation), "it is forbidden")
    finally:
        assert world.admin.put(path_of(document), document).status == 200
        until(lambda: may(world, operation), "it is allowed again")


# Exactly that: what the API server itself says of them.


def allowed(who: Client, namespace: str) -> set[tuple[str, str, str]]:
    """What somebody may do: (resource or path, name, verb), without what everybody may who is known."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    answer = who.post(
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review | {"spec": {"namespace": namespace}}
    )
    assert answer.status == 201
    status = answer.body["status"]
    return {
        (resource, name, verb)
        for rule in status["resourceRules"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames") or [""]
        for verb in rule["verbs"]
        if not resource.startswith("selfsubject")
    }


EVERYWHERE = {
    *(("certificatesigningrequests", "", verb) for verb in ("get", "list", "watch")),
    ("certificatesigningrequests/approval", "", "update"),
    ("signers", SIGNER, "approve"),
    *(("nodes", "", verb) for verb in ("get", "patch")),
    ("nodes/status", "", "patch"),
}
CONTROLLER = {
    "default": set[tuple[str, str, str]](),
    "kube-system": {("secrets", "", "create"), ("secrets", "", "delete")},
    "kube-public": {("configmaps", "cluster-info", verb) for verb in ("get", "list", "watch")},
    "kube-node-lease": {("leases", "", "get")},
    "pxeboot": {
        *(("leases", "", verb) for verb in ("get", "list", "watch", "create", "update", "delete")),
        *(("secrets", "pxeboot-lts", verb) for verb in ("get", "list", "watch", "patch")),
    },
}


@pytest.mark.parametrize("namespace", CONTROLLER)
def test_the_controller_may_do_this_and_nothing_else(world: World, namespace: str) -> None:
    assert allowed(world.controller, namespace) == EVERYWHERE | CONTROLLER[namespace]


@pytest.mark.parametrize("namespace", CONTROLLER)
def test_a_machines_token_may_do_this_and_nothing_else(world: World, namespace: str) -> None:
    expected = {("certificatesigningrequests", "", verb) for verb in ("create", "get", "list", "watch")}
    expected.add(("nodes", "", "get"))
    if namespace == "kube-system":
        names = ["kubeadm-config", "kube-proxy", "kubelet-config", *(f"kubelet-config-1.{n}" for n in range(20, 24))]
        expected |= {("configmaps", name, "get") for name in names}
    assert allowed(world.machine, namespace) == expected


# Enough for kubeadm itself.


def kubeadm_joins(world: World, folder: Path) -> str:
    """Let a real kubeadm join with the machine's token, in a file tree of its own, until it waits for its kubelet.

    Return what it said. There is no kubelet.
    """
    token = new_token()
    assert world.admin.post(SECRETS, token_secret(token, groups=GROUPS)).status == 201
    until(lambda: token[:6] in json.dumps(world.admin.get(CLUSTER_INFO).body["data"]), "cluster-info is signed")
    authenticates(world.admin.with_token(token))
    (folder / "etc").mkdir(parents=True)
    said = folder / "said"
    with said.open("w") as out:
        process = subprocess.Popen(
            [
                *(str(world.plane.bin / "kubeadm"), "join", "phase", "kubelet-start", world.plane.endpoint),
                *("--token", token, "--discovery-token-ca-cert-hash", openssl_ca_hash(world.plane.pki / "ca.crt")),
                *("--node-name", NODE, "--rootfs", str(folder)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={"PATH": os.environ["PATH"]},
        )
    try:
        waits = "Waiting for the kubelet to perform the TLS Bootstrap"
        until(lambda: process.poll() is not None or waits in said.read_text(), "kubeadm gets there", 180)
    finally:
        process.kill()
        process.wait()
    return said.read_text()


def say_ready(world: World) -> None:
    """As its kubelet does."""
    body = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}}
    assert world.admin.call("PATCH", f"{NODES}/{NODE}/status", body, STRATEGIC).status == 200


def test_kubeadm_gets_to_its_kubelet_with_a_machines_token(world: World, tmp_path: Path) -> None:
    said = kubeadm_joins(world, tmp_path / "machine")
    assert "Waiting for the kubelet" in said
    written = tmp_path / "machine/var/lib/kubelet/config.yaml"
    assert "cgroupDriver: systemd" in written.read_text()  # from ConfigMap kubelet-config-1.20


def test_kubeadm_refuses_while_its_node_is_ready_and_goes_on_once_that_is_unknown(
    world: World, tmp_path: Path
) -> None:
    """kubernetes#89512, and how the controller clears the way: the Node stays, and so does all that it carries."""
    cordoned = {"metadata": {"annotations": {"keep": "me"}}, "spec": {"unschedulable": True}}
    before = world.admin.call("PATCH", f"{NODES}/{NODE}", cordoned, MERGE).body
    say_ready(world)
    assert 'status "Ready" already exists' in kubeadm_joins(world, tmp_path / "refused")
    assert may(world, says_that_it_boots)
    assert "Waiting for the kubelet" in kubeadm_joins(world, tmp_path / "taken")
    after = world.admin.get(f"{NODES}/{NODE}").body
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["annotations"]["keep"] == "me"
    assert after["spec"]["unschedulable"]


# What a thief tries.

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "evil"},
    "spec": {"containers": [{"name": "c", "image": "c"}]},
}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "evil"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "pxeboot-controller", "namespace": "pxeboot"}],
}
SYSTEM = "/api/v1/namespaces/kube-system"
OURS = "/api/v1/namespaces/pxeboot"
COORDINATION = "/apis/coordination.k8s.io/v1/namespaces"
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "evil"}}

FORBIDDEN_TO_BOTH = [
    pytest.param("GET", "/api/v1/secrets", None, id="list all Secrets"),
    pytest.param("GET", "/api/v1/secrets?watch=true&timeoutSeconds=1", None, id="watch all Secrets"),
    pytest.param("GET", SECRETS, None, id="list tokens"),
    pytest.param("GET", f"{OURS}/secrets", None, id="list the Secrets of our namespace"),
    pytest.param("GET", f"{OURS}/secrets/pxeboot-controller-token", None, id="read the controller's credentials"),
    pytest.param("PATCH", f"{SECRETS}/bootstrap-token-000001", {"data": {}}, id="change a token"),
    pytest.param("POST", f"{OURS}/secrets", SECRET, id="make a Secret in our namespace"),
    pytest.param("POST", "/api/v1/namespaces/default/secrets", SECRET, id="make a Secret elsewhere"),
    pytest.param("DELETE", SECRETS, None, id="delete all tokens at once"),
    pytest.param("GET", f"{SYSTEM}/configmaps", None, id="list ConfigMaps"),
    pytest.param("GET", f"{SYSTEM}/configmaps/extension-apiserver-authentication", None, id="read another ConfigMap"),
    pytest.param("PATCH", f"{SYSTEM}/configmaps/kubeadm-config", {"data": {}}, id="change kubeadm's configuration"),
    pytest.param("PATCH", "/api/v1/namespaces/kube-public/configmaps/cluster-info", {"data": {}}, id="change the CA"),
    pytest.param("POST", f"{OURS}/pods", POD, id="run a pod"),
    pytest.param("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dm1", None, id="see the pods of a Node"),
    pytest.param("GET", NODES, None, id="list Nodes"),
    pytest.param("POST", NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "evil"}}, id="make a Node"),
    pytest.param("DELETE", f"{NODES}/{NODE}", None, id="delete a Node"),
    pytest.param("GET", f"{NODES}/{NODE}/proxy/pods", None, id="speak to a kubelet"),
    pytest.param("DELETE", f"{REQUESTS}/csr-1", None, id="delete a request"),
    pytest.param("PATCH", f"{REQUESTS}/csr-1/status", {"status": {}}, id="write a certificate into a request"),
    pytest.param("POST", f"{RBAC}/clusterrolebindings", BINDING, id="become an administrator"),
    pytest.param("PATCH", f"{RBAC}/clusterroles/pxeboot-controller", {"rules": []}, id="change one's role"),
    pytest.param("POST", f"{SYSTEM}/serviceaccounts/default/token", {"spec": {}}, id="get a service account's token"),
    pytest.param("GET", f"{COORDINATION}/kube-system/leases", None, id="list who leads"),
    pytest.param("PATCH", f"{COORDINATION}/kube-node-lease/leases/{NODE}", {"spec": {}}, id="fake a heartbeat"),
]


@pytest.mark.parametrize(("method", "path", "body"), FORBIDDEN_TO_BOTH)
@pytest.mark.parametrize("thief", ["controller", "machine"])
def test_a_stolen_credential_does_not_open_this(
    world: World, thief: str, method: str, path: str, body: object
) -> None:
    who = world.controller if thief == "controller" else world.machine
    answer = who.call(method, path, body, MERGE if method == "PATCH" else "application/json")
    assert (answer.status, answer.reason) == (403, "Forbidden")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("PATCH", f"{NODES}/{NODE}", {"metadata": {"labels": {"a": "b"}}}, id="label a Node"),
        pytest.param("PATCH", f"{NODES}/{NODE}/status", {"status": {}}, id="change a Node's status"),
        pytest.param("GET", f"{SECRETS}/bootstrap-token-000001", None, id="read a token"),
        pytest.param("POST", SECRETS, SECRET, id="make a token"),
        pytest.param("PUT", f"{REQUESTS}/csr-1/approval", {"metadata": {"name": "csr-1"}}, id="approve itself"),
        pytest.param("GET", f"{COORDINATION}/kube-node-lease/leases/{NODE}", None, id="see heartbeats"),
        pytest.param("GET", f"{COORDINATION}/pxeboot/leases", None, id="see DHCP leases"),
    ],
)
def test_a_machines_token_does_not_open_this(world: World, method: str, path: str, body: object) -> None:
    answer = world.machine.call(method, path, body, MERGE if method == "PATCH" else "application/json")
    assert (answer.status, answer.reason) == (403, "Forbidden")


@pytest.mark.parametrize("thief", ["controller", "machine"])
def test_nobody_of_ours_may_pretend_to_be_somebody_else(world: World, thief: str) -> None:
    config = yaml.safe_load(world.kubeconfig.read_text())
    pretending = {"Impersonate-User": "kubernetes-admin", "Impersonate-Group": "system:masters"}
    if thief == "controller":
        token = config["users"][0]["user"]["token"]
    else:
        token = new_token()
        assert world.admin.post(SECRETS, token_secret(token, groups=GROUPS)).status == 201
        authenticates(world.admin.with_token(token))
    assert world.admin.with_token(token, pretending).get(NODES).status == 403


def test_the_controller_cannot_read_a_secret_that_it_made(world: World) -> None:
    """Not even one that the cluster fills with the token of a mighty service account."""
    name = "evil-account"
    annotations = {"kubernetes.io/service-account.name": "clusterrole-aggregation-controller"}
    secret = {**SECRET, "metadata": {"name": name, "annotations": annotations}}
    made = world.controller.post(SECRETS, secret | {"type": "kubernetes.io/service-account-token"})
    assert made.status == 201
    assert "token" not in (made.body.get("data") or {})
    until(lambda: "token" in (world.admin.get(f"{SECRETS}/{name}").body.get("data") or {}), "the cluster fills it")
    assert world.controller.get(f"{SECRETS}/{name}").status == 403
    # Nor is it shown by the requests that it may make, dry or not.
    again = world.controller.post(f"{SECRETS}?dryRun=All", secret)
    assert (again.status, "data" in again.body) == (409, False)
    deleted = world.controller.delete(f"{SECRETS}/{name}")
    assert (deleted.status, "data" in deleted.body) == (200, False)


@pytest.mark.parametrize(
    "signer",
    [
        "kubernetes.io/kube-apiserver-client",
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/legacy-unknown",
        "example.com/other",
    ],
)
def test_the_controller_cannot_approve_for_another_signer(world: World, signer: str) -> None:
    usages = ["digital signature", "key encipherment", "client auth"]
    if signer.endswith("serving"):
        usages[2] = "server auth"
    subject = "/O=system:nodes/CN=system:node:m1" if signer.endswith("serving") else "/CN=evil"
    _, request = signing_request(world.folder / "keys", NODE, signer=signer, subject=subject, usages=usages)
    version = "v1beta1" if signer.endswith("legacy-unknown") else "v1"  # it is not taken by v1
    request["apiVersion"] = f"certificates.k8s.io/{version}"
    assert world.machine.post(f"/apis/certificates.k8s.io/{version}/certificatesigningrequests", request).status == 201
    for verdict in ("Approved", "Denied"):
        answer = decide(world.controller, request, verdict)
        assert (answer.status, answer.reason) == (403, "Forbidden")


def test_of_a_kubelets_signer_even_an_approved_administrator_gets_nothing(world: World) -> None:
    """So that whoever steals the controller's credentials becomes a Node at most."""
    subject = "/O=system:masters/CN=kubernetes-admin"
    _, request = signing_request(world.folder / "keys", NODE, subject=subject)
    assert world.machine.post(REQUESTS, request).status == 201
    assert decide(world.controller, request, "Approved").status == 200
    path = f"{REQUESTS}/{request['metadata']['name']}"
    until(lambda: "Failed" in json.dumps(world.admin.get(path).body["status"]), "the signer says no")
    assert "certificate" not in world.admin.get(path).body["status"]


@pytest.mark.parametrize("node", [NODE, "another"])
def test_nothing_but_the_controller_approves_a_machines_request(world: World, node: str) -> None:
    _, request = signing_request(world.folder / "keys", node)
    assert world.machine.post(REQUESTS, request).status == 201
    time.sleep(2)
    assert not world.admin.get(f"{REQUESTS}/{request['metadata']['name']}").body.get("status")


def test_a_node_renews_its_own_certificate_and_gets_no_other(world: World) -> None:
    """What kubeadm's cluster approves by itself for kubelets; no controller is asked."""
    key, request = signing_request(world.folder / "keys", NODE)
    assert world.machine.post(REQUESTS, request).status == 201
    assert decide(world.controller, request, "Approved").status == 200
    crt = world.folder / "node.crt"
    crt.write_bytes(certificate(world.admin, request))
    node = Client(world.admin.url, world.admin.ca, certificate=crt, key=key)
    _, another = signing_request(world.folder / "keys", "another")
    assert node.post(REQUESTS, another).status == 201
    _, own = signing_request(world.folder / "keys", NODE)
    assert node.post(REQUESTS, own).status == 201
    certificate(world.admin, own)
    assert not world.admin.get(f"{REQUESTS}/{another['metadata']['name']}").body.get("status")
    assert node.get(SECRETS).status == 403
    metadata = {"name": "neighbour"}
    assert world.admin.post(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata}).status == 201
    assert node.call("PATCH", f"{NODES}/neighbour/status", {"status": {}}, STRATEGIC).status == 403


def test_who_has_a_nodes_certificate_makes_a_deleted_node_anew_and_changes_no_taint(world: World) -> None:
    """What helps against somebody who became a Node: that it stays, with a taint. Its machine gets another name."""
    name = "taken"
    key, request = signing_request(world.folder / "keys", name)
    assert world.machine.post(REQUESTS, request).status == 201
    assert decide(world.controller, request, "Approved").status == 200
    crt = world.folder / "taken.crt"
    crt.write_bytes(certificate(world.admin, request))
    thief = Client(world.admin.url, world.admin.ca, certificate=crt, key=key)
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    assert thief.post(NODES, body).status == 201
    assert world.admin.delete(f"{NODES}/{name}").status == 200
    assert thief.post(NODES, body).status == 201, "to delete the Node is no help"
    # The cluster's own controllers write taints of a new Node, too: any other list is not what there is.
    refused = thief.call(
        "PATCH", f"{NODES}/{name}", {"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}, MERGE
    )
    assert (refused.status, "not allowed to modify taints" in refused.body["message"]) == (403, True)
    assert thief.call("PATCH", f"{NODES}/{name}", {"metadata": {"annotations": {"a": "b"}}}, MERGE).status == 200
    assert thief.delete(f"{NODES}/{name}").status == 403


# The files themselves.


def test_applying_again_leaves_what_the_controller_pushed(world: World) -> None:
    version = world.admin.get(f"{OURS}/secrets/pxeboot-lts").body["metadata"]["resourceVersion"]

    async def push(_: World, api: Api) -> None:
        await objects.write_text(api, PUSH, "# kept\n", version)

    assert may(world, push)
    world.plane.apply(DEPLOY / "rbac-push.yaml")
    data = world.admin.get(f"{OURS}/secrets/pxeboot-lts").body["data"]
    assert data == {"lts.conf": "IyBrZXB0Cg=="}


def test_the_kubeconfig_is_made_again_for_the_same_account(world: World) -> None:
    before = world.kubeconfig.read_text()
    assert world.plane.controller_kubeconfig().read_text() == before
    assert world.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_kubeconfig_whose_secret_was_deleted_opens_nothing(world: World) -> None:
    """The operator's way to take a stolen one back."""
    try:
        assert world.admin.delete(f"{OURS}/secrets/pxeboot-controller-token").status == 200
        until(lambda: world.controller.get(f"{NODES}/{NODE}").status == 401, "it is refused")
    finally:
        world.controller = Client.of(world.plane.controller_kubeconfig(), world.folder / "c")


def test_the_token_is_in_no_argument_list() -> None:
    """make-kubeconfig hands it to built-in commands of the shell only."""
    lines = [line.split("#")[0] for line in (DEPLOY / "make-kubeconfig").read_text().splitlines()]
    handed = [line.strip() for line in lines if "$token" in line]
    assert handed
    assert all(line.startswith(("until token=", "token=$(printf ", "'users:'", "[ -n")) for line in handed)
