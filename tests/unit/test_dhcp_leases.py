"""dhcp.leases: nobody is given what somebody has."""

import math
from ipaddress import IPv4Address

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from config.dhcp import INFINITE_S
from dhcp import leases
from dhcp.leases import NEVER, OFFER_HOLD_S, QUARANTINE_S, Lease, Leases, State
from dhcp.plan import DynamicPool

NOW = 1_790_000_000.25
LEASE_S = 3600
FIRST = int(IPv4Address("10.77.0.8"))
POOL = DynamicPool(FIRST, FIRST + 3, frozenset({FIRST + 1}))
A, B, C, D = (f"02:00:00:00:00:0{n}" for n in "abcd")
ADDRESSES = [IPv4Address(FIRST + i) for i in range(4)]


def empty(*records: Lease) -> Leases:
    return Leases(records, NOW, LEASE_S)


def fill(known: Leases, now: float = NOW) -> dict[str, IPv4Address]:
    """Lease all three addresses, to A, B and C."""
    out = {}
    for mac in (A, B, C):
        address = known.choose(mac, (POOL,), None, (), now)
        assert address is not None
        known.bind(mac, address, LEASE_S, now)
        out[mac] = address
    return out


def test_a_machine_gets_the_address_it_has() -> None:
    known = empty()
    held = fill(known)
    assert known.choose(B, (POOL,), held[A], (), NOW + 5) == held[B]


def test_a_machine_gets_the_address_it_asks_for() -> None:
    for wanted in (ADDRESSES[0], ADDRESSES[2], ADDRESSES[3]):
        assert empty().choose(A, (POOL,), wanted, (), NOW) == wanted


def test_an_excluded_or_foreign_or_own_address_is_not_given_when_asked_for() -> None:
    own = {int(ADDRESSES[0]), int(ADDRESSES[2])}
    for wanted in (ADDRESSES[1], IPv4Address("192.0.2.1"), ADDRESSES[0]):
        assert empty().choose(A, (POOL,), wanted, own, NOW) == ADDRESSES[3]


def test_a_full_pool_has_nothing_until_a_lease_ends() -> None:
    known = empty()
    held = fill(known)
    assert known.choose(D, (POOL,), None, (), NOW) is None
    assert known.choose(D, (POOL,), None, (), NOW + LEASE_S - 1) is None
    assert known.choose(D, (POOL,), None, (), NOW + LEASE_S + 1) in held.values()


def test_a_released_address_is_free_at_once_and_remembers_whose_it_was() -> None:
    known = empty()
    held = fill(known)
    assert known.choose(D, (POOL,), None, (), NOW) is None
    assert known.release(A, held[B], NOW) is None
    released = known.release(A, held[A], NOW + 1)
    assert released == Lease(held[A], A, int(NOW) + 1, State.RELEASED)
    assert known.choose(A, (POOL,), None, (), NOW + 2) == held[A]
    assert known.choose(D, (POOL,), None, (), NOW + 2) == held[A]


def test_an_address_never_used_goes_before_one_whose_lease_is_over() -> None:
    for mac in (A, B, C, D):
        known = empty(Lease(ADDRESSES[0], "02:00:00:00:00:ff", int(NOW) - 5), Lease(ADDRESSES[2], C, int(NOW) - 5))
        assert known.choose(mac, (POOL,), None, (), NOW) == (ADDRESSES[2] if mac == C else ADDRESSES[3])


def test_an_offer_is_kept_for_its_time() -> None:
    known = empty()
    known.offer(A, ADDRESSES[0], NOW)
    assert known.offered(A, NOW + 1) == ADDRESSES[0]
    assert not known.is_free(ADDRESSES[0], B, NOW + OFFER_HOLD_S - 1)
    assert known.is_free(ADDRESSES[0], B, NOW + OFFER_HOLD_S)
    assert known.offered(A, NOW + OFFER_HOLD_S) is None
    assert known.deadline == NOW + OFFER_HOLD_S
    known.expire(NOW + OFFER_HOLD_S - 1)
    assert known.deadline is not None
    known.expire(NOW + OFFER_HOLD_S)
    assert known.deadline is None


