"""dhcp.shared: whatever an API, networks, clocks and servers do, no address is two clients' at a time."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from config.model import Farm
from dhcp.actions import Action, Happened, Left, Probe, Store
from dhcp.engine import Server
from dhcp.leases import Lease
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.request import Arrival, Ignored
from dhcp.shared import Book
from dhcp.shared_acts import Act, Ask, Deny, Go, Keep, Lost, Why
from dhcp.shared_wire import (
    Beat,
    Done,
    Entry,
    Gone,
    Listing,
    News,
    Outcome,
    Refused,
    Remove,
    Synced,
    Unknown,
    Wish,
    Write,
)
from tests.support.dhcp_clients import message

NOW = 1_790_000_000.0
OURS = (IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2"))
CLIENTS = tuple(f"02:00:00:00:00:{n:02x}" for n in range(5))
POOL = tuple(IPv4Address(f"10.77.0.{n}") for n in range(10, 13))
"""Fewer than the clients."""
LEASE_S = 7200


def farm() -> Farm:
    subnet = {"subnet": "10.77.0.0/24", "pool": f"{POOL[0]}-{POOL[-1]}"}
    dhcp: dict[str, Any] = {"probe": False, "lease_s": LEASE_S, "shortest_lease_s": 60, "subnets": [subnet]}
    return Farm.model_validate({"dhcp": dhcp})


class Api:
    """Objects by address; a write names the version that it replaces."""

    def __init__(self) -> None:
        self.objects: dict[IPv4Address, Entry] = {}
        self.version = 0
        self.listeners: list[deque[News]] = []

    def carry_out(self, wish: Wish) -> Outcome:
        current = self.objects.get(wish.address)
        match wish:
            case Write(entry, replaces):
                if replaces != ("" if current is None else current.version):
                    return Refused(current)
                self.version += 1
                made = self.objects[wish.address] = Entry(entry.lease, entry.until, f"{self.version}.uid")
                self._tell(made)
                return Done(made)
            case Remove(address, version):
                if current is None or current.version != version:
                    return Refused(current)
                del self.objects[address]
                self._tell(Gone(address, version))
                return Done(None)

    def _tell(self, news: News) -> None:
        for listener in self.listeners:
            listener.append(news)


@dataclass
class Waiting:
    """An answer that waits for its lease to be kept."""

    client: str
    rest: Sequence[Action]
    taken: Sequence[Action]
    unsure: Sequence[Action]


@dataclass
class Replica:
    """One server: its engine, its disk, and its way to the API."""

    number: int
    api: Api
    ahead_s: int
    """Its clock's, of the right time."""
    disk: dict[IPv4Address, Lease] = field(default_factory=dict)

    def start(self, now: float) -> None:
        self.server = Server(plan(farm()), tuple(self.disk.values()), now + self.ahead_s)
        self.server.own_addresses([OURS[self.number]])
        self.book = Book(self.server.leases, lambda address: address in POOL)
        self.server.leases.others = self.book
        self.waiting: dict[int, Waiting] = {}
        self.sent: list[Wish] = []
        self.answers: list[tuple[Wish, Outcome]] = []
        self.news: deque[News] = deque()
        self.tickets = 0

    def leave(self) -> None:
        """The connection to the API is cut."""
        self.api.listeners = [each for each in self.api.listeners if each is not self.news]
        self.news = deque()


@dataclass
class Promise:
    """A client was told that it has an address until a time."""

    client: str
    until: float


