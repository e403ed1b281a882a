"""The search for the highest rate, on servers whose highest rate is known."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.dhcp_perfdhcp import Half, Trial
from bench.dhcp_search import LOWEST, good, highest


def server(capacity: float, generator: float = float("inf")) -> Callable[[int], Trial]:
    """A server that does `capacity` exchanges a second and no more, under a load of at most `generator`."""

    def probe(rate: int) -> Trial:
        sent = round(min(rate, generator) * 10)
        done = min(sent, round(capacity * 10))
        return Trial(rate, 10, Half(sent, done, 1.0), Half(done, done, 1.0))

    return probe


@given(capacity=st.integers(20, 20_000), start=st.integers(20, 20_000))
def test_the_highest_rate_is_found_wherever_one_begins(capacity: int, start: int) -> None:
    found = highest(server(capacity), start, most=40)
    assert capacity / 1.08 <= found.per_s <= capacity * 1.011
    assert not found.at_limit


@given(capacity=st.integers(100, 10_000), off=st.floats(0.8, 1.25))
def test_a_good_guess_saves_probes(capacity: int, off: float) -> None:
    assert len(highest(server(capacity), round(capacity * off), step=1.15).trials) <= 5


def test_a_server_that_does_nothing_is_given_up() -> None:
    found = highest(server(0), 500)
    assert (found.best, found.per_s) == (None, 0.0)
    assert min(trial.asked for trial in found.trials) >= LOWEST


def test_a_load_generator_that_is_too_slow_ends_the_search() -> None:
    found = highest(server(50_000, generator=7000), 4000)
    assert found.at_limit
    assert found.per_s == 7000
    assert found.trials[-1].asked > 7000


def test_it_ends_after_so_many_probes() -> None:
    assert len(highest(server(10**9), 10, most=5).trials) == 5


@pytest.mark.parametrize(("done", "kept_up"), [(9901, True), (9900, False), (10_000, True), (0, False)])
def test_less_than_one_per_cent_may_be_dropped(done: int, kept_up: bool) -> None:
    assert good(Trial(1000, 10, Half(10_000, done, 1.0), Half(done, done, 1.0))) is kept_up
