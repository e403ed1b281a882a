"""The stand-in kubeadm joins the stand-in API as a kubelet would: by a certificate that somebody approved."""

import base64
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.controller.token import Token
from tests.support.kube_credentials import openssl_ca_hash
from tests.support.kube_stand_in.resources import CSRS, LEASES, Object
from tests.support.kube_stand_in.token_secret import secret_data
from tests.support.kube_thread import ROOT, ThreadedApi, running_api, until
from tests.support.segment import requires

pytestmark = pytest.mark.net

TOKEN = Token("abcdef", "0123456789abcdef")
NAME = socket.gethostname().lower()
OURS = "system:bootstrappers:pxeboot:machines"
RULES = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: "pxeboot:bootstrap"}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-bootstrapper"}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "{OURS}"}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: "pxeboot:get-nodes"}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "kubeadm:get-nodes"}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "{OURS}"}}]
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ThreadedApi]:
    with running_api(tmp_path / "kube") as api:
        yield api


def make_token(api: ThreadedApi, groups: str = "", for_s: float = 600) -> None:
    data = secret_data(TOKEN, api.api.clock() + for_s, "a test's")
    data |= {"auth-extra-groups": groups} if groups else {}
    api.create(
        "/api/v1/namespaces/kube-system/secrets",
        {"metadata": {"name": f"bootstrap-token-{TOKEN.id}"}, "type": "bootstrap.kubernetes.io/token",
         "stringData": data},
    )  # fmt: skip