def test_a_withdrawn_offer_frees_its_address() -> None:
    known = empty()
    for mac, address in zip((A, B, C), (ADDRESSES[0], *ADDRESSES[2:]), strict=True):
        known.offer(mac, address, NOW)
    assert known.choose(D, (POOL,), None, (), NOW) is None
    known.withdraw(B)
    assert known.choose(D, (POOL,), None, (), NOW) == ADDRESSES[2]


def test_a_renewal_in_the_first_quarter_changes_nothing() -> None:
    known = empty()
    first = known.bind(A, ADDRESSES[0], LEASE_S, NOW)
    assert first.expires >= NOW + LEASE_S
    assert known.bind(A, ADDRESSES[0], LEASE_S, NOW) == first
    assert known.bind(A, ADDRESSES[0], LEASE_S, NOW + LEASE_S / 4 - 1) == first
    assert known.bind(A, ADDRESSES[0], LEASE_S, NOW + LEASE_S / 4 + 1).expires > first.expires


def test_who_has_an_address_for_longer_than_he_asks_for_now_keeps_it_for_that_long() -> None:
    """The shorter time may never reach him: its record cannot be stored, or the answer is lost."""
    known = empty()
    first = known.bind(A, ADDRESSES[0], LEASE_S, NOW)
    assert known.bind(A, ADDRESSES[0], 60, NOW + 10) == first
    assert not known.is_free(ADDRESSES[0], B, NOW + LEASE_S - 1)
    forever = known.bind(A, ADDRESSES[1], INFINITE_S, NOW)
    assert forever.expires == NEVER
    assert known.bind(A, ADDRESSES[1], 60, NOW).expires == math.ceil(NOW) + 60, "or nobody else would ever have it"


def test_a_declined_address_returns_after_its_quarantine() -> None:
    known = empty()
    known.offer(A, ADDRESSES[0], NOW)
    assert known.decline(B, ADDRESSES[0], NOW) is None
    declined = known.decline(A, ADDRESSES[0], NOW)
    assert declined is not None
    assert declined.state is State.DECLINED
    for mac in (A, B):
        assert not known.is_free(ADDRESSES[0], mac, NOW + QUARANTINE_S - 1)
        assert known.is_free(ADDRESSES[0], mac, NOW + QUARANTINE_S)
    assert known.bound(ADDRESSES[0], NOW) is None


def test_only_so_many_addresses_are_declined_in_a_minute() -> None:
    pool = DynamicPool(FIRST, FIRST + 63, frozenset())
    known = empty()

    def decline(now: float) -> bool:
        address = known.choose(A, (pool,), None, (), now)
        assert address is not None
        known.offer(A, address, now)
        return known.decline(A, address, now) is not None

    assert [decline(NOW) for _ in range(12)] == [True] * 10 + [False] * 2
    assert decline(NOW + 61)


def test_what_is_stored_holds_no_longer_than_a_lease_from_now() -> None:
    future = int(NOW) + 10 * LEASE_S
    known = empty(Lease(ADDRESSES[0], A, future), Lease(ADDRESSES[2], B, future + QUARANTINE_S, State.DECLINED))
    assert known.bound(ADDRESSES[0], NOW + LEASE_S) is not None
    assert known.bound(ADDRESSES[0], NOW + LEASE_S + 1) is None
    assert known.is_free(ADDRESSES[2], B, NOW + QUARANTINE_S + 1)


def test_the_wall_clock_moves_every_time_alike() -> None:
    known = empty()
    known.offer(A, ADDRESSES[0], NOW)
    known.bind(B, ADDRESSES[2], LEASE_S, NOW)
    known.shift(10**9)
    assert known.offered(A, NOW + 10**9 + 1) == ADDRESSES[0]
    assert known.bound(ADDRESSES[2], NOW + 10**9 + LEASE_S - 1) is not None
    assert known.bound(ADDRESSES[2], NOW + 10**9 + LEASE_S + 2) is None


def test_the_number_of_records_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MOST_RECORDS", 2)
    known = empty(Lease(ADDRESSES[0], A, int(NOW) - 9), Lease(ADDRESSES[2], B, int(NOW) + 9))
    assert known.choose(C, (POOL,), ADDRESSES[3], (), NOW) == ADDRESSES[0]
    assert len(known) == len(list(known)) == 2


