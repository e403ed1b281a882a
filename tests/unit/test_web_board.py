"""What the farm's page says of its machines, and what of it is new."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.clusters import Cluster
from config.events import Stage
from config.model import Farm, Image, Node, Pool
from pxeboot import timeline
from pxeboot.stuck import STORY, State
from pxeboot.timeline import Timeline
from pxeboot.web import board as board_module
from pxeboot.web.board import Board
from pxeboot.web.rows import Row, natural

S = Stage
VERSION = "ab" * 32


def farm(*names: str, cluster: str | None = None) -> Farm:
    nodes = tuple(
        Node(name=name, macs=(f"52:54:00:00:00:{number:02x}",), ip=IPv4Address("10.77.0.10") + number)
        for number, name in enumerate(names)
    )
    return Farm(
        images={"node": Image(path=Path("/images/node"))},
        clusters={"prod": Cluster()},
        pools=(Pool(name="workers", image="node", cluster=cluster, nodes=nodes),),
    )


class Watched:
    """A board, with its timeline and a farm that can be swapped."""

    def __init__(self, *names: str) -> None:
        self.farm = farm(*names)
        self.timeline = Timeline()
        self.intents: dict[str, str] = {}
        self.board = Board(lambda: self.farm, self.timeline, lambda name: self.intents.get(name, ""))

    def tell(self, name: str, stage: Stage, at_s: float, detail: str = "") -> None:
        self.timeline.record(name, stage, detail, at_s)

    def row(self, name: str) -> Row:
        row = self.board.get(name)
        assert row is not None
        return row

    def news(self, version: int) -> tuple[list[str], list[str], bool]:
        changes = self.board.since(version)
        return sorted(row.name for row in changes.rows), sorted(changes.gone), changes.whole


def test_machines_of_the_file_are_there_before_they_are_heard_of() -> None:
    watched = Watched("m1", "m2")
    assert watched.board.look(0)
    assert {row.name: row.state for row in watched.board} == {"m1": State.QUIET, "m2": State.QUIET}
    assert watched.row("m1").pool == "workers"
    assert not watched.board.look(1)


def test_what_changed_is_told_and_nothing_else() -> None:
    watched = Watched("m1", "m2", "m3")
    watched.board.look(0)
    before = watched.board.version
    watched.tell("m2", S.DISCOVER, 1, "UEFI x64 (PXEClient), asks for an address")
    assert watched.board.look(2)
    assert watched.news(before) == (["m2"], [], False)
    assert watched.news(watched.board.version) == ([], [], False)
    assert watched.news(0) == (["m1", "m2", "m3"], [], True)
    assert watched.news(watched.board.version + 5)[2]


def test_a_machine_becomes_stuck_though_nothing_happens() -> None:
    watched = Watched("m1")
    watched.tell("m1", S.DISCOVER, 0)
    watched.board.look(1)
    assert watched.row("m1").state is State.BOOTING
    before = watched.board.version
    assert not watched.board.look(20)
    assert watched.board.look(60)
    assert watched.news(before)[0] == ["m1"]
    row = watched.row("m1")
    assert (row.state, row.words, row.look) == (State.STUCK, STORY[S.DISCOVER].trouble, STORY[S.DISCOVER].look)


def test_a_machine_that_says_what_is_known_is_no_news() -> None:
    watched = Watched("m1")
    watched.tell("m1", S.SYSTEM, 0, "multi-user reached")
    watched.board.look(1)
    watched.tell("m1", S.ADDRESS, 500)  # it renews its lease
    assert not watched.board.look(501)


def test_another_farm_takes_machines_away_and_brings_some() -> None:
    watched = Watched("m1", "m2")
    watched.timeline.record("m2", S.SYSTEM, "", 0).pool = "workers"
    watched.board.look(1)
    before = watched.board.version
    watched.farm = farm("m3")
    assert watched.board.look(2)
    assert watched.news(before) == (["m3"], ["m1"], False)
    assert watched.row("m2").state is State.UP  # it is still running


def test_another_goal_makes_an_up_machine_one_that_has_to_join() -> None:
    watched = Watched("m1")
    watched.tell("m1", S.SYSTEM, 0)
    watched.board.look(1)
    assert watched.row("m1").state is State.UP
    watched.farm = farm("m1", cluster="prod")
    assert watched.board.look(2)
    assert watched.row("m1").state is State.BOOTING


def test_an_intent_is_seen_though_the_machine_says_nothing() -> None:
    watched = Watched("m1", "m2")
    watched.tell("m1", S.SYSTEM, 0)
    watched.board.look(1)
    before = watched.board.version
    watched.intents = {"m1": "boot=local", "m2": "boot=refuse"}
    assert watched.board.look(2)
    assert watched.news(before)[0] == ["m1", "m2"]
    assert watched.row("m2").intent == "boot=refuse"


def test_machines_that_the_timeline_forgot_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MAX_MACHINES", 2)
    watched = Watched()
    for name in ("a", "b"):
        watched.tell(name, S.SYSTEM, 0)
    watched.board.look(1)
    before = watched.board.version
    watched.tell("c", S.SYSTEM, 2)
    watched.board.look(3)
    assert watched.news(before) == (["c"], ["a"], False)


def test_who_missed_more_than_is_remembered_is_told_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "MOST_GONE", 1)
    watched = Watched("m1", "m2", "m3")
    watched.board.look(0)
    before = watched.board.version
    watched.farm = farm("m1")
    watched.board.look(1)
    assert watched.news(before) == (["m1"], [], True)


def test_what_a_machine_runs_is_what_it_says() -> None:
    watched = Watched("m1")
    watched.tell("m1", S.SYSTEM, 0)
    watched.timeline.keep_report("m1", f"== hostname\nm1\n== image\n{VERSION}\n== sha256\n{'0' * 64}\n")
    watched.board.look(1)
    assert watched.row("m1").image_id == VERSION


def test_a_download_says_how_far_it_is_and_nonsense_says_nothing() -> None:
    watched = Watched("m1")
    watched.tell("m1", S.DISCOVER, 0)
    for said, percent in (("37 % of 80 MiB", 37), ("999 % of 80 MiB", None), ("80 MiB from http://x", None)):
        watched.tell("m1", S.FETCH, 1, said)
        watched.board.look(2)
        assert watched.row("m1").percent == percent


def test_the_boots_of_a_machine_are_marked_and_the_newest_goes_on() -> None:
    watched = Watched("m1")
    for began_s, last in ((0, S.SYSTEM), (100, S.KERNEL), (200, S.SYSTEM), (300, S.KERNEL)):
        for stage in (S.DISCOVER, S.LOADER, last):
            watched.tell("m1", stage, began_s + list(Stage).index(stage))
    watched.board.look(320)
    row = watched.row("m1")
    assert [mark.well for mark in row.marks] == [True, False, True, None]
    assert row.took_s == list(Stage).index(S.SYSTEM)
    watched.board.look(9000)
    assert [mark.well for mark in watched.row("m1").marks] == [True, False, True, False]


def test_somebody_who_was_refused_is_shown_beside_how_far_the_machine_is() -> None:
    watched = Watched("m1")
    watched.tell("m1", S.SYSTEM, 0)
    watched.tell("m1", S.REFUSED, 1, "10.0.0.66 asked for its join command, and is not it")
    watched.board.look(2)
    assert watched.row("m1").state is State.UP
    assert "10.0.0.66" in watched.row("m1").refused


def test_names_are_in_the_order_of_their_numbers() -> None:
    assert sorted(["m1c10", "m1c9", "m10c1", "gpu"], key=natural) == ["gpu", "m1c9", "m1c10", "m10c1"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["m1", "m2", "x1", "x2"]), st.sampled_from(list(Stage)), st.integers(0, 400)),
        max_size=40,
    )
)
@example([*[("m2", stage, 0) for stage in (S.LOADER, S.DISCOVER) * 2], ("m1", S.DISCOVER, 40)])  # a loop falls silent
def test_who_takes_each_change_sees_what_who_looks_anew_sees(events: list[tuple[str, Stage, int]]) -> None:
    watched = Watched("m1", "m2")
    seen: dict[str, Row] = {}
    version, now_s = 0, 0.0
    for name, stage, later_s in events:
        now_s += later_s
        watched.tell(name, stage, now_s, f"{stage} at {now_s}")
        watched.board.look(now_s)
        changes = watched.board.since(version)
        if changes.whole:
            seen.clear()
        seen.update({row.name: row for row in changes.rows})
        version = changes.version
    anew = Board(lambda: watched.farm, watched.timeline)
    anew.look(now_s)
    if events:
        assert seen == {row.name: row for row in anew}


def test_a_farm_that_changes_at_once_is_looked_at_in_several_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "AT_ONCE", 2)
    watched = Watched(*(f"m{number}" for number in range(5)))
    goes = 0
    while watched.board.look(0):
        goes += 1
        assert watched.board.behind == (3, 1, 0)[goes - 1]
    assert goes == 3
    assert len(watched.board) == 5