def join(api: ThreadedApi, folder: Path, *, shell: str = "sh", boot: str = "one") -> "subprocess.Popen[str]":
    """Start the join as a machine does: by its shell, with the stand-in as its kubeadm."""
    (folder / "kubelet").write_text(
        'KUBELET_EXTRA_ARGS="--node-labels=accelerator=nvidia,farm.example/rack=r1'
        ' --register-with-taints=gpu=true:NoSchedule,slow:PreferNoSchedule"\n'
    )
    (folder / "boot_id").write_text(f"{boot}\n")
    command = (
        f"kubeadm join 127.0.0.1:{api.api.port} --token {TOKEN.reveal()}"
        f" --discovery-token-ca-cert-hash {openssl_ca_hash(api.api.ca)}"
    )
    return subprocess.Popen(
        [*shell.split(), "-c", command],
        env={"PATH": f"{ROOT}/tests/support:{os.environ['PATH']}", "KUBELET_DEFAULTS": str(folder / "kubelet"),
             "BOOT_ID": str(folder / "boot_id"), "TLS_BOOTSTRAP_S": "120"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]", within_s: float = 180) -> tuple[int, str]:
    said, _ = process.communicate(timeout=within_s)
    return process.returncode, said


def decide(api: ThreadedApi, name: str, kind: str, reason: str) -> None:
    request = next(found for found in api.api.store.all(CSRS) if found["metadata"]["name"] == name)
    condition = {"type": kind, "status": "True", "reason": reason, "message": reason}
    api.replace(
        f"/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}/approval",
        {**request, "status": {"conditions": [condition]}},
    )


def requests(api: ThreadedApi) -> list[Object]:
    return api.api.store.all(CSRS)


@requires("curl", "openssl", "dash", "busybox")
@pytest.mark.parametrize("shell", ["dash", "busybox sh"])
def test_a_machine_joins_by_a_certificate_of_its_own(api: ThreadedApi, tmp_path: Path, shell: str) -> None:
    make_token(api)
    status, said = ended(join(api, tmp_path, shell=shell))
    assert status == 0, said
    node = api.api.nodes[NAME]
    assert node["metadata"]["labels"] == {
        "kubernetes.io/hostname": NAME,
        "accelerator": "nvidia",
        "farm.example/rack": "r1",
    }
    assert node["spec"]["taints"] == [
        {"key": "gpu", "value": "true", "effect": "NoSchedule"},
        {"key": "slow", "effect": "PreferNoSchedule"},
    ]
    assert said.splitlines()[-1].endswith("this node has joined the cluster")
    assert len(api.joined) == 1
    assert api.joined[0].startswith(f"node {NAME!r} joined from 127.0.0.1 with token {TOKEN.id}")
    lease = api.api.store.get(LEASES, "kube-node-lease", NAME)
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == NAME
    asked = {(user, verb) for user, verb, _ in api.api.asked}
    assert (f"system:node:{NAME}", "create") in asked
    assert (f"system:bootstrap:{TOKEN.id}", "create") in asked
    (request,) = requests(api)
    assert request["spec"]["username"] == f"system:bootstrap:{TOKEN.id}"
    assert "system:bootstrappers" in request["spec"]["groups"]
    assert TOKEN.secret not in said


@requires("curl", "openssl")
def test_a_machine_joins_by_a_file_as_well(api: ThreadedApi, tmp_path: Path) -> None:
    """Where nobody on the machine sees the token among the arguments."""
    make_token(api)
    settings = tmp_path / "join-settings"
    settings.write_text(
        "apiVersion: kubeadm.k8s.io/v1beta2\nkind: JoinConfiguration\ndiscovery:\n  bootstrapToken:\n"
        f'    apiServerEndpoint: "127.0.0.1:{api.api.port}"\n    token: "{TOKEN.reveal()}"\n    caCertHashes:\n'
        f'    - "sha256:{"0a" * 32}"\n    - "{openssl_ca_hash(api.api.ca)}"\n'
    )
    done = subprocess.run(
        ["kubeadm", "join", "--config", str(settings)],
        env={"PATH": f"{ROOT}/tests/support:{os.environ['PATH']}", "KUBELET_DEFAULTS": "/nonexistent"},
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(api.api.nodes) == [NAME]


@requires("curl", "openssl")
def test_a_machine_waits_until_its_certificate_is_approved(api: ThreadedApi, tmp_path: Path) -> None:
    """Of a group that no default rule approves."""
    api.do(api.api.apply(RULES))
    make_token(api, OURS)
    joining = join(api, tmp_path)
    until(lambda: len(requests(api)) == 1, "it asks for a certificate")
    time.sleep(1)
    assert joining.poll() is None
    assert api.api.nodes == {}
    decide(api, requests(api)[0]["metadata"]["name"], "Approved", "a test approves it")
    status, said = ended(joining)
    assert status == 0, said
    assert list(api.api.nodes) == [NAME]


@requires("curl", "openssl")
def test_a_machine_that_is_denied_says_why(api: ThreadedApi, tmp_path: Path) -> None:
    api.do(api.api.apply(RULES))
    make_token(api, OURS)
    joining = join(api, tmp_path)
    until(lambda: len(requests(api)) == 1, "it asks for a certificate")
    decide(api, requests(api)[0]["metadata"]["name"], "Denied", "that is not its boot")
    status, said = ended(joining)
    assert status == 1
    assert "was denied: that is not its boot" in said
    assert api.api.nodes == {}


@requires("curl", "openssl")
def test_a_machine_whose_node_is_ready_is_refused(api: ThreadedApi, tmp_path: Path) -> None:
    """As kubeadm refuses it, kubernetes#89512; once the Node is not Ready, it is taken over as it is."""
    make_token(api)
    assert ended(join(api, tmp_path))[0] == 0
    status, said = ended(join(api, tmp_path, boot="two"))
    assert status == 1
    assert f'a Node with name "{NAME}" and status "Ready" already exists' in said
    api.replace(
        f"/api/v1/nodes/{NAME}/status",
        {"metadata": {"name": NAME}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
    )
    before = api.api.nodes[NAME]
    status, said = ended(join(api, tmp_path, boot="two"))
    assert status == 0, said
    assert "taking it over" in said
    assert api.api.nodes[NAME]["metadata"]["uid"] == before["metadata"]["uid"]
    assert "joined again" in api.joined[1]


@requires("curl", "openssl")
def test_a_certificate_is_for_its_own_node_alone(api: ThreadedApi, tmp_path: Path) -> None:
    """The stand-in refuses what NodeRestriction refuses: another Node, and labels of the cluster's own."""
    make_token(api)
    assert ended(join(api, tmp_path))[0] == 0
    pem = base64.b64decode(requests(api)[0]["status"]["certificate"])
    (tmp_path / "node.crt").write_bytes(pem)
    said = subprocess.run(
        ["openssl", "x509", "-in", str(tmp_path / "node.crt"), "-noout", "-subject", "-ext", "extendedKeyUsage"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"O = system:nodes, CN = system:node:{NAME}" in said
    assert "TLS Web Client Authentication" in said
