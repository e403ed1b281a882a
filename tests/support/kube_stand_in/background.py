"""What a control plane's controllers do: bootstrapsigner, tokencleaner, csrapproving, csrsigning, node lifecycle."""

import asyncio
import base64
import secrets
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pxeboot.controller.cluster_info import sign
from pxeboot.controller.token import NotAToken
from tests.support.kube_stand_in.admission import NOT_READY, SIGNERS, rfc3339
from tests.support.kube_stand_in.identity import SERVICE_ACCOUNT_TOKEN, User, service_account_token
from tests.support.kube_stand_in.rbac import grants
from tests.support.kube_stand_in.resources import CONFIG_MAPS, CSRS, NODES, SECRETS, Object
from tests.support.kube_stand_in.store import Store
from tests.support.kube_stand_in.token_secret import read_secret

USAGES = {"digital signature", "key encipherment", "client auth"}


def sign_cluster_info(store: Store, kubeconfig: str, *, signs: bool) -> None:
    """Write ConfigMap cluster-info with a signature for every signing token (bootstrapsigner)."""
    data = {"kubeconfig": kubeconfig}
    for secret in store.all(SECRETS, "kube-system") if signs else ():
        with suppress(NotAToken):
            issued = read_secret(secret["data"], 0.0)
            if secret["data"].get("usage-bootstrap-signing") == base64.b64encode(b"true").decode():
                data[f"jws-kubeconfig-{issued.token.id}"] = sign(kubeconfig.encode(), issued.token)
    info = store.get(CONFIG_MAPS, "kube-public", "cluster-info")
    if info is not None and info["data"] != data:
        store.put(CONFIG_MAPS, {**info, "data": data})


def clean_tokens(store: Store, now_s: float) -> bool:
    """Delete the expired bootstrap tokens; return whether there were any (tokencleaner)."""
    expired = []
    for secret in store.all(SECRETS, "kube-system"):
        with suppress(NotAToken):
            if read_secret(secret["data"], 0.0).expires <= now_s:
                expired.append(secret["metadata"]["name"])
    for name in expired:
        store.delete(SECRETS, "kube-system", name)
    return bool(expired)


def fill_service_account_token(store: Store, secret: Object, ca: bytes) -> Object:
    """Return a Secret, with a token in it if it is to hold a service account's (the token controller)."""
    if secret.get("type") != SERVICE_ACCOUNT_TOKEN or "token" in secret["data"]:
        return secret
    metadata = secret["metadata"]
    account = metadata.get("annotations", {}).get("kubernetes.io/service-account.name", "")
    made = service_account_token(metadata["namespace"], account, metadata["name"])
    values = {"token": made.encode(), "ca.crt": ca, "namespace": metadata["namespace"].encode()}
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    return store.put(SECRETS, {**secret, "data": {**secret["data"], **data}})


def untaint(store: Store, node: Object) -> Object:
    """Return a Node, without the taint for not being Ready if it is (node lifecycle controller)."""
    taints = (node.get("spec") or {}).get("taints") or []
    kept = [taint for taint in taints if taint["key"] != NOT_READY["key"]]
    if not is_ready(node) or kept == taints:
        return node
    return store.put(NODES, {**node, "spec": {**node["spec"], "taints": kept}})


def is_ready(node: Object) -> bool:
    """Return whether a Node's condition Ready is True."""
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def decided(request: Object, what: str) -> bool:
    """Return whether a request carries the condition `what`."""
    conditions = (request.get("status") or {}).get("conditions") or []
    return any(condition.get("type") == what for condition in conditions)


def approve_by_default(store: Store, request: Object, now_s: float) -> Object:
    """Approve what kubeadm's rules approve: requests of whoever may create .../nodeclient (csrapproving)."""
    spec = request["spec"]
    user = User(spec["username"], frozenset(spec["groups"]))
    if (
        spec["signerName"] not in SIGNERS
        or decided(request, "Approved")
        or decided(request, "Denied")
        or not grants(store, user, "create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")
    ):
        return request
    condition = {
        **{"type": "Approved", "status": "True", "reason": "AutoApproved"},
        "message": "Auto approving kubelet client certificate after SubjectAccessReview.",
        **{"lastUpdateTime": rfc3339(now_s), "lastTransitionTime": rfc3339(now_s)},
    }
    return store.put(CSRS, {**request, "status": {**request["status"], "conditions": [condition]}})


async def sign_request(store: Store, name: str, folder: Path, now: Callable[[], float]) -> None:
    """Sign a request that is approved and not denied, or say why not (csrsigning)."""
    request = store.get(CSRS, "", name)
    if request is None or not decided(request, "Approved") or decided(request, "Denied"):
        return
    if request["status"].get("certificate") or decided(request, "Failed"):
        return
    spec = request["spec"]
    if spec["signerName"] not in SIGNERS:
        return
    try:
        if not {"client auth"} <= set(spec["usages"]) <= USAGES:
            raise ValueError("usages are not those of a kubelet's client certificate")
        pem = await asyncio.to_thread(certificate, folder, base64.b64decode(spec["request"]))
    except ValueError as error:
        result: Object = {
            "conditions": [
                *request["status"]["conditions"],
                {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": str(error),
                 "lastTransitionTime": rfc3339(now())},
            ]
        }  # fmt: skip
    else:
        result = {"certificate": base64.b64encode(pem).decode()}
    current = store.get(CSRS, "", name)
    if current is not None and current["metadata"]["uid"] == request["metadata"]["uid"]:
        store.put(CSRS, {**current, "status": {**current["status"], **result}})


def asked_name(request: Object) -> str:
    """Return the Node that a request is for; "" if it is for none."""
    with suppress(ValueError):
        pem = base64.b64decode(request["spec"]["request"])
        for part in _subject(pem):
            if part.startswith("CN=system:node:"):
                return part.removeprefix("CN=system:node:")
    return ""


def certificate(folder: Path, request: bytes, *, node: bool = True) -> bytes:
    """Return the PEM of a client certificate for a PEM request, of our CA in `folder`; blocks for some 20 ms.

    Raises `ValueError` when it is no request, or `node` and its subject is none of a kubelet's.
    """
    stem = folder / f"request-{secrets.token_hex(8)}"
    csr, extensions, out = (stem.with_suffix(suffix) for suffix in (".csr", ".ext", ".crt"))
    try:
        csr.write_bytes(request)
        extensions.write_text("keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=clientAuth\n")
        parts = _subject(request)
        if node and not (
            sorted(part.split("=")[0] for part in parts) == ["CN", "O"]
            and "O=system:nodes" in parts
            and any(part.startswith("CN=system:node:") for part in parts)
        ):
            raise ValueError("subject is not O=system:nodes, CN=system:node:...")
        _openssl(
            *("x509", "-req", "-in", str(csr), "-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")),
            *("-set_serial", f"0x{secrets.token_hex(15)}", "-days", "30"),
            *("-extfile", str(extensions), "-out", str(out)),
        )
        return out.read_bytes()
    finally:
        for path in (csr, extensions, out):
            path.unlink(missing_ok=True)


def _subject(pem: bytes) -> list[str]:
    """The parts of a request's subject (RFC 2253), once its signature has been checked. Raises `ValueError`."""
    told = _openssl("req", "-noout", "-verify", "-subject", "-nameopt", "RFC2253", given=pem)
    return told.decode(errors="replace").strip().removeprefix("subject=").split(",")


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(f"it is no request: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout
