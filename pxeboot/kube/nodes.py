"""Nodes as far as booting them is concerned: whether one lives, that its old life is over, what is ours about it."""

from collections.abc import Mapping, Sequence

from config.model import Taint
from pxeboot.kube.api import FIELD_MANAGER, MERGE_PATCH, STRATEGIC_PATCH, Api
from pxeboot.kube.errors import Conflict, Unavailable
from pxeboot.kube.leases import get_lease
from pxeboot.kube.owned import owned_patch
from pxeboot.kube.paths import NODES, Object
from pxeboot.kube.times import rfc3339_now, seconds
from pxeboot.kube.values import Heartbeat, Node

__all__ = ["Heartbeat", "Node", "apply_owned", "decode_node", "heartbeat", "node", "set_unknown"]

HEARTBEATS = "kube-node-lease"
_TRIES = 5


def decode_node(raw: Object) -> Node:
    """Read a Node object, and drop the most of it; what is absent or odd is left empty."""
    metadata, spec, status = (raw.get(part) or {} for part in ("metadata", "spec", "status"))
    conditions = {c.get("type"): str(c.get("status", "")) for c in status.get("conditions") or ()}
    addresses = {a.get("type"): str(a.get("address", "")) for a in status.get("addresses") or ()}
    return Node(
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        created_s=seconds(metadata.get("creationTimestamp")) or 0.0,
        ready=conditions.get("Ready") == "True",
        condition=conditions.get("Ready", ""),
        boot_id=str((status.get("nodeInfo") or {}).get("bootID", "")),
        unschedulable=bool(spec.get("unschedulable")),
        address=addresses.get("InternalIP", ""),
        labels=dict(metadata.get("labels") or {}),
        taints=tuple(
            (str(t.get("key", "")), str(t.get("value") or ""), str(t.get("effect", "")))
            for t in spec.get("taints") or ()
        ),
        resource_version=str(metadata.get("resourceVersion", "")),
    )


async def node(api: Api, name: str) -> Node | None:
    """Read it; None: there is none. Raises `Unavailable`."""
    raw = await _raw(api, name)
    return None if raw is None else decode_node(raw)


async def set_unknown(api: Api, node: Node, reason: str, message: str) -> Node:
    """Say that nobody knows how it is: its condition Ready becomes Unknown, and nothing else changes.

    As the node controller says it of a kubelet that is silent. Return it as it is now. `reason` is a word in
    CamelCase. Raises `Conflict` if it is not as it was read any more, so that one looks again before, and
    `Unavailable`, with status 404 if it is gone.
    """
    condition = {
        "type": "Ready",
        "status": "Unknown",
        "reason": reason,
        "message": message,
        "lastTransitionTime": rfc3339_now(),
    }
    body = {
        "metadata": {"uid": node.uid, "resourceVersion": node.resource_version},
        "status": {"conditions": [condition]},  # merged by `type`
    }
    return decode_node(
        await api.call(
            "PATCH",
            NODES.path(name=node.name, part="status"),
            query={"fieldManager": FIELD_MANAGER},
            body=body,
            content_type=STRATEGIC_PATCH,
        )
    )


async def apply_owned(api: Api, name: str, labels: Mapping[str, str], taints: Sequence[Taint]) -> bool:
    """Make the Node carry these labels and taints, and none that the configuration asked for before and now does not.

    Everything that others set stays: see `pxeboot.kube.owned`. Return whether something had to be changed.
    Raises `Unavailable`, with status 404 if there is no such Node.
    """
    for _ in range(_TRIES):
        raw = await _raw(api, name)
        if raw is None:
            raise Unavailable(f"there is no Node {name}", 404)
        patch = owned_patch(raw, labels, taints)
        if patch is None:
            return False
        try:
            await api.call(
                "PATCH",
                NODES.path(name=name),
                query={"fieldManager": FIELD_MANAGER},
                body=patch,
                content_type=MERGE_PATCH,
            )
            return True
        except Conflict:
            continue
    raise Unavailable(f"Node {name} changes faster than its labels can be set")


async def heartbeat(api: Api, name: str) -> Heartbeat | None:
    """Return what its kubelet's lease says; None: there is none. Raises `Unavailable`."""
    lease = await get_lease(api, HEARTBEATS, name)
    return None if lease is None else Heartbeat(lease.resource_version, lease.renewed_s)


async def _raw(api: Api, name: str) -> Object | None:
    try:
        return await api.call("GET", NODES.path(name=name))
    except Unavailable as error:
        if error.status != 404:
            raise
        return None
