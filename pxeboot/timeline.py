"""Who is booting, and how far: events in, state out. Pure.

Everything a person sees of a boot (table, page, JSON, log) is drawn from here.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from config.events import Stage

ORDER = list(Stage)
MAX_MACHINES = 20_000
KEPT_BOOTS = 3
KEPT_PASTS = 5
"""Of so many boots before those, only how they ended is kept."""
KEPT_NOTES = 20
MAX_REPORT = 64 * 1024
_HAS_ROOT = frozenset(ORDER[ORDER.index(Stage.ROOT) :]) - {Stage.FAILED, Stage.REFUSED}
_NO_PROGRESS = frozenset((Stage.FAILED, Stage.REFUSED))
_ASKING = frozenset((Stage.DISCOVER, Stage.ADDRESS, Stage.FAILED))
"""What a made-up card gets to: where others give out the addresses, a DHCPREQUEST is enough for `ADDRESS`."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a machine's log says is wrong, when we heard of it."""

    at_s: float
    text: str


@dataclass(slots=True)
class Step:
    """One stage of a boot. What is said again of the same stage is kept as the newest detail."""

    stage: Stage
    first_s: float
    last_s: float
    detail: str
    bytes_sent: int = 0
    took_s: float = 0.0
    """How long its transfers took together."""
    resent: int = 0
    """Blocks of them that had to be sent again."""


@dataclass(slots=True)
class Boot:
    """One boot of one machine, from the firmware's first question on."""

    started_s: float
    steps: list[Step] = field(default_factory=list)
    report: str = ""
    """The machine's own account, sent once its system was up."""
    notes: deque["Note"] = field(default_factory=lambda: deque(maxlen=KEPT_NOTES))
    """What its logs say is wrong, which may or may not keep it from coming up."""

    @property
    def newest(self) -> Step | None:
        """The newest step that says how far it is: not one of somebody who was refused."""
        return next((step for step in reversed(self.steps) if step.stage is not Stage.REFUSED), None)

    @property
    def stage(self) -> Stage | None:
        """The newest stage."""
        return self.newest.stage if self.newest else None

    @property
    def reached(self) -> int:
        """The farthest stage, as its place in the order of a boot; -1 before the first. `FAILED` is no progress."""
        return max((ORDER.index(step.stage) for step in self.steps if step.stage not in _NO_PROGRESS), default=-1)

    @property
    def past(self) -> "Past":
        """How it went, in short."""
        reached = ORDER[self.reached] if self.reached >= 0 else None
        at_s = next((step.first_s for step in self.steps if step.stage is reached), self.started_s)
        return Past(self.started_s, self.stage, reached, at_s - self.started_s)


@dataclass(frozen=True, slots=True)
class Past:
    """How one boot went: where it ended, the farthest stage, and the seconds from its start until it came there."""

    started_s: float
    stage: Stage | None
    reached: Stage | None
    took_s: float


@dataclass(slots=True)
class Machine:
    """One machine that we have heard of."""

    name: str
    mac: str = ""
    ip: str = ""
    pool: str = ""
    boots: deque[Boot] = field(default_factory=lambda: deque(maxlen=KEPT_BOOTS))
    pasts: deque[Past] = field(default_factory=lambda: deque(maxlen=KEPT_PASTS))
    """The boots before those, the oldest first."""
    changed: int = 0
    """The number of the newest thing that happened to it, among all that happened to all machines."""


