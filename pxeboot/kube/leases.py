"""Lease objects (coordination.k8s.io/v1): who holds what. That somebody else was faster is an answer, no error."""

from pxeboot.kube.api import Api
from pxeboot.kube.errors import AlreadyExists, Conflict, Unavailable
from pxeboot.kube.paths import LEASES, Object
from pxeboot.kube.times import micro_time, seconds
from pxeboot.kube.values import Lease

__all__ = ["Lease", "create_lease", "decode_lease", "delete_lease", "encode_lease", "get_lease", "replace_lease"]


def decode_lease(raw: Object) -> Lease:
    """Read a Lease object; what is absent or odd becomes its default."""
    metadata, spec = raw.get("metadata") or {}, raw.get("spec") or {}
    return Lease(
        name=str(metadata.get("name", "")),
        holder=str(spec.get("holderIdentity") or ""),
        duration_s=int(spec.get("leaseDurationSeconds") or 1),
        acquired_s=seconds(spec.get("acquireTime")),
        renewed_s=seconds(spec.get("renewTime")),
        transitions=int(spec.get("leaseTransitions") or 0),
        labels=dict(metadata.get("labels") or {}),
        annotations=dict(metadata.get("annotations") or {}),
        uid=str(metadata.get("uid", "")),
        resource_version=str(metadata.get("resourceVersion", "")),
    )


def encode_lease(lease: Lease, namespace: str) -> Object:
    """Return the object to send. With a `resource_version` it is only taken while nobody has changed it since."""
    known = {"resourceVersion": lease.resource_version, "uid": lease.uid}
    times = {"acquireTime": lease.acquired_s, "renewTime": lease.renewed_s}
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {
            "name": lease.name,
            "namespace": namespace,
            "labels": dict(lease.labels),
            "annotations": dict(lease.annotations),
            **{key: value for key, value in known.items() if value},
        },
        "spec": {
            "holderIdentity": lease.holder,
            "leaseDurationSeconds": lease.duration_s,
            "leaseTransitions": lease.transitions,
            **{key: micro_time(value) for key, value in times.items() if value is not None},
        },
    }


async def create_lease(api: Api, namespace: str, lease: Lease) -> Lease | None:
    """Make it and return it as the API has it; None: there is one of that name already. Raises `Unavailable`."""
    try:
        return decode_lease(await api.call("POST", LEASES.path(namespace), body=encode_lease(lease, namespace)))
    except AlreadyExists:
        return None


async def replace_lease(api: Api, namespace: str, lease: Lease) -> Lease | None:
    """Replace the object that was read as `lease.resource_version` and return it as it is now.

    None: somebody else changed, replaced or deleted it since. Raises `Unavailable`.
    """
    path = LEASES.path(namespace, lease.name)
    try:
        return decode_lease(await api.call("PUT", path, body=encode_lease(lease, namespace)))
    except Conflict:
        return None
    except Unavailable as error:
        if error.status != 404:
            raise
        return None


async def get_lease(api: Api, namespace: str, name: str) -> Lease | None:
    """Read it; None: there is none. Raises `Unavailable`."""
    try:
        return decode_lease(await api.call("GET", LEASES.path(namespace, name)))
    except Unavailable as error:
        if error.status != 404:
            raise
        return None


async def delete_lease(api: Api, namespace: str, lease: Lease) -> bool:
    """Delete the object as it was read; False: it is gone, or somebody changed it since. Raises `Unavailable`."""
    known = {"uid": lease.uid, "resourceVersion": lease.resource_version}
    options = {"preconditions": {key: value for key, value in known.items() if value}}
    try:
        await api.call("DELETE", LEASES.path(namespace, lease.name), body=options)
    except Conflict:
        return False
    except Unavailable as error:
        if error.status != 404:
            raise
        return False
    return True
