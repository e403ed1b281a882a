"""The text under one key of a ConfigMap or Secret: read, and written by server-side apply.

Only our key is ever sent, so the API leaves all else in the object alone. Apart from Secrets that the configuration
names as a push target, none is read.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from config.clusters import Push
from pxeboot.kube.api import APPLY_PATCH, FIELD_MANAGER, Api
from pxeboot.kube.errors import Conflict, Unavailable
from pxeboot.kube.paths import CONFIG_MAPS, SECRETS, Object, Resource, own_labels

__all__ = ["Conflict", "Text", "decode_text", "read_text", "resource", "write_text"]


@dataclass(frozen=True, slots=True)
class Text:
    """What the object holds under our key."""

    text: str | None = field(repr=False)
    """None: the object has no such key, or holds no UTF-8 there."""
    resource_version: str = field(compare=False)
    """Of the whole object."""


def resource(push: Push) -> Resource:
    """Where objects of that kind are, for a watch."""
    return SECRETS if push.kind == "Secret" else CONFIG_MAPS


def decode_text(raw: Object, push: Push) -> Text:
    """Read the object."""
    text = (raw.get("data") or {}).get(push.key)
    if push.kind == "Secret" and isinstance(text, str):
        try:
            text = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, ValueError):
            text = None
    version = str((raw.get("metadata") or {}).get("resourceVersion", ""))
    return Text(text if isinstance(text, str) else None, version)


async def read_text(api: Api, push: Push) -> Text | None:
    """Return what is there; None: there is no such object. Raises `Unavailable`."""
    try:
        return decode_text(await api.call("GET", resource(push).path(push.namespace, push.name)), push)
    except Unavailable as error:
        if error.status != 404:
            raise
        return None


async def write_text(
    api: Api, push: Push, text: str, resource_version: str | None, annotations: Mapping[str, str] | None = None
) -> Text:
    """Write our key, and our `annotations`, while the object is at `resource_version`; None: it must not exist yet.

    Return it as it is then. Raises `Conflict` when somebody was faster, and `Unavailable`.
    """
    data = base64.b64encode(text.encode()).decode("ascii") if push.kind == "Secret" else text
    kind = resource(push)
    metadata: Object = {"name": push.name, "namespace": push.namespace}
    if annotations:
        metadata["annotations"] = dict(annotations)
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "data": {push.key: data}}
    if resource_version is not None:
        metadata["resourceVersion"] = resource_version
        raw = await api.call(
            "PATCH",
            kind.path(push.namespace, push.name),
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=body,
            content_type=APPLY_PATCH,
        )
        return decode_text(raw, push)
    # Created in the ordinary way, so that of two controllers one gets AlreadyExists, which is a Conflict.
    metadata["labels"] = own_labels(api.name)
    try:
        raw = await api.call("POST", kind.path(push.namespace), query={"fieldManager": FIELD_MANAGER}, body=body)
    except Unavailable as error:
        if error.status != 403:
            raise
        what = f"{push.kind} {push.namespace}/{push.name}"
        raise Unavailable(f"there is no {what}, and it may not be made: apply rbac-push.yaml", 403) from None
    return decode_text(raw, push)
