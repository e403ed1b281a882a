"""Who may download now, and who waits: a farm of machines against a handful of slots."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from httpimage import admission
from httpimage.admission import (
    CRAWLING,
    FORGET_S,
    GRACE_S,
    LEAST_S,
    MOST_S,
    RESUMED_IN_A_ROW,
    SLOTS_OF_ONE,
    TYPICAL_S,
    Admission,
    Admitted,
    Wait,
)

IMAGE = 650_000_000


def machine(number: int) -> IPv4Address:
    return IPv4Address("10.28.0.1") + number


def admitted(answer: Admitted | Wait) -> int:
    assert isinstance(answer, Admitted), answer
    return answer.turn


def waits(answer: Admitted | Wait) -> Wait:
    assert isinstance(answer, Wait), answer
    return answer


def full(slots: int, now: float = 0.0) -> tuple[Admission, list[int]]:
    """A door whose slots are taken by machines 1000, 1001, ..."""
    door = Admission(slots)
    return door, [admitted(door.ask(machine(1000 + n), IMAGE, now)) for n in range(slots)]


def test_nobody_waits_while_there_is_room() -> None:
    door, turns = full(3)
    assert (door.running, door.waiting) == (3, 0)
    door.end(turns[1], IMAGE, 5.0)
    assert (door.running, door.waiting) == (2, 0)
    admitted(door.ask(machine(1), IMAGE, 5.0))


def test_a_machine_that_waits_is_told_how_many_are_before_it() -> None:
    door, _ = full(2)
    told = [waits(door.ask(machine(n), IMAGE, 1.0)) for n in range(3)]
    assert [(wait.place, wait.is_first) for wait in told] == [(0, True), (1, True), (2, True)]
    again = waits(door.ask(machine(1), IMAGE, 2.0))
    assert (again.place, again.is_first) == (1, False)
    assert door.waiting == 3


def test_a_free_slot_is_kept_for_the_first_until_it_is_late() -> None:
    door, turns = full(1)
    told = waits(door.ask(machine(1), IMAGE, 0.0))
    waits(door.ask(machine(2), IMAGE, 0.0))
    door.end(turns[0], IMAGE, 1.0)
    assert waits(door.ask(machine(2), IMAGE, told.retry_after_s + GRACE_S)).place == 1
    admitted(door.ask(machine(2), IMAGE, told.retry_after_s + GRACE_S + 0.001))


def test_a_slot_that_is_kept_for_nobody_is_given_to_whoever_asks() -> None:
    """Two slots are free, and one machine is expected: the other slot is the newcomer's."""
    door, turns = full(2)
    waits(door.ask(machine(1), IMAGE, 0.0))
    for turn in turns:
        door.end(turn, IMAGE, 1.0)
    second = admitted(door.ask(machine(2), IMAGE, 1.0))
    assert waits(door.ask(machine(3), IMAGE, 1.0)).place == 1
    door.end(second, IMAGE, 2.0)
    admitted(door.ask(machine(1), IMAGE, 2.0))


def test_a_machine_that_comes_late_has_its_old_place() -> None:
    door, turns = full(1)
    for number in (1, 2):
        waits(door.ask(machine(number), IMAGE, 0.0))
    late = MOST_S + GRACE_S + 1
    assert waits(door.ask(machine(2), IMAGE, late)).place == 0
    assert waits(door.ask(machine(3), IMAGE, late)).place == 1
    assert waits(door.ask(machine(1), IMAGE, late)).place == 0
    door.end(turns[0], IMAGE, late)
    assert waits(door.ask(machine(2), IMAGE, late)).place == 1
    admitted(door.ask(machine(1), IMAGE, late))


def test_a_machine_that_is_silent_for_long_is_forgotten() -> None:
    door, _ = full(1)
    told = waits(door.ask(machine(1), IMAGE, 0.0))
    later = told.retry_after_s + FORGET_S
    assert waits(door.ask(machine(2), IMAGE, later)).place == 0
    again = waits(door.ask(machine(1), IMAGE, later))
    assert (again.place, again.is_first) == (1, True)


def test_whoever_asks_in_haste_keeps_its_place_and_gains_nothing() -> None:
    door, _ = full(1)
    waits(door.ask(machine(1), IMAGE, 0.0))
    places = {waits(door.ask(machine(2), IMAGE, n / 100)).place for n in range(1000)}
    assert places == {1}
    assert door.waiting == 2


