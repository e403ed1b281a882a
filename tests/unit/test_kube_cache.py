"""What a list or an event of a watch changes about what we know."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.kube.cache import Cache, Change, NotAnObject


def thing(name: str, value: object = "", uid: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid}, "value": value}


def decode(raw: dict[str, Any]) -> object:
    return raw["value"]


def cache_of(*things: dict[str, Any]) -> Cache[object]:
    cache = Cache(decode)
    cache.listed(map(cache.read, things))
    return cache


A, B = thing("a", 1), thing("b", 2)

LISTS = [
    pytest.param([], [A, B], [Change("a", None, 1), Change("b", None, 2)], id="new"),
    pytest.param([A, B], [A, B], [], id="the same"),
    pytest.param([A, B], [thing("a", 5), B], [Change("a", 1, 5)], id="changed"),
    pytest.param([A, B], [B], [Change("a", 1, None)], id="gone between"),
    pytest.param([A], [thing("a", 1, "2")], [Change("a", 1, None), Change("a", None, 1)], id="deleted and made again"),
    pytest.param([A], [thing("a", None)], [Change("a", 1, None)], id="none of ours any more"),
    pytest.param([], [thing("a", None)], [], id="none of ours"),
    pytest.param([A], [], [Change("a", 1, None)], id="all gone"),
]


@pytest.mark.parametrize(("before", "after", "changes"), LISTS)
def test_a_list_tells_differences_only(
    before: list[dict[str, Any]], after: list[dict[str, Any]], changes: list[Change[object]]
) -> None:
    cache = cache_of(*before)
    assert cache.listed(map(cache.read, after)) == changes
    assert cache.values == cache_of(*after).values


def test_an_object_that_is_another_in_what_does_not_count_is_no_change_and_yet_the_newest() -> None:
    class Odd:
        def __init__(self, version: int) -> None:
            self.version = version

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Odd)

        def __hash__(self) -> int:
            return 0

    cache: Cache[Odd] = Cache(lambda raw: Odd(raw["value"]))
    cache.put(*cache.read(thing("a", 1)))
    assert cache.put(*cache.read(thing("a", 2))) == []
    newest = cache.get("a")
    assert newest
    assert newest.version == 2


def test_what_was_never_there_is_not_gone() -> None:
    assert cache_of(A).put("b", None) == []
    assert cache_of(A).get("b") is None


@pytest.mark.parametrize(
    "raw", [None, 3, [], "x", {}, {"metadata": 1}, {"metadata": {"name": 3}}, {"metadata": {"name": "a"}}]
)
def test_what_is_no_object_is_refused(raw: object) -> None:
    with pytest.raises(NotAnObject):
        Cache(decode).read(raw)


NAMES = st.sampled_from("abc")
WORLD = st.dictionaries(NAMES, st.tuples(st.integers(0, 2), st.sampled_from("12")))


@given(st.lists(WORLD, min_size=1, max_size=8))
def test_whoever_follows_the_changes_of_lists_knows_what_the_api_has(worlds: list[dict[str, tuple[int, str]]]) -> None:
    cache = Cache(decode)
    followed: dict[str, object] = {}
    for world in worlds:
        for change in cache.listed([cache.read(thing(name, *known)) for name, known in world.items()]):
            assert followed.get(change.name) == change.old
            if change.new is None:
                del followed[change.name]
            else:
                followed[change.name] = change.new
    assert followed == cache.values == {name: value for name, (value, _) in worlds[-1].items()}
