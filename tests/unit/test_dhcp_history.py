"""dhcp.engine: whatever machines, disks, clocks and people do, no address is two machines'."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from math import inf
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from config.dhcp import INFINITE_S
from config.model import Farm
from dhcp import wire
from dhcp.actions import Action, Datagram, Happened, Left, Probe, Store
from dhcp.engine import Server
from dhcp.fast import FastPath
from dhcp.leases import Lease, State
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import EVERYBODY, Destination, Send
from dhcp.request import BOOT_SERVER_PORT, Arrival, Ignored
from dhcp.wire import NO_ADDRESS, Message

NOW = 1_790_000_000.0
HERE, BESIDE, FAR = "10.77.0", "10.79.0", "10.78.0"
"""Our network, one whose addresses are somebody else's, and one behind a relay."""
OURS, OURS_TOO, OURS_BESIDE = (IPv4Address(text) for text in (f"{HERE}.1", f"{HERE}.14", f"{BESIDE}.1"))
ROUTER = IPv4Address(f"{HERE}.2")
RELAY = IPv4Address(f"{FAR}.1")
OTHER_SERVER = IPv4Address(f"{HERE}.9")
FORBIDDEN = {OURS, OURS_TOO, OURS_BESIDE, ROUTER, RELAY}
FORBIDDEN |= {IPv4Address(text) for text in (f"{HERE}.0", f"{HERE}.15", f"{FAR}.0", f"{FAR}.7", "0.0.0.0")}
ADDRESSES = [IPv4Address(f"{HERE}.{n}") for n in range(16)] + [IPv4Address(f"{FAR}.{n}") for n in range(8)]


@dataclass(frozen=True)
class Machine:
    """One that exists, whatever it is called and whichever of its cards asks."""

    number: int
    macs: tuple[str, ...]

    def client_ids(self) -> tuple[bytes, ...]:
        """What its ROM, its loader and its system call it."""
        return b"", bytes((1, self.number)), b"\xff" + bytes((self.number,)) * 9


MACHINES = [
    Machine(0, ("52:54:00:00:00:10", "52:54:00:00:00:11")),
    Machine(1, ("52:54:00:00:00:20",)),
    Machine(2, ("52:54:00:00:00:30",)),
    *(Machine(n, (f"02:00:00:00:00:{n:02x}",)) for n in range(3, 9)),
]
N1 = {"name": "n1", "macs": MACHINES[0].macs, "ip": f"{HERE}.10"}
N2 = {"name": "n2", "macs": MACHINES[1].macs, "ip": f"{HERE}.5"}
N3 = {"name": "n3", "client_id": "01:02", "ip": f"{FAR}.3"}
N4 = {"name": "n4", "circuit_id": "65:74:68:31", "ip": f"{FAR}.4"}
BEHIND_ONE_PORT = MACHINES[1:2] + MACHINES[5:7]
"""Plugged in where n4 is listed, once they are far. One of them is listed by its MAC at times."""
FARMS: list[list[dict[str, Any]]] = [[N1, N2, N3, N4], [N2, N3, N4], [N1, N2 | {"ip": f"{HERE}.6"}, N4], [N3], []]
"""The machines that are listed, at one time or another. An address that is taken from a listed machine is given to
no other listed one here: that is the owner's decision, and counts at once."""
POOL_LEASE_S = 7200


def farm(nodes: list[dict[str, Any]], **dhcp: Any) -> Farm:
    subnets: list[dict[str, Any]] = [
        {"subnet": f"{HERE}.0/28", "pool": f"{HERE}.1-{HERE}.10", "routers": [str(ROUTER)], "unknown": "workers"},
        {"subnet": f"{FAR}.0/29", "pools": [{"range": f"{FAR}.1-{FAR}.5", "lease_s": POOL_LEASE_S}]},
        {"subnet": f"{BESIDE}.0/24", "proxy": True, "unknown": "workers"},
    ]
    subnets[1] |= {"routers": [str(RELAY)]}
    pools = [{"name": "workers", "image": "i", "nodes": nodes}]
    whole = {"dhcp": {"lease_s": 3600, "subnets": subnets} | dhcp, "images": {"i": {"path": "/i"}}, "pools": pools}
    return Farm.model_validate(whole)


@dataclass
class Promise:
    """A machine was told that an address is its own until a time."""

    machine: Machine
    until: float
    is_static: bool


@dataclass
class Disk:
    """What a restart finds."""

    fails: bool = False
    stored: dict[IPv4Address, Lease] = field(default_factory=dict)
    waiting: dict[IPv4Address, Lease] = field(default_factory=dict)

    def put(self, lease: Lease) -> bool:
        (self.waiting if self.fails else self.stored)[lease.address] = lease
        return not self.fails

    def work(self) -> None:
        """What could not be written is written now."""
        self.fails = False
        self.stored |= self.waiting
        self.waiting = {}


