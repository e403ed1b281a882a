"""Which labels and taints of a Node are the configuration's, and the patch that makes them so."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import Taint
from pxeboot.kube.owned import ANNOTATION, owned_patch

CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}
GPU = {"key": "gpu", "value": "true", "effect": "NoSchedule"}
WANTS_GPU = Taint(key="gpu", value="true", effect="NoSchedule")
WANTS_GPU_GONE = Taint(key="gpu", effect="NoExecute")


def node(
    labels: dict[str, str] | None = None, taints: list[dict[str, str]] | None = None, owned: str | None = None
) -> dict[str, Any]:
    annotations = {"a.person/wrote": "this"} | ({ANNOTATION: owned} if owned is not None else {})
    metadata = {"name": "m1", "uid": "u", "resourceVersion": "7", "labels": labels or {}, "annotations": annotations}
    return {"metadata": metadata, "spec": {"taints": taints} if taints else {}}


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def after(raw: dict[str, Any], labels: dict[str, str], *taints: Taint) -> dict[str, Any]:
    before = copy.deepcopy(raw)
    patch = owned_patch(raw, labels, taints)
    assert raw == before
    result: dict[str, Any] = merged(raw, patch) if patch else raw
    assert owned_patch(result, labels, taints) is None  # there is nothing left to do
    return result


def taints_of(raw: dict[str, Any]) -> list[dict[str, str]]:
    return list(raw["spec"].get("taints", []))


def test_a_new_node_gets_the_labels_and_taints_of_the_configuration() -> None:
    changed = after(node({"kubernetes.io/os": "linux"}, [CORDON]), {"accelerator": "nvidia"}, WANTS_GPU)
    assert changed["metadata"]["labels"] == {"kubernetes.io/os": "linux", "accelerator": "nvidia"}
    assert taints_of(changed) == [CORDON, GPU]
    assert json.loads(changed["metadata"]["annotations"][ANNOTATION]) == {
        "labels": ["accelerator"],
        "taints": ["gpu:NoSchedule"],
    }
    assert changed["metadata"]["annotations"]["a.person/wrote"] == "this"


def test_the_patch_is_for_the_node_as_it_was_read() -> None:
    patch = owned_patch(node(), {"a": "b"}, ())
    assert patch
    assert patch["metadata"]["resourceVersion"] == "7"
    assert patch["metadata"]["uid"] == "u"
    assert "spec" not in patch


def test_what_the_configuration_dropped_goes_and_what_others_set_stays() -> None:
    first = after(node({"mine": "no"}, [CORDON]), {"accelerator": "nvidia", "rack": "1"}, WANTS_GPU)
    first["spec"]["taints"].append({"key": "a-person", "effect": "NoExecute"})
    second = after(first, {"rack": "2"})
    assert second["metadata"]["labels"] == {"mine": "no", "rack": "2"}
    assert taints_of(second) == [CORDON, {"key": "a-person", "effect": "NoExecute"}]


def test_a_taint_of_the_same_key_and_another_effect_is_another_one() -> None:
    assert taints_of(after(node(None, [GPU]), {}, WANTS_GPU_GONE)) == [GPU, {"key": "gpu", "effect": "NoExecute"}]


def test_a_taint_that_a_person_set_as_well_is_the_configurations_from_then_on() -> None:
    taken = after(node(None, [GPU | {"value": "old"}]), {}, WANTS_GPU)
    assert taints_of(taken) == [GPU]
    assert taints_of(after(taken, {})) == []


def test_a_taint_that_is_there_keeps_what_the_api_wrote_into_it() -> None:
    noted = GPU | {"timeAdded": "2026-01-01T00:00:00Z"}
    assert taints_of(after(node(None, [noted]), {}, WANTS_GPU)) == [noted]


def test_a_cordon_is_never_touched() -> None:
    cordoned = node(None, [CORDON])
    for taints in ((WANTS_GPU,), (), (WANTS_GPU_GONE,)):
        cordoned = after(cordoned, {}, *taints)
        assert CORDON in taints_of(cordoned)


@pytest.mark.parametrize("note", ["", "null", "[]", "{", '{"labels": 3}', '{"taints": null}', "[" * 100_000])
def test_an_annotation_that_somebody_broke_takes_nothing_away(note: str) -> None:
    assert after(node({"x": "y"}, [GPU], note), {"a": "b"})["metadata"]["labels"] == {"x": "y", "a": "b"}


def test_nothing_is_sent_where_nothing_is_wanted_and_nothing_was() -> None:
    assert owned_patch(node({"x": "y"}, [CORDON]), {}, ()) is None


KEYS = st.sampled_from(["a", "b", "c"])
EFFECTS = st.sampled_from(["NoSchedule", "NoExecute"])
LABELS = st.dictionaries(KEYS, st.sampled_from(["1", "2"]))
TAINTS = st.dictionaries(st.tuples(KEYS, EFFECTS), st.sampled_from(["", "1"]))


@given(st.lists(st.tuples(LABELS, TAINTS), min_size=1, max_size=5))
def test_a_node_that_others_write_to_carries_theirs_and_the_newest_configuration(
    rounds: list[tuple[dict[str, str], dict[tuple[str, str], str]]],
) -> None:
    raw = node({"theirs": "x"}, [CORDON])
    for labels, taints in rounds:
        wanted = [
            Taint.model_validate({"key": key, "effect": effect, "value": v}) for (key, effect), v in taints.items()
        ]
        raw = after(raw, labels, *wanted)
        assert raw["metadata"]["labels"] == {"theirs": "x", **labels}
        found = {(t["key"], t["effect"]): t.get("value", "") for t in taints_of(raw)}
        assert found == {(CORDON["key"], CORDON["effect"]): "", **taints}