def test_a_nearly_full_pool_costs_a_made_up_machine_few_steps() -> None:
    """50 made-up MACs a second for five minutes; addresses end, are withdrawn and released meanwhile."""
    size, free = 20_000, 40
    pool = DynamicPool(FIRST, FIRST + size - 1, frozenset())
    held = [
        Lease(IPv4Address(FIRST + i), f"02:01:00:00:{i >> 8:02x}:{i & 255:02x}", int(NOW) + 3000)
        for i in range(size)
        if i % (size // free)
    ]
    known = empty(*held)
    known.choose("02:ff:00:00:00:00", (pool,), None, (), NOW)
    assert known.steps <= 2 * size
    before, worst, given = known.steps, 0, 0
    for n in range(15_000):
        now, mac = NOW + n / 50, f"02:ee:00:00:{n >> 8:02x}:{n & 255:02x}"
        known.expire(now)
        at = known.steps
        address = known.choose(mac, (pool,), None, (), now)
        if n > 200:
            worst = max(worst, known.steps - at)
        if address is not None:
            known.offer(mac, address, now)
            given += 1
        if n % 500 == 499:
            known.withdraw(mac)
            known.release(held[n].mac, held[n].address, now)
    assert given >= free * 4
    assert known.steps - before < 6 * 15_000 + 2 * size
    assert worst <= 3 * free


def test_only_what_is_on_offer_here_and_still_is_can_be_taken() -> None:
    there, known = DynamicPool(FIRST + 100, FIRST + 107, frozenset()), empty()
    known.offer(A, IPv4Address(FIRST), 0)
    assert known.bind_offered(A, FIRST, (there,), 60, 1) is None, "another network's"
    assert known.bind_offered(B, FIRST, (POOL,), 60, 1) is None, "another's offer"
    assert known.bind_offered(A, FIRST + 1, (POOL,), 60, 1) is None, "another address"
    assert known.bind_offered(A, FIRST, (POOL,), 60, OFFER_HOLD_S) is None, "too late"
    known.remember(Lease(IPv4Address(FIRST), B, 1000))
    assert known.bind_offered(A, FIRST, (POOL,), 60, 1) is None, "somebody has it"
    known.remember(Lease(IPv4Address(FIRST), B, 1))
    taken = known.bind_offered(A, FIRST, (POOL,), 60, OFFER_HOLD_S - 1)
    assert taken is not None
    assert (taken.client, taken.expires) == (A, OFFER_HOLD_S + 59)


def test_an_address_is_found_as_soon_as_a_kept_lease_ends() -> None:
    pool, a = DynamicPool(FIRST, FIRST, frozenset()), IPv4Address(FIRST)
    known = Leases([], 0.0, 3600, offer_hold_s=600)
    known.bind(A, a, 60, 0, A)
    for time_s in (1, 2):  # it starts again, and asks twice
        assert known.choose(B, (pool,), None, set(), time_s) is None
        known.offer(A, a, time_s)
    assert known.choose(B, (pool,), None, set(), 3) is None
    known.bind(A, a, 60, 4, A)
    assert known.choose(B, (pool,), None, set(), 61) == a


def test_a_full_pool_gives_out_each_address_that_becomes_free() -> None:
    """What the queues say is what a look at each address would say."""
    pool = DynamicPool(FIRST, FIRST + 9, frozenset({FIRST + 4}))
    known, own = empty(), {FIRST + 7}
    seen = set()
    for n in range(8):
        address = known.choose(f"02:00:00:00:01:0{n}", (pool,), None, own, NOW)
        assert address is not None
        known.offer(f"02:00:00:00:01:0{n}", address, NOW)
        seen.add(int(address))
    assert seen == {FIRST + i for i in range(10)} - {FIRST + 4, FIRST + 7}
    assert known.choose(A, (pool,), None, own, NOW) is None
    known.expire(NOW + OFFER_HOLD_S)
    assert {known.choose(f"{n}", (pool,), None, own, NOW + OFFER_HOLD_S) for n in range(30)} <= {
        IPv4Address(one) for one in seen
    }
    for n in range(8):
        known.bind(f"02:00:00:00:01:0{n}", IPv4Address(sorted(seen)[n]), 60 + n, NOW)
    assert known.choose(A, (pool,), None, own, NOW + 60) is None
    assert known.choose(A, (pool,), None, own, NOW + 62) == IPv4Address(FIRST)


class TwoMachinesNeverShare(RuleBasedStateMachine):
    """Whatever machines do, and whatever is lost with a restart, an address promised to one goes to no other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.known = empty()
        self.stored: dict[IPv4Address, Lease] = {}
        self.promised: dict[IPv4Address, tuple[str, float]] = {}

    def _free_for(self, address: IPv4Address, mac: str) -> bool:
        owner, until = self.promised.get(address, (mac, 0))
        return owner == mac or until <= self.now

    @rule(mac=st.sampled_from([A, B, C, D]), wanted=st.sampled_from([None, *ADDRESSES]))
    def discover(self, mac: str, wanted: IPv4Address | None) -> None:
        address = self.known.choose(mac, (POOL,), wanted, (), self.now)
        if address is None:
            assert not any(a in POOL and self.known.is_free(a, mac, self.now) for a in ADDRESSES)
            return
        assert address in POOL
        assert self._free_for(address, mac)
        self.known.offer(mac, address, self.now)

    @rule(
        mac=st.sampled_from([A, B, C, D]), address=st.sampled_from(ADDRESSES), lease_s=st.sampled_from([60, LEASE_S])
    )
    def request(self, mac: str, address: IPv4Address, lease_s: int) -> None:
        if address in POOL and self.known.is_free(address, mac, self.now):
            assert self._free_for(address, mac)
            lease = self.known.bind(mac, address, lease_s, self.now)
            self.stored[address] = lease
            before = self.promised.get(address, ("", 0.0))[1]
            promised_s = int(lease.expires - self.now)
            assert promised_s <= max(lease_s, before - self.now + 1)
            self.promised[address] = (mac, self.now + promised_s)

    @rule(mac=st.sampled_from([A, B, C, D]), address=st.sampled_from(ADDRESSES))
    def release(self, mac: str, address: IPv4Address) -> None:
        released = self.known.release(mac, address, self.now)
        if released is not None:
            self.stored[address] = released
            assert self.promised.pop(address)[0] == mac

    @rule(mac=st.sampled_from([A, B, C, D]), address=st.sampled_from(ADDRESSES))
    def decline(self, mac: str, address: IPv4Address) -> None:
        declined = self.known.decline(mac, address, self.now)
        if declined is not None:
            self.stored[address] = declined
            self.promised[address] = ("nobody", self.now + QUARANTINE_S - 1)

    @rule(mac=st.sampled_from([A, B, C, D]))
    def choose_another_server(self, mac: str) -> None:
        self.known.withdraw(mac)

    @rule(seconds=st.sampled_from([0.1, 30, 61, 900, 4000, QUARANTINE_S]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.known.expire(self.now)

    @rule()
    def restart(self) -> None:
        self.known = Leases(self.stored.values(), self.now, LEASE_S)

    @rule()
    def reload(self) -> None:
        self.known.pools_changed()

    @invariant()
    def a_promise_is_known(self) -> None:
        for address, (mac, until) in self.promised.items():
            if until > self.now and mac != "nobody":
                lease = self.known.bound(address, self.now)
                assert lease is not None
                assert lease.mac == mac


TwoMachinesNeverShare.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
test_two_machines_never_share_an_address = TwoMachinesNeverShare.TestCase


class Counting(DynamicPool):
    """A pool that counts how often it is asked."""

    asked = 0

    def __contains__(self, address: IPv4Address) -> bool:
        Counting.asked += 1
        return super().__contains__(address)


def test_who_took_and_released_a_whole_pool_costs_no_more_than_others() -> None:
    first = int(IPv4Address("10.77.0.1"))
    known = Leases([], NOW, LEASE_S)
    for n in range(1000):
        known.bind(A, IPv4Address(first + n), LEASE_S, NOW)
        known.release(A, IPv4Address(first + n), NOW + n)
    pool = Counting(first, first + 1999, frozenset())
    assert known.choose(A, (pool,), None, (), NOW + 2000) == IPv4Address(first + 999), "the one it had last"
    assert Counting.asked < 50
    for n in range(1000):
        known.bind(B, IPv4Address(first + n), LEASE_S, NOW + 2000)
    assert known.choose(A, (pool,), None, (), NOW + 2000) not in (None, IPv4Address(first + 999))
