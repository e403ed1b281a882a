"""What tests ask of a Kubernetes API, and what they make in it: tokens, requests for certificates."""

import base64
import hashlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.kube_client import Answer, Client, Object, key_and_request
from tests.support.kube_thread import until

SECRETS = "/api/v1/namespaces/kube-system/secrets"
CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
NODES = "/api/v1/nodes"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"

MACHINES = "system:bootstrappers:pxeboot:machines"
BOOT = "system:bootstrappers:pxeboot:boot:0123456789abcdef:fedcba9876543210"
DEFAULT = "system:bootstrappers:kubeadm:default-node-token"

_numbers = itertools.count(1)


def service_account_token(admin: Client, namespace: str, account: str) -> str:
    """The token of a service account, from a Secret that the cluster fills."""
    secrets, name = f"/api/v1/namespaces/{namespace}/secrets", f"{account}-{next(_numbers)}"
    annotations = {"kubernetes.io/service-account.name": account}
    secret = {"metadata": {"name": name, "annotations": annotations}, "type": "kubernetes.io/service-account-token"}
    assert admin.post(secrets, {"apiVersion": "v1", "kind": "Secret", **secret}).status == 201
    until(lambda: "token" in (admin.get(f"{secrets}/{name}").body.get("data") or {}), "the Secret is filled")
    return base64.b64decode(admin.get(f"{secrets}/{name}").body["data"]["token"]).decode()


def token_secret(
    token: str, *, groups: Sequence[str] = (MACHINES, BOOT), lives_s: float = 600, signing: bool = True
) -> Object:
    """The Secret of a bootstrap token ID.SECRET."""
    name, _, secret = token.partition(".")
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + lives_s))
    data = {
        "token-id": name,
        "token-secret": secret,
        "expiration": expiration,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true" if signing else "false",
        "auth-extra-groups": ",".join(groups),
    }
    metadata, kind = {"name": f"bootstrap-token-{name}"}, "bootstrap.kubernetes.io/token"
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": data}


def new_token() -> str:
    """Another token than all before."""
    number = next(_numbers)
    return f"{number:06d}.{hashlib.sha256(str(number).encode()).hexdigest()[:16]}"


def authenticates(asking: Client) -> None:
    """Wait until the API server knows its token."""
    until(lambda: asking.get(REQUESTS).status == 200, "the token authenticates")


def signing_request(
    folder: Path, node: str, *, signer: str = SIGNER, subject: str | None = None, **spec: Any
) -> tuple[Path, Object]:
    """A kubelet's request for its certificate, and the key."""
    key, pkcs10 = key_and_request(folder, subject or f"/O=system:nodes/CN=system:node:{node}", f"{next(_numbers)}")
    usages = ["digital signature", "key encipherment", "client auth"]
    spec = {"request": pkcs10, "signerName": signer, "usages": usages, **spec}
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    return key, {**kind, "metadata": {"name": f"csr-{next(_numbers)}"}, "spec": spec}


def decide(who: Client, request: Object, verdict: str) -> Answer:
    """Approve or deny a request as it is now."""
    path = f"{REQUESTS}/{request['metadata']['name']}"
    now = who.get(path).body
    given = now.setdefault("status", {}).setdefault("conditions", [])
    given.append({"type": verdict, "status": "True", "reason": "Test", "message": "a test says so"})
    return who.put(f"{path}/approval", now)


def certificate(admin: Client, request: Object, within_s: float = 90) -> bytes:
    """The certificate that the cluster issues for an approved request."""
    path = f"{REQUESTS}/{request['metadata']['name']}"
    found: list[str] = []

    def issued() -> bool:
        found[:] = [(admin.get(path).body.get("status") or {}).get("certificate", "")]
        return bool(found[0])

    until(issued, "there is a certificate", within_s)
    return base64.b64decode(found[0])
