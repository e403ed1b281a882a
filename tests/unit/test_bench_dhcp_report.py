"""What the table says, and what makes the bench fail."""

import math

import pytest

from bench.dhcp_machines import Outcome
from bench.dhcp_perfdhcp import Half, Trial
from bench.dhcp_report import Result, Scenario, at_limit, missed, rows
from bench.dhcp_search import Found
from bench.sides import render


def found(per_s: int) -> Found:
    best = Trial(per_s, 1, Half(per_s, per_s, 1.0), Half(per_s, per_s, 2.0), cpu_us=100)
    return Found(best, (best,))


def delay(ms: float) -> Trial:
    return Trial(500, 1, Half(500, 500, ms / 2), Half(500, 500, ms / 2))


def outcome(last_s: float = 1.0, given_twice: int = 0, bound: int = 1000) -> Outcome:
    return Outcome(1000, bound, last_s, 1.0, 0, 0, 0, given_twice)


JUDGED: list[tuple[Scenario, list[Result], list[Result], bool]] = [
    (Scenario.DYNAMIC, [found(1500)], [found(1000)], True),
    (Scenario.DYNAMIC, [found(1499)], [found(1000)], False),
    (Scenario.STATIC, [found(2000)], [found(1000)], True),
    (Scenario.STATIC, [found(1999)], [found(1000)], False),
    (Scenario.STATIC, [Found(None, ())], [found(1000)], False),
    (Scenario.DYNAMIC, [found(1), found(1600), found(1700)], [found(1000), found(900), found(5000)], True),
    (Scenario.DELAY, [delay(1.0)], [delay(1.0)], True),
    (Scenario.DELAY, [delay(1.1)], [delay(1.0)], False),
    (Scenario.DELAY, [delay(math.nan)], [delay(1.0)], False),
    (Scenario.DELAY_AGAIN, [delay(1.0)], [delay(1.0)], True),
    (Scenario.DELAY_AGAIN, [delay(1.1)], [delay(1.0)], False),
    (Scenario.BROADCAST, [outcome(4.0)], [], True),
    (Scenario.BROADCAST, [outcome(1.0), outcome(4.1), outcome(1.0)], [], False),
    (Scenario.BROADCAST, [outcome(math.inf, bound=999)], [], False),
    (Scenario.BROADCAST, [outcome(1.0, given_twice=1)], [], False),
]


@pytest.mark.parametrize(("scenario", "ours", "kea", "reached"), JUDGED)
def test_a_target_is_reached_or_missed(
    scenario: Scenario, ours: list[Result], kea: list[Result], reached: bool
) -> None:
    table = rows({(scenario, "pxeboot"): ours, (scenario, "kea"): kea})
    assert bool(missed(table)) is not reached


def test_the_better_kea_is_the_one_to_beat() -> None:
    results = {
        (Scenario.DYNAMIC, name): [found(per_s)]
        for name, per_s in (("pxeboot", 3000), ("kea", 1000), ("kea-threads", 2500))
    }
    assert [row.ratio for row in missed(rows(results))] == [1.2]


def test_what_was_not_compared_is_not_judged() -> None:
    table = rows({(Scenario.DYNAMIC, "pxeboot"): [found(1)], (Scenario.DELAY, "kea"): [delay(1)]})
    assert not missed(table)


def test_who_was_not_asked_for_enough_is_named() -> None:
    slow_load = Trial(5000, 1, Half(3000, 3000, 1.0), Half(3000, 3000, 1.0))
    results = {
        (Scenario.DYNAMIC, "pxeboot"): [found(10), Found(slow_load, (slow_load,))],
        (Scenario.STATIC, "kea"): [found(10)],
    }
    assert at_limit(results) == ["pxeboot"]


def test_the_table_is_aligned_and_says_what_was_missed() -> None:
    table = rows(
        {
            (Scenario.DYNAMIC, "pxeboot"): [found(12_345)],
            (Scenario.DYNAMIC, "kea"): [found(10_000)],
            (Scenario.BROADCAST, "pxeboot"): [outcome(math.inf, bound=3)],
        }
    )
    lines = render(table, ["pxeboot", "kea"], "pxeboot : Kea").split("\n")
    first = next(line for line in lines if "dynamic" in line)
    assert " ".join(first.split()) == "exchanges a second, dynamic leases 12,345 10,000 1.23 >= 1.5 x Kea MISSED"
    assert first.index("MISSED") == next(line for line in lines if "never" in line).index("MISSED")
    assert first.index("10,000") + 6 == lines[0].index("kea") + 3
    assert max(map(len, lines)) == len(lines[1])
