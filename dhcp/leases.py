"""Which dynamic address belongs to whom until when. Pure: `now` is an argument, in seconds since 1970.

There is at most one record for an address, and nobody but its MAC gets the address while it lasts. Static leases
are not here: they are a function of the configuration, and their addresses are excluded from every pool.
"""

import math
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Protocol
from zlib import crc32

from config.dhcp import INFINITE_S
from dhcp.plan import DynamicPool
from dhcp.search import Search

OFFER_HOLD_S = 60
"""How long an offered address waits for its REQUEST unless told otherwise; clients repeat for up to 32 s."""
QUARANTINE_S = 86400
"""How long an address that is in use already (DHCPDECLINE, ARP) is given to nobody unless told otherwise."""
MOST_QUARANTINES_A_MINUTE = 10
"""A client that declines everything must not be able to empty the pool."""
SOMEBODY = "somebody"
"""The client of an address that was found in use, we do not know by whom."""
MOST_OF_A_CLIENT = 16
"""Addresses that are found by who has, or had, them. One that takes and releases a whole pool has more records, and
must not make each of its messages as dear as them all."""
MOST_RECORDS = 131072
"""Addresses remembered in all pools together. A pool may be larger; it then counts as empty at this point."""
MOST_OFFERS = 65536
"""Addresses on offer at once to machines that have none; some 30 MB. In a larger pool they could otherwise be as many
as somebody can make up MACs in `offer_hold_s`."""
NEVER = 1 << 48
"""The expiry of an infinite lease: later than any time that is ever told."""
_FULL_LEASE_SHARE = 0.75
"""With this much of a lease left, a renewal changes nothing, so that it needs no write to disk."""


class State(StrEnum):
    """What a record says about its address."""

    BOUND = "bound"
    RELEASED = "released"
    DECLINED = "declined"


@dataclass(slots=True, unsafe_hash=True)
class Lease:
    """One record. Past `expires` it only tells who had the address last, so that he gets it again.

    It never changes once it is made. It is not `frozen`, as that takes four times as long.
    """

    address: IPv4Address
    client: str
    """Who has it: its MAC, or `id:` and its client identifier in hex where the configuration asks for that."""
    expires: int
    """Seconds since 1970, or `NEVER`."""
    state: State = State.BOUND
    mac: str = ""
    """Its hardware address; the same as `client` unless given."""

    def __post_init__(self) -> None:
        if not self.mac:
            self.mac = self.client

    def holds(self, now: float) -> bool:
        """Return whether the address is this record's alone: leased, or in quarantine."""
        return self.state is not State.RELEASED and self.expires > now


class Others(Protocol):
    """What other servers may have promised of the same pools (`dhcp.shared.Book`)."""

    @property
    def away(self) -> bool:
        """Whether nobody can be asked now, so that only what is known to be a client's is given, and only to it."""

    def free_at(self, address: int, client: str, now: float) -> float:
        """When `client` could have `address` as far as they are concerned: not later than `now` if it is free."""

    def latest(self, address: int, client: str, now: float) -> float | None:
        """Until when at most `client` may be told that it has `address`; None: as long as we like."""

    def shift(self, by_s: int) -> None:
        """Our clock was set by so much."""


@dataclass(slots=True)
class _Offer:
    client: str
    until: float
    address: IPv4Address


