"""Who may download a root image now, and who waits how long for a turn. Pure: the time is an argument, in seconds.

A slot is one download of a root image; there are only so many. Machines get them in the order in which they first
asked. A machine that must wait is told when to ask again, and a slot that becomes free is kept for it until then and
a moment longer, so that no machine that does as it is told is overtaken; a machine that died blocks nobody.

Of a subnet only so many may download at once. When they do, its next machines stand aside, and others go before them.
"""

import math
from bisect import bisect_left, insort
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv4Network

LEAST_S = 1
"""The shortest time after which a machine is to ask again."""
MOST_S = 30
"""The longest."""
SPREAD_S = 8
"""Those that wait longest are spread over so many seconds, so that they do not come back all at once."""
GRACE_S = 5.0
"""How much later than told a machine may come and still find its slot kept."""
FORGET_S = 180.0
"""How long the place of a machine is remembered that does not ask any more."""
MAX_WAITING = 8192
"""Machines that wait; the one that was silent longest is forgotten when there are more."""
SLOTS_OF_ONE = 2
"""Slots of one machine while others wait. The second is for one that lost its first connection without knowing."""
RESUMED_IN_A_ROW = 3
"""After so many broken downloads that went on before others that have not begun, one of those begins."""
TYPICAL_S = 10.0
"""How long a download is thought to take before the first has ended."""
CRAWLING = 4
"""At most one slot of so many, and at least one, is another's because its download hardly moves."""
SAMPLE_BYTES = 1 << 20
"""Shorter downloads say nothing about how long one takes."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The download may begin; whoever asked says `Admission.end` of `turn` when it is over."""

    turn: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again in `retry_after_s` seconds. `place` is how many have their turn before."""

    retry_after_s: int
    place: int
    is_first: bool
    """Whether this machine had not been told to wait before."""


@dataclass(slots=True)
class _Slot:
    """A download that runs."""

    machine: IPv4Address
    size_bytes: int
    began_s: float


@dataclass(slots=True, eq=False)
class _Waiting:
    """A machine that was told to wait. Its ticket is its place for ever, a smaller one is earlier."""

    ticket: int
    resumes: bool
    subnet: IPv4Network | None = None
    """It stands aside because so many of this subnet download already."""
    due_s: float = 0.0
    is_expected: bool = False
    """Whether it still may come in time: then it stands in the queue, and a slot is kept for it."""
    is_watched: bool = False
    """Whether the time at which it is not expected any more is noted."""


@dataclass(slots=True)
class _Queues:
    """The tickets of the machines that are expected: those that go on with a broken download, and the others.

    Of each `RESUMED_IN_A_ROW` + 1 turns one belongs to those that have not begun, so that they do not starve.
    """

    resuming: list[int] = field(default_factory=list)
    beginning: list[int] = field(default_factory=list)
    in_a_row: int = 0
    """How many that resumed went before one that begins."""
    aside: defaultdict[IPv4Network, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Those for whose subnet there is no room; nobody waits for them."""

    def __len__(self) -> int:
        return len(self.resuming) + len(self.beginning)

    @property
    def all(self) -> int:
        """How many are expected, those that stand aside too."""
        return len(self) + sum(map(len, self.aside.values()))

    def add(self, waiting: _Waiting) -> None:
        insort(self._of(waiting), waiting.ticket)
        waiting.is_expected = True

    def remove(self, waiting: _Waiting) -> None:
        tickets = self._of(waiting)
        del tickets[bisect_left(tickets, waiting.ticket)]
        waiting.is_expected = False

    def place(self, waiting: _Waiting) -> int:
        """Return how many have their turn before `waiting`.

        Turns go R R R B R R R B ..., of which `in_a_row` R are gone.
        """
        behind = bisect_left(self._of(waiting), waiting.ticket)
        if waiting.subnet is not None:
            return behind
        if waiting.resumes:
            return behind + min(len(self.beginning), (self.in_a_row + behind) // RESUMED_IN_A_ROW)
        return behind + min(len(self.resuming), RESUMED_IN_A_ROW * (behind + 1) - self.in_a_row)

    def took_its_turn(self, waiting: _Waiting) -> None:
        """Remove one that was admitted."""
        self.remove(waiting)
        overtook = waiting.resumes and bool(self.beginning)
        self.in_a_row = min(self.in_a_row + 1, RESUMED_IN_A_ROW) if overtook else 0

    def _of(self, waiting: _Waiting) -> list[int]:
        if waiting.subnet is not None:
            return self.aside[waiting.subnet]
        return self.resuming if waiting.resumes else self.beginning


class Admission:
    """Hands out `downloads` slots, first come, first served; `subnets` says how many a subnet has at most."""

    def __init__(self, downloads: int, subnets: Mapping[IPv4Network, int] | None = None) -> None:
        """Start with every slot free."""
        self._downloads = downloads
        self._subnets = subnets or {}
        self._numbers = 0
        self._slots: dict[int, _Slot] = {}
        self._crawling: set[int] = set()
        self._held: Counter[IPv4Address] = Counter()
        self._held_in: Counter[IPv4Network] = Counter()
        self._waiting: OrderedDict[IPv4Address, _Waiting] = OrderedDict()
        self._queues = _Queues()
        self._lapses: list[tuple[float, int, _Waiting]] = []
        self._s_per_byte: float | None = None

    def limit(self, downloads: int, subnets: Mapping[IPv4Network, int]) -> None:
        """Have other limits from now on. What runs goes on, though it be more; nobody loses his place."""
        self._downloads, self._subnets = downloads, subnets
        self._held_in = Counter(subnet for slot in self._slots.values() for subnet in self._subnets_of(slot.machine))

    @property
    def running(self) -> int:
        """How many slots are taken by downloads that run."""
        return len(self._slots) - len(self._crawling)

    @property
    def crawling(self) -> int:
        """How many more hardly move, so that their slots are others'."""
        return len(self._crawling)

    @property
    def waiting(self) -> int:
        """How many machines are expected to ask again."""
        return self._queues.all

    def ask(self, machine: IPv4Address, size_bytes: int, now: float, *, resumes: bool = False) -> Admitted | Wait:
        """Let `machine` begin to download `size_bytes`, or tell it to wait.

        `resumes` says that it has the beginning already. Nobody waits while there is room for all who are expected.
        """
        self._lapse(now)
        free = self._downloads - self.running
        if self._held[machine] >= SLOTS_OF_ONE:  # it comes after all others, and no slot is kept for it
            place = len(self._queues)
            if place >= free or self._full_for(machine, self._numbers + 1) is not None:
                return Wait(self._retry_after(place, now), place, False)
            return self._admit(machine, size_bytes, now)
        is_first = machine not in self._waiting
        waiting = self._queue(machine, resumes)
        place = self._queues.place(waiting)
        if place >= free or waiting.subnet is not None:
            return self._wait(machine, waiting, place, is_first, now)
        self._queues.took_its_turn(waiting)
        del self._waiting[machine]
        return self._admit(machine, size_bytes, now)

    def end(self, turn: int, sent_bytes: int, now: float) -> None:
        """A download is over, after `sent_bytes`."""
        slot = self._slots.pop(turn)
        self._crawling.discard(turn)
        self._held_in.subtract(self._subnets_of(slot.machine))
        self._held[slot.machine] -= 1
        if not self._held[slot.machine]:
            del self._held[slot.machine]
        if sent_bytes >= SAMPLE_BYTES:
            sample = (now - slot.began_s) / sent_bytes
            self._s_per_byte = (
                sample if self._s_per_byte is None else self._s_per_byte + (sample - self._s_per_byte) / 8
            )

    def crawl(self, turns: Sequence[int]) -> None:
        """Of the downloads only `turns` hardly move: they go on, and the slots of some are others' until they move.

        When they do there may be fewer slots than downloads for a while: then nobody is admitted.
        """
        others = self._crawling.intersection(turns)
        most = max(1, self._downloads // CRAWLING)
        others.update([turn for turn in turns if turn not in others][: most - len(others)])
        self._crawling = others

    def _admit(self, machine: IPv4Address, size_bytes: int, now: float) -> Admitted:
        turn = self._number()
        self._slots[turn] = _Slot(machine, size_bytes, now)
        self._held[machine] += 1
        self._held_in.update(self._subnets_of(machine))
        return Admitted(turn)

    def _queue(self, machine: IPv4Address, resumes: bool) -> _Waiting:
        """Return the place of a machine that asks: the one that it has, or the last."""
        waiting = self._waiting.get(machine)
        if waiting is None:
            waiting = self._waiting[machine] = _Waiting(self._number(), resumes)
        subnet = self._full_for(machine, waiting.ticket)
        if waiting.is_expected and (waiting.resumes, waiting.subnet) == (resumes, subnet):
            return waiting
        if waiting.is_expected:
            self._queues.remove(waiting)
        waiting.resumes, waiting.subnet = resumes, subnet
        self._queues.add(waiting)
        return waiting

    def _full_for(self, machine: IPv4Address, ticket: int) -> IPv4Network | None:
        """Return a subnet of `machine` that has no room for it, or only for those of it that came earlier."""
        for subnet in self._subnets_of(machine):
            if bisect_left(self._queues.aside[subnet], ticket) >= self._subnets[subnet] - self._held_in[subnet]:
                return subnet
        return None

    def _subnets_of(self, machine: IPv4Address) -> list[IPv4Network]:
        return [subnet for subnet in self._subnets if machine in subnet]

    def _wait(self, machine: IPv4Address, waiting: _Waiting, place: int, is_first: bool, now: float) -> Wait:
        aside = waiting.subnet is not None
        retry_after_s = MOST_S - place % SPREAD_S if aside else self._retry_after(place, now)
        waiting.due_s = now + retry_after_s
        self._watch(waiting)
        self._waiting.move_to_end(machine)
        if len(self._waiting) > MAX_WAITING:
            self._forget(next(iter(self._waiting)))
        return Wait(retry_after_s, place, is_first)

    def _watch(self, waiting: _Waiting) -> None:
        """Note when `waiting` is not expected any more. One note each, so that asking in haste costs no memory."""
        if not waiting.is_watched:
            waiting.is_watched = True
            heappush(self._lapses, (waiting.due_s + GRACE_S, waiting.ticket, waiting))

    def _lapse(self, now: float) -> None:
        """Keep no slot for those that did not come, and forget them after a while."""
        while self._lapses and self._lapses[0][0] < now:
            _, _, waiting = heappop(self._lapses)
            waiting.is_watched = False
            if not waiting.is_expected:
                continue
            if waiting.due_s + GRACE_S < now:
                self._queues.remove(waiting)
            else:
                self._watch(waiting)
        while self._waiting:
            machine, waiting = next(iter(self._waiting.items()))
            if waiting.is_expected or waiting.due_s + FORGET_S > now:
                break
            del self._waiting[machine]

    def _forget(self, machine: IPv4Address) -> None:
        waiting = self._waiting.pop(machine, None)
        if waiting is not None and waiting.is_expected:
            self._queues.remove(waiting)

    def _retry_after(self, place: int, now: float) -> int:
        """Return when to ask again: half the time until the turn, which is but a guess."""
        until_s = self._until_turn(max(0, place - (self._downloads - self.running)), now)
        if until_s >= 2 * MOST_S:
            return MOST_S - place % SPREAD_S
        return max(LEAST_S, math.ceil(until_s / 2))

    def _until_turn(self, ends: int, now: float) -> float:
        """Return the time until so many downloads and one more will probably have ended."""
        if not self.running:
            return TYPICAL_S
        left = sorted(self._left(slot, now) for turn, slot in self._slots.items() if turn not in self._crawling)
        rounds, index = divmod(ends, len(left))
        return left[index] + rounds * sum(map(self._takes, self._slots.values())) / len(self._slots)

    def _takes(self, slot: _Slot) -> float:
        """Return how long a download probably takes."""
        return TYPICAL_S if self._s_per_byte is None else slot.size_bytes * self._s_per_byte

    def _left(self, slot: _Slot, now: float) -> float:
        """Return how long a download probably still takes; one that is late by much will be late by more."""
        age = now - slot.began_s
        left = self._takes(slot) - age
        return left if left > 0 else age / 8

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers
