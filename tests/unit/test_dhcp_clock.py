"""dhcp.clock: time only passes."""

import time

import pytest

from dhcp.clock import SteadyClock


def test_a_wall_clock_that_is_set_changes_nothing_until_it_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 100.0)
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 7.0}.__getitem__)
    clock = SteadyClock()
    monkeypatch.setattr(time, "time", lambda: 1_790_000_000.0)
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 8.5}.__getitem__)
    assert clock() == 101.5
    drift_s = clock.drift_s()
    assert drift_s == 1_790_000_000.0 - 101.5
    clock.follow(drift_s)
    assert clock() == 1_790_000_000.0
    assert clock.drift_s() == 0
