"""Delays, percentiles, and the table that shows them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.storm_report import Delays, Row, figure, missed, percentile, render

NUMBERS = st.floats(min_value=0, max_value=1e6)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([1.0], 0.5, 1.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 1001)], 0.99, 990.0),
        ([1.0, 2.0], 1.0, 2.0),
        ([1.0, 2.0], 0.0, 1.0),
        ([], 0.5, math.inf),
    ],
)
def test_a_percentile_is_the_value_of_nearest_rank(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


@given(st.lists(NUMBERS, min_size=1), st.floats(0, 1))
def test_so_many_values_are_not_above_a_percentile(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_what_is_lost_counts_as_infinitely_late() -> None:
    assert Delays.of([1.0] * 98, lost=2) == Delays(100, 1.0, math.inf, 1.0, 2)
    assert Delays.of([1.0] * 99, lost=1).p99_ms == 1.0
    assert str(Delays.of([1.0] * 98, lost=2)) == "1.00 / never / 1.00, 2 lost"


def test_nothing_asked_is_never_answered() -> None:
    assert Delays.of([]) == Delays(0, math.inf, math.inf, 0.0, 0)


@pytest.mark.parametrize(
    ("number", "text"), [(0.0, "0.00"), (9.994, "9.99"), (10.0, "10.0"), (99.94, "99.9"), (1234.5, "1,234")]
)
def test_a_figure_has_as_many_digits_as_are_worth_reading(number: float, text: str) -> None:
    assert figure(number) == text


def test_the_table_has_a_column_for_each_thing_and_says_what_was_missed() -> None:
    rows = [
        Row("delay", ("1.0", "22.0"), "< 20", False),
        Row("rate", ("1",), good=None),
        Row("all", ("x", "y"), "all", True),
    ]
    assert render(rows, ("idle", "cold")).splitlines() == [
        "        idle   cold   wanted",
        "--------------------------------------",
        "delay    1.0   22.0   < 20     MISSED",
        "rate       1",
        "all        x      y   all      reached",
    ]
    assert missed(rows)
    assert not missed(rows[1:])
