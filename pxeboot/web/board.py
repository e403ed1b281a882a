"""The rows of all machines, and which of them changed since somebody looked. Pure."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from config.events import Stage
from config.model import Farm
from pxeboot.stuck import State, goal_of
from pxeboot.timeline import Machine, Timeline
from pxeboot.web.rows import Row, row_of

MOST_GONE = 2000
"""Machines that left the board and are remembered, so that who looks is told; who has missed more is told all."""

AT_ONCE = 100
"""Machines that are looked at in one go, 40 µs each: DHCP and all others wait meanwhile."""
INTENTS_S = 1.0
"""How often to ask what each machine is to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the farm's file says of a machine, as far as the page needs it."""

    pool: str
    goal: Stage
    listed: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new on the board. `whole`: these are all rows, and there are no others."""

    version: int
    rows: list[Row]
    gone: list[str]
    whole: bool


class Board:
    """All machines: those of the farm's file, and those that were heard of.

    `look` costs what has changed, not what is there. Not for several threads.
    """

    def __init__(
        self,
        farm: Callable[[], Farm],
        timeline: Timeline,
        intent: Callable[[str], str] = lambda _: "",
        image: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`farm` returns the farm as it is now; `intent` and `image` what a machine is to do, and what it booted."""
        self._farm_now = farm
        self._timeline = timeline
        self._intent = intent
        self._image = image
        self._farm: Farm | None = None
        self._places: dict[str, Place] = {}
        self._goals: dict[str, Stage] = {}
        self._rows: OrderedDict[str, tuple[int, Row]] = OrderedDict()
        """The newest change last."""
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._forgot_until = 0
        self._due_s: dict[str, float] = {}
        self._seen = 0
        self._forgotten = 0
        self._intents: dict[str, str] = {}
        self._intents_due_s = 0.0
        self._behind: dict[str, None] = {}
        """Names of machines to look at, those that changed first in front."""
        self.version = 0
        """Counts the looks that found something new."""

    def __iter__(self) -> Iterator[Row]:
        return (row for _, row in self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: str) -> Row | None:
        """Return the row of a machine."""
        found = self._rows.get(name)
        return found[1] if found is not None else None

    @property
    def counts(self) -> Mapping[State, int]:
        """How many machines are in which state."""
        return Counter(row.state for row in self)

    def look(self, now_s: float) -> bool:
        """Take in what is new, at `now_s` in seconds since 1970. Return whether anything is.

        Of what changed at most `AT_ONCE` machines are looked at now; while others wait (`behind`), call it again.
        """
        version = self.version + 1
        farm = self._farm_now()
        if farm is not self._farm or self._timeline.forgotten != self._forgotten:
            self._take(farm, version)
        for machine in self._timeline.changed_since(self._seen):
            self._behind[machine.name] = None
        self._seen = self._timeline.changes
        for name, due_s in self._due_s.items():
            if due_s <= now_s:
                self._behind[name] = None
        if now_s >= self._intents_due_s:
            self._intents_due_s = now_s + INTENTS_S
            for name in self._rows:
                if self._intents.get(name) != self._intent(name):
                    self._behind[name] = None
        for name in list(islice(self._behind, AT_ONCE)):
            del self._behind[name]
            self._refresh(name, now_s, version)
        new = bool(self._rows) and next(reversed(self._rows.values()))[0] == version
        if not new and not (self._gone and next(reversed(self._gone.values())) == version):
            return False
        self.version = version
        return True

    @property
    def behind(self) -> int:
        """How many machines changed that were not looked at yet."""
        return len(self._behind)

    @property
    def has_all(self) -> bool:
        """Whether each machine of the farm's file was looked at: not in the first moments of a large farm."""
        return len(self._rows) >= len(self._places) and self._farm is not None

    def bump(self) -> int:
        """Count what is new beside the machines as a version, too; return it."""
        self.version += 1
        return self.version

    def since(self, version: int) -> Changes:
        """Return what changed after that version; everything to who has none (0), or one that is not ours."""
        if not self._forgot_until <= version <= self.version or version == 0:
            return Changes(self.version, list(self), [], whole=True)
        rows = []
        for changed, row in reversed(self._rows.values()):
            if changed <= version:
                break
            rows.append(row)
        gone = []
        for name, changed in reversed(self._gone.items()):
            if changed <= version:
                break
            gone.append(name)
        return Changes(self.version, rows, gone, whole=False)

    def _take(self, farm: Farm, version: int) -> None:
        """Begin anew with another farm, or after machines were forgotten."""
        self._farm, self._forgotten = farm, self._timeline.forgotten
        self._goals = {
            pool.name: goal_of(farm.clusters.get(pool.cluster) if pool.cluster else None) for pool in farm.pools
        }
        self._places = {
            node.name: Place(pool.name, self._goals[pool.name], True) for pool in farm.pools for node in pool.nodes
        }
        for name in [name for name in self._rows if name not in self._places and self._timeline.get(name) is None]:
            del self._rows[name]
            self._due_s.pop(name, None)
            self._intents.pop(name, None)
            self._gone[name] = version
            self._gone.move_to_end(name)
        while len(self._gone) > MOST_GONE:
            self._forgot_until = max(self._forgot_until, self._gone.popitem(last=False)[1])
        self._behind.update(dict.fromkeys(self._places))
        self._behind.update((machine.name, None) for machine in self._timeline)

    def _refresh(self, name: str, now_s: float, version: int) -> None:
        machine = self._timeline.get(name)
        if machine is not None:
            self._put(self._row(name, machine, now_s), version)
        elif name in self._places:
            self._put(self._absent(name), version)

    def _absent(self, name: str) -> Row:
        """Return the row of a machine of the farm's file that we have not heard of."""
        return Row(name, State.QUIET, self._places[name].pool, intent=self._intent(name))

    def _row(self, name: str, machine: Machine, now_s: float) -> Row:
        place = self._places.get(name)
        if place is None:
            place = Place(machine.pool, self._goals.get(machine.pool, Stage.SYSTEM), False)
        return row_of(
            machine, place.goal, now_s,
            pool=place.pool, listed=place.listed, intent=self._intent(name), image_id=self._image(name),
        )  # fmt: skip

    def _put(self, row: Row, version: int) -> None:
        self._intents[row.name] = row.intent
        if row.until_s is None:
            self._due_s.pop(row.name, None)
        else:
            self._due_s[row.name] = row.until_s
        before = self._rows.get(row.name)
        if before is not None and before[1] == row:
            return
        self._gone.pop(row.name, None)
        self._rows[row.name] = version, row
        self._rows.move_to_end(row.name)
