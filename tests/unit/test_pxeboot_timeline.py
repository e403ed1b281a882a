from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.events import Stage
from pxeboot import timeline
from pxeboot.timeline import KEPT_BOOTS, MAX_REPORT, ORDER, Machine, Timeline

S = Stage


def tell(stages: Sequence[Stage], name: str = "m1", into: Timeline | None = None) -> Machine:
    told = into if into is not None else Timeline()
    for now, stage in enumerate(stages):
        machine = told.record(name, stage, f"{stage} at {now}", float(now))
    return machine


def boots(*stages: Stage) -> list[list[Stage]]:
    return [[step.stage for step in boot.steps] for boot in tell(stages).boots]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        pytest.param([S.DISCOVER, S.ADDRESS, S.LOADER], [[S.DISCOVER, S.ADDRESS, S.LOADER]], id="one-boot"),
        pytest.param([S.DISCOVER, S.DISCOVER, S.DISCOVER], [[S.DISCOVER]], id="asked-again"),
        pytest.param([S.DISCOVER, S.ADDRESS, S.DISCOVER], [[S.DISCOVER, S.ADDRESS, S.DISCOVER]], id="rom-then-grub"),
        pytest.param([S.DISCOVER, S.LOADER, S.DISCOVER], [[S.DISCOVER, S.LOADER], [S.DISCOVER]], id="reset-in-grub"),
        pytest.param([S.MENU, S.DISCOVER], [[S.MENU], [S.DISCOVER]], id="daemon-restarted-in-a-boot"),
        pytest.param([S.SYSTEM, S.DISCOVER], [[S.SYSTEM], [S.DISCOVER]], id="rebooted"),
        pytest.param([S.FAILED, S.DISCOVER], [[S.FAILED, S.DISCOVER]], id="failed-before-anything"),
        pytest.param(
            [S.DISCOVER, S.FETCH, S.FAILED, S.DISCOVER], [[S.DISCOVER, S.FETCH, S.FAILED], [S.DISCOVER]], id="failed"
        ),
        pytest.param([S.DISCOVER, S.MENU, S.ADDRESS], [[S.DISCOVER, S.MENU, S.ADDRESS]], id="address-in-grub"),
        pytest.param([S.KERNEL, S.ADDRESS, S.NETWORK], [[S.KERNEL, S.NETWORK]], id="address-of-the-initramfs"),
        pytest.param(
            [S.NETWORK, S.WAITING, S.WAITING, S.FETCH, S.WAITING, S.FETCH],
            [[S.NETWORK, S.WAITING, S.FETCH, S.WAITING, S.FETCH]],
            id="waits-for-its-turn-twice",
        ),
        pytest.param([S.SYSTEM, S.ADDRESS, S.ADDRESS], [[S.SYSTEM]], id="lease-renewed"),
        pytest.param([S.ADDRESS], [[S.ADDRESS]], id="address-first"),
        pytest.param([S.FETCH, S.ROOT, S.FETCH, S.SYSTEM, S.FETCH], [[S.FETCH, S.ROOT, S.SYSTEM]], id="nbd-again"),
        pytest.param([S.SYSTEM, S.MENU, S.FETCH], [[S.SYSTEM, S.MENU, S.FETCH]], id="boots-by-another-dhcp-server"),
    ],
)
def test_when_a_boot_begins(stages: list[Stage], expected: list[list[Stage]]) -> None:
    assert boots(*stages) == expected


def test_a_stage_said_again_is_one_step_with_the_newest_detail_and_all_bytes() -> None:
    told = Timeline()
    for now, sent in ((10.0, 5), (12.0, 7)):
        machine = told.record("m1", S.INITRD, f"at {now}", now, sent)
    (step,) = machine.boots[-1].steps
    assert (step.first_s, step.last_s, step.detail, step.bytes_sent) == (10.0, 12.0, "at 12.0", 12)
    assert machine.boots[-1].stage is S.INITRD