def test_a_broken_download_goes_on_before_others_begin() -> None:
    door, turns = full(1)
    waits(door.ask(machine(1), IMAGE, 0.0))
    assert waits(door.ask(machine(2), IMAGE, 0.0, resumes=True)).place == 0
    assert waits(door.ask(machine(1), IMAGE, 0.0)).place == 1
    door.end(turns[0], IMAGE, 1.0)
    waits(door.ask(machine(1), IMAGE, 1.0))
    admitted(door.ask(machine(2), IMAGE, 1.0, resumes=True))


def test_those_that_resume_without_end_do_not_starve_those_that_begin() -> None:
    door, turns = full(1)
    running = turns[0]
    beginners = [machine(n) for n in range(3)]
    for beginner in beginners:
        waits(door.ask(beginner, IMAGE, 0.0))
    order = ""
    flaky = [machine(number) for number in range(100, 112)]
    while beginners:
        door.end(running, IMAGE, 0.0)
        for asker, resumes in [*((m, True) for m in flaky), *((m, False) for m in beginners)]:
            answer = door.ask(asker, IMAGE, 0.0, resumes=resumes)
            if isinstance(answer, Admitted):
                running = answer.turn
                (flaky if resumes else beginners).remove(asker)
                order += "R" if resumes else "B"
                break
    assert order == ("R" * RESUMED_IN_A_ROW + "B") * 3


def test_a_place_tells_the_turns_of_both_queues() -> None:
    """What each is told is the order in which they are admitted."""
    door, turns = full(1)
    asked = [(machine(n), n % 3 != 0) for n in range(15)]
    for asker, resumes in asked:
        waits(door.ask(asker, IMAGE, 0.0, resumes=resumes))
    expected = sorted(asked, key=lambda one: waits(door.ask(one[0], IMAGE, 0.0, resumes=one[1])).place)
    got: list[tuple[IPv4Address, bool]] = []
    running = turns[0]
    while len(got) < len(asked):
        door.end(running, IMAGE, 0.0)
        for one in [one for one in asked if one not in got]:
            answer = door.ask(one[0], IMAGE, 0.0, resumes=one[1])
            if isinstance(answer, Admitted):
                running = answer.turn
                got.append(one)
    assert got == expected


def test_a_machine_whose_download_breaks_while_it_waits_for_another_keeps_its_place() -> None:
    door, _ = full(1)
    for number in (1, 2, 3):
        waits(door.ask(machine(number), IMAGE, 0.0))
    assert waits(door.ask(machine(3), IMAGE, 0.0, resumes=True)).place == 0
    assert waits(door.ask(machine(2), IMAGE, 0.0, resumes=True)).place == 0
    assert waits(door.ask(machine(2), IMAGE, 0.0)).place == 2


def test_more_connections_of_one_machine_come_after_all_others() -> None:
    door = Admission(SLOTS_OF_ONE + 1)
    greedy = [admitted(door.ask(machine(0), IMAGE, 0.0)) for _ in range(SLOTS_OF_ONE + 1)]
    assert waits(door.ask(machine(0), IMAGE, 0.0)).place == 0
    assert door.waiting == 0, "no slot is kept for it"
    assert waits(door.ask(machine(1), IMAGE, 0.0)).place == 0
    door.end(greedy[0], IMAGE, 1.0)
    assert waits(door.ask(machine(0), IMAGE, 1.0)).place == 1
    admitted(door.ask(machine(1), IMAGE, 1.0))


def test_a_download_that_crawls_gives_its_slot_to_another() -> None:
    door, turns = full(1)
    waits(door.ask(machine(1), IMAGE, 0.0))
    door.crawl(turns)
    door.crawl(turns)
    other = admitted(door.ask(machine(1), IMAGE, 1.0))
    assert (door.running, door.crawling) == (1, 1)
    waits(door.ask(machine(2), IMAGE, 1.0))
    door.end(turns[0], IMAGE, 2.0)
    assert (door.running, door.crawling) == (1, 0)
    waits(door.ask(machine(2), IMAGE, 2.0))
    door.end(other, IMAGE, 3.0)
    admitted(door.ask(machine(2), IMAGE, 3.0))


