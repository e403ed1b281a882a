import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.events import Stage
from pxeboot.stuck import State, Verdict
from pxeboot.timeline import Boot, Step
from pxeboot.web.drawing import Look, compare, draw, ticks
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates

UP = Verdict(State.UP, 0.0, "")


def boot(*steps: Step) -> Boot:
    return Boot(100.0, list(steps))


WHOLE = boot(
    Step(Stage.DISCOVER, 100.0, 102.0, "asks"),
    Step(Stage.ADDRESS, 102.0, 102.0, "10.0.0.9"),
    Step(Stage.LOADER, 106.0, 106.0, "core.efi", 1_000_000, 3.0, 7),
    Step(Stage.WAITING, 110.0, 120.0, "its turn"),
    Step(Stage.FETCH, 121.0, 140.0, "root", 190_000_000, 19.0),
    Step(Stage.REFUSED, 141.0, 141.0, "10.0.0.66 asked"),
    Step(Stage.SYSTEM, 150.0, 150.0, "up"),
)

steps = st.lists(
    st.builds(
        lambda stage, wait, last, sent, took, again: (stage, wait, last, sent, took, again),
        st.sampled_from(Stage), st.floats(0, 1e5), st.floats(0, 1e4), st.integers(0, 10**12), st.floats(0, 1e5),
        st.integers(0, 9),
    ),
    max_size=30,
)  # fmt: skip


def test_a_bar_is_the_time_that_led_to_its_stage() -> None:
    drawn = draw(WHOLE, UP, 1000.0)
    assert [(bar.stage, bar.at_s, bar.took_s) for bar in drawn.bars] == [
        ("discover", 2.0, 2.0),
        ("address", 2.0, 0.0),
        ("loader", 6.0, 4.0),
        ("waiting", 20.0, 14.0),
        ("fetch", 40.0, 20.0),
        ("refused", 41.0, 0.0),
        ("system", 50.0, 10.0),
    ]
    looks = {bar.stage: bar.look for bar in drawn.bars}
    assert looks["waiting"] is Look.WAITED
    assert looks["refused"] is Look.BAD
    assert looks["fetch"] is Look.DONE


def test_a_transfer_is_drawn_within_its_bar_with_its_rate_and_what_was_sent_again() -> None:
    bar = draw(WHOLE, UP, 1000.0).bars[2]
    assert bar.moving_width == pytest.approx(bar.width * 3 / 4, rel=0.01)
    assert bar.moving_left + bar.moving_width == pytest.approx(bar.left + bar.width)
    assert bar.rate == pytest.approx(333_333, rel=0.01)
    assert bar.resent == 7


@pytest.mark.parametrize(
    ("state", "look"),
    [(State.BOOTING, Look.OPEN), (State.WAITING, Look.QUEUED), (State.STUCK, Look.STUCK), (State.UP, None)],
)
def test_what_goes_on_is_a_bar_with_an_open_end(state: State, look: Look | None) -> None:
    bars = draw(WHOLE, Verdict(state, 150.0, ""), 155.0).bars
    if look is None:
        assert bars[-1].stage == "system"
    else:
        assert (bars[-1].stage, bars[-1].look, bars[-1].took_s) == ("now", look, 5.0)


def test_a_machine_that_is_stuck_since_yesterday_has_other_bars() -> None:
    drawn = draw(WHOLE, Verdict(State.STUCK, 150.0, ""), 150.0 + 86400)
    assert drawn.cut
    assert drawn.bars[-1].took_s == 86400
    assert drawn.bars[4].width > 10


@given(steps, st.sampled_from(State), st.floats(-10, 1e7))
def test_any_boot_is_drawn_in_order_and_within_its_axis(
    said: list[tuple[Stage, float, float, int, float, int]], state: State, later: float
) -> None:
    now, out = 100.0, []
    for stage, wait, last, sent, took, again in said:
        first = now + wait
        now = first + last
        out.append(Step(stage, first, now, "x", sent, took, again))
    drawn = draw(boot(*out), Verdict(state, 0.0, ""), now + later)
    assert [bar.stage for bar in drawn.bars if bar.stage != "now"] == [step.stage for step in out]
    for bar in drawn.bars:
        assert 0 <= bar.left <= bar.left + bar.width <= 100.001
        assert bar.left - 0.001 <= bar.moving_left or bar.moving_width == 0
        assert bar.moving_left + bar.moving_width <= 100.001
        assert bar.width > 0
    way = [bar for bar in drawn.bars if bar.stage not in ("refused", "now")]
    assert all(before.at_s <= after.at_s for before, after in pairwise(way))


@given(st.floats(0.5, 1e7))
def test_any_axis_has_a_few_marks(span_s: float) -> None:
    marks = list(ticks(span_s))
    assert 1 <= len(marks) <= 8
    assert all(0 <= at < 100 for at, _ in marks)
    assert len({said for _, said in marks}) == len(marks)


def test_boots_are_compared_stage_by_stage() -> None:
    before = boot(Step(Stage.DISCOVER, 100.0, 101.0, ""), Step(Stage.LOADER, 111.0, 111.0, ""))
    rows = {row.stage: row for row in compare([WHOLE, before])}
    assert rows["loader"].took_s == (4.0, 10.0)
    assert rows["loader"].widths == (20.0, 50.0)
    assert rows["system"].took_s == (10.0, None)
    assert "address" not in rows
    assert compare([boot()]) == []


@given(steps, st.sampled_from([State.UP, State.STUCK]))
def test_the_drawing_is_well_formed(said: list[tuple[Stage, float, float, int, float, int]], state: State) -> None:
    out = [Step(stage, 100.0 + wait, 100.0 + wait, "<b>&\"'", sent, took, n) for stage, wait, _, sent, took, n in said]
    one = boot(*out)
    macros = TEMPLATES.get("drawn.html").module
    html = str(macros.bars(draw(one, Verdict(state, 0.0, ""), 1e6)))  # type: ignore[attr-defined]
    html += str(macros.compared(compare([one, WHOLE]), [one, WHOLE], 1e6))  # type: ignore[attr-defined]
    tree = ElementTree.fromstring(f"<page>{html}</page>")
    assert len(tree.findall(".//tbody/tr/th[@scope='row']")) >= len(out)
    for shape in tree.iter("rect"):
        assert float(shape.attrib["width"].removesuffix("%")) <= 100.001
    assert "style=" not in html


TEMPLATES = Templates(Static())
