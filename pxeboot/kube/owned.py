"""Which labels and taints of a Node are the configuration's, and the patch that makes them so. Pure.

A Node's taints are one list, which a cordon, the node controller and people write to as well, and server-side apply
knows only the list as a whole. And a label that a kubelet has registered with belongs to the kubelet too, so that
server-side apply would not remove it. So we note in an annotation what we set, and send a patch that is only taken
while the Node is as we read it (its resourceVersion): what we set before and is no longer wanted goes, what others
set stays.
"""

import json
from collections.abc import Mapping, Sequence

from config.model import Taint
from pxeboot.kube.paths import Object

ANNOTATION = "pxeboot/owned"
"""Its value: {"labels": [key, ...], "taints": ["key:effect", ...]}, sorted."""


def owned_patch(raw: Object, labels: Mapping[str, str], taints: Sequence[Taint]) -> Object | None:
    """Return the JSON merge patch (RFC 7386) for the Node `raw`; None if it is as it should be."""
    metadata = raw.get("metadata") or {}
    before, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    owned_labels, owned_taints = _owned(annotations.get(ANNOTATION))
    changes: dict[str, str | None] = {key: value for key, value in labels.items() if before.get(key) != value}
    changes |= {key: None for key in owned_labels - labels.keys() if key in before}
    has = (raw.get("spec") or {}).get("taints") or []
    wants = _taints(has, owned_taints, taints)
    note = _note(labels, taints)
    is_noted = annotations.get(ANNOTATION, _note({}, ())) == note
    if not changes and wants == has and is_noted:
        return None
    known = {"uid": metadata.get("uid"), "resourceVersion": metadata.get("resourceVersion")}
    patch: Object = {"metadata": {**known, "labels": changes, "annotations": {ANNOTATION: note}}}
    if wants != has:
        patch["spec"] = {"taints": wants or None}
    return patch


def _taints(has: list[Object], owned: frozenset[str], wanted: Sequence[Taint]) -> list[Object]:
    """The list as it should be: those there keep their place, and what they carry beside key, value and effect."""
    wants = {f"{taint.key}:{taint.effect}": taint for taint in wanted}
    kept = []
    for taint in has:
        name = f"{taint.get('key')}:{taint.get('effect')}"
        ours = wants.pop(name, None)
        if ours is None and name in owned:
            continue
        if ours is not None and (taint.get("value") or "") != ours.value:
            taint = _encode(ours)
        kept.append(taint)
    return kept + [_encode(taint) for taint in wants.values()]


def _encode(taint: Taint) -> Object:
    value = {"value": taint.value} if taint.value else {}
    return {"key": taint.key, **value, "effect": taint.effect}


def _note(labels: Mapping[str, str], taints: Sequence[Taint]) -> str:
    owned = {"labels": sorted(labels), "taints": sorted({f"{taint.key}:{taint.effect}" for taint in taints})}
    return json.dumps(owned, separators=(",", ":"))


def _owned(note: object) -> tuple[frozenset[str], frozenset[str]]:
    """What the annotation says; nothing, where it was never set or somebody broke it."""
    try:
        said = json.loads(note) if isinstance(note, str) else {}
        return frozenset(map(str, said.get("labels", ()))), frozenset(map(str, said.get("taints", ())))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return frozenset(), frozenset()