class Timeline:
    """All machines, by name. The one that was silent longest is forgotten when there are too many.

    Machines that did nothing but ask for an address, or take one, are forgotten before all others: anybody can make
    them up by the thousand, and those that boot must stay to be seen.
    """

    def __init__(self, entered: Callable[[Boot, Step], None] = lambda boot, step: None) -> None:
        """Start with no machine. `entered` is told of each new step of a boot, when it is its newest."""
        self._entered = entered
        self._machines: OrderedDict[str, Machine] = OrderedDict()
        self._asking: OrderedDict[str, Machine] = OrderedDict()
        self.changes = 0
        """How many things have happened."""
        self.forgotten = 0
        """How many machines were forgotten."""

    def __iter__(self) -> Iterator[Machine]:
        everyone = (*self._machines.values(), *self._asking.values())
        return iter(sorted(everyone, key=lambda machine: machine.name))

    def __len__(self) -> int:
        return len(self._machines) + len(self._asking)

    def get(self, name: str) -> Machine | None:
        """Return the machine of this name, if we have heard of it."""
        return self._machines.get(name) or self._asking.get(name)

    def changed_since(self, number: int) -> Iterator[Machine]:
        """Yield the machines that something happened to after that many `changes`, the newest first."""
        for machines in (self._machines, self._asking):
            for machine in reversed(machines.values()):
                if machine.changed <= number:
                    break
                yield machine

    def _machine(self, name: str, stage: Stage) -> Machine:
        """Return the machine of this name, new if we had not heard of it; it counts as heard of now."""
        machine = self._machines.pop(name, None)
        only_asks = machine is None and stage in _ASKING
        machine = machine or self._asking.pop(name, None) or Machine(name)
        (self._asking if only_asks else self._machines)[name] = machine
        self.changes += 1
        machine.changed = self.changes
        if len(self) > MAX_MACHINES:
            (self._asking or self._machines).popitem(last=False)
            self.forgotten += 1
        return machine

    def record(
        self,
        name: str,
        stage: Stage,
        detail: str,
        now_s: float,
        bytes_sent: int = 0,
        took_s: float = 0.0,
        resent: int = 0,
    ) -> Machine:
        """Take in that `stage` happened to the machine `name` at `now_s`, seconds since 1970.

        A DISCOVER begins a new boot once the one before went beyond getting an address. The initramfs and the
        running system ask for the address again, and open their root by NBD again; that is no step.
        """
        machine = self._machine(name, stage)
        boot = machine.boots[-1] if machine.boots else None
        if boot is not None and stage is Stage.ADDRESS and boot.reached > ORDER.index(Stage.MENU):
            return machine
        if boot is None or (stage is Stage.DISCOVER and boot.reached > ORDER.index(Stage.ADDRESS)):
            boot = Boot(now_s)
            if len(machine.boots) == KEPT_BOOTS:
                machine.pasts.append(machine.boots[0].past)
            machine.boots.append(boot)
        if stage is Stage.FETCH and boot.stage in _HAS_ROOT:
            return machine
        newest = boot.steps[-1] if boot.steps else None
        if newest is not None and newest.stage is stage:
            newest.last_s = now_s
            newest.detail = detail
            newest.bytes_sent += bytes_sent
            newest.took_s += took_s
            newest.resent += resent
        else:
            boot.steps.append(Step(stage, now_s, now_s, detail, bytes_sent, took_s, resent))
            self._entered(boot, boot.steps[-1])
            # A machine that fails again and again must not fill the memory with one boot.
            del boot.steps[1:-199]
        return machine

    def joins(self, name: str, stage: Stage, detail: str, at_s: float, began_s: float) -> Machine | None:
        """Take in what happened to the join of a boot whose menu was made `began_s`, unless another has begun since.

        What a controller saw may be told late.
        """
        machine = self.get(name)
        boot = machine.boots[-1] if machine is not None and machine.boots else None
        if boot is not None and boot.steps[0].stage is Stage.DISCOVER and boot.started_s > began_s:
            return None
        return self.record(name, stage, detail, at_s)

    def note(self, name: str, text: str, now_s: float) -> None:
        """Keep with its newest boot what a machine's log says is wrong."""
        machine = self.get(name)
        if machine is not None and machine.boots:
            boot = machine.boots[-1]
            boot.notes.append(Note(now_s, text))
            self._machine(name, boot.stage or Stage.MENU)  # something happened to it

    def keep_report(self, name: str, text: str) -> None:
        """Keep the machine's own account of what it became, with its newest boot."""
        machine = self.get(name)
        if machine is not None and machine.boots:
            machine.boots[-1].report = text[:MAX_REPORT]