def test_a_failure_is_no_progress() -> None:
    boot = tell([S.DISCOVER, S.FAILED]).boots[-1]
    assert (boot.stage, boot.reached) == (S.FAILED, ORDER.index(S.DISCOVER))
    assert timeline.Boot(0.0).reached == -1
    assert timeline.Boot(0.0).stage is None


def test_only_the_newest_boots_are_kept() -> None:
    machine = tell([S.DISCOVER, S.SYSTEM] * 9)
    assert len(machine.boots) == KEPT_BOOTS
    assert [boot.started_s for boot in machine.boots] == [12.0, 14.0, 16.0]


def test_a_machine_that_fails_again_and_again_keeps_its_first_step_and_the_newest() -> None:
    machine = tell([S.DISCOVER, *[S.FETCH, S.FAILED] * 1000])
    steps = machine.boots[-1].steps
    assert len(steps) == 200
    assert steps[0].stage is S.DISCOVER
    assert [step.first_s for step in steps[1:]] == [float(n) for n in range(2001 - 199, 2001)]


def test_a_report_is_kept_with_the_newest_boot_and_not_whole_if_it_is_endless() -> None:
    told = Timeline()
    told.keep_report("nobody", "lost")
    tell([S.DISCOVER, S.SYSTEM, S.DISCOVER], into=told)
    told.keep_report("m1", "x" * (MAX_REPORT + 1))
    machine = told.get("m1")
    assert machine is not None
    assert [len(boot.report) for boot in machine.boots] == [0, MAX_REPORT]
    assert told.get("nobody") is None


def test_machines_are_listed_by_name() -> None:
    told = Timeline()
    for name, stage in (("b", S.DISCOVER), ("a", S.SYSTEM), ("c", S.SYSTEM)):
        told.record(name, stage, "", 0.0)
    assert [machine.name for machine in told] == ["a", "b", "c"]
    assert len(told) == 3


def test_the_one_that_was_silent_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MAX_MACHINES", 3)
    told = Timeline()
    for name in ("a", "b", "c", "a", "d"):
        told.record(name, S.SYSTEM, "", 0.0)
    assert [machine.name for machine in told] == ["a", "c", "d"]


