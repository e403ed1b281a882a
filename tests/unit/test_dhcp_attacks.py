"""dhcp: what somebody on the network may try (A-01 to A-16), and that the next honest machine is served."""

import struct
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhcp import wire
from dhcp.engine import Action, Happened, Ignored, Server, Store
from dhcp.fast import FastPath
from dhcp.leases import MOST_OFFERS, OFFER_HOLD_S, Leases
from dhcp.options import MessageType, Option
from dhcp.plan import DynamicPool, plan
from dhcp.replies import Destination, Send
from dhcp.request import Arrival, Reason
from dhcp.search import Queue
from dhcp.wire import Message
from tests.support.dhcp_clients import (
    ARRIVAL,
    KNOWN,
    OWN_ADDRESS,
    SERVER,
    STRANGER,
    UNICAST,
    farm,
    message,
    recorded,
)
from tests.unit.test_dhcp_engine import (
    NOBODY,
    NOW,
    OTHER,
    ack,
    answer,
    bound,
    decline,
    discover,
    inform,
    offer,
    release,
    selecting,
    sent,
    serving,
)

MALFORMED = "malformed"
HEADER = discover().encode()[:236]
COOKIE = wire.MAGIC_COOKIE
PXE = recorded("D-OVMF-PXE").encode()


def heard(server: Server, data: bytes, arrival: Arrival = ARRIVAL, now: float = NOW) -> object:
    """What comes of a datagram, as the transport would have it."""
    try:
        said = wire.decode(data)
    except wire.MalformedPacket:
        return MALFORMED
    return answer(server.receive(said, arrival, now))


def with_byte(at: int, value: int) -> bytes:
    """A DHCPDISCOVER of a listed machine with one byte of its header changed."""
    data = bytearray(discover().encode())
    data[at] = value
    return bytes(data)


def with_options(options: str | bytes, chaddr: str = KNOWN) -> bytes:
    """A message with exactly these bytes behind the cookie."""
    tail = bytes.fromhex(options) if isinstance(options, str) else options
    return HEADER[:28] + bytes.fromhex(chaddr.replace(":", "")).ljust(16, b"\0") + HEADER[44:] + COOKIE + tail


SILENT = [
    pytest.param(with_byte(0, 2), Reason.NOT_A_REQUEST, id="A-01-op-2"),
    pytest.param(with_byte(0, 7), MALFORMED, id="A-01-op-7"),
    pytest.param(with_byte(239, 0), MALFORMED, id="A-01-no-cookie"),
    pytest.param(with_options("ff", STRANGER), Reason.BOOTP, id="A-01-no-53-is-bootp"),
    *(
        pytest.param(with_options(tail), Reason.NOT_A_REQUEST, id=f"A-01-53-{tail[2:]}")
        for tail in ("3500ff", "35020101ff", "350100ff", "350102ff", "350163ff")
    ),
    pytest.param(with_byte(2, 0), Reason.NO_MACHINE, id="A-02-hlen-0"),
    pytest.param(with_byte(2, 17), MALFORMED, id="A-02-hlen-17"),
    pytest.param(with_byte(2, 255), MALFORMED, id="A-02-hlen-255"),
    *(
        pytest.param(with_options("350101ff", chaddr), Reason.NO_MACHINE, id=f"A-02-{chaddr}")
        for chaddr in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:09")
    ),
    *(
        pytest.param(discover(giaddr=IPv4Address(giaddr)).encode(), Reason.BAD_RELAY, id=f"A-07-{giaddr}")
        for giaddr in (
            *("127.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", str(SERVER)),
            *("10.77.0.255", "10.77.0.0", "10.78.0.255"),
        )
    ),
    pytest.param(
        discover(giaddr=IPv4Address("10.78.0.255"), options={82: b"\5\4\x0a\x4d\0\0"}).encode(),
        Reason.BAD_RELAY,
        id="A-07-a-broadcast-with-a-link-elsewhere",
    ),
    *(
        pytest.param(with_options(f"3501{kind:02x}ff"), Reason.NOT_A_REQUEST, id=f"A-15-type-{kind}")
        for kind in (2, 5, 6, 9, 10, 11, 13, 17, 18, 255)
    ),
]


