"""When a machine is stuck, and when it only takes its time."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.clusters import Cluster
from config.events import Stage
from pxeboot.stuck import AGAIN_S, STORY, STRANGER_S, State, Verdict, goal_of, is_up, judge
from pxeboot.timeline import Machine, Timeline

S = Stage
BOOTS_OURS = "10.77.0.10, boots 'grub/x86_64-efi/core.efi'"


def machine(*steps: tuple[Stage, float] | tuple[Stage, float, str]) -> Machine:
    told = Timeline()
    for stage, at_s, *detail in steps:
        one = told.record("m1", stage, detail[0] if detail else BOOTS_OURS, at_s)
    return one


def judged(now_s: float, *steps: tuple[Stage, float] | tuple[Stage, float, str], goal: Stage = S.SYSTEM) -> Verdict:
    return judge(machine(*steps), goal, now_s)


UNTIL_GRUB = ((S.DISCOVER, 0.0), (S.ADDRESS, 3.0), (S.LOADER, 4.0), (S.MENU, 5.0))
UNTIL_ROOT = (*UNTIL_GRUB, (S.KERNEL, 9.0), (S.INITRD, 10.0), (S.NETWORK, 20.0), (S.FETCH, 21.0, "3 % of 80 MiB"))
UNTIL_SYSTEM = (*UNTIL_ROOT, (S.VERIFIED, 30.0), (S.ROOT, 31.0), (S.PREPARED, 32.0), (S.SYSTEM, 50.0))


@pytest.mark.parametrize(
    ("steps", "goal", "now_s", "state"),
    [
        pytest.param([(S.DISCOVER, 0.0)], S.SYSTEM, 10, State.BOOTING, id="asks"),
        pytest.param([(S.DISCOVER, 0.0)], S.SYSTEM, 60, State.STUCK, id="took-no-address"),
        pytest.param([(S.DISCOVER, 0.0), (S.DISCOVER, 59.0)], S.SYSTEM, 60, State.STUCK, id="asks-again-and-again"),
        pytest.param(
            [(S.DISCOVER, 0.0), (S.ADDRESS, 3.0), (S.DISCOVER, 63.0), (S.ADDRESS, 66.0)],
            S.SYSTEM, 70, State.STUCK, id="firmware-starts-over-without-its-file",
        ),
        pytest.param(
            [(S.DISCOVER, 0.0), (S.ADDRESS, 3.0, "10.77.0.10, boots 'snponly.efi'")],
            S.SYSTEM, 900, State.QUIET, id="boots-what-is-not-seen-from-here",
        ),
        pytest.param([(S.ADDRESS, 0.0)], S.SYSTEM, 900, State.QUIET, id="renewed-after-we-were-restarted"),
        pytest.param(UNTIL_ROOT, S.SYSTEM, 60, State.BOOTING, id="fetches"),
        pytest.param(UNTIL_ROOT, S.SYSTEM, 90, State.STUCK, id="its-download-stands-still"),
        pytest.param([*UNTIL_ROOT, (S.FETCH, 80.0)], S.SYSTEM, 90, State.BOOTING, id="a-slow-download-goes-on"),
        pytest.param([*UNTIL_ROOT, (S.WAITING, 80.0)], S.SYSTEM, 90, State.WAITING, id="waits"),
        pytest.param([*UNTIL_ROOT, (S.WAITING, 80.0)], S.SYSTEM, 300, State.STUCK, id="never-asked-again"),
        pytest.param(UNTIL_SYSTEM, S.SYSTEM, 1e9, State.UP, id="up-for-ever"),
        pytest.param(UNTIL_SYSTEM, S.READY, 60, State.BOOTING, id="up-and-to-join"),
        pytest.param(UNTIL_SYSTEM, S.READY, 900, State.STUCK, id="does-not-join"),
        pytest.param([*UNTIL_SYSTEM, (S.JOINED, 60.0)], S.JOINED, 900, State.UP, id="joined-by-a-shared-token"),
        pytest.param([*UNTIL_SYSTEM, (S.JOINED, 60.0)], S.READY, 900, State.STUCK, id="joined-and-never-ready"),
        pytest.param([*UNTIL_SYSTEM, (S.READY, 60.0), (S.JOINED, 61.0)], S.READY, 900, State.UP, id="ready-first"),
        pytest.param([*UNTIL_GRUB, (S.DISK, 6.0)], S.READY, 900, State.UP, id="boots-from-its-disk"),
        pytest.param([*UNTIL_GRUB, (S.FAILED, 6.0)], S.READY, 7, State.STUCK, id="failed"),
        pytest.param([*UNTIL_SYSTEM, (S.REFUSED, 60.0)], S.SYSTEM, 61, State.UP, id="somebody-else-was-refused"),
        pytest.param([(S.REFUSED, 60.0)], S.SYSTEM, 61, State.QUIET, id="only-somebody-who-was-refused"),
    ],
)  # fmt: skip
def test_how_a_machine_does(steps: list[tuple[Stage, float]], goal: Stage, now_s: float, state: State) -> None:
    assert judged(now_s, *steps, goal=goal).state is state


def test_a_machine_that_failed_says_so_itself() -> None:
    assert judged(9, (S.DISCOVER, 0.0), (S.FAILED, 6.0, "no space")) == Verdict(State.STUCK, 6.0, "no space")


def test_of_firmware_that_asks_again_it_counts_when_it_first_came_so_far() -> None:
    looping = ((S.DISCOVER, 0.0), (S.ADDRESS, 3.0), (S.DISCOVER, 63.0), (S.ADDRESS, 66.0))
    verdict = judged(70, *looping)
    assert verdict.since_s == 3.0
    assert verdict.words == STORY[S.ADDRESS].trouble


def test_a_join_that_is_tried_for_ever_is_stuck() -> None:
    tries: list[tuple[Stage, float, str]] = [
        (S.JOINING, float(at_s), f"try {at_s} failed") for at_s in range(60, 2000, 60)
    ]
    assert judged(1000, *UNTIL_SYSTEM, *tries[:16], goal=S.READY).state is State.BOOTING
    assert judged(1990, *UNTIL_SYSTEM, *tries, goal=S.READY).state is State.STUCK


def test_a_machine_that_starts_again_and_again_is_stuck_before_it_is_silent() -> None:
    rounds = [(stage, at_s + n * 60) for n in range(3) for stage, at_s in (*UNTIL_GRUB, (S.KERNEL, 9.0))]
    assert judged(70, *rounds[:10]).state is State.BOOTING
    verdict = judged(130, *rounds)
    assert verdict.state is State.STUCK
    assert "kernel is loaded" in verdict.words
    assert verdict.until_s is not None
    assert judged(verdict.until_s - 0.1, *rounds) == verdict
    assert judged(verdict.until_s, *rounds).words == STORY[S.KERNEL].trouble
    seldom = [(stage, at_s + n * 890) for n in range(3) for stage, at_s in (*UNTIL_GRUB, (S.KERNEL, 9.0))]
    assert judged(1790, *seldom).until_s == AGAIN_S
    assert judged(AGAIN_S, *seldom).state is State.BOOTING


def test_one_boot_that_went_well_among_the_three_is_no_loop() -> None:
    well: list[tuple[Stage, float] | tuple[Stage, float, str]] = [
        *UNTIL_SYSTEM,
        *((stage, at_s + 60) for stage, at_s in UNTIL_GRUB),
    ]
    assert judged(130, *well, *((stage, at_s + 120) for stage, at_s in UNTIL_GRUB)).state is State.BOOTING


def test_a_machine_of_nobody_is_no_trouble_for_long() -> None:
    passing = machine((S.DISCOVER, 0.0))
    first = judge(passing, S.SYSTEM, 100, listed=False)
    assert (first.state, first.until_s) == (State.STUCK, STRANGER_S)
    assert judge(passing, S.SYSTEM, STRANGER_S, listed=False).state is State.QUIET
    assert judge(passing, S.SYSTEM, STRANGER_S, listed=True).state is State.STUCK


@pytest.mark.parametrize(
    ("cluster", "goal"),
    [
        (None, S.SYSTEM),
        (Cluster(), S.READY),
        (Cluster(tokens="shared", lts_conf=Path("/lts.conf")), S.JOINED),
        (Cluster(command="k3s agent"), S.JOINED),
    ],
)
def test_what_a_machine_is_meant_to_get_to(cluster: Cluster | None, goal: Stage) -> None:
    assert goal_of(cluster) is goal


def test_every_stage_has_its_words_and_those_on_the_way_their_time() -> None:
    assert set(STORY) == set(Stage)
    ends = {S.DISK, S.READY, S.FAILED, S.REFUSED}
    for stage in set(Stage) - ends:
        chapter = STORY[stage]
        assert chapter.waits_for, stage
        assert chapter.silent_s >= 30, stage
        assert chapter.trouble.endswith("."), stage
        assert chapter.look[-1] in ".?", stage


@given(
    st.lists(st.tuples(st.sampled_from(list(Stage)), st.floats(0, 5000)), min_size=1, max_size=30),
    st.sampled_from([S.SYSTEM, S.JOINED, S.READY]),
    st.floats(0, 1e5),
)
def test_any_story_is_judged_and_stays_so_until_the_time_that_is_told(
    steps: list[tuple[Stage, float]], goal: Stage, later_s: float
) -> None:
    steps.sort(key=lambda step: step[1])
    one = machine(*steps)
    now_s = steps[-1][1] + later_s
    verdict = judge(one, goal, now_s)
    if verdict.until_s is None:
        assert judge(one, goal, now_s + 1e6) == verdict
    else:
        assert verdict.until_s > now_s
        assert judge(one, goal, (now_s + verdict.until_s) / 2) == verdict
    assert is_up(one.boots[-1], goal) is is_up(one.boots[-1].past, goal)
