"""Whose processor time it was."""

import os

import pytest

from bench.dhcp_cpu import Used, machine_s, process_s

TICKS = os.sysconf("SC_CLK_TCK")


def test_a_process_is_read_whatever_its_name() -> None:
    stat = f"42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 {3 * TICKS} {2 * TICKS} 0 0 20 0 3 0 100\n"
    assert process_s(stat) == 5


def test_idle_time_and_interrupts_are_nobodys() -> None:
    stat = f"cpu  {TICKS} {TICKS} {TICKS} 900000 700000 500000 300000 {TICKS} 0 0\ncpu0 1 2 3\n"
    assert machine_s(stat) == 4


def test_what_we_did_not_use_was_used_by_others() -> None:
    before, after = Used(10, 1, 1, 100), Used(14, 3, 2, 105)
    assert after.others_since(before) == pytest.approx((5 - 2 - 1) / 4)
    assert Used(14, 3, 2, 102).others_since(before) == 0