@pytest.mark.parametrize(("slots", "given_away"), [(1, 1), (7, 1), (8, 2), (64, 16)])
def test_of_those_that_crawl_only_a_share_give_away_their_slots(slots: int, given_away: int) -> None:
    door, turns = full(slots)
    door.crawl(turns)
    more = [admitted(door.ask(machine(n), IMAGE, 1.0)) for n in range(given_away)]
    door.crawl([*more, *turns])
    waits(door.ask(machine(99), IMAGE, 1.0))
    assert (door.running, door.crawling) == (slots, given_away)


def test_a_download_that_moves_again_has_its_slot_again() -> None:
    door, turns = full(1)
    door.crawl(turns)
    other = admitted(door.ask(machine(1), IMAGE, 1.0))
    door.crawl([])
    assert (door.running, door.crawling) == (2, 0)
    door.end(other, IMAGE, 2.0)
    waits(door.ask(machine(2), IMAGE, 2.0))
    door.end(turns[0], IMAGE, 2.0)
    admitted(door.ask(machine(2), IMAGE, 2.0))


SUBNET = IPv4Network("10.28.0.0/29")
"""Machines 0 to 6."""


def test_a_subnet_that_is_full_lets_others_go_first() -> None:
    door = Admission(3, {SUBNET: 1})
    first = admitted(door.ask(machine(0), IMAGE, 0.0))
    told = waits(door.ask(machine(1), IMAGE, 0.0))
    assert (told.place, told.is_first, door.waiting) == (0, True, 1)
    assert waits(door.ask(machine(2), IMAGE, 0.0)).place == 1
    for other in (10, 11):
        admitted(door.ask(machine(other), IMAGE, 0.0))
    assert waits(door.ask(machine(12), IMAGE, 0.0)).place == 0
    door.end(first, IMAGE, 1.0)
    assert waits(door.ask(machine(2), IMAGE, 1.0)).place == 1, "the other came first"
    admitted(door.ask(machine(1), IMAGE, 1.0))
    waits(door.ask(machine(12), IMAGE, 1.0))


def test_one_that_stands_aside_and_dies_blocks_nobody_of_its_subnet() -> None:
    door = Admission(3, {SUBNET: 1})
    first = admitted(door.ask(machine(0), IMAGE, 0.0))
    told = waits(door.ask(machine(1), IMAGE, 0.0))
    waits(door.ask(machine(2), IMAGE, 0.0))
    door.end(first, IMAGE, 1.0)
    waits(door.ask(machine(2), IMAGE, told.retry_after_s + GRACE_S))
    admitted(door.ask(machine(2), IMAGE, told.retry_after_s + GRACE_S + 0.001))


def test_more_connections_of_one_machine_do_not_fit_into_a_full_subnet() -> None:
    door = Admission(9, {SUBNET: SLOTS_OF_ONE})
    for _ in range(SLOTS_OF_ONE):
        admitted(door.ask(machine(0), IMAGE, 0.0))
    waits(door.ask(machine(0), IMAGE, 0.0))


@pytest.mark.parametrize(
    ("age_s", "place", "expected_s"),
    [
        pytest.param(0, 0, 10, id="half-of-the-20-s-that-are-left"),
        pytest.param(16, 0, 2, id="4-s-are-left"),
        pytest.param(19.5, 0, LEAST_S, id="it-ends-now"),
        pytest.param(160, 0, 10, id="late-by-much-and-later-still"),
        pytest.param(0, 1, 20, id="the-second-round"),
        pytest.param(0, 2, MOST_S - 2, id="never-more-than-30-s-and-spread"),
        pytest.param(0, 7, MOST_S - 7, id="spread"),
        pytest.param(0, 8, MOST_S, id="spread-anew"),
    ],
)
def test_when_to_ask_again_follows_from_how_long_downloads_take(age_s: float, place: int, expected_s: int) -> None:
    door, turns = full(1)
    door.end(turns[0], IMAGE, 20.0)
    admitted(door.ask(machine(1000), IMAGE, 20.0))
    for number in range(place):
        waits(door.ask(machine(number), IMAGE, 20.0 + age_s))
    assert waits(door.ask(machine(99), IMAGE, 20.0 + age_s)).retry_after_s == expected_s


