"""Leases that several servers share: what one of them knows of the API that keeps them, and what it may promise. Pure.

There is at most one object for an address, and it is changed only by who names the version that he replaces. An
address of a pool is told to be a client's when

- the API has it as this client's, for at least as long as the client is told, or
- the API cannot be asked, and had it as this client's until a time (`Entry.until`) that the client is not told past.

`until` is later than the lease by as long again, and never made earlier for the same client. Nobody else gets the
address before it (and `SKEW_S`, by which clocks may differ) is over, whatever the client, a release or a declined
offer says. So a server that is cut off can go on renewing what it knows, and none of the others gives that away.

Nothing here is sent: each call returns what is to be done.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import islice

from dhcp.leases import NEVER, Lease, Leases, State
from dhcp.shared_acts import Act, Ask, Deny, Go, Keep, Lost, Ticket, Why
from dhcp.shared_wire import Done, Entry, Outcome, Refused, Remove, Unknown, Wish, Write

LEAD_S = 3600
"""An address is kept for its client for at least so long after its lease."""
SKEW_S = 120
"""By how much the clocks of two servers may differ."""
LATE_S = 10
"""An answer that has waited for so long does not leave: its lease would end later than was written."""
SHORTEST_S = 60
"""Nobody is told of a lease that ends sooner, while the API is away."""
KEPT_S = 86400
"""So long after nobody may have it any more an object is left alone, for who looks at it, before it is tidied away."""
MOST_ASKED = 4096
"""Addresses that the API is asked about at once; past this, requests are refused (clients repeat them)."""
MOST_PUSHED = 64
"""Of these, at most so many that no client waits for."""
_TRIES = 4
_LOOKED_AT = 200
"""Entries looked at in one `expire`, whether they are old."""


@dataclass(slots=True)
class _Asked:
    """What the API was asked of one address."""

    write: Write
    tickets: list[Ticket]
    tries: int
    then: Lease | None = None
    """What is wanted once that is answered."""
    then_tickets: list[Ticket] = field(default_factory=list)


class Book:
    """What the API has, as far as we know; `leases` are what we act on, and follow it."""

    def __init__(self, leases: Leases, pooled: Callable[[IPv4Address], bool]) -> None:
        """Begin out of touch with the API, with what was kept from before. `pooled`: whether an address is shared."""
        self._leases = leases
        self._pooled = pooled
        self._entries: dict[int, Entry] = {
            int(lease.address): Entry(lease, lease.expires) for lease in leases if lease.state is State.BOUND
        }
        self._listed: dict[int, Entry] | None = None
        """What the list that is coming in has so far."""
        self._asked: dict[int, _Asked] = {}
        self._began: dict[Ticket, float] = {}
        """Since when they wait."""
        self._unsettled: dict[int, None] = {}
        """Addresses of which our record and the API's may differ."""
        self._pushes: dict[int, None] = {}
        """Those of which ours is what the API should have."""
        self._told: dict[int, str] = {}
        """Addresses that were changed here while the API was away, by the client that was told so."""
        self._synced = False
        self._settling = False
        self._cursor: Iterator[Entry] = iter(())
        self.lost = 0
        """How many clients had an address that somebody else had been given: a bug, or clocks that are wrong."""
        self.taken = 0
        """How many addresses somebody else was quicker to get."""

    @property
    def away(self) -> bool:
        """Whether the API cannot be asked now."""
        return not self._synced

    @property
    def busy(self) -> bool:
        """Whether `expire` has more to do at once."""
        return self._settling

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def untold(self) -> int:
        """How many addresses were changed here while the API was away, and it does not know yet."""
        return len(self._told)

    def free_at(self, address: int, client: str, now: float) -> float:
        """When `client` could have `address`, as far as other servers are concerned."""
        entry = self._entries.get(address)
        if not self._synced:
            known = entry is not None and entry.lease.client == client and entry.until > now + SHORTEST_S
            return float("-inf") if known else float("inf")
        if entry is None or entry.lease.client == client:
            return float("-inf")
        return entry.until + SKEW_S

    def latest(self, address: int, client: str, now: float) -> float | None:
        """Until when at most `client` may be told that it has `address`; None: as long as we like."""
        if self._synced or not self._pooled(IPv4Address(address)):
            return None
        entry = self._entries.get(address)
        return entry.until if entry is not None and entry.lease.client == client else now

    def shift(self, by_s: int) -> None:
        """Our clock was set, by so much: the API cannot be asked until it was listed again.

        What it had ends at a time of the clock as it was, if that was right, and as it is, if that is right: the
        earlier one counts. A clock that was set back would otherwise let us promise what another gives away.
        """
        self.away_now()
        if by_s < 0:
            self._entries = {number: _earlier(entry, by_s) for number, entry in self._entries.items()}

    def put(self, lease: Lease, ticket: Ticket, now: float) -> list[Act]:
        """Have a lease kept; `Go` or `Deny` follows, now or after an answer."""
        number = int(lease.address)
        if not self._pooled(lease.address):
            return [Go(ticket, lease)]
        self._began[ticket] = now
        asked = self._asked.get(number)
        if asked is None:
            return self._want(lease, [ticket], now)
        if asked.write.entry.lease == lease and asked.then is None:
            asked.tickets.append(ticket)
            return []
        denied: list[Act] = []
        if asked.then is not None and not (asked.then.client == lease.client and _covers(lease, asked.then)):
            same = asked.then.client == lease.client
            denied = self._deny(asked.then_tickets, Why.CHANGED if same else Why.TAKEN)
            asked.then_tickets = []
        asked.then = lease
        asked.then_tickets.append(ticket)
        return denied

    def answered(self, wish: Wish, outcome: Outcome, now: float) -> list[Act]:
        """Take what the API said, or that it said nothing."""
        if isinstance(wish, Remove):
            if isinstance(outcome, Done):
                self._forget(int(wish.address), wish.version)
            return []
        number = int(wish.address)
        asked = self._asked.get(number)
        if asked is None or asked.write != wish:
            return []
        del self._asked[number]
        acts = self._judge(asked, outcome, now)
        if asked.then is not None and (again := self._asked.get(number)) is not None:
            again.then, again.then_tickets = asked.then, asked.then_tickets
        elif asked.then is not None:
            acts += self._want(asked.then, asked.then_tickets, now)
        return acts

    def _judge(self, asked: _Asked, outcome: Outcome, now: float) -> list[Act]:
        lease, number = asked.write.entry.lease, int(asked.write.address)
        named = asked.write.replaces
        match outcome:
            case Done(entry):
                if entry is not None:
                    self._learn(entry, named)
                self._told.pop(number, None)
                return [*self._go(lease, asked.tickets, now), *self._settle(number, now)]
            case Refused(current):
                if current is None:
                    self._entries.pop(number, None)
                else:
                    self._learn(current, named)
                if lease.state is State.RELEASED or asked.tries >= _TRIES:
                    self._told.pop(number, None)
                    return [*self._deny(asked.tickets, Why.TAKEN), *self._settle(number, now)]
                return self._want(lease, asked.tickets, now, asked.tries + 1)
            case Unknown():
                self.away_now()
                self._unsettled[number] = None
                return self._offline(lease, asked.tickets, now)

    def begin_list(self) -> None:
        """A list of all entries begins. What is known stands until it is over."""
        self._listed = {}
        self.away_now()

    def list_over(self) -> None:
        """The list is whole. `expire` compares it with what we have, and then the API may be asked."""
        if self._listed is None:
            return
        self._unsettled = dict.fromkeys(self._entries) | dict.fromkeys(self._listed) | self._unsettled
        self._unsettled |= dict.fromkeys(int(lease.address) for lease in self._leases)
        self._entries, self._listed = self._listed, None
        self._settling = True

    def away_now(self) -> None:
        """The API cannot be asked until another list is over."""
        self._synced = self._settling = False

    def changed(self, entry: Entry, now: float) -> list[Act]:
        """Take an entry of the list, or one that has changed."""
        number = int(entry.lease.address)
        if self._listed is not None:
            if number not in self._listed or not _is_newer(self._listed[number].version, entry.version):
                self._listed[number] = entry
            return []
        if not self._learn(entry) or number in self._asked:
            return []
        return self._settle(number, now)

    def gone(self, address: IPv4Address, version: str, now: float) -> list[Act]:
        """The API has nothing of `address` any more."""
        number = int(address)
        if self._listed is not None:
            self._listed.pop(number, None)
            return []
        self._forget(number, version)
        return [] if number in self._asked else self._settle(number, now)

    def expire(self, now: float, most: int = 500) -> list[Act]:
        """Go on with what nobody waits for, a part at a time: compare, write up, tidy away. Due every second, and at
        once while `busy`."""
        acts: list[Act] = []
        if not (self._settling or self._synced):
            return acts
        for number in list(islice(self._unsettled, most)):
            del self._unsettled[number]
            if number not in self._asked:
                acts += self._settle(number, now)
        if self._unsettled:
            return acts
        if self._settling:
            self._settling, self._synced = False, True
        for number in list(islice(self._pushes, max(0, MOST_PUSHED - len(self._asked)))):
            del self._pushes[number]
            lease = self._leases.record(IPv4Address(number))
            if lease is not None and number not in self._asked:
                acts += self._want(lease, [], now)
        return acts + self._tidied(now)

    def _want(self, lease: Lease, tickets: list[Ticket], now: float, tries: int = 0) -> list[Act]:
        """Have the API keep a lease, if it does not yet."""
        number = int(lease.address)
        entry = self._entries.get(number)
        mine = entry is not None and entry.lease.client == lease.client
        if entry is not None and mine and _covers(entry.lease, lease):
            if self._synced:
                self._told.pop(number, None)
            return self._go(lease, tickets, now) if tickets or not self._synced else self._settle(number, now)
        if not self._synced:
            return self._offline(lease, tickets, now)
        if entry is not None and not mine and entry.until + SKEW_S > now:
            self.taken += 1
            return [*self._deny(tickets, Why.TAKEN), *self._settle(number, now)]
        if entry is None and lease.state is State.RELEASED:
            return self._go(lease, tickets, now)
        if tickets and len(self._asked) >= MOST_ASKED:
            return self._deny(tickets, Why.BUSY)
        until = _until(lease, now)
        if entry is not None and mine:
            until = max(until, entry.until)
        write = Write(Entry(lease, until), entry.version if entry is not None else "")
        self._asked[number] = _Asked(write, tickets, tries)
        return [Ask(write)]

    def _offline(self, lease: Lease, tickets: list[Ticket], now: float) -> list[Act]:
        """Keep what needs no asking, and write it up later."""
        number = int(lease.address)
        entry = self._entries.get(number)
        if lease.state is State.BOUND:
            mine = entry is not None and entry.lease.client == lease.client
            if entry is None or not mine or not now < lease.expires <= entry.until:
                return self._deny(tickets, Why.AWAY)
        self._told[number] = lease.client
        self._unsettled[number] = None
        return self._go(lease, tickets, now)

    def _settle(self, number: int, now: float) -> list[Act]:
        """Compare our record of an address with the API's: one of the two follows the other."""
        lease, entry = self._leases.record(IPv4Address(number)), self._entries.get(number)
        if entry is None:
            self._told.pop(number, None)
            if lease is None or not lease.holds(now) or not self._pooled(lease.address):
                return []
            if lease.state is State.DECLINED and lease.expires == NEVER:  # an object that nobody could read is gone
                freed = replace(lease, expires=int(now), state=State.RELEASED)
                self._leases.remember(freed)
                return [Keep(freed)]
            self._pushes[number] = None
            return []
        if lease == entry.lease:
            self._told.pop(number, None)
            return []
        told = lease is not None and self._told.get(number) == lease.client
        if lease is not None and self._is_later(lease, entry, now, told=told):
            self._pushes[number] = None
            return []
        self._told.pop(number, None)
        acts: list[Act] = []
        if lease is not None and told and lease.client != entry.lease.client and lease.holds(now):
            self.lost += lease.state is State.BOUND
            acts += [Lost(lease, entry.lease)] if lease.state is State.BOUND else []
        self._leases.remember(entry.lease)
        return [*acts, Keep(entry.lease)]

    def _is_later(self, lease: Lease, entry: Entry, now: float, *, told: bool) -> bool:
        """Whether our record is what the API should have."""
        if lease.client != entry.lease.client:
            return lease.holds(now) and entry.until + SKEW_S <= now
        if _covers(entry.lease, lease):  # another server was asked too, and was later
            return False
        return told or (
            lease.state is entry.lease.state is State.BOUND
            and lease.expires > entry.lease.expires
            and lease.holds(now)
        )

    def _learn(self, entry: Entry, named: str | None = None) -> bool:
        """Take what the API has, unless we know of something newer.

        `named` is the version that we asked it to replace. What it answers to that comes after it, though its number
        be lower: that of an API that was put back to an earlier state.
        """
        number = int(entry.lease.address)
        known = self._entries.get(number)
        if known is not None and known.version != named and _is_newer(known.version, entry.version):
            return False
        self._entries[number] = entry
        if self._listed is not None:
            self._listed[number] = entry
        return True

    def _forget(self, number: int, version: str) -> None:
        known = self._entries.get(number)
        if known is not None and not _is_newer(known.version, version):
            del self._entries[number]

    def _go(self, lease: Lease, tickets: list[Ticket], now: float) -> list[Act]:
        """Let answers leave, but none that tells of a lease as if it began only now."""
        return [
            Go(ticket, lease) if now <= self._began.pop(ticket, now) + LATE_S else Deny(ticket, Why.AWAY)
            for ticket in tickets
        ]

    def _deny(self, tickets: list[Ticket], why: Why) -> list[Act]:
        for ticket in tickets:
            self._began.pop(ticket, None)
        return [Deny(ticket, why) for ticket in tickets]

    def _tidied(self, now: float) -> list[Act]:
        """Delete one object that is of no use any more."""
        looked_at = 0
        for entry in islice(self._cursor, _LOOKED_AT):
            looked_at += 1
            number = int(entry.lease.address)
            if entry.until + KEPT_S <= now and self._entries.get(number) is entry and number not in self._asked:
                return [Ask(Remove(entry.lease.address, entry.version))]
        if looked_at < _LOOKED_AT:
            self._cursor = iter(tuple(self._entries.values()))
        return []


def _until(lease: Lease, now: float) -> int:
    """Until when nobody else may have the address of a lease that is told now."""
    if lease.expires == NEVER or lease.state is not State.BOUND:
        return lease.expires
    return lease.expires + max(LEAD_S, lease.expires - int(now))


def _earlier(entry: Entry, by_s: int) -> Entry:
    lease = entry.lease
    if lease.expires != NEVER:
        lease = replace(lease, expires=lease.expires + by_s)
    return replace(entry, lease=lease, until=entry.until if entry.until == NEVER else entry.until + by_s)


def _covers(kept: Lease, lease: Lease) -> bool:
    """Whether who has `kept` of a client needs not ask for `lease` of the same."""
    return kept == lease or (kept.state is lease.state is State.BOUND and kept.expires >= lease.expires)


def _is_newer(version: str, other: str) -> bool:
    """Whether `version` is known to be later than `other`: both begin with a number as far as anybody has seen."""
    number, number_of_other = version.partition(".")[0], other.partition(".")[0]
    return number.isdecimal() and number_of_other.isdecimal() and int(number) > int(number_of_other)
