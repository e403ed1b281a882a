"""What becomes of what is written: defaults, what the server fills in, and what it refuses."""

import base64
import binascii
import re
import secrets
from datetime import UTC, datetime
from typing import Any

from tests.support.kube_stand_in.faults import Refusal
from tests.support.kube_stand_in.identity import User
from tests.support.kube_stand_in.rbac import SIGNER, grants
from tests.support.kube_stand_in.resources import CSRS, LEASES, NODES, SECRETS, Object, Resource, Target
from tests.support.kube_stand_in.store import Store

NAME = re.compile("[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
RBAC_NAME = re.compile("[^/%]+")
NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
OWN_PREFIXES = ("kubelet.kubernetes.io/", "node.kubernetes.io/")
OWN_LABELS = {
    "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch", "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
}  # fmt: skip
"""What a kubelet may label itself with below kubernetes.io (NodeRestriction)."""


def new(store: Store, target: Target, body: Object, user: User, now_s: float) -> Object:
    """Return the object that a create makes of `body`. Raises `Refusal`."""
    metadata = dict(body["metadata"])
    resource = target.resource
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
    name = metadata.get("name") or ""
    form = RBAC_NAME if resource.group == "rbac.authorization.k8s.io" else NAME
    if not form.fullmatch(name):
        raise _invalid(resource, name, f"metadata.name: Invalid value: {name!r}")
    if metadata.get("namespace") not in (None, "", target.namespace):
        raise Refusal(400, "BadRequest", "the namespace of the object does not match that of the request")
    if metadata.get("resourceVersion"):
        raise Refusal(400, "BadRequest", "resourceVersion should not be set on objects to be created")
    if target.namespace:
        metadata["namespace"] = target.namespace
    metadata |= {"uid": store.uid(), "creationTimestamp": rfc3339(now_s)}
    made = {**body, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    if resource == CSRS:
        made["spec"] = _request_spec(made.get("spec") or {}, user)
        made["status"] = {}
    if resource == NODES:
        made["spec"] = dict(made.get("spec") or {})
        taints = made["spec"].get("taints") or []
        # Admission plugin TaintNodesByCondition; the node lifecycle controller takes it away again.
        made["spec"]["taints"] = [*taints, *([] if NOT_READY in taints else [dict(NOT_READY)])]
    made = filled(resource, made)
    _node_restriction(target, user, None, made)
    return made


def filled(resource: Resource, body: Object) -> Object:
    """Return an object with what its kind demands, in the form in which it is kept. Raises `Refusal` (422)."""
    body = {key: value for key, value in body.items() if value is not None}
    if resource == SECRETS:
        given = {k: base64.b64encode(v.encode()).decode() for k, v in (body.pop("stringData", None) or {}).items()}
        body["data"] = {**(body.get("data") or {}), **given}
        body.setdefault("type", "Opaque")
        try:
            for value in body["data"].values():
                base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise Refusal(400, "BadRequest", "Secret: illegal base64 data") from None
    if resource == LEASES:
        seconds = (body.get("spec") or {}).get("leaseDurationSeconds")
        if seconds is not None and seconds <= 0:
            raise _invalid(resource, body["metadata"]["name"], "spec.leaseDurationSeconds: must be greater than 0")
    return body


def changed(target: Target, old: Object, body: Object, user: User, *, patched: bool = False) -> Object:
    """Return what an update makes of `old` and `body`: only the part that the subresource is for. Raises `Refusal`.

    To an update another uid is a precondition that fails; a patch that has one tries to change it.
    """
    metadata, was = dict(body["metadata"]), old["metadata"]
    if metadata.get("name") not in (None, "", was["name"]):
        raise Refusal(400, "BadRequest", "the name of the object does not match that of the request")
    if metadata.get("resourceVersion") not in (None, "", was["resourceVersion"]):
        raise Refusal(
            409, "Conflict",
            f'Operation cannot be fulfilled on {target.resource} "{was["name"]}": the object has been modified; '
            "please apply your changes to the latest version and try again",
        )  # fmt: skip
    if metadata.get("uid") not in (None, "", was["uid"]):
        if patched:
            raise _invalid(target.resource, was["name"], "metadata.uid: field is immutable")
        raise Refusal(409, "Conflict", "Precondition failed: UID in precondition differs from that in the object")
    kept = {
        key: was[key] for key in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion") if key in was
    }
    metadata |= kept
    metadata.pop("managedFields", None)
    resource = target.resource
    match target.subresource:
        case "status":
            made = {**old, "status": body.get("status") or {}, "metadata": {**was, **_annotated(metadata)}}
        case "approval":
            conditions = (body.get("status") or {}).get("conditions") or []
            _approval(old, conditions)
            made = {**old, "status": {**(old.get("status") or {}), "conditions": conditions}}
        case _:
            made = {**body, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
            if resource.subresources:
                made["status"] = old.get("status") or {}
            if resource == CSRS:
                made["spec"] = old["spec"]
            made = filled(resource, made)
            if resource == SECRETS and made["type"] != old["type"]:
                raise _invalid(resource, was["name"], "type: Invalid value: field is immutable")
    _node_restriction(target, user, old, made)
    return {key: value for key, value in made.items() if value is not None}


def approver(store: Store, user: User, request: Object) -> None:
    """Check that `user` may approve for the request's signer. Raises `Refusal` (403)."""
    signer = request["spec"]["signerName"]
    names = (signer, signer.split("/")[0] + "/*")
    if "system:masters" not in user.groups and not any(
        grants(store, user, "approve", "certificates.k8s.io", "signers", name=name) for name in names
    ):
        name = request["metadata"]["name"]
        raise Refusal(
            403, "Forbidden",
            f'certificatesigningrequests.certificates.k8s.io "{name}" is forbidden: user not permitted to approve '
            f'requests with signerName "{signer}"',
        )  # fmt: skip


def rfc3339(seconds: float) -> str:
    """Seconds since 1970 → as the API writes a time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _annotated(metadata: Object) -> Object:
    """What a write of the status may change of the metadata."""
    return {key: metadata[key] for key in ("labels", "annotations") if key in metadata}


def _request_spec(spec: dict[str, Any], user: User) -> dict[str, Any]:
    """Who asks is not for the request to say; the server writes it."""
    if not spec.get("request") or not spec.get("signerName") or not spec.get("usages"):
        raise Refusal(422, "Invalid", "spec: request, signerName and usages are required")
    asked = {key: spec[key] for key in ("request", "signerName", "usages")}
    return {**asked, "username": user.name, "groups": sorted(user.groups), **({"uid": user.uid} if user.uid else {})}


def _approval(old: Object, conditions: list[dict[str, Any]]) -> None:
    """Raises `Refusal` (422) unless what was decided stays, and only one thing is."""
    name = old["metadata"]["name"]
    types = [condition.get("type") for condition in conditions]
    for had in (old.get("status") or {}).get("conditions") or []:
        if had["type"] in ("Approved", "Denied") and had["type"] not in types:
            raise _invalid(CSRS, name, f"status.conditions: Forbidden: {had['type']} may not be removed")
    if "Approved" in types and "Denied" in types:
        raise _invalid(CSRS, name, "status.conditions: Approved and Denied conditions are mutually exclusive")
    for condition in conditions:
        if condition.get("status") != "True" and condition.get("type") in ("Approved", "Denied"):
            raise _invalid(CSRS, name, "status.conditions: status must be True")


def _node_restriction(target: Target, user: User, old: Object | None, made: Object) -> None:
    """Raises `Refusal` (403) where a kubelet reaches for what is not its own (admission plugin NodeRestriction)."""
    node, name = user.node, made["metadata"]["name"]
    if node is None:
        return
    if target.resource == NODES:
        if name != node:
            raise Refusal(403, "Forbidden", f'nodes "{name}" is forbidden: node "{node}" is not allowed to modify it')
        labels = (made["metadata"].get("labels") or {}).items()
        had = (old["metadata"].get("labels") or {}).items() if old else {}.items()
        wrong = [key for key, _ in labels - had if _is_foreign(key)]
        if wrong:
            raise Refusal(
                403, "Forbidden",
                f'nodes "{name}" is forbidden: is not allowed to modify labels: {", ".join(sorted(wrong))}',
            )  # fmt: skip
        if old is not None and (made.get("spec") or {}).get("taints") != (old.get("spec") or {}).get("taints"):
            raise Refusal(
                403, "Forbidden", f'nodes "{name}" is forbidden: node "{node}" is not allowed to modify taints'
            )
    if target.resource == LEASES and name != node:
        raise Refusal(403, "Forbidden", f'leases "{name}" is forbidden: can only access node lease with the same name')


def _is_foreign(label: str) -> bool:
    domain = label.split("/")[0] if "/" in label else ""
    ours = domain in ("kubernetes.io", "k8s.io") or domain.endswith((".kubernetes.io", ".k8s.io"))
    return ours and label not in OWN_LABELS and not label.startswith(OWN_PREFIXES)


def _invalid(resource: Resource, name: str, what: str) -> Refusal:
    return Refusal(422, "Invalid", f'{resource.kind} "{name}" is invalid: {what}')


SIGNERS = (SIGNER,)
"""The signers that `background` signs for."""