def test_the_rest_of_an_image_takes_less_than_the_whole() -> None:
    door, turns = full(1)
    door.end(turns[0], IMAGE, 40.0)
    admitted(door.ask(machine(1000), IMAGE // 10, 40.0))
    assert waits(door.ask(machine(1), IMAGE, 40.0)).retry_after_s == 2


def test_a_download_that_broke_at_once_tells_nothing() -> None:
    door, turns = full(1)
    door.end(turns[0], 1000, 100.0)
    admitted(door.ask(machine(1000), IMAGE, 100.0))
    assert waits(door.ask(machine(1), IMAGE, 100.0)).retry_after_s == TYPICAL_S / 2


def test_when_all_slots_are_kept_for_others_there_is_still_a_time() -> None:
    door, turns = full(2)
    for number in (1, 2):
        waits(door.ask(machine(number), IMAGE, 0.0))
    for turn in turns:
        door.end(turn, IMAGE, 1.0)
    assert LEAST_S <= waits(door.ask(machine(3), IMAGE, 1.0)).retry_after_s <= MOST_S


def test_of_too_many_that_wait_the_one_silent_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_WAITING", 3)
    door, _ = full(1)
    for number in (1, 2, 3, 1, 4):
        waits(door.ask(machine(number), IMAGE, 0.0))
    assert door.waiting == 3
    assert not waits(door.ask(machine(1), IMAGE, 0.0)).is_first
    assert waits(door.ask(machine(2), IMAGE, 0.0)).is_first


def test_one_that_is_not_expected_any_more_is_forgotten_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_WAITING", 1)
    door, _ = full(1)
    waits(door.ask(machine(1), IMAGE, 0.0))
    late = MOST_S + GRACE_S + 1
    waits(door.ask(machine(2), IMAGE, late))
    assert door.waiting == 1
    assert waits(door.ask(machine(1), IMAGE, late)).is_first


class Farm(RuleBasedStateMachine):
    """Machines that do as they are told, machines that die, are late, ask in haste, or have more connections."""

    @initialize(slots=st.integers(1, 4))
    def open(self, slots: int) -> None:
        self.now = 0.0
        self.slots = slots
        self.door = Admission(slots)
        self.running: dict[int, IPv4Address] = {}
        self.born = 0
        self.obeys: dict[IPv4Address, tuple[int, float, bool]] = {}
        """(the order in which it first asked, when it asks again, whether it resumes)"""
        self.silent: dict[IPv4Address, bool] = {}

    def ask(self, asker: IPv4Address, resumes: bool) -> Wait | None:
        expected = self.door.waiting
        answer = self.door.ask(asker, IMAGE, self.now, resumes=resumes)
        match answer:
            case Admitted(turn):
                self.running[turn] = asker
                order, _, _ = self.obeys.pop(asker, (self.born, 0.0, False))
                free = self.slots - len(self.running)
                earlier = [o for o, _, r in self.obeys.values() if r == resumes and o < order]
                assert len(earlier) <= free, "first come, first served"
                return None
            case Wait(retry_after_s, place, _):
                assert LEAST_S <= retry_after_s <= MOST_S
                assert place <= expected
                assert self.slots - len(self.running) <= place, "there was room"
                return answer

    def ask_and_obey(self, asker: IPv4Address, resumes: bool, late_s: float) -> None:
        order = self.obeys.get(asker, (self.born, 0.0, False))[0]
        told = self.ask(asker, resumes)
        if told is not None:
            self.obeys[asker] = (order, self.now + told.retry_after_s + late_s, resumes)

    @rule(resumes=st.booleans(), late_s=st.floats(0, GRACE_S))
    def a_machine_comes(self, resumes: bool, late_s: float) -> None:
        self.born += 1
        self.ask_and_obey(machine(self.born), resumes, late_s)

    @rule(resumes=st.booleans())
    def a_machine_comes_and_dies(self, resumes: bool) -> None:
        self.born += 1
        asker = machine(self.born)
        if self.ask(asker, resumes) is not None:
            self.silent[asker] = resumes

    @precondition(lambda self: self.silent)
    @rule(data=st.data())
    def one_that_was_silent_asks_again(self, data: st.DataObject) -> None:
        asker = data.draw(st.sampled_from(sorted(self.silent)))
        if self.ask_quietly(asker, self.silent[asker]) is None:
            del self.silent[asker]

    def ask_quietly(self, asker: IPv4Address, resumes: bool) -> Wait | None:
        """Ask for one whose place in the order the test does not know."""
        answer = self.door.ask(asker, IMAGE, self.now, resumes=resumes)
        if isinstance(answer, Wait):
            return answer
        self.running[answer.turn] = asker
        return None

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def one_that_downloads_opens_another_connection(self, data: st.DataObject) -> None:
        self.ask_quietly(data.draw(st.sampled_from(sorted(set(self.running.values())))), False)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), sent_bytes=st.sampled_from([0, 10, IMAGE]))
    def a_download_ends(self, data: st.DataObject, sent_bytes: int) -> None:
        turn = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[turn]
        self.door.end(turn, sent_bytes, self.now)

    @rule(seconds=st.floats(0.1, 60))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.obeys:
            due, asker, resumes = min((due, asker, resumes) for asker, (_, due, resumes) in self.obeys.items())
            if due > end:
                break
            self.now = due
            self.ask_and_obey(asker, resumes, 0.0)
        self.now = end

    @invariant()
    def there_are_never_more_downloads_than_slots(self) -> None:
        if hasattr(self, "door"):
            assert self.door.running == len(self.running) <= self.slots

    def teardown(self) -> None:
        """Whoever keeps asking is admitted within a bounded number of downloads, though others resume without end.

        No slot is kept any more for those that died.
        """
        if not hasattr(self, "door"):
            return
        self.time_passes(MOST_S + GRACE_S + 0.1)
        bound = (RESUMED_IN_A_ROW + 1) * (len(self.obeys) + 1) + self.slots
        ended = 0
        mine = set(self.obeys)
        flaky = [machine(100_000 + n) for n in range(8)]
        while mine & set(self.obeys):
            assert ended <= bound, "starved"
            for asker in flaky:
                if asker not in self.running.values():
                    self.ask_quietly(asker, True)
            if self.running:
                turn = min(self.running)
                del self.running[turn]
                self.door.end(turn, IMAGE, self.now)
                ended += 1
            for asker, (_, _, resumes) in sorted(self.obeys.items()):
                self.ask_and_obey(asker, resumes, 0.0)
            self.now += 1.0