class NoAddressIsTwoMachines(RuleBasedStateMachine):
    """A farm's life, seen from outside: what was sent, to whom, and until when it holds."""

    @initialize(by_client_id=st.booleans(), probe=st.booleans(), short_way=st.booleans())
    def begin(self, by_client_id: bool, probe: bool, short_way: bool) -> None:
        self.settings = {"match_client_id": by_client_id, "probe": probe, "longest_lease_s": 3600}
        self.nodes = FARMS[0]
        self.now = NOW
        self.short_way = short_way
        self.disk = Disk()
        self.promises: dict[IPv4Address, Promise] = {}
        self.offers: dict[IPv4Address, tuple[str, float]] = {}
        self.quarantine: dict[IPv4Address, float] = {}
        self.offered: dict[str, IPv4Address] = {}
        self.start()

    def start(self) -> None:
        self.server = Server(plan(farm(self.nodes, **self.settings)), tuple(self.disk.stored.values()), self.now)
        self.server.own_addresses([OURS, OURS_TOO, OURS_BESIDE])
        self.fast = FastPath(self.server)

    @rule(
        kind=st.sampled_from([MessageType.DHCPDISCOVER] * 4 + [MessageType.DHCPREQUEST] * 5 + [*MessageType, None]),
        machine=st.sampled_from(MACHINES),
        card=st.integers(0, 1),
        stage=st.integers(0, 2),
        wanted=st.sampled_from(["offered"] * 4 + [None] + ADDRESSES),
        chosen=st.sampled_from([OURS, OURS, OURS, None, OTHER_SERVER]),
        has=st.sampled_from([None, None, None, "promised", "promised", *ADDRESSES]),
        where=st.sampled_from(["here"] * 5 + ["far"] * 2 + ["beside", "unicast", "4011"]),
        boots=st.booleans(),
        lease_s=st.sampled_from([None, None, 0, 60, 600, 10**6, INFINITE_S]),
        answers=st.lists(st.booleans(), max_size=3),
    )
    def say(
        self,
        kind: MessageType | None,
        machine: Machine,
        card: int,
        stage: int,
        wanted: IPv4Address | str | None,
        chosen: IPv4Address | None,
        has: IPv4Address | str | None,
        where: str,
        boots: bool,
        lease_s: int | None,
        answers: list[bool],
    ) -> None:
        mac = machine.macs[card % len(machine.macs)]
        options: dict[int, bytes] = {} if kind is None else {53: bytes((kind,))}
        if client_id := machine.client_ids()[stage]:
            options[61] = client_id
        identity = f"id:{client_id.hex()}" if self.settings["match_client_id"] and client_id else mac
        if isinstance(wanted, str):
            wanted = self.offered.get(identity)
        if isinstance(has, str):
            has = next((at for at, promise in self.promises.items() if promise.machine is machine), None)
            wanted = None  # renewing
            chosen = None if kind is MessageType.DHCPREQUEST else chosen
        if wanted is not None and kind is not MessageType.DHCPDISCOVER:
            options[50] = wanted.packed
        if chosen is not None and kind is not MessageType.DHCPDISCOVER:
            options[54] = chosen.packed
        if lease_s is not None:
            options[51] = lease_s.to_bytes(4, "big")
        if where == "far" and machine in BEHIND_ONE_PORT:
            options[82] = b"\1\4eth1"
        if boots:
            options |= {60: b"PXEClient:Arch:00007:UNDI:003016", 93: b"\0\7", 97: b"\0" + bytes(15) + b"\7"}
        message = Message(
            wire.Op.BOOTREQUEST,
            xid=int(self.now) & 0xFFFF,
            chaddr=bytes.fromhex(mac.replace(":", "")),
            ciaddr=has or NO_ADDRESS,
            giaddr=RELAY if where == "far" else NO_ADDRESS,
            options=options,
        )
        arrival = {
            "beside": Arrival(OURS_BESIDE),
            "unicast": Arrival(OURS, unicast=True),
            "4011": Arrival(OURS, unicast=True, port=BOOT_SERVER_PORT, source=has or NO_ADDRESS),
        }.get(where, Arrival(OURS))
        if kind is MessageType.DHCPRELEASE:
            self.gives_back(machine, message.ciaddr)
        if kind is MessageType.DHCPDECLINE and wanted is not None:
            self.gives_back(machine, wanted)
        if kind is MessageType.DHCPREQUEST and chosen is OTHER_SERVER:
            self.offer_ends(identity)
        data = message.encode()
        assert wire.decode(data) == message
        done = self.fast.receive(data, arrival, self.now) if self.short_way else None
        actions = self.server.receive(message, arrival, self.now) if done is None else done
        self.carry_out(actions, machine, identity, message, arrival, answers)

    @rule(
        machine=st.sampled_from(MACHINES),
        stage=st.integers(0, 2),
        where=st.sampled_from(["here", "here", "far"]),
        lease_s=st.sampled_from([None, None, 600, INFINITE_S]),
    )
    def get_an_address(self, machine: Machine, stage: int, where: str, lease_s: int | None) -> None:
        """What most do."""
        for kind in (MessageType.DHCPDISCOVER, MessageType.DHCPREQUEST):
            self.say(kind, machine, 0, stage, "offered", OURS, None, where, True, lease_s, [])

    @rule(
        order=st.permutations(MACHINES),
        where=st.sampled_from(["here", "far"]),
        step=st.sampled_from([MessageType.DHCPDISCOVER, MessageType.DHCPREQUEST, None]),
        chosen=st.sampled_from([OURS, OURS, OTHER_SERVER]),
    )
    def all_at_once(self, order: list[Machine], where: str, step: MessageType | None, chosen: IPv4Address) -> None:
        """There are more of them than addresses."""
        for machine in order:
            for kind in (MessageType.DHCPDISCOVER, MessageType.DHCPREQUEST) if step is None else (step,):
                self.say(kind, machine, 0, 1, "offered", chosen, None, where, False, None, [])

    def gives_back(self, machine: Machine, address: IPv4Address) -> None:
        """The machine no longer uses it, whether we hear that or not."""
        if (promise := self.promises.get(address)) is not None and promise.machine is machine:
            del self.promises[address]

    def offer_ends(self, identity: str) -> None:
        self.offers = {at: offer for at, offer in self.offers.items() if offer[0] != identity}

    def carry_out(
        self,
        actions: Sequence[Action | Datagram],
        machine: Machine,
        identity: str,
        ask: Message,
        arrival: Arrival,
        answers: list[bool],
    ) -> None:
        """Do what a transport does, and look at each answer."""
        stored: Lease | None = None
        for action in actions:
            match action:
                case Store(lease):
                    if lease.state is State.DECLINED:
                        self.quarantine[lease.address] = lease.expires
                        self.offers.pop(lease.address, None)
                    if not self.disk.put(lease):
                        return
                    stored = lease
                case Probe(then=then):
                    if answers and answers.pop():
                        self.offer_ends(identity)
                        in_use = self.server.in_use(action, self.now + 0.2)
                        self.carry_out(in_use, machine, identity, ask, arrival, answers)
                    else:
                        self.carry_out(then, machine, identity, ask, arrival, answers)
                case Send():
                    packed = action.pack()
                    assert 300 <= len(packed.data) <= min(max(action.size_limit, 300), 1472)
                    self.sent(packed.data, action.destination, machine, identity, ask, arrival, stored)
                case Datagram(data, destination):
                    self.sent(data, destination, machine, identity, ask, arrival, stored)
                case Happened(detail=detail) | Ignored(detail=detail):
                    assert detail.isprintable()
                case Left():
                    raise AssertionError("nobody here is `pxeboot probe`")

    def sent(
        self,
        data: bytes,
        destination: Destination,
        machine: Machine,
        identity: str,
        ask: Message,
        arrival: Arrival,
        stored: Lease | None,
    ) -> None:
        reply = wire.decode(data)
        address, kind = reply.yiaddr, reply.options.get(53, b"\5")[0]
        assert (reply.op, reply.xid, reply.chaddr, reply.hops) == (wire.Op.BOOTREPLY, ask.xid, ask.chaddr, 0)
        assert {50, 55, 57}.isdisjoint(reply.options)
        assert reply.options.get(61) == ask.options.get(61) or len(data) >= 548
        to = destination.address
        assert to == EVERYBODY or to in ADDRESSES or to in (reply.ciaddr, arrival.source)
        if kind == MessageType.DHCPNAK:
            assert arrival.address != OURS_BESIDE
            assert (address, reply.ciaddr, reply.siaddr) == (NO_ADDRESS, NO_ADDRESS, NO_ADDRESS)
            assert set(reply.options) <= {53, 54, 56, 60, 61, 82}
            for refused in (ask.ciaddr, IPv4Address(ask.options.get(50, bytes(4)))):
                self.gives_back(machine, refused)
            return
        if address == NO_ADDRESS:
            assert {51, 58, 59}.isdisjoint(reply.options)
            return
        assert arrival.address != OURS_BESIDE
        assert arrival.port != BOOT_SERVER_PORT
        self.may_be_given(address, machine, identity, renews=ask.ciaddr == address)
        lease_s = int.from_bytes(reply.options.get(Option.IP_ADDRESS_LEASE_TIME, b"\xff" * 4), "big")
        host = self.server.plan.by_address.get(address)
        if kind == MessageType.DHCPOFFER:
            assert reply.ciaddr == NO_ADDRESS
            if host is None:
                self.offer_ends(identity)
                self.offers[address] = identity, self.now + self.server.leases.offer_hold_s
            self.offered[identity] = address
            return
        self.offer_ends(identity)
        until = self.now + lease_s if lease_s != INFINITE_S else inf
        if 51 in reply.options:
            t1, t2 = (int.from_bytes(reply.options.get(code, b""), "big") for code in (58, 59))
            assert lease_s == INFINITE_S or 0 < t1 < t2 < lease_s
        if host is None:
            assert stored is not None, "a lease is on disk before its ACK"
            assert (stored.address, stored.state) == (address, State.BOUND)
            assert stored.expires >= until - 1
        self.promises[address] = Promise(machine, until, host is not None)
        self.quarantine.pop(address, None)

    def may_be_given(self, address: IPv4Address, machine: Machine, identity: str, *, renews: bool) -> None:
        """Nobody else has it, was told that he can have it, or owns it."""
        assert address not in FORBIDDEN
        promise = self.promises.get(address)
        assert promise is None or promise.machine is machine or promise.until <= self.now
        host = self.server.plan.by_address.get(address)
        if host is not None:
            if host.name == "n4":
                assert machine in BEHIND_ONE_PORT or renews, "past the relay, only its address tells"
            else:
                assert machine is MACHINES[2] or host.name != "n3", "a listed address is its owner's"
                assert machine.macs == host.macs or host.name == "n3"
            return
        client, until = self.offers.get(address, (identity, -inf))
        assert client == identity or until <= self.now, "an offer stands for its time"
        assert self.quarantine.get(address, -inf) <= self.now

    @rule(seconds=st.sampled_from([0.3, 4, 59, 61, 900, 3000, 3700, 7300, 90_000]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def housekeep(self) -> None:
        self.server.expire(self.now)
        assert self.server.deadline is None or self.server.deadline > self.now

    @rule(by_s=st.sampled_from([-86400, 86400, 315_360_000, -1_000_000_000]))
    def wall_clock_is_set(self, by_s: int) -> None:
        if self.now + by_s < 0:
            return
        self.now += by_s
        self.server.shift(by_s)
        self.promises = {
            at: Promise(promise.machine, promise.until + by_s, promise.is_static)
            for at, promise in self.promises.items()
        }
        self.offers = {at: (client, until + by_s) for at, (client, until) in self.offers.items()}
        self.quarantine = {at: until + by_s for at, until in self.quarantine.items()}
        self.disk.work()
        self.disk.stored = {lease.address: lease for lease in self.server.records()}

    @rule(nodes=st.sampled_from(FARMS))
    def reload(self, nodes: list[dict[str, Any]]) -> None:
        self.nodes = nodes
        self.server.reload(plan(farm(nodes, **self.settings)))

    @rule(fails=st.booleans())
    def disk_fails(self, fails: bool) -> None:
        self.disk.fails = fails
        if not fails:
            self.disk.work()

    @rule()
    def crash(self) -> None:
        """Only what was stored survives. Nothing is stored of a listed machine: its address is its own for as long
        as the configuration says so, and no longer; but for one that is listed by its port alone."""
        self.disk.waiting = {}
        self.start()
        self.promises = {at: each for at, each in self.promises.items() if not each.is_static or self.knows(at, each)}
        self.offers, self.offered = {}, {}
        self.quarantine = {at: until for at, until in self.quarantine.items() if self.is_declined(at)}

    def knows(self, address: IPv4Address, promise: Promise) -> bool:
        """Whether the disk knows what a machine was told. Nobody waits for that where the address is its port's."""
        record = self.disk.stored.get(address)
        ours = record is not None and record.state is State.BOUND and record.mac in promise.machine.macs
        return ours and record is not None and record.expires >= promise.until - 1

    def is_declined(self, address: IPv4Address) -> bool:
        record = self.disk.stored.get(address)
        return record is not None and record.state is State.DECLINED

    @invariant()
    def records_are_bounded(self) -> None:
        assert len(self.server.leases) <= len(ADDRESSES)

    @invariant()
    def who_has_an_address_is_known(self) -> None:
        for address, promise in self.promises.items():
            if promise.until > self.now and not promise.is_static:
                lease = self.server.leases.bound(address, self.now)
                assert lease is not None
                assert lease.mac in promise.machine.macs


NoAddressIsTwoMachines.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
test_no_address_is_two_machines = NoAddressIsTwoMachines.TestCase