@pytest.mark.parametrize("stages", [[S.DISCOVER], [S.ADDRESS], [S.ADDRESS, S.ADDRESS], [S.DISCOVER, S.FAILED]])
def test_a_flood_of_made_up_cards_drives_no_machine_out_that_boots(
    stages: list[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MAX_MACHINES", 50)
    told = Timeline()
    farm = [f"m{number}" for number in range(20)]
    for name in farm:
        tell([S.DISCOVER, S.ADDRESS, S.SYSTEM], name, told)
    for number in range(1000):
        tell(stages, f"node-{number}", told)
    assert len(told) == 50
    assert all(told.get(name) is not None for name in farm)
    assert told.get("node-999") is not None
    machine = tell([S.DISCOVER], "m0", told)  # it reboots in the flood
    for number in range(1000):
        tell(stages, f"node-{number}", told)
    assert told.get("m0") is machine
    assert len(machine.boots) == 2


def test_a_machine_that_gets_on_is_no_longer_one_that_only_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MAX_MACHINES", 2)
    told = Timeline()
    first = told.record("m1", S.DISCOVER, "", 0.0)
    assert told.record("m1", S.ADDRESS, "", 1.0) is first
    assert told.record("m1", S.LOADER, "", 1.0) is first
    for name in ("x", "y", "z"):
        told.record(name, S.DISCOVER, "", 2.0)
    assert [machine.name for machine in told] == ["m1", "z"]
    assert [step.stage for step in first.boots[-1].steps] == [S.DISCOVER, S.ADDRESS, S.LOADER]


events = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(ORDER), st.integers(0, 9))


@given(st.lists(events, max_size=120))
def test_any_events_leave_a_story_that_holds_together(told: list[tuple[str, Stage, int]]) -> None:
    line = Timeline()
    for now, (name, stage, sent) in enumerate(told):
        machine = line.record(name, stage, f"{now}", float(now), sent)
        assert line.get(name) is machine
        assert machine.boots
    assert {machine.name for machine in line} == {name for name, _, _ in told}
    for machine in line:
        starts = [boot.started_s for boot in machine.boots]
        assert starts == sorted(set(starts))
        assert len(starts) <= KEPT_BOOTS
        for boot in machine.boots:
            assert boot.steps
            assert boot.steps[0].first_s == boot.started_s
            assert all(one.stage is not two.stage for one, two in zip(boot.steps, boot.steps[1:], strict=False))
            times = [time for step in boot.steps for time in (step.first_s, step.last_s)]
            assert times == sorted(times)
    kept = sum(step.bytes_sent for machine in line for boot in machine.boots for step in boot.steps)
    assert kept <= sum(sent for _, _, sent in told)


def test_somebody_who_is_refused_says_nothing_of_how_far_a_machine_is() -> None:
    told = Timeline()
    told.record("m1", S.READY, "", 1.0)
    boot = told.record("m1", S.REFUSED, "somebody asked", 2.0).boots[-1]
    assert (boot.stage, boot.reached, boot.steps[-1].stage) == (S.READY, ORDER.index(S.READY), S.REFUSED)
    assert boot.newest is boot.steps[0]
    told.record("m1", S.FETCH, "its root is opened again", 3.0)
    assert [step.stage for step in boot.steps] == [S.READY, S.REFUSED]
    told.record("m1", S.REFUSED, "again", 4.0)
    assert [(step.first_s, step.detail) for step in boot.steps[1:]] == [(2.0, "again")]


def test_what_is_told_late_of_a_join_is_not_taken_for_the_next_boots() -> None:
    told = Timeline()
    told.record("m1", S.DISCOVER, "", 1.0)
    told.record("m1", S.MENU, "", 2.0)
    assert told.joins("m1", S.READY, "its Node", 9.0, began_s=1.9) is not None
    told.record("m1", S.DISCOVER, "", 10.0)
    assert told.joins("m1", S.READY, "its Node", 11.0, began_s=1.9) is None
    machine = told.get("m1")
    assert machine is not None
    assert [step.stage for boot in machine.boots for step in boot.steps] == [S.DISCOVER, S.MENU, S.READY, S.DISCOVER]


def test_a_join_is_shown_after_a_restart_that_lost_what_came_before() -> None:
    told = Timeline()
    machine = told.joins("m1", S.READY, "its Node", 9.0, began_s=1.0)
    assert machine is not None
    assert [(step.stage, step.first_s) for step in machine.boots[-1].steps] == [(S.READY, 9.0)]
    told.record("m2", S.MENU, "no DHCPDISCOVER was seen of it", 2.0)
    assert told.joins("m2", S.TOKEN, "", 3.0, began_s=1.9) is not None


def test_of_boots_long_ago_only_how_they_went_is_kept() -> None:
    machine = tell([S.DISCOVER, S.SYSTEM, S.DISCOVER, S.KERNEL, S.FAILED] * 5)
    assert [(past.stage, past.reached, past.took_s) for past in machine.pasts] == [
        (S.SYSTEM, S.SYSTEM, 1.0),
        (S.FAILED, S.KERNEL, 1.0),
    ] * 2 + [(S.SYSTEM, S.SYSTEM, 1.0)]
    assert machine.pasts[-1].started_s < machine.boots[0].started_s


def test_what_changed_since_is_told_without_a_look_at_the_others() -> None:
    told = Timeline()
    for name in ("a", "b", "c"):
        told.record(name, S.SYSTEM, "", 0.0)
    told.record("asking", S.DISCOVER, "", 0.0)
    seen = told.changes
    assert list(told.changed_since(seen)) == []
    told.record("a", S.READY, "", 1.0)
    told.record("asking", S.ADDRESS, "", 1.0)
    assert [machine.name for machine in told.changed_since(seen)] == ["a", "asking"]
    assert {machine.name for machine in told.changed_since(0)} == {"a", "b", "c", "asking"}


def test_machines_that_are_forgotten_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MAX_MACHINES", 2)
    told = Timeline()
    for name in ("a", "b", "c"):
        told.record(name, S.SYSTEM, "", 0.0)
    assert told.forgotten == 1