Farm.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestFarm = Farm.TestCase


class Line(RuleBasedStateMachine):
    """Machines whose downloads crawl and move again, some of them of a subnet that has room for few."""

    @initialize(slots=st.integers(1, 12), room=st.integers(1, 4))
    def open(self, slots: int, room: int) -> None:
        self.now = 0.0
        self.slots = slots
        self.room = room
        self.door = Admission(slots, {SUBNET: room})
        self.running: dict[int, IPv4Address] = {}

    @rule(numbers=st.lists(st.integers(0, 20)), resumes=st.booleans())
    def machines_ask(self, numbers: list[int], resumes: bool) -> None:
        for number in numbers:
            self.one_asks(number, resumes)

    def one_asks(self, number: int, resumes: bool) -> bool:
        had_room = self.door.running < self.slots
        answer = self.door.ask(machine(number), IMAGE, self.now, resumes=resumes)
        if not isinstance(answer, Admitted):
            return False
        assert had_room
        self.running[answer.turn] = machine(number)
        return True

    @rule(data=st.data())
    def some_crawl(self, data: st.DataObject) -> None:
        crawl = [turn for turn in self.running if data.draw(st.booleans())]
        self.door.crawl(crawl)
        assert self.door.crawling <= len(crawl)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_download_ends(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.running))))

    def end(self, turn: int) -> None:
        del self.running[turn]
        self.door.end(turn, IMAGE, self.now)

    @rule(seconds=st.floats(0.1, 60))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def no_more_than_a_share_is_given_away(self) -> None:
        if hasattr(self, "door"):
            share = max(1, self.slots // CRAWLING)
            assert self.door.crawling <= share
            assert self.door.running + self.door.crawling == len(self.running) <= self.slots + share

    @invariant()
    def no_more_of_a_subnet_download_than_there_is_room_for(self) -> None:
        if hasattr(self, "door"):
            assert sum(one in SUBNET for one in self.running.values()) <= self.room

    def teardown(self) -> None:
        """Whoever keeps asking is admitted after a bounded number of downloads."""
        if not hasattr(self, "door"):
            return
        self.now += FORGET_S + MOST_S + GRACE_S
        left = set(range(21)) - {int(one) - int(machine(0)) for one in self.running.values()}
        for _ in range(3 * 21 + self.slots):
            left -= {number for number in sorted(left) if self.one_asks(number, False)}
            if self.running:
                self.end(min(self.running))
            self.now += 1.0
        assert not left


Line.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestLine = Line.TestCase