@pytest.mark.parametrize(("data", "expected"), SILENT)
@pytest.mark.parametrize("arrival", [ARRIVAL, UNICAST], ids=["broadcast", "unicast"])
def test_what_no_client_says_is_silent_and_the_next_machine_is_served(
    data: bytes, expected: object, arrival: Arrival
) -> None:
    server = serving()
    assert heard(server, data, arrival) == expected
    assert heard(server, discover().encode()) == offer(OWN_ADDRESS)


@pytest.mark.parametrize("chaddr", ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:09"])
def test_a_02_nor_does_the_short_way_answer_who_is_no_machine(chaddr: str) -> None:
    server = serving()
    fast = FastPath(server)
    for mac in (STRANGER, OTHER):
        assert fast.receive(discover(mac).encode(), ARRIVAL, NOW)
    done = fast.receive(discover(chaddr=bytes.fromhex(chaddr.replace(":", ""))).encode(), ARRIVAL, NOW)
    assert not [action for action in done or () if not isinstance(action, Ignored)]


PLAIN = bytes.fromhex("350101")
BROKEN = {
    "an-option-past-the-end": PLAIN + bytes.fromhex("0c50") + b"short",
    "no-end": PLAIN,
    "a-code-without-length": PLAIN + b"\x0c",
    "1000-pads": PLAIN + bytes(1000) + b"\xff",
    "50-of-3": PLAIN + bytes.fromhex("32030a4d00ff"),
    "50-of-0": PLAIN + bytes.fromhex("3200ff"),
    "51-of-2": PLAIN + bytes.fromhex("33020001ff"),
    "57-of-1": PLAIN + bytes.fromhex("390140ff"),
    "55-of-0": PLAIN + bytes.fromhex("3700ff"),
    "54-of-5": PLAIN + bytes.fromhex("36050a4d000101ff"),
    "93-of-3": PLAIN + bytes.fromhex("5d03000700ff"),
    "118-of-1": PLAIN + bytes.fromhex("76010aff"),
}


@pytest.mark.parametrize("tail", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("mac", [KNOWN, STRANGER])
def test_a_03_an_option_of_the_wrong_length_counts_as_absent(tail: bytes, mac: str) -> None:
    server = serving()
    usual = sent(server.receive(wire.decode(with_options(PLAIN + b"\xff", mac)), ARRIVAL, NOW))
    odd = sent(server.receive(wire.decode(with_options(tail, mac)), ARRIVAL, NOW))
    assert usual is not None
    assert odd is not None
    # Who sends 93 says that it boots, and how large its answer may be it says with 57: the rest is alike.
    assert (odd.message.yiaddr, odd.size_limit) == (usual.message.yiaddr, usual.size_limit)
    for code in (1, 3, 6, 15, 51, 54):
        assert odd.message.options[code] == usual.message.options[code]


@pytest.mark.parametrize("size", [0, 1, 255, 300])
def test_a_03_a_client_id_of_any_length_comes_back_as_it_was(size: int) -> None:
    server = serving()
    reply = sent(server.receive(discover(STRANGER, options={57: b"\5\xdc", 61: b"\xff" * size}), ARRIVAL, NOW))
    assert reply is not None
    assert wire.decode(reply.pack().data).options[61] == b"\xff" * size


HOSTILE = (
    *(b"a\0b", b"a\nERROR root has 10.0.0.1", b"$(reboot)", b"`reboot`", b"../../etc/passwd", b"\xff\xfe\x80"),
    *(b"x" * 255, b"\x1b[2J\x1b]0;owned\x07", b"{{7*7}}", b"%s%n", b"a" * 64 + b".b", b"\0" * 255),
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_04_text_of_a_client_is_never_a_name_and_never_raw_in_a_line(text: bytes) -> None:
    server = serving(limits={"clients_per_circuit": 1})
    relay = {"giaddr": IPv4Address("10.77.0.254")}
    wire_form = bytes((1, 0, 0)) + text
    dns_form = bytes((5, 0, 0, min(len(text), 255))) + text
    asks = [
        message(kind, mac, options={code: value}, **more)
        for kind in (MessageType.DHCPDISCOVER, MessageType.DHCPREQUEST, MessageType.DHCPINFORM, None)
        for mac in (KNOWN, STRANGER, OTHER)
        for code, value in (
            *((12, text), (60, text), (60, b"PXEClient:" + text), (60, b"U-Boot." + text), (77, text), (43, text)),
            *((56, text), (81, wire_form), (81, dns_form), (53, text)),
        )
        for more in ({}, relay | {"options": {code: value, 82: b"\1" + bytes((min(len(text), 200),)) + text[:200]}})
        if "options" not in more
    ]
    asks += [
        discover(mac, giaddr=relay["giaddr"], options={82: bytes((1, min(len(text), 200))) + text[:200]})
        for mac in (STRANGER, OTHER)
    ]
    for ask in asks:
        for action in server.receive(ask, ARRIVAL, NOW):
            if isinstance(action, Happened | Ignored):
                assert action.detail.isprintable(), "one line of text, whatever a client says"
            if isinstance(action, Send):
                name = action.message.options.get(Option.HOST_NAME, b"n1")
                assert name in (b"n1", b"node-020000000099", b"node-020000000098")
                assert text not in action.message.options.get(Option.CLIENT_FQDN, b"")
    assert answer(server.receive(discover(options={81: wire_form, 12: text}), ARRIVAL, NOW)) == offer(OWN_ADDRESS)


def test_a_05_a_unicast_from_nowhere_with_odd_options_is_silent() -> None:
    server = serving()
    for n in range(256):
        ask = message(
            MessageType.DHCPREQUEST,
            STRANGER,
            ciaddr=IPv4Address("192.0.2.9"),
            options={n or 12: bytes(n % 7), 53: b"\3"},
        )
        if n not in (50, 54, 118):
            assert answer(server.receive(ask, UNICAST, NOW)) in (Reason.NO_NETWORK, Reason.NOT_A_REQUEST)


@pytest.mark.parametrize("relayed", [False, True])
@pytest.mark.parametrize(
    "value",
    [b"\5\4\x0a\x4e\0\0", b"\1\xff", b"\1", bytes(255), b"\xff" * 255, b"\x0b\x04\x0a\1\1\1", b"\5\x03abc" * 80],
)
def test_a_06_what_a_client_says_as_a_relay_changes_nothing_and_fits(value: bytes, relayed: bool) -> None:
    giaddr = IPv4Address("10.77.0.254") if relayed else wire.NO_ADDRESS
    server = serving()
    reply = sent(server.receive(recorded("D-OVMF-PXE", giaddr=giaddr, options={82: value}), ARRIVAL, NOW))
    assert reply is not None
    packed = reply.pack()
    assert len(packed.data) <= 1472
    if not relayed:
        assert (reply.message.yiaddr, reply.message.options[54]) == (OWN_ADDRESS, SERVER.packed)
    assert wire.decode(packed.data).options.get(82, value) == value


@pytest.mark.parametrize("ciaddr", ["224.0.0.9", "255.255.255.255", "127.0.0.1", "192.0.2.1", "10.77.0.255"])
@pytest.mark.parametrize("mac", [KNOWN, STRANGER])
def test_a_08_an_ack_is_sent_to_no_address_but_the_one_it_is_about(ciaddr: str, mac: str) -> None:
    server = serving()
    offered = sent(server.receive(discover(mac), ARRIVAL, NOW))
    assert offered is not None
    address = offered.message.yiaddr
    for options in ({50: address.packed, 54: SERVER.packed}, {50: address.packed}):
        ask = message(MessageType.DHCPREQUEST, mac, ciaddr=IPv4Address(ciaddr), options=options)
        reply = sent(server.receive(ask, ARRIVAL, NOW))
        assert reply is not None
        assert reply.message.ciaddr == wire.NO_ADDRESS
        assert reply.destination == Destination(address, 68, ask.chaddr)
    assert isinstance(answer(server.receive(inform(ciaddr), UNICAST, NOW)), Reason)


def macs() -> Iterator[str]:
    """MACs that nobody has."""
    return (f"02:aa:{n >> 24:02x}:{n >> 16 & 255:02x}:{n >> 8 & 255:02x}:{n & 255:02x}" for n in count())


def pool_of(first: str, last: str) -> Server:
    """A server with one pool, and n1 at 10.77.0.10."""
    return serving(subnets=[{"subnet": "10.77.0.0/16", "pool": f"{first}-{last}"}])


def test_a_10_a_storm_of_requests_writes_nothing_and_one_of_releases_no_more_than_a_record_each() -> None:
    server = serving()
    asks = [discover(STRANGER, options={50: NOBODY.packed}), selecting(NOBODY, STRANGER)]
    stores = [
        action.lease
        for n in range(1000)
        for ask in asks
        for action in server.receive(ask, ARRIVAL, NOW + n / 1000)
        if isinstance(action, Store)
    ]
    assert len(set(stores)) == 1, "the same record again, which the store knows to be on disk"
    cycle = [*asks, release(NOBODY, STRANGER)]
    for n in range(1000):
        for ask in cycle:
            server.receive(ask, ARRIVAL, NOW + 1 + n / 1000)
    assert len(server.leases) == 1


def test_a_11_made_up_machines_exhaust_the_pool_and_nothing_else() -> None:
    server = pool_of("10.77.1.0", "10.77.1.255")
    source = macs()
    tracemalloc.start()
    try:
        for _ in range(1000):
            server.receive(discover(next(source)), ARRIVAL, NOW)
        before = tracemalloc.get_traced_memory()[0]
        for n in range(5000):
            server.receive(discover(next(source)), ARRIVAL, NOW + n / 1000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 5000 * 50, "5 MB for 100,000 packets"
    assert server.counts[Reason.POOL_EMPTY] == 6000 - 256
    assert heard(server, PXE) == offer(OWN_ADDRESS), "a listed machine"
    assert heard(server, discover(STRANGER).encode(), now=NOW + OFFER_HOLD_S - 1) == Reason.POOL_EMPTY
    assert isinstance(heard(server, discover(STRANGER).encode(), now=NOW + OFFER_HOLD_S), tuple)


def test_a_11_a_large_pool_does_not_take_up_the_memory() -> None:
    pool = DynamicPool(int(IPv4Address("10.0.0.1")), int(IPv4Address("10.255.255.254")), frozenset())
    known, source = Leases((), NOW, 3600), macs()
    first = next(source)
    held = known.choose(first, (pool,), None, (), NOW)
    assert held is not None
    known.bind(first, held, 3600, NOW)
    for _ in range(MOST_OFFERS):
        mac = next(source)
        address = known.choose(mac, (pool,), None, (), NOW)
        assert address is not None
        known.offer(mac, address, NOW)
    assert known.choose(mac, (pool,), None, (), NOW) == address, "who has an offer keeps it"
    assert known.choose(next(source), (pool,), IPv4Address("10.9.9.9"), (), NOW) is None
    assert known.choose(first, (pool,), None, (), NOW) == held, "who has a lease keeps it"
    assert known.choose(next(source), (pool,), None, (), NOW + OFFER_HOLD_S) is not None


def test_a_11_addresses_that_are_freed_again_and_again_fill_no_queue() -> None:
    queue = Queue()
    for n in range(10_000):
        for address in (1, 2):
            queue.put(address, -inf)
        assert queue.first(lambda _, later=NOW + n + 86400: later, (), NOW + n) is None  # type: ignore[misc]
    assert len(queue) < 200
    assert queue.first(lambda _: -inf, (), NOW + 2 * 86400) in (1, 2)


def test_an_offer_that_lapsed_and_went_to_another_is_no_longer_the_first_ones() -> None:
    server = serving(subnets=[{"subnet": "10.77.0.0/24", "pool": "10.77.0.8-10.77.0.8"}])
    late, second, third = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
    assert answer(server.receive(discover(late), ARRIVAL, NOW)) == offer(NOBODY)
    assert answer(server.receive(discover(second), ARRIVAL, NOW + 61)) == offer(NOBODY)
    elsewhere = selecting(NOBODY, late, IPv4Address("10.77.0.2"))
    assert answer(server.receive(elsewhere, ARRIVAL, NOW + 62)) == Reason.OTHER_SERVER
    assert answer(server.receive(decline(NOBODY, late), ARRIVAL, NOW + 62)) == Reason.NOT_OURS
    assert answer(server.receive(discover(third), ARRIVAL, NOW + 62)) == Reason.POOL_EMPTY
    assert answer(server.receive(selecting(NOBODY, second), ARRIVAL, NOW + 63)) == ack(NOBODY)
    server.expire(NOW + 200)
    assert server.deadline is None


FORGED = [
    pytest.param(release(NOBODY, OTHER), Reason.NOT_OURS, id="A-12-release-by-another"),
    pytest.param(decline(NOBODY, OTHER), Reason.NOT_OURS, id="A-12-decline-by-another"),
    pytest.param(release(OWN_ADDRESS, OTHER), Reason.NOT_OURS, id="A-12-release-of-a-static-address"),
    pytest.param(decline(OWN_ADDRESS, OTHER), Reason.NOT_OURS, id="A-12-decline-of-a-static-address"),
    pytest.param(
        replace(release(NOBODY, OTHER), options={53: b"\7", 61: b"\1" + bytes.fromhex(STRANGER.replace(":", ""))}),
        Reason.NOT_OURS,
        id="A-12-release-with-the-owners-client-id",
    ),
]


@pytest.mark.parametrize(("ask", "expected"), FORGED)
def test_a_12_what_somebody_else_gives_back_stays_its_owners(ask: Message, expected: Reason) -> None:
    server = serving(bound(STRANGER))
    assert answer(server.receive(ask, UNICAST, NOW)) == expected
    assert list(server.leases) == [bound(STRANGER)]
    assert answer(server.receive(discover(STRANGER), ARRIVAL, NOW)) == offer(NOBODY)
    assert answer(server.receive(discover(), ARRIVAL, NOW)) == offer(OWN_ADDRESS)


def test_a_12_a_static_address_is_never_put_aside() -> None:
    server = serving()
    for _ in range(30):
        assert not [a for a in server.receive(decline(OWN_ADDRESS, KNOWN), ARRIVAL, NOW) if isinstance(a, Store)]
    assert answer(server.receive(discover(), ARRIVAL, NOW)) == offer(OWN_ADDRESS)


@pytest.mark.parametrize("short_way", [True, False])
def test_a_16_a_lease_that_is_asked_for_again_and_again_costs_no_more_each_time(short_way: bool) -> None:
    """Of 2^17 packets by the short way: more than 16 bits count, and nothing here counts in more bits than that."""
    server = Server(plan(farm()), (), NOW)
    fast = FastPath(server)
    asks = [ask.encode() for ask in (discover(STRANGER, options={50: NOBODY.packed}), selecting(NOBODY, STRANGER))]

    def ask_again(first: int, last: int) -> None:
        for n in range(first, last):
            for ask in asks:
                data = ask[:4] + struct.pack("!I", n) + ask[8:]
                done = (fast.receive(data, ARRIVAL, NOW + n / 100) if short_way else None) or server.receive(
                    wire.decode(data), ARRIVAL, NOW + n / 100
                )
            assert any(isinstance(action, Store) for action in done)

    rounds = 1 << (16 if short_way else 12)
    ask_again(0, rounds)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        ask_again(rounds, rounds + 1000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1000 * 8, "not even a number of each round is kept"
    assert fast.hits == (2 * (rounds + 1000) - 2 if short_way else 0), "all but the first of either kind"
    assert len(server.leases) == 1
    assert server.leases.steps < 20


def actions_of(server: Server, data: bytes) -> list[Action]:
    try:
        return server.receive(wire.decode(data), ARRIVAL, NOW)
    except wire.MalformedPacket:
        return []


@given(st.binary(max_size=400), st.sampled_from([PXE, discover(STRANGER).encode()]), st.data())
def test_bytes_changed_anywhere_raise_nothing(tail: bytes, whole: bytes, data: st.DataObject) -> None:
    server = serving()
    at = data.draw(st.integers(0, len(whole)))
    for datagram in (whole[:at] + tail, whole[:at] + tail + whole[at + len(tail) :], tail):
        for action in actions_of(server, datagram):
            if isinstance(action, Send):
                action.pack()
    assert heard(server, discover().encode()) == offer(OWN_ADDRESS)
