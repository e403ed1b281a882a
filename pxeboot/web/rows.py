"""What the farm's page says of one machine. Pure."""

import re
from dataclasses import dataclass

from config.events import Stage
from pxeboot.stuck import STORY, State, is_up, judge
from pxeboot.timeline import Boot, Machine, Past

MARKS = 6
"""Boots that are shown, the newest on the right."""

_PERCENT = re.compile(r"(\d{1,3}) % of (\d+ MiB)")
_IMAGE = re.compile(r"^== image\n([0-9a-f]{64})$", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
_HEAD = 4096
"""A machine's report names its image within its first characters."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One boot: whether it got the machine up (None: it goes on), when it began, how long it took, and where to."""

    well: bool | None
    started_s: float
    took_s: float
    said: str


@dataclass(frozen=True, slots=True)
class Row:
    """One machine. `until_s` is when it has to be looked at again if nothing happens before."""

    name: str
    state: State
    pool: str = ""
    address: str = ""
    stage: str = ""
    """How far it is, in words."""
    since_s: float = 0.0
    """Since when, in seconds since 1970; 0: not known."""
    words: str = ""
    """What it waits for, or why it is stuck."""
    look: str = ""
    """Of one that is stuck: what to look at."""
    detail: str = ""
    """What it or one of our servers said last."""
    note: str = ""
    """What is wrong according to its own messages, and may or may not keep it from coming up."""
    percent: int | None = None
    """How much of its root it has."""
    refused: str = ""
    """Who was refused what is this machine's alone."""
    marks: tuple[Mark, ...] = ()
    took_s: float | None = None
    """How long its newest boot that went well took, in seconds."""
    image_id: str = ""
    """The version that it runs, if that is known."""
    intent: str = ""
    """What it is to do at its next boot, in words; "" for what all do."""
    until_s: float | None = None

    @property
    def key(self) -> str:
        """What rows are in order by: m2 comes before m10.

        >>> sorted(["m10", "m2"], key=natural)
        ['m2', 'm10']
        """
        return natural(self.name)


def natural(name: str) -> str:
    """Return a key that sorts numbers in names by their value.

    >>> natural("m1c29")
    'm00000001c00000029'
    """
    return _NUMBER.sub(lambda digits: digits[0].zfill(8), name)


def row_of(machine: Machine, goal: Stage, now_s: float, *, pool: str, listed: bool, intent: str, image_id: str) -> Row:
    """Return the row of a machine that we have heard of, which is up at the stage `goal`.

    `image_id` is what is known elsewhere of what it runs; what it reports itself is better.
    """
    verdict = judge(machine, goal, now_s, listed=listed)
    boot = machine.boots[-1] if machine.boots else None
    newest = boot.newest if boot is not None else None
    marks = tuple(
        _mark(one, goal, is_last=one is boot and verdict.state is not State.STUCK) for one in _boots(machine)
    )
    detail = newest.detail if newest is not None else ""
    percent = _PERCENT.match(detail) if newest is not None and newest.stage is Stage.FETCH else None
    refused = [step.detail for step in boot.steps if step.stage is Stage.REFUSED] if boot is not None else []
    return Row(
        name=machine.name,
        state=verdict.state,
        pool=pool,
        address=machine.ip or machine.mac,
        stage=STORY[newest.stage].said if newest is not None else "",
        since_s=verdict.since_s,
        words=verdict.words,
        look=verdict.look,
        detail="" if detail == verdict.words else detail,
        note=boot.notes[-1].text if boot is not None and boot.notes and verdict.state is not State.UP else "",
        percent=int(percent[1]) if percent is not None and int(percent[1]) <= 100 else None,
        refused=refused[-1] if refused else "",
        marks=marks,
        took_s=next((mark.took_s for mark in reversed(marks) if mark.well), None),
        image_id=image_of(boot) or image_id,
        intent=intent,
        until_s=verdict.until_s,
    )


def image_of(boot: Boot | None) -> str:
    """Return the version of the image that a machine said it runs; "" if it did not say, or says nonsense."""
    found = _IMAGE.search(boot.report, 0, _HEAD) if boot is not None else None
    return found[1] if found is not None else ""


def _boots(machine: Machine) -> list[Boot | Past]:
    boots: list[Boot | Past] = [*machine.pasts, *machine.boots]
    return boots[-MARKS:]


def _mark(boot: Boot | Past, goal: Stage, *, is_last: bool) -> Mark:
    past = boot.past if isinstance(boot, Boot) else boot
    well: bool | None = is_up(boot, goal)
    if not well and is_last:
        well = None
    stage = past.stage if past.stage is Stage.DISK or past.reached is None else past.reached
    took_s = past.took_s
    if well and isinstance(boot, Boot) and past.stage is not Stage.DISK:
        arrived = [step.first_s for step in boot.steps if is_goal(step.stage, goal)]
        took_s = min(arrived, default=past.started_s + took_s) - past.started_s
    return Mark(well, past.started_s, took_s, STORY[stage].said if stage is not None else "nothing")


def is_goal(stage: Stage, goal: Stage) -> bool:
    """Return whether a machine at `stage` is where it is meant to get, which is `goal`."""
    order = list(Stage)
    return stage not in (Stage.FAILED, Stage.REFUSED) and order.index(stage) >= order.index(goal)
