"""Warnings that a network causes are few, and what was left out is counted."""

import logging

import pytest

from dhcp.complaints import MOST, PERIOD_S, Complaints


class Clock:
    """A time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_thing_is_complained_of_once_a_minute_with_how_often(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complain = Complaints(logging.getLogger("test"), clock)
    for _ in range(5):
        complain("send", "cannot send to %s", "10.77.0.9")
    complain("store", "cannot store", level=logging.ERROR)
    clock.now = PERIOD_S
    complain("send", "cannot send to %s", "10.77.0.8")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "cannot send to 10.77.0.9"),
        ("ERROR", "cannot store"),
        ("WARNING", "cannot send to 10.77.0.8"),
        ("WARNING", "dhcp: and 4 more of these"),
    ]


def test_things_that_are_made_up_fill_neither_the_log_nor_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complain = Complaints(logging.getLogger("test"), clock)
    for n in range(10 * MOST):
        assert not complain.full or n > MOST
        complain("failed", "machine %d", n, whom=str(n))
    assert len(caplog.records) == MOST
    assert complain.full
    clock.now = PERIOD_S
    assert not complain.full
    complain("failed", "machine %d", 0, whom="0")
    assert len(caplog.records) == MOST + 1


def test_machines_that_are_made_up_hush_nothing_that_is_our_own_fault(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complain = Complaints(logging.getLogger("test"), clock)
    for n in range(2 * MOST):
        complain("failed", "machine %d", n, whom=str(n))
    caplog.clear()
    for about in ("store", "send", "receive", "store"):
        complain(about, "cannot %s", about, level=logging.ERROR)
    assert [record.getMessage() for record in caplog.records] == ["cannot store", "cannot send", "cannot receive"]
    clock.now = PERIOD_S
    complain("failed", "machine %d", -1, whom="another")
    complain("store", "cannot %s", "store")
    said = [record.getMessage() for record in caplog.records[3:]]
    assert said == ["machine -1", "cannot store", "dhcp: and 1 more of these"]
