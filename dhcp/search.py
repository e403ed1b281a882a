"""Which address of a pool is free next, without looking at each of them for every packet. Pure.

A pool of 60,000 addresses of which one is free must not cost 60,000 steps for each of the made-up MACs that somebody
sends. Addresses never used are found by links that skip those that are (nobody's record is ever forgotten, so links
only grow); all others wait in queues ordered by the time at which they may be free.
"""

from collections.abc import Callable, Container, Iterable
from heapq import heapify, heappop, heappush
from math import inf

from dhcp.plan import DynamicPool

FreeAt = Callable[[int], float]
"""When anybody could have an address; not later than now if it is free."""


_FEW = 64


class Queue:
    """Addresses by the earliest time at which they may be free."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._keys: dict[int, float] = {}
        self.steps = 0
        """How many entries were looked at so far."""

    def put(self, address: int, not_before: float) -> None:
        """Add an address, or let it be looked at earlier than thought; a later time is found out when it comes."""
        if not_before < self._keys.get(address, inf):
            self._keys[address] = not_before
            heappush(self._heap, (not_before, address))
            if len(self._heap) > 2 * len(self._keys) + _FEW:  # earlier entries of the same addresses
                self._heap = [(key, address) for address, key in self._keys.items()]
                heapify(self._heap)

    def __contains__(self, address: int) -> bool:
        return address in self._keys

    def __len__(self) -> int:
        """How many entries it has, those that are out of date too."""
        return len(self._heap)

    def drop(self, address: int) -> None:
        """Take an address out."""
        self._keys.pop(address, None)

    def first(self, free_at: FreeAt, own: Container[int], now: float) -> int | None:
        """Return the address that is free for the longest time, and leave it here; None if there is none."""
        aside: list[tuple[float, int]] = []
        found = None
        while self._heap and self._heap[0][0] <= now:
            self.steps += 1
            key, address = heappop(self._heap)
            if self._keys.get(address) != key:
                continue
            later = free_at(address)
            if later > now:
                self._keys[address] = later
                heappush(self._heap, (later, address))
                continue
            aside.append((key, address))
            if address not in own:
                found = address
                break
        for entry in aside:
            heappush(self._heap, entry)
        return found


class Search:
    """What is known about one pool."""

    def __init__(self, pool: DynamicPool) -> None:
        self._pool = pool
        self._next: dict[int, int] = {}
        """Address that is no candidate → one behind it, all between them being none either."""
        self._unused = Queue()
        """Addresses that nobody ever had, and that were on offer (or our own) when a search met them."""
        self._used: Queue | None = None
        """Addresses with a record; None until one of them is needed, since there are others for long."""
        self._steps = 0

    @property
    def steps(self) -> int:
        """How many addresses were looked at so far; what a search costs."""
        return self._steps + self._unused.steps + (0 if self._used is None else self._used.steps)

    def remember(self, address: int, expires: float) -> None:
        """Take note of a record, and of each change that may free its address earlier."""
        self._unused.drop(address)
        if self._used is not None and self._has(address):
            self._used.put(address, expires)

    def freed(self, address: int) -> None:
        """Take note that an offer ended before its time."""
        for queue in (self._unused, self._used):
            if queue is not None and address in queue:
                queue.put(address, -inf)

    def never_used(
        self, start: int, used: Container[int], free_at: FreeAt, own: Container[int], now: float
    ) -> int | None:
        """Return an address that nobody ever had, the first free one from `start` on, or None."""
        pool = self._pool
        for begin in (start, pool.first):
            while (number := self._candidate(begin, used)) <= pool.last:
                later = free_at(number)
                if later <= now and number not in own:
                    return number
                self._next[number] = number + 1
                self._unused.put(number, max(later, now))
        return self._unused.first(free_at, own, now)

    def free_longest(
        self, records: Iterable[tuple[int, float]], free_at: FreeAt, own: Container[int], now: float
    ) -> int | None:
        """Return an address that somebody had and that is free, for the longest time, or None.

        `records` are all addresses with a record, and when they expire, as `remember` was told; asked for once.
        """
        if self._used is None:
            self._used = Queue()
            for address, expires in records:
                if self._has(address):
                    self._used.put(address, expires)
        return self._used.first(free_at, own, now)

    def _has(self, address: int) -> bool:
        return self._pool.first <= address <= self._pool.last and address not in self._pool.excluded

    def _candidate(self, number: int, used: Container[int]) -> int:
        """Return the first address from `number` on that is a candidate, or the one behind the pool."""
        passed = []
        while number <= self._pool.last:
            self._steps += 1
            if number not in self._next:
                if number not in used and number not in self._pool.excluded:
                    break
                self._next[number] = number + 1
            passed.append(number)
            number = self._next[number]
        for earlier in passed:
            self._next[earlier] = number
        return number