class NoAddressIsTwoClients(RuleBasedStateMachine):
    """Clients that ask either server, and both of them an API that they lose and find again."""

    @initialize(ahead=st.tuples(st.integers(-50, 50), st.integers(-50, 50)), connected=st.booleans())
    def begin(self, ahead: tuple[int, int], connected: bool) -> None:
        self.now = NOW
        self.api = Api()
        self.api_answers = True
        self.late: list[Wish] = []
        self.promises: dict[IPv4Address, Promise] = {}
        self.offered: dict[tuple[str, int], IPv4Address] = {}
        self.replicas = [Replica(n, self.api, ahead[n]) for n in range(2)]
        for replica in self.replicas:
            replica.start(self.now)
            if connected:
                self.connect(replica)
                self.hear(replica, 99)

    def clock(self, replica: Replica) -> float:
        return self.now + replica.ahead_s

    def shares(self, replica: Replica) -> bool:
        """Whether the controller beside it asks the API: not by a clock that is wrong."""
        return self.api_answers and abs(replica.ahead_s) <= 50

    def connect(self, replica: Replica) -> None:
        """A list as it is now, and then what changes."""
        replica.leave()
        if not self.shares(replica):
            replica.book.away_now()
            return
        replica.news.extend([Listing(), *self.api.objects.values(), Synced()])
        self.api.listeners.append(replica.news)

    def hear(self, replica: Replica, most: int) -> None:
        for _ in range(min(most, len(replica.news))):
            match replica.news.popleft():
                case Listing():
                    replica.book.begin_list()
                case Synced():
                    replica.book.list_over()
                case Entry() as entry:
                    self.do(replica, replica.book.changed(entry, self.clock(replica)))
                case Gone(address, version):
                    self.do(replica, replica.book.gone(address, version, self.clock(replica)))
                case Beat():
                    pass
        while replica.book.busy:
            self.do(replica, replica.book.expire(self.clock(replica)))

    def do(self, replica: Replica, acts: Sequence[Act]) -> None:
        for act in acts:
            match act:
                case Ask(wish):
                    replica.sent.append(wish)
                case Go(ticket, lease):
                    replica.disk[lease.address] = lease
                    waiting = replica.waiting.pop(ticket)
                    self.carry_out(replica, waiting.client, waiting.rest)
                case Deny(ticket, why):
                    waiting = replica.waiting.pop(ticket)
                    instead = (
                        waiting.taken if why is Why.TAKEN else waiting.unsure if why in (Why.AWAY, Why.CHANGED) else ()
                    )
                    self.carry_out(replica, waiting.client, instead)
                case Keep(lease):
                    replica.disk[lease.address] = lease
                case Lost():
                    raise AssertionError("nobody is told what is not so")
        if replica.book.away:
            self.fail(replica)

    def fail(self, replica: Replica) -> None:
        """What is on its way to the API is not waited for; it may still arrive."""
        wishes, replica.sent = replica.sent, []
        for wish in wishes:
            self.late.append(wish)
            self.do(replica, replica.book.answered(wish, Unknown("cut"), self.clock(replica)))

    def carry_out(self, replica: Replica, client: str, actions: Sequence[Action]) -> None:
        for i, action in enumerate(actions):
            match action:
                case Store(lease, taken, unsure):
                    replica.tickets += 1
                    replica.waiting[replica.tickets] = Waiting(client, actions[i + 1 :], taken, unsure)
                    self.do(replica, replica.book.put(lease, replica.tickets, self.clock(replica)))
                    return
                case Send():
                    self.receives(replica, client, action)
                case Probe():
                    raise AssertionError("it was switched off")
                case Happened() | Left() | Ignored():
                    pass

    def receives(self, replica: Replica, client: str, sent: Send) -> None:
        address, said = sent.message.yiaddr, sent.message.options
        match MessageType(said[Option.DHCP_MESSAGE_TYPE][0]):
            case MessageType.DHCPOFFER:
                self.offered[client, replica.number] = address
            case MessageType.DHCPNAK:
                self.gives_up(client)
            case MessageType.DHCPACK if Option.IP_ADDRESS_LEASE_TIME in said:
                lease_s = int.from_bytes(said[Option.IP_ADDRESS_LEASE_TIME], "big")
                self.is_told(client, address, lease_s)

    def is_told(self, client: str, address: IPv4Address, lease_s: int) -> None:
        before = self.promises.get(address)
        assert before is None or before.client == client or before.until <= self.now, (address, before, client)
        assert address in POOL
        self.gives_up(client)
        self.promises[address] = Promise(client, self.now + lease_s)

    def gives_up(self, client: str) -> None:
        self.promises = {at: promise for at, promise in self.promises.items() if promise.client != client}

    def has(self, client: str) -> IPv4Address | None:
        return next((at for at, one in self.promises.items() if one.client == client and one.until > self.now), None)

    def say(self, kind: MessageType, client: str, replica: Replica, **fields: Any) -> None:
        sent = message(kind, client, **fields)
        actions = replica.server.receive(sent, Arrival(OURS[replica.number]), self.clock(replica))
        self.carry_out(replica, client, actions)

    @rule(client=st.sampled_from(CLIENTS), hears=st.sampled_from([(0,), (1,), (0, 1), (1, 0)]))
    def discovers(self, client: str, hears: tuple[int, ...]) -> None:
        for number in hears:
            self.say(MessageType.DHCPDISCOVER, client, self.replicas[number])

    @rule(client=st.sampled_from(CLIENTS), chosen=st.integers(0, 1), both=st.booleans(), short=st.booleans())
    def requests(self, client: str, chosen: int, both: bool, short: bool) -> None:
        address = self.offered.get((client, chosen))
        if address is None:
            return
        options = {50: address.packed, 54: OURS[chosen].packed} | ({51: (600).to_bytes(4, "big")} if short else {})
        for number in (0, 1) if both else (chosen,):
            self.say(MessageType.DHCPREQUEST, client, self.replicas[number], options=options)

    @rule(client=st.sampled_from(CLIENTS), number=st.integers(0, 1), short=st.booleans())
    def gets_an_address(self, client: str, number: int, short: bool) -> None:
        """What mostly happens; of a server that is cut off, what it can do alone."""
        connected = not self.replicas[number].book.away
        if connected:
            self.all_goes_well_for_a_moment(number)
        if self.has(client) is None:
            self.discovers(client, (number,))
            self.requests(client, number, both=True, short=short)
        else:
            self.renews(client, (number,), rebinds=True)
        if connected:
            self.all_goes_well_for_a_moment(number)

    @rule(which=st.integers(0, 9), after_s=st.sampled_from([-130, -60, 1, 130]))
    def wait_until_an_address_is_free(self, which: int, after_s: int) -> None:
        times = sorted({entry.until for entry in self.api.objects.values() if entry.until < NOW + 10**9})
        if times:
            self.now = max(self.now, times[which % len(times)] + after_s)

    @rule(client=st.sampled_from(CLIENTS), hears=st.sampled_from([(0,), (1,), (0, 1)]), rebinds=st.booleans())
    def renews(self, client: str, hears: tuple[int, ...], rebinds: bool) -> None:
        address = self.has(client)
        if address is None:
            return
        for number in hears:
            if rebinds:
                self.say(MessageType.DHCPREQUEST, client, self.replicas[number], ciaddr=address)
            else:
                self.say(MessageType.DHCPREQUEST, client, self.replicas[number], options={50: address.packed})

    @rule(client=st.sampled_from(CLIENTS), number=st.integers(0, 1))
    def releases(self, client: str, number: int) -> None:
        address = self.has(client)
        if address is not None:
            self.gives_up(client)
            self.say(
                MessageType.DHCPRELEASE,
                client,
                self.replicas[number],
                ciaddr=address,
                options={54: OURS[number].packed},
            )

    @rule(client=st.sampled_from(CLIENTS), number=st.integers(0, 1))
    def declines(self, client: str, number: int) -> None:
        address = self.has(client)
        if address is not None:
            self.gives_up(client)
            options = {50: address.packed, 54: OURS[number].packed}
            self.say(MessageType.DHCPDECLINE, client, self.replicas[number], options=options)

    @rule(
        number=st.integers(0, 1),
        which=st.integers(0, 9),
        fate=st.sampled_from(["done", "done", "done", "slow", "lost", "answer lost"]),
    )
    def api_gets_a_write(self, number: int, which: int, fate: str) -> None:
        replica = self.replicas[number]
        if not replica.sent:
            return
        if not self.shares(replica) or fate == "lost":
            self.fail(replica)
            return
        wish = replica.sent.pop(which % len(replica.sent))
        outcome = self.api.carry_out(wish)
        if fate == "slow":
            replica.answers.append((wish, outcome))
            return
        answer = outcome if fate == "done" else Unknown("cut")
        self.do(replica, replica.book.answered(wish, answer, self.clock(replica)))

    @rule(number=st.integers(0, 1), which=st.integers(0, 9))
    def an_answer_comes(self, number: int, which: int) -> None:
        replica = self.replicas[number]
        if replica.answers:
            wish, outcome = replica.answers.pop(which % len(replica.answers))
            self.do(replica, replica.book.answered(wish, outcome, self.clock(replica)))

    @rule(which=st.integers(0, 99))
    def a_late_write_arrives(self, which: int) -> None:
        if self.late and self.api_answers:
            self.api.carry_out(self.late.pop(which % len(self.late)))

    @rule(number=st.integers(0, 1), most=st.integers(1, 8))
    def news_comes(self, number: int, most: int) -> None:
        self.hear(self.replicas[number], most)

    @rule(number=st.integers(0, 1))
    def all_goes_well_for_a_moment(self, number: int) -> None:
        """What mostly happens."""
        replica = self.replicas[number]
        self.hear(replica, 99)
        if replica.book.away and self.shares(replica):
            self.connect(replica)
            self.hear(replica, 99)
        self.ticks(number)
        while replica.sent and self.shares(replica):
            self.api_gets_a_write(number, 0, "done")
        self.hear(replica, 99)

    @rule(number=st.integers(0, 1))
    def connection_is_cut(self, number: int) -> None:
        replica = self.replicas[number]
        replica.leave()
        replica.book.away_now()
        self.fail(replica)

    @rule(number=st.integers(0, 1))
    def connection_is_made(self, number: int) -> None:
        self.connect(self.replicas[number])

    @rule(number=st.integers(0, 1), to_s=st.sampled_from([0, -3600, -20_000, 3600]))
    def clock_is_set(self, number: int, to_s: int) -> None:
        """Leases move with it, those on disk too."""
        replica = self.replicas[number]
        by_s, replica.ahead_s = to_s - replica.ahead_s, to_s
        replica.server.shift(by_s)
        replica.disk = {lease.address: lease for lease in replica.server.leases}
        self.connection_is_cut(number)

    @rule()
    def api_stops(self) -> None:
        self.api_answers = False
        for number in (0, 1):
            self.connection_is_cut(number)

    @rule()
    def api_starts(self) -> None:
        self.api_answers = True

    @rule(number=st.integers(0, 1))
    def ticks(self, number: int) -> None:
        replica = self.replicas[number]
        self.do(replica, replica.book.expire(self.clock(replica)))
        replica.server.expire(self.clock(replica))

    @rule(number=st.integers(0, 1))
    def is_killed(self, number: int) -> None:
        replica = self.replicas[number]
        replica.leave()
        self.late += replica.sent
        replica.start(self.now)
        self.offered = {key: at for key, at in self.offered.items() if key[1] != number}

    @rule(seconds=st.sampled_from([1, 30, 61, 600, 1900, 3700, 7300, 14500, 100_000]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    def teardown(self) -> None:
        """Once all is well again, everybody knows the same."""
        if not hasattr(self, "api"):
            return
        self.api_answers = True
        for number in (0, 1):
            if not self.shares(self.replicas[number]):
                self.clock_is_set(number, 0)
        for _ in range(6):
            for number in (0, 1):
                while self.replicas[number].answers:
                    self.an_answer_comes(number, 0)
                self.all_goes_well_for_a_moment(number)
        for replica in self.replicas:
            assert not replica.book.away
            assert not replica.book.untold
            assert not replica.sent
            for address, entry in self.api.objects.items():
                record = replica.server.leases.record(address)
                assert record is not None, address
                assert record.client == entry.lease.client or not record.holds(self.now), address
        for address, promise in self.promises.items():
            if promise.until > self.now:
                assert self.api.objects[address].lease.client == promise.client


NoAddressIsTwoClients.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
test_no_address_is_two_clients = NoAddressIsTwoClients.TestCase


def test_a_server_whose_clock_was_set_back_promises_nothing_that_another_gives_away() -> None:
    """It is refused by then, and goes on with what it knows; the other has been asked by a stranger all the time."""
    all_of_it = NoAddressIsTwoClients()
    all_of_it.begin((0, 0), connected=True)
    for client in CLIENTS[:3]:
        all_of_it.gets_an_address(client, 0, short=False)
    all_of_it.clock_is_set(0, -20_000)
    strangers = 0
    for _ in range(20):
        all_of_it.wait(1900)
        for client in CLIENTS[:3]:
            all_of_it.renews(client, (0,), rebinds=True)
        all_of_it.gets_an_address(CLIENTS[3], 1, short=False)
        strangers += all_of_it.has(CLIENTS[3]) is not None
    assert strangers, "one address was free at last"
