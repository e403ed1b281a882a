"""What was measured, as a table, and whether it is enough. Pure."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from statistics import median
from typing import TypeVar

from bench.dhcp_machines import Outcome
from bench.dhcp_perfdhcp import Trial
from bench.dhcp_search import Found
from bench.sides import OURS, Row

DELAY_RATE = 500
"""Exchanges a second at which delays are compared."""
BROADCAST_WITHIN_S = 4.0
TIMES_KEA_DYNAMIC = 1.5
TIMES_KEA_STATIC = 2.0
YARDSTICKS = ("kea", "kea-threads")
"""Of these, the one that does best is the one to beat."""


class Scenario(StrEnum):
    """What is measured."""

    DYNAMIC = "dynamic"
    STATIC = "static"
    DELAY = "delay"
    """Of dynamic leases that machines have for the first time: with our sync."""
    DELAY_AGAIN = "delay-again"
    """Of dynamic leases that they have had for less than a quarter of their time, as one boot asks three times."""
    DELAY_STATIC = "delay-static"
    """Of static ones, which need no disk; for comparison."""
    BROADCAST = "broadcast"


Result = Found | Trial | Outcome
Results = Mapping[tuple[Scenario, str], Sequence[Result]]
"""One value for each round, by scenario and server."""

R = TypeVar("R", Found, Trial, Outcome)


def rows(results: Results) -> list[Row]:
    """Return the lines that can be made of the results."""
    return [
        *_rates(results, Scenario.DYNAMIC, "exchanges a second, dynamic leases", TIMES_KEA_DYNAMIC),
        *_rates(results, Scenario.STATIC, "exchanges a second, static leases", TIMES_KEA_STATIC),
        *_delays(_of(results, Scenario.DELAY, Trial), "dynamic", judged=True),
        *_delays(_of(results, Scenario.DELAY_AGAIN, Trial), "dynamic, asked for again", judged=True),
        *_delays(_of(results, Scenario.DELAY_STATIC, Trial), "static", judged=False),
        *_broadcast(_of(results, Scenario.BROADCAST, Outcome)),
    ]


def missed(table: Sequence[Row]) -> list[Row]:
    """Return the lines whose target was measured and not reached."""
    return [row for row in table if row.good is False]


def at_limit(results: Results) -> list[str]:
    """Return the servers that were not asked for as much as they might have done."""
    limited = (
        name
        for (_, name), items in results.items()
        if any(isinstance(item, Found) and item.at_limit for item in items)
    )
    return sorted(set(limited))


def _rates(results: Results, scenario: Scenario, label: str, times: float) -> list[Row]:
    found = _of(results, scenario, Found)
    if not found:
        return []
    rate = _medians(found, lambda item: item.per_s)
    kea = max((rate[name] for name in YARDSTICKS if name in rate), default=0.0)
    ratio = rate[OURS] / kea if OURS in rate and kea else None
    best = {name: [item.best for item in items if item.best] for name, items in found.items()}
    measured = {name: trials for name, trials in best.items() if trials}
    return [
        Row(label, rate, 0, ratio, f">= {times:g} x Kea", None if ratio is None else ratio >= times),
        Row("   processor time for each, in µs", _medians(measured, lambda item: item.cpu_us)),
        Row("   mean delay meanwhile, in ms", _medians(measured, lambda item: item.mean_ms), 1),
    ]


def _delays(trials: Mapping[str, Sequence[Trial]], leases: str, *, judged: bool) -> list[Row]:
    if not trials:
        return []
    delay = _medians(trials, lambda item: item.mean_ms)
    kea = min((delay[name] for name in YARDSTICKS if name in delay), default=0.0)
    ratio = delay[OURS] / kea if OURS in delay and kea else None
    label = f"mean delay of an exchange at {DELAY_RATE} a second, {leases}, in ms"
    reached = ratio <= 1 if judged and ratio is not None else None
    return [
        Row(label, delay, 2, ratio, "<= Kea's" if judged else "", reached),
        Row("   of it, from DISCOVER to OFFER", _medians(trials, lambda item: item.offers.mean_ms), 2),
        Row("   and from REQUEST to ACK", _medians(trials, lambda item: item.acks.mean_ms), 2),
        Row("   dropped, in %", _medians(trials, lambda item: 100 * item.dropped), 2),
    ]


def _broadcast(outcomes: Mapping[str, Sequence[Outcome]]) -> list[Row]:
    """The machines that are switched on together: the worst round counts, not the median."""
    if not outcomes:
        return []
    machines = max(item.machines for items in outcomes.values() for item in items)

    def worst(figure: Callable[[Outcome], float]) -> dict[str, float]:
        return {name: max(map(figure, items)) for name, items in outcomes.items()}

    last, twice = worst(lambda item: item.last_s), worst(lambda item: item.given_twice)
    in_time = last[OURS] <= BROADCAST_WITHIN_S if OURS in last else None
    once = twice[OURS] == 0 if OURS in twice else None
    return [
        Row(
            f"{machines:,} machines without a relay, on within 1 s: last lease after, in s",
            *(last, 2, None, f"<= {BROADCAST_WITHIN_S:g} s", in_time),
        ),
        Row("   addresses given to two machines", twice, 0, None, "none", once),
        Row("   addresses offered to two machines", worst(lambda item: item.offered_twice)),
        Row("   machines that have no lease", worst(lambda item: item.machines - item.bound)),
        Row("   messages that machines had to repeat", worst(lambda item: item.repeated)),
    ]


def _of(results: Results, scenario: Scenario, kind: type[R]) -> dict[str, list[R]]:
    """Return the results of one scenario, by server."""
    return {
        name: [item for item in items if isinstance(item, kind)]
        for (which, name), items in results.items()
        if which is scenario and items
    }


def _medians(items: Mapping[str, Sequence[R]], figure: Callable[[R], float]) -> dict[str, float]:
    return {name: median(map(figure, of_one)) for name, of_one in items.items()}
