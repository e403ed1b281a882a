"""How a limited rate is divided: everybody alike, and what one cannot use is the others'."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpimage.sharing import FLOOR, Limit, divide, want

MANY = math.inf


@pytest.mark.parametrize(
    ("wants", "limits", "expected"),
    [
        pytest.param({"a": MANY, "b": MANY}, [], {"a": MANY, "b": MANY}, id="no-limit"),
        pytest.param({}, [Limit(1e6, "ab")], {}, id="nobody"),
        pytest.param({"a": MANY}, [Limit(9e6, "a")], {"a": 9e6}, id="alone"),
        pytest.param({"a": MANY, "b": MANY}, [Limit(8e6, "ab")], {"a": 4e6, "b": 4e6}, id="halves"),
        pytest.param({"a": 1e6, "b": MANY}, [Limit(8e6, "ab")], {"a": 1e6, "b": 7e6}, id="a-slow-one-leaves-the-rest"),
        pytest.param(
            {"a": MANY, "b": MANY, "c": MANY},
            [Limit(9e6, "abc"), Limit(2e6, "ab")],
            {"a": 1e6, "b": 1e6, "c": 7e6},
            id="a-subnet-below-its-share",
        ),
        pytest.param(
            {"a": MANY, "b": MANY, "c": MANY},
            [Limit(9e6, "abc"), Limit(50e6, "ab")],
            {"a": 3e6, "b": 3e6, "c": 3e6},
            id="a-subnet-that-may-more-than-all",
        ),
        pytest.param({"a": MANY, "b": MANY}, [Limit(5e6, "a")], {"a": 5e6, "b": MANY}, id="a-subnet-alone-is-limited"),
        pytest.param(
            {"a": MANY, "b": MANY, "c": MANY},
            [Limit(1e6, "a"), Limit(7e6, "abc"), Limit(4e6, "ab")],
            {"a": 1e6, "b": 3e6, "c": 3e6},
            id="a-subnet-within-a-subnet",
        ),
        pytest.param(
            {"a": MANY, "b": MANY}, [Limit(10.0, "ab")], {"a": FLOOR, "b": FLOOR}, id="never-next-to-nothing"
        ),
    ],
)
def test_shares(wants: dict[str, float], limits: list[Limit[str]], expected: dict[str, float]) -> None:
    assert divide(wants, limits) == pytest.approx(expected)


rates = st.floats(FLOOR * 100, 1e9)
limits = st.lists(st.builds(Limit, rates, st.frozensets(st.integers(0, 9))), max_size=4)


@given(st.dictionaries(st.integers(0, 9), st.one_of(st.just(MANY), st.floats(FLOOR, 1e9))), limits)
def test_no_limit_is_passed_and_nobody_is_held_back_without_one(
    wants: dict[int, float], limits: list[Limit[int]]
) -> None:
    shares = divide(wants, limits)

    def used(limit: Limit[int]) -> float:
        return sum(shares.get(key, 0.0) for key in limit.members)

    for limit in limits:
        assert used(limit) <= limit.rate * 1.000001
    for key, share in shares.items():
        assert share <= wants[key]
        reached = [limit for limit in limits if key in limit.members and used(limit) >= limit.rate * 0.999999]
        largest = [share >= max(shares.get(k, 0.0) for k in limit.members) * 0.999999 for limit in reached]
        assert share == wants[key] or any(largest)


def test_a_download_that_uses_its_share_could_use_more() -> None:
    assert want(9.6e6, 10e6) == MANY
    assert want(4e6, 10e6) == 6e6
    assert want(0.0, 10e6) == 1e6


def test_a_download_that_gets_faster_has_its_whole_share_again_soon() -> None:
    """It stood still, and now takes all it is given."""
    both = Limit(20e6, ("slow", "fast"))
    little = divide({"slow": want(0.0, 10e6), "fast": MANY}, [both])
    assert little == {"slow": 1e6, "fast": 19e6}
    assert divide({"slow": want(1e6, little["slow"]), "fast": MANY}, [both]) == {"slow": 10e6, "fast": 10e6}
