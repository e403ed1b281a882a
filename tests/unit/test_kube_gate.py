"""When the next request may be sent to an API server that fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.kube.gate import LEAST_S, LONGEST_RETRY_AFTER_S, MOST_S, Gate


def shut_after(failures: int, jitter: float = 1.0) -> tuple[Gate, float]:
    """A gate after so many failures, each as soon as it let one through; and the time then."""
    gate, now = Gate(), 100.0
    for _ in range(failures):
        now += gate.wait_s(now)
        gate.passed()
        gate.failed("no answer", now, jitter)
    return gate, now


def test_it_is_open_until_something_fails() -> None:
    gate = Gate()
    for now in (0.0, 1.0, 1.0):
        assert gate.wait_s(now) == 0
        gate.passed()
    gate.worked()
    assert gate.wait_s(1.0) == 0


@pytest.mark.parametrize(("failures", "wait_s"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 20), (50, 20)])
def test_each_failure_in_a_row_makes_the_wait_longer_up_to_a_bound(failures: int, wait_s: float) -> None:
    gate, now = shut_after(failures)
    assert gate.wait_s(now) == wait_s
    assert gate.reason == "no answer"


def test_jitter_takes_up_to_half_of_the_wait() -> None:
    gate, now = shut_after(3, jitter=0.0)
    assert gate.wait_s(now) == 2


def test_after_the_wait_one_goes_first_and_the_others_wait_for_its_answer() -> None:
    gate, now = shut_after(2)
    now += 2
    assert gate.wait_s(now) == 0
    gate.passed()
    assert gate.wait_s(now) == LEAST_S
    gate.worked()
    assert gate.wait_s(now) == 0


def test_one_that_was_cancelled_lets_the_next_go_first() -> None:
    gate, now = shut_after(1)
    now += 1
    gate.passed()
    gate.gave_up()
    assert gate.wait_s(now) == 0


def test_requests_that_fail_together_count_as_one_failure() -> None:
    gate = Gate()
    for _ in range(30):
        gate.passed()
    for _ in range(30):
        gate.failed("no answer", 5.0, 1.0)
    assert gate.wait_s(5.0) == 1


@pytest.mark.parametrize(("asked_s", "wait_s"), [(0.5, 1), (7, 7), (3600, LONGEST_RETRY_AFTER_S)])
def test_what_the_server_asks_for_is_obeyed_up_to_a_minute(asked_s: float, wait_s: float) -> None:
    gate = Gate()
    gate.passed()
    gate.failed("HTTP 429", 5.0, 1.0, asked_s)
    assert gate.wait_s(5.0) == wait_s


def test_one_of_those_that_failed_together_may_ask_for_more() -> None:
    gate = Gate()
    gate.failed("HTTP 500", 5.0, 1.0)
    gate.failed("HTTP 429", 5.0, 1.0, 9.0)
    assert gate.wait_s(5.0) == 9


@given(
    st.lists(st.floats(0, 3), min_size=5, max_size=300),
    st.lists(st.floats(0, 1), min_size=300, max_size=300),
)
def test_whoever_asks_and_however_often_a_dead_server_gets_less_than_a_request_a_second(
    steps: list[float], jitters: list[float]
) -> None:
    """But for the first few: 0.5 s is the shortest first wait."""
    gate, now, sent = Gate(), 0.0, 0
    for step, jitter in zip(steps, jitters, strict=False):
        now += step
        if gate.wait_s(now) == 0:
            gate.passed()
            gate.failed("no answer", now, jitter)
            sent += 1
        assert gate.wait_s(now) <= MOST_S
    assert sent <= now + 2