class Leases:
    """All dynamic leases, and the offers that wait for a REQUEST."""

    def __init__(
        self,
        records: Iterable[Lease],
        now: float,
        longest_s: int,
        offer_hold_s: int = OFFER_HOLD_S,
        quarantine_s: int = QUARANTINE_S,
    ) -> None:
        """Take what was stored. No record holds for more than `longest_s` (or a quarantine) from `now`, but for one
        that never ends.

        A clock that was wrong when a record was written can then neither keep its address for ever, nor, since
        addresses never used are given out first, hand it to somebody else at once.
        """
        self.offer_hold_s = offer_hold_s
        self.quarantine_s = quarantine_s
        self.others: Others | None = None
        """Other servers of the same pools; None: there are none."""
        self._records: dict[int, Lease] = {}
        self._of_client: dict[str, tuple[int, ...]] = {}
        self._offers: dict[int, _Offer] = {}
        self._offered_to: dict[str, int] = {}
        self._searches: dict[DynamicPool, Search] = {}
        self._quarantined: deque[float] = deque(maxlen=MOST_QUARANTINES_A_MINUTE)
        for lease in records:
            match lease.state:
                case State.BOUND:
                    latest = NEVER if lease.expires == NEVER else math.ceil(now) + longest_s
                case State.DECLINED:
                    latest = math.ceil(now) + quarantine_s
                case State.RELEASED:
                    latest = math.floor(now)
            self.remember(replace(lease, expires=latest) if lease.expires > latest else lease)

    def __iter__(self) -> Iterator[Lease]:
        """Every record, those past their time too."""
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def record(self, address: IPv4Address) -> Lease | None:
        """Return what is known about an address."""
        return self._records.get(int(address))

    def bound(self, address: IPv4Address, now: float) -> Lease | None:
        """Return the lease that is valid for `address` now."""
        lease = self._records.get(int(address))
        return lease if lease is not None and lease.state is State.BOUND and lease.expires > now else None

    def bound_to(self, client: str, pools: Sequence[DynamicPool], now: float) -> Lease | None:
        """Return the lease that `client` holds in one of `pools` now; of several, the one that lasts longest."""
        held = [
            lease
            for lease in (self._records[address] for address in self._of_client.get(client, ()))
            if lease.state is State.BOUND and lease.expires > now and any(lease.address in pool for pool in pools)
        ]
        return max(held, key=lambda lease: lease.expires, default=None)

    def is_free(self, address: IPv4Address, client: str, now: float) -> bool:
        """Return whether `client` could have `address` now, as far as leases and offers go."""
        return self._free_at(int(address), client, now) <= now

    def offered(self, client: str, now: float) -> IPv4Address | None:
        """Return the address that is on offer to `client`."""
        address = self._offered_to.get(client)
        if address is None or (offer := self._offers[address]).until <= now:
            return None
        return offer.address

    def choose(
        self,
        client: str,
        pools: Sequence[DynamicPool],
        wanted: IPv4Address | None,
        own: Container[int],
        now: float,
    ) -> IPv4Address | None:
        """Return the address that `client` should get, or None if `pools` have none left (RFC 2131 section 4.3.1).

        In this order: the address it has; the one on offer to it; the one it had; the one it asks for; one that
        nobody ever had; one whose lease is over. `own` are our addresses, as numbers; nobody gets them.
        """
        candidates: list[IPv4Address] = []
        offered = self.offered(client, now)
        known = self._of_client.get(client)
        if known and (current := self.bound_to(client, pools, now)) is not None:
            candidates.append(current.address)
        if offered is not None:
            candidates.append(offered)
        if known:
            before = [self._records[address] for address in known]
            candidates += [lease.address for lease in sorted(before, key=lambda lease: lease.expires, reverse=True)]
        if len(self._offers) >= MOST_OFFERS:
            self.expire(now)
        has_room = len(self._offers) < MOST_OFFERS or offered is not None
        if wanted is not None and has_room:
            candidates.append(wanted)
        for address in candidates:
            allowed = any(address in pool for pool in pools) and int(address) not in own
            if allowed and self.is_free(address, client, now):
                return address
        if not has_room or (self.others is not None and self.others.away):
            return None
        for pool in pools:
            if (found := self._search(client, pool, own, now)) is not None:
                return found
        return None

    def offer(self, client: str, address: IPv4Address, now: float) -> None:
        """Keep `address` for `client` for `offer_hold_s`; an earlier offer to it ends."""
        self.withdraw(client)
        number = int(address)
        if (lapsed := self._offers.pop(number, None)) is not None:  # to somebody who did not come in time
            del self._offered_to[lapsed.client]
        self._offers[number] = _Offer(client, now + self.offer_hold_s, address)
        self._offered_to[client] = number

    def withdraw(self, client: str) -> None:
        """End the offer to `client`, if there is one: it chose another server, or has its lease."""
        if (address := self._offered_to.pop(client, None)) is not None:
            del self._offers[address]
            for search in self._searches.values():
                search.freed(address)

    def bind(self, client: str, address: IPv4Address, lease_s: int, now: float, mac: str = "") -> Lease:
        """Give `address` to `client` for `lease_s`, and return the record that must be on disk before the ACK leaves.

        In the first quarter of a lease of this length, the record is the one there is (so is its expiry). Where the
        client has the address for longer already, the record goes on saying so: it may never hear of the shorter time.
        """
        number = int(address)
        lease = self._records.get(number)
        if self._offered_to.get(client) == number:
            del self._offered_to[client], self._offers[number]
        else:
            self.withdraw(client)
        if (
            lease is None
            or lease.client != client
            or lease.state is not State.BOUND
            or not (lease.expires == NEVER if lease_s == INFINITE_S else _is_fresh(lease, lease_s, now))
        ):
            expires = NEVER if lease_s == INFINITE_S else math.ceil(now) + lease_s
            own = lease is not None and lease.client == client and lease.state is State.BOUND
            if lease is not None and own and expires < lease.expires != NEVER and self.others is None:
                expires = lease.expires
            lease = Lease(address, client, expires, mac=mac)
            self.remember(lease)
        else:
            for search in self._searches.values():
                search.freed(number)
        return lease

    def bind_offered(
        self, client: str, number: int, pools: Sequence[DynamicPool], lease_s: int, now: float
    ) -> Lease | None:
        """Do as `bind` does if the address of this `number` is on offer to `client`, which is its MAC; None if not."""
        if self._offered_to.get(client) != number or (offer := self._offers[number]).until <= now:
            return None
        address = offer.address
        if self._free_at(number, client, now) > now:
            return None
        for pool in pools:
            if address in pool:
                return self.bind(client, address, lease_s, now, client)
        return None

    def release(self, client: str, address: IPv4Address, now: float) -> Lease | None:
        """End the lease of `address` if it is `client`'s, and return its record, which remembers whose it was."""
        lease = self.bound(address, now)
        if lease is None or lease.client != client:
            return None
        self.remember(released := replace(lease, state=State.RELEASED, expires=math.floor(now)))
        return released

    def decline(self, client: str, address: IPv4Address, now: float) -> Lease | None:
        """Put `address` in quarantine if it is leased or on offer to `client`, and return the record.

        None if it is not, or after `MOST_QUARANTINES_A_MINUTE`.
        """
        lease = self.bound(address, now)
        if self.offered(client, now) != address and (lease is None or lease.client != client):
            return None
        recent = self._quarantined
        if len(recent) == recent.maxlen and recent[0] > now - 60:
            return None
        recent.append(now)
        self.withdraw(client)
        return self._quarantine(client, address, now)

    def found_in_use(self, client: str, address: IPv4Address, now: float) -> Lease | None:
        """Put `address` in quarantine because somebody answered for it, and return the record.

        None after `MOST_QUARANTINES_A_MINUTE`; it then rests for as long as an offer.
        """
        self.withdraw(client)
        recent = self._quarantined
        if len(recent) == recent.maxlen and recent[0] > now - 60:
            self.offer(f"{SOMEBODY} at {address}", address, now)
            return None
        recent.append(now)
        return self._quarantine(SOMEBODY, address, now)

    def _quarantine(self, client: str, address: IPv4Address, now: float) -> Lease:
        self.remember(declined := Lease(address, client, math.floor(now) + self.quarantine_s, State.DECLINED))
        return declined

    def remember(self, lease: Lease) -> None:
        """Take a record as it is, in place of what was known about its address."""
        address = int(lease.address)
        before = self._records.get(address)
        if before is not None and before.client != lease.client:
            self._forget_owner(before)
        self._records[address] = lease
        held = self._of_client.get(lease.client, ())
        if address not in held:
            held += (address,)
            if len(held) > MOST_OF_A_CLIENT:
                ends_first = min(held, key=lambda number: self._records[number].expires)
                held = tuple(number for number in held if number != ends_first)
            self._of_client[lease.client] = held
        for search in self._searches.values():
            search.remember(address, lease.expires)

    def shift(self, by_s: int) -> None:
        """Move every time by `by_s`: the wall clock was set, and `now` with it."""
        self._records = {key: _moved(lease, by_s) for key, lease in self._records.items()}
        for offer in self._offers.values():
            offer.until += by_s
        self._quarantined = deque((time + by_s for time in self._quarantined), MOST_QUARANTINES_A_MINUTE)
        self._searches.clear()
        if self.others is not None:
            self.others.shift(by_s)

    def pools_changed(self) -> None:
        """Forget what searches found; the pools are others now."""
        self._searches.clear()

    @property
    def deadline(self) -> float | None:
        """When the oldest offer ends."""
        return next(iter(self._offers.values())).until if self._offers else None

    def expire(self, now: float) -> None:
        """Forget the offers that nobody took."""
        while self._offers:
            address, offer = next(iter(self._offers.items()))
            if offer.until > now:
                return
            del self._offers[address]
            del self._offered_to[offer.client]

    def _free_at(self, address: int, client: str, now: float) -> float:
        """When `client` could have the address: never later than `now` if it is free."""
        free_at = -math.inf
        lease = self._records.get(address)
        if lease is None and len(self._records) >= MOST_RECORDS:
            return math.inf
        if lease is not None and lease.holds(now) and (lease.client != client or lease.state is State.DECLINED):
            free_at = lease.expires
        offer = self._offers.get(address)
        if offer is not None and offer.client != client and offer.until > now:
            free_at = max(free_at, offer.until)
        if self.others is not None:
            free_at = max(free_at, self.others.free_at(address, client, now))
        return free_at

    def _search(self, client: str, pool: DynamicPool, own: Container[int], now: float) -> IPv4Address | None:
        """Return an address for a stranger: from a place that depends on the MAC, so that two servers mostly agree,
        or the one that is free for the longest time."""
        search = self._searches.get(pool)
        if search is None:
            search = self._searches[pool] = Search(pool)
        free_at = lambda address: self._free_at(address, client, now)  # noqa: E731
        found = None
        if len(self._records) < MOST_RECORDS:
            start = pool.first + crc32(client.encode()) % len(pool)
            found = search.never_used(start, self._records, free_at, own, now)
        if found is None:
            records = ((address, lease.expires) for address, lease in self._records.items())
            found = search.free_longest(records, free_at, own, now)
        return None if found is None else IPv4Address(found)

    @property
    def steps(self) -> int:
        """How many addresses searches have looked at since the pools were last changed."""
        return sum(search.steps for search in self._searches.values())

    def _forget_owner(self, lease: Lease) -> None:
        address = int(lease.address)
        if held := tuple(number for number in self._of_client.get(lease.client, ()) if number != address):
            self._of_client[lease.client] = held
        else:
            self._of_client.pop(lease.client, None)


def _is_fresh(lease: Lease, lease_s: int, now: float) -> bool:
    """Whether a lease of this length is so new that a renewal changes nothing."""
    return _FULL_LEASE_SHARE * lease_s <= lease.expires - now < lease_s + 1


def _moved(lease: Lease, by_s: int) -> Lease:
    return lease if lease.expires == NEVER else replace(lease, expires=lease.expires + by_s)
