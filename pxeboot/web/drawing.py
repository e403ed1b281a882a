"""One boot as bars on an axis of time, and how it compares with the boots before. Pure.

The bar of a stage is the time that led to it: from when the stage before was last heard of, until this one was. So
the longest bar is what a person waited for. What goes on now is a bar of its own, open at its end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from config.events import Stage
from pxeboot.bootfiles.masked import mask
from pxeboot.stuck import STORY, State, Verdict
from pxeboot.timeline import ORDER, Boot, Step

_LEAST_SPAN_S = 1.0
_MOST_TICKS = 6
_ROOM = 1.04
"""The axis ends so much behind the last bar."""
_OPEN_SHARE = 0.35
"""A bar that goes on takes at most this share of the axis: a machine that is stuck since yesterday has other bars."""
_LEAST_WIDTH = 0.4
"""Percent of the axis: what took no time at all is still to be seen."""


class Look(StrEnum):
    """How a bar looks; the names are classes of the style sheet."""

    DONE = "done"
    WAITED = "waited"
    BAD = "bad"
    OPEN = "open"
    """It goes on."""
    STUCK = "open-stuck"
    QUEUED = "open-waiting"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: a stage, and where its bar is, in percent of the axis."""

    stage: str
    said: str
    """The stage in words."""
    look: Look
    left: float
    width: float
    moving_left: float
    """The part of the bar in which a transfer ran; nothing if its width is 0."""
    moving_width: float
    at_s: float
    """Seconds from the start of the boot until it was reached, or until now."""
    took_s: float
    bytes_sent: int
    rate: float | None
    """Bytes a second, as far as that is known."""
    resent: int
    detail: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A boot, drawn."""

    bars: tuple[Bar, ...]
    span_s: float
    """What the axis is long."""
    ticks: tuple[tuple[float, str], ...]
    """Where the axis has marks, in percent, and what stands there."""
    cut: bool
    """Whether the last bar, which goes on, is longer than it is drawn."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How long one stage took in each of some boots, the newest first; None: it did not come to that."""

    stage: str
    said: str
    took_s: tuple[float | None, ...]
    widths: tuple[float, ...]
    """Of a bar for each, in percent of the longest of all stages."""


def draw(boot: Boot, verdict: Verdict, now_s: float) -> Drawing:
    """Return the drawing of a boot of which `verdict` says how its machine does; an earlier one has no open end."""
    steps = boot.steps
    spans = list(_spans(boot))
    end_s = max((until_s for _, _, until_s in spans), default=boot.started_s)
    known_s = max(end_s - boot.started_s, _LEAST_SPAN_S)
    open_s = max(0.0, now_s - end_s) if verdict.state in _OPEN and steps else 0.0
    shown_s = min(open_s, max(known_s * _OPEN_SHARE / (1 - _OPEN_SHARE), 5.0))
    span_s = (known_s + shown_s) * _ROOM

    def percent(seconds: float) -> float:
        return round(min(max(100 * seconds / span_s, 0.0), 100.0), 3)

    bars = []
    for step, from_s, until_s in spans:
        left, took_s = percent(from_s - boot.started_s), max(0.0, until_s - from_s)
        width = max(percent(took_s), _LEAST_WIDTH)
        moving = min(percent(step.took_s), width)
        bars.append(
            Bar(
                step.stage.value,
                STORY[step.stage].said,
                _look(step.stage),
                min(left, 100 - width),
                width,
                min(left, 100 - width) + width - moving,
                moving,
                until_s - boot.started_s,
                took_s,
                step.bytes_sent,
                step.bytes_sent / step.took_s if step.took_s >= 0.01 and step.bytes_sent else None,
                step.resent,
                mask(step.detail),
            )
        )
    if open_s > 0:
        words = STORY[steps[-1].stage].waits_for
        left = percent(known_s if spans else 0.0)
        bars.append(
            Bar(
                "now", f"waits for {words}" if words else "nothing since", _OPEN[verdict.state], left,
                max(percent(shown_s), _LEAST_WIDTH), 0.0, 0.0, end_s - boot.started_s + open_s, open_s, 0, None, 0, "",
            )
        )  # fmt: skip
    return Drawing(tuple(bars), span_s, tuple(ticks(span_s)), shown_s < open_s)


def compare(boots: Sequence[Boot]) -> list[Compared]:
    """Return how long each stage took in these boots, in the order of a boot; what took next to nothing is left out.

    A stage that came several times counts together.
    """
    took: list[dict[Stage, float]] = []
    for boot in boots:
        sums: dict[Stage, float] = {}
        for step, from_s, until_s in _spans(boot):
            sums[step.stage] = sums.get(step.stage, 0.0) + max(0.0, until_s - from_s)
        took.append(sums)
    longest = max((seconds for sums in took for seconds in sums.values()), default=0.0) or 1.0
    out = []
    for stage in ORDER:
        each = tuple(sums.get(stage) for sums in took)
        if max((seconds or 0.0 for seconds in each), default=0.0) >= longest / 100:
            widths = tuple(round(100 * (seconds or 0.0) / longest, 2) for seconds in each)
            out.append(Compared(stage.value, STORY[stage].said, each, widths))
    return out


def ticks(span_s: float) -> Iterable[tuple[float, str]]:
    """Yield where marks are on an axis of so many seconds, in percent, and what they say.

    >>> list(ticks(50))
    [(0.0, '0'), (20.0, '10 s'), (40.0, '20 s'), (60.0, '30 s'), (80.0, '40 s')]
    """
    steps = [unit * factor for unit in (0.1, 1, 10) for factor in (1, 2, 5)]
    steps += [60 * n for n in (2, 5, 10, 20, 30)] + [3600 * n for n in (1, 2, 5, 10, 24, 48, 168)]
    step = next((one for one in steps if span_s / one <= _MOST_TICKS), span_s)
    number = 0
    while (at_s := number * step) < span_s * 0.97:
        yield round(100 * at_s / span_s, 2), _mark(at_s)
        number += 1


def _mark(at_s: float) -> str:
    if at_s == 0:
        return "0"
    if at_s < 120:
        return f"{at_s:g} s" if at_s >= 1 else f"{at_s:.1f} s"
    return f"{at_s / 60:g} min" if at_s < 7200 else f"{at_s / 3600:g} h"


_OPEN = {State.BOOTING: Look.OPEN, State.WAITING: Look.QUEUED, State.STUCK: Look.STUCK}


def _look(stage: Stage) -> Look:
    if stage in (Stage.FAILED, Stage.REFUSED):
        return Look.BAD
    return Look.WAITED if stage is Stage.WAITING else Look.DONE


def _spans(boot: Boot) -> Iterable[tuple[Step, float, float]]:
    """Yield each step with the time that led to it, in seconds since 1970. Who was refused is no part of the way."""
    before_s = boot.started_s
    for step in boot.steps:
        if step.stage is Stage.REFUSED:
            yield step, step.first_s, step.last_s
        else:
            yield step, before_s, max(step.last_s, before_s)
            before_s = max(step.last_s, before_s)
