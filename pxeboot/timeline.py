"""Who is booting, and how far: events in, state out. Pure.

Everything a person sees of a boot (table, page, JSON, log) is drawn from here.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from config.events import Stage

ORDER = list(Stage)
MAX_MACHINES = 20_000
KEPT_BOOTS = 3
MAX_REPORT = 64 * 1024
_HAS_ROOT = frozenset(ORDER[ORDER.index(Stage.ROOT) :]) - {Stage.FAILED, Stage.REFUSED}
_NO_PROGRESS = frozenset((Stage.FAILED, Stage.REFUSED))
_ASKING = frozenset((Stage.DISCOVER, Stage.ADDRESS, Stage.FAILED))
"""What a made-up card gets to: where others give out the addresses, a DHCPREQUEST is enough for `ADDRESS`."""


@dataclass(slots=True)
class Step:
    """One stage of a boot. What is said again of the same stage is kept as the newest detail."""

    stage: Stage
    first_s: float
    last_s: float
    detail: str
    bytes_sent: int = 0


@dataclass(slots=True)
class Boot:
    """One boot of one machine, from the firmware's first question on."""

    started_s: float
    steps: list[Step] = field(default_factory=list)
    report: str = ""
    """The machine's own account, sent once its system was up."""

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


@dataclass(slots=True)
class Machine:
    """One machine that we have heard of."""

    name: str
    mac: str = ""
    ip: str = ""
    pool: str = ""
    boots: deque[Boot] = field(default_factory=lambda: deque(maxlen=KEPT_BOOTS))


class Timeline:
    """All machines, by name. The one that was silent longest is forgotten when there are too many.

    Machines that did nothing but ask for an address, or take one, are forgotten before all others: anybody can make
    them up by the thousand, and those that boot must stay to be seen.
    """

    def __init__(self) -> None:
        """Start with no machine."""
        self._machines: OrderedDict[str, Machine] = OrderedDict()
        self._asking: OrderedDict[str, Machine] = OrderedDict()

    def __iter__(self) -> Iterator[Machine]:
        everyone = (*self._machines.values(), *self._asking.values())
        return iter(sorted(everyone, key=lambda machine: machine.name))

    def __len__(self) -> int:
        return len(self._machines) + len(self._asking)

    def get(self, name: str) -> Machine | None:
        """Return the machine of this name, if we have heard of it."""
        return self._machines.get(name) or self._asking.get(name)

    def _machine(self, name: str, stage: Stage) -> Machine:
        """Return the machine of this name, new if we had not heard of it; it counts as heard of now."""
        machine = self._machines.pop(name, None)
        only_asks = machine is None and stage in _ASKING
        machine = machine or self._asking.pop(name, None) or Machine(name)
        (self._asking if only_asks else self._machines)[name] = machine
        if len(self) > MAX_MACHINES:
            (self._asking or self._machines).popitem(last=False)
        return machine

    def record(self, name: str, stage: Stage, detail: str, now_s: float, bytes_sent: int = 0) -> Machine:
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
            machine.boots.append(boot)
        if stage is Stage.FETCH and boot.stage in _HAS_ROOT:
            return machine
        newest = boot.steps[-1] if boot.steps else None
        if newest is not None and newest.stage is stage:
            newest.last_s = now_s
            newest.detail = detail
            newest.bytes_sent += bytes_sent
        else:
            boot.steps.append(Step(stage, now_s, now_s, detail, bytes_sent))
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

    def keep_report(self, name: str, text: str) -> None:
        """Keep the machine's own account of what it became, with its newest boot."""
        machine = self.get(name)
        if machine is not None and machine.boots:
            machine.boots[-1].report = text[:MAX_REPORT]
