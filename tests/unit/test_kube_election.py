"""Who leads, judged by our own clock; and that of many never two do, whatever the API and the machines go through."""

import heapq
import itertools
import random
from collections.abc import Generator, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pxeboot.kube.election import Candidate, Create, Replace, Wait
from pxeboot.kube.values import Lease

OTHERS = Lease("l", "other", 15, acquired_s=1.0, renewed_s=2.0, transitions=3, uid="u", resource_version="7")
WALL = 1e9


def candidate() -> Candidate:
    return Candidate("l", "me", 15)


def test_it_makes_the_record_when_there_is_none() -> None:
    match candidate().observe(None, 5.0, WALL):
        case Create(lease):
            assert (lease.name, lease.holder, lease.duration_s, lease.renewed_s) == ("l", "me", 15, WALL)
        case other:
            raise AssertionError(other)


def test_it_waits_for_as_long_as_it_has_itself_seen_the_record_unchanged() -> None:
    me = candidate()
    for now in (100.0, 107.0, 114.9):
        assert me.observe(OTHERS, now, WALL) == Wait("other")
        assert me.holder == "other"
    taken = me.observe(OTHERS, 115.0, WALL)
    assert taken == Replace(replace(OTHERS, holder="me", acquired_s=WALL, renewed_s=WALL, transitions=4))


@pytest.mark.parametrize("renewed_s", [None, 0.0, 2.0, 4e9])
def test_the_times_in_a_record_decide_nothing(renewed_s: float | None) -> None:
    record = replace(OTHERS, renewed_s=renewed_s, acquired_s=renewed_s)
    me = candidate()
    assert me.observe(record, 100.0, WALL) == Wait("other")
    assert isinstance(me.observe(record, 115.0, WALL), Replace)


def test_every_change_of_the_record_is_a_sign_of_life() -> None:
    me = candidate()
    for step in range(10):
        assert me.observe(replace(OTHERS, resource_version=str(step)), 100.0 + 14 * step, WALL) == Wait("other")


def test_how_long_a_record_lasts_is_what_it_says_itself() -> None:
    me, long = candidate(), replace(OTHERS, duration_s=60)
    me.observe(long, 100.0, WALL)
    assert me.observe(long, 159.0, WALL) == Wait("other")
    assert isinstance(me.observe(long, 160.0, WALL), Replace)


def test_a_record_that_was_given_up_is_taken_at_once() -> None:
    taken = candidate().observe(replace(OTHERS, holder="", duration_s=1), 100.0, WALL)
    assert isinstance(taken, Replace)
    assert taken.lease.duration_s == 15


def test_a_record_that_was_deleted_lasts_for_whoever_saw_it() -> None:
    """Its holder leads until it hears of it, and then makes another."""
    me = candidate()
    me.observe(OTHERS, 100.0, WALL)
    for now in (101.0, 114.9):
        assert me.observe(None, now, WALL) == Wait("other")
        assert me.holder == "other"
    assert isinstance(me.observe(None, 115.0, WALL), Create)
    me.observe(replace(OTHERS, holder="", resource_version="8"), 200.0, WALL)
    assert isinstance(me.observe(None, 200.0, WALL), Create), "it had been given up"
    assert isinstance(led().observe(None, 101.0, WALL), Create), "it was its own"


@pytest.mark.parametrize("holder", ["", "me", "a third"])
def test_a_record_of_a_restored_backup_does_not_end_the_lead_of_whoever_was_seen_with_it(holder: str) -> None:
    me, restored = candidate(), replace(OTHERS, holder=holder, duration_s=1, resource_version="3")
    me.observe(OTHERS, 100.0, WALL)
    assert me.observe(restored, 114.9, WALL) == Wait("other")
    assert not me.leads(114.9)
    took = me.observe(restored, 115.0, WALL)
    assert took == Wait("a third") if holder == "a third" else isinstance(took, Replace)
    assert isinstance(me.observe(restored, 116.0, WALL), Replace)


def led() -> Candidate:
    """One that sent its record at 100, which was accepted."""
    me = candidate()
    me.observe(None, 99.0, WALL)
    me.wrote(replace(OTHERS, holder="me"), 100.0)
    return me


def test_it_leads_from_when_its_record_was_accepted_until_before_it_could_be_over_for_others() -> None:
    assert not candidate().leads(100.0)
    me = led()
    assert me.leads(100.0)
    assert me.leads(109.9)
    assert not me.leads(110.0)


def test_a_renewal_needs_no_look_and_moves_the_end() -> None:
    me = led()
    renewal = me.renew(WALL + 5)
    assert renewal == Replace(replace(OTHERS, holder="me", renewed_s=WALL + 5))
    me.wrote(replace(renewal.lease, resource_version="8"), 105.0)
    assert me.leads(114.9)
    assert not me.leads(115.0)
    assert candidate().renew(WALL) is None


def test_its_own_record_is_renewed_even_after_it_stopped_leading() -> None:
    me = led()
    renewed = me.observe(replace(OTHERS, holder="me"), 500.0, WALL)
    assert renewed == Replace(replace(OTHERS, holder="me", renewed_s=WALL))
    assert not me.leads(500.0)


@pytest.mark.parametrize("record", [None, OTHERS, replace(OTHERS, holder="")])
def test_it_leads_no_more_when_the_record_is_not_its_own(record: Lease | None) -> None:
    me = led()
    me.observe(record, 101.0, WALL)
    assert not me.leads(101.0)


def test_giving_up_ends_the_lead_and_leaves_a_record_for_the_next() -> None:
    me = led()
    assert me.release(WALL) == Replace(replace(OTHERS, holder="", duration_s=1, renewed_s=WALL))
    assert not me.leads(100.0)
    other = candidate()
    other.observe(OTHERS, 100.0, WALL)
    assert other.release(WALL) is None


class World:
    """Candidates and one record with versions, on one clock. Each step of a candidate is at a time of chance."""

    def __init__(self, chance: random.Random, candidates: int) -> None:
        self.chance = chance
        self.record: Lease | None = None
        self.versions = itertools.count(1)
        self.now = 0.0
        self.candidates = [Candidate("l", f"c{i}", 15) for i in range(candidates)]
        self.led: list[int] = []

    def run(self, until: float, healthy_from: float) -> None:
        """Let all act, with delays, outages and stops until `healthy_from`, and none after."""
        self.healthy_from = healthy_from
        steps = itertools.count()
        due = [(self.chance.random(), next(steps), self.life(c)) for c in self.candidates]
        heapq.heapify(due)
        while due[0][0] < until:
            self.now, _, life = heapq.heappop(due)
            heapq.heappush(due, (self.now + next(life), next(steps), life))
            leaders = [i for i, c in enumerate(self.candidates) if c.leads(self.now)]
            assert len(leaders) <= 1, "two lead"
            self.led += leaders

    def delay(self) -> float:
        """Of a message, or of a machine that was stopped: mostly little."""
        if self.now >= self.healthy_from:
            return self.chance.uniform(0, 0.1)
        return self.chance.choices([0.01, 0.5, 4.0, 40.0], weights=[16, 6, 2, 1])[0]

    def life(self, me: Candidate) -> Iterator[float]:
        """What an Elector does. Each `yield` is how long the next thing takes."""
        while True:
            action: Create | Replace | Wait | None = me.renew(WALL)
            if action is None or not (yield from self.write(me, action)):
                yield self.delay()
                seen = self.record
                yield self.delay()
                yield from self.write(me, me.observe(seen, self.now, WALL))
            yield me.retry_s

    def write(self, me: Candidate, action: Create | Replace | Wait) -> Generator[float, None, bool]:
        if isinstance(action, Wait):
            return True
        sent = self.now
        yield self.delay()
        is_lost = self.now < self.healthy_from and self.chance.random() < 0.1
        version = self.record.resource_version if self.record else ""
        accepted = not is_lost and version == action.lease.resource_version
        if accepted:
            self.record = replace(action.lease, resource_version=str(next(self.versions)))
        written = self.record
        yield self.delay()
        if accepted and written and self.chance.random() < 0.9:  # else the answer is lost
            me.wrote(written, sent)
            return True
        return False


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), candidates=st.integers(1, 4))
def test_never_two_lead_and_when_all_is_well_one_does(seed: int, candidates: int) -> None:
    world = World(random.Random(seed), candidates)
    world.run(until=600.0, healthy_from=300.0)
    world.led.clear()
    world.run(until=700.0, healthy_from=0.0)
    assert len(set(world.led)) == 1
