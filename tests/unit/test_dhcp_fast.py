"""dhcp.fast: the short way answers what the engine would."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import Farm
from dhcp import wire
from dhcp.actions import Action, Datagram, Happened, Left, Probe, Store
from dhcp.engine import Server
from dhcp.fast import FastPath
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.request import Arrival, Ignored
from tests.support.dhcp_clients import ARRIVAL, FARM, KNOWN, RECORDED, SECOND, SERVER, farm, message, recorded

WHOLE = sorted(
    name for name, data in RECORDED.items() if data.startswith(wire.MAGIC_COOKIE) and 53 in recorded(name).options
)
NOW = 1_790_000_000.0
RELAY = IPv4Address("10.78.0.1")
ASKS = bytes((1, 3, 6, 12, 15, 28, 51))


def rich_farm() -> Farm:
    """A farm in which machines differ in everything that an answer can hang on."""
    nodes = [
        {"name": "n1", "macs": [KNOWN, SECOND], "ip": "10.77.0.10"},
        {"name": "a-much-longer-name", "macs": ["52:54:00:00:00:02"], "ip": "10.77.0.200", "tags": ["named"]},
        {"name": "n3", "macs": ["52:54:00:00:00:03"], "ip": "10.78.0.3", "tags": ["long"]},
        {"name": "n4", "macs": ["52:54:00:00:00:04"], "ip": "10.77.0.204", "dhcp": {"mtu": 1400}},
        {"name": "another", "macs": ["52:54:00:00:00:08"], "ip": "10.77.0.208", "tags": ["named"]},
        {"name": "n5", "macs": ["52:54:00:00:00:05"], "ip": "10.77.0.205"},
        {"name": "n6", "macs": ["52:54:00:00:00:06"], "ip": "10.77.0.206"},
        {"name": "pi", "macs": ["b8:27:eb:00:00:07"], "ip": "10.77.0.207"},
    ]
    pools = [FARM["pools"][0] | {"nodes": nodes}]
    tags = {"named": {"dhcp": {"options": {"host-name": "everybody"}}}, "long": {"dhcp": {"lease_s": "infinite"}}}
    return Farm.model_validate(FARM | {"pools": pools, "tags": tags})


@dataclass
class Twins:
    """Two servers of one farm: one is asked by the short way, the other never."""

    farm: Farm

    def __post_init__(self) -> None:
        self.plain = Server(plan(self.farm), (), NOW)
        self.server = Server(plan(self.farm), (), NOW)
        self.fast = FastPath(self.server)

    def ask(self, data: bytes, arrival: Arrival, now: float) -> list[object]:
        """Have both answer, and return what they agree on."""
        done = self.fast.receive(data, arrival, now)
        said = wire.decode(data)
        actions: Sequence[Action | Datagram] = self.server.receive(said, arrival, now) if done is None else done
        expected = self.plain.receive(said, arrival, now)
        assert seen(actions) == seen(expected)
        return seen(actions)


def seen(actions: Sequence[Action | Datagram]) -> list[object]:
    """What the world sees of actions."""
    out: list[object] = []
    for action in actions:
        match action:
            case Send():
                out.append((action.pack().data, action.destination, action.source_port, action.message.xid & 0xFFFF))
            case Datagram():
                out.append((action.data, action.destination, action.source_port, action.ident))
            case Probe(address, then):
                out.append((address, seen(then)))
            case Store() | Happened() | Left() | Ignored():
                out.append(action)
    return out


def boots(twins: Twins, mac: str, xid: int, arrival: Arrival = ARRIVAL, **fields: Any) -> bytes:
    """Have a machine get an address, and return it."""
    options = {55: ASKS} | fields.pop("options", {})
    discover = message(MessageType.DHCPDISCOVER, mac, xid=xid, options=options, **fields)
    offer = wire.decode(first(twins.ask(discover.encode(), arrival, NOW)))
    chosen = {50: offer.yiaddr.packed, 54: offer.options[Option.SERVER_IDENTIFIER]} | options
    request = message(MessageType.DHCPREQUEST, mac, xid=xid + 1, options=chosen, **fields)
    return first(twins.ask(request.encode(), arrival, NOW + 1))


def test_a_name_that_is_configured_is_everybodys() -> None:
    twins = Twins(rich_farm())
    for n, mac in enumerate(("52:54:00:00:00:02", "52:54:00:00:00:08")):
        assert wire.decode(boots(twins, mac, n)).options[Option.HOST_NAME] == b"everybody"
    assert twins.fast.hits == 2


def test_percent_signs_are_no_more_than_that() -> None:
    """An answer's form is a format; here every byte that it could trip over is one, on either side."""
    everywhere = FARM["dhcp"] | {"options": {"root-path": "a%b.100%", "merit-dump": "%%s%"}}
    twins = Twins(Farm.model_validate(FARM | {"dhcp": everywhere}))
    for n, mac in enumerate(("24:25:62:25:73:25", "02:25:62:25:25:25")):
        options = {55: ASKS + bytes((14, 17)), 61: b"\0%b%s%"}
        ack = wire.decode(boots(twins, mac, 0x25622573 + n, flags=0x2562, options=options))
        assert ack.options[17] == b"a%b.100%"
    assert twins.fast.hits == 2


def test_who_boots_again_soon_is_told_the_time_that_is_left() -> None:
    twins = Twins(rich_farm())
    for n in range(2):
        boots(twins, f"02:00:00:00:01:{n:02x}", n)
    again = message(MessageType.DHCPDISCOVER, "02:00:00:00:01:00", options={55: ASKS}).encode()
    address = wire.decode(first(twins.ask(again, ARRIVAL, NOW + 3000))).yiaddr.packed
    chosen = {50: address, 54: SERVER.packed, 55: ASKS}
    request = message(MessageType.DHCPREQUEST, "02:00:00:00:01:00", options=chosen).encode()
    hits = twins.fast.hits
    ack = wire.decode(first(twins.ask(request, ARRIVAL, NOW + 3000.5)))
    assert int.from_bytes(ack.options[51], "big") < 86400 - 2990
    assert twins.fast.hits == hits + 1


def test_a_length_that_moves_what_follows_is_not_taken_for_another() -> None:
    """The last one is as long as the first and has the fixed bytes of the second, read at its places."""
    twins = Twins(rich_farm())
    before = message(MessageType.DHCPDISCOVER, "02:00:00:00:01:00").encode()
    head, asks = before[: before.index(b"\x35\1\1") + 3], bytes((55, 3, 12, 1, 3, 255))
    for data in (
        head + bytes((61, 7)) + bytes(7) + asks,
        head + bytes((61, 9)) + bytes(9) + asks,
        head + bytes((61, 9)) + bytes(7) + asks,
    ):
        for _ in range(2):
            twins.ask(data, ARRIVAL, NOW)


def test_a_static_address_that_somebody_leases_is_not_given_away() -> None:
    twins = Twins(rich_farm())
    boots(twins, "02:00:00:00:01:00", 1)
    taken = next(iter(twins.server.leases)).address
    nodes = [
        {"name": "late", "macs": ["52:54:00:00:01:01"], "ip": str(taken)},
        {"name": "other", "macs": ["52:54:00:00:01:02"], "ip": "10.77.0.220"},
    ]
    new = plan(Farm.model_validate(FARM | {"pools": [FARM["pools"][0] | {"nodes": nodes}]}))
    twins.plain.reload(new)
    twins.server.reload(new)
    boots(twins, "52:54:00:00:01:02", 1)
    assert wire.decode(boots(twins, "52:54:00:00:01:01", 3)).yiaddr != taken


@pytest.mark.parametrize("odd", [b"", b"\1" + bytes(16), bytes(16), b"\0RPi4" + bytes(12)])
def test_an_odd_uuid_comes_back_only_as_the_engine_says(odd: bytes) -> None:
    twins = Twins(rich_farm())
    for n, uuid in enumerate((b"\0" + bytes(range(16)), b"\0" + bytes(range(1, 17)), odd)):
        boots(twins, KNOWN, n, options={60: b"PXEClient:Arch:00000", 93: b"\0\0", 97: uuid})


@pytest.mark.parametrize("odd", [b"\1" + bytes(16), b"\0RPi4" + bytes(12)])
def test_nothing_is_learnt_from_an_odd_uuid(odd: bytes) -> None:
    twins = Twins(rich_farm())
    for n, uuid in enumerate((odd, b"\0" + bytes(range(16)), odd, bytes(17))):
        boots(twins, KNOWN, n, options={60: b"PXEClient:Arch:00000", 93: b"\0\0", 97: uuid})


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"])
def test_a_mac_that_is_no_machines_is_answered_by_neither(mac: str) -> None:
    twins = Twins(farm())
    boots(twins, KNOWN, 1)
    for n in range(3):
        boots(twins, f"02:00:00:00:01:{n:02x}", n)
    for kind in (MessageType.DHCPDISCOVER, MessageType.DHCPREQUEST):
        options = {55: ASKS} | ({50: ip("10.77.0.9"), 54: SERVER.packed} if kind is MessageType.DHCPREQUEST else {})
        (action,) = twins.ask(message(kind, mac, options=options).encode(), ARRIVAL, NOW)
        assert isinstance(action, Ignored)


def first(answers: list[object]) -> bytes:
    """The first answer that is sent."""
    return next(answer[0] for answer in answers if isinstance(answer, tuple) and isinstance(answer[0], bytes))


def test_the_second_machine_of_a_kind_is_answered_the_short_way() -> None:
    twins = Twins(rich_farm())
    for n, mac in enumerate((KNOWN, SECOND, "52:54:00:00:00:06")):
        boots(twins, mac, n * 2)
    assert twins.fast.hits == 4
    for n in range(4):
        boots(twins, f"02:00:00:00:01:{n:02x}", n)
    assert twins.fast.hits == 4 + 6


def test_machines_with_words_of_their_own_are_left_to_the_engine() -> None:
    twins = Twins(rich_farm())
    boots(twins, KNOWN, 1)
    for mac in ("52:54:00:00:00:04", "b8:27:eb:00:00:07"):
        boots(twins, mac, 2)
    assert twins.fast.hits == 0


def test_a_new_farm_counts_at_once() -> None:
    twins = Twins(rich_farm())
    boots(twins, KNOWN, 1)
    boots(twins, SECOND, 3)
    other = plan(farm(lease_s=7200))
    twins.plain.reload(other)
    twins.server.reload(other)
    boots(twins, KNOWN, 5)


@pytest.mark.parametrize("name", WHOLE)
def test_every_recorded_client_is_answered_alike(name: str) -> None:
    twins = Twins(rich_farm())
    for n, mac in enumerate((KNOWN, SECOND, "52:54:00:00:00:06", "02:00:00:00:00:01", "02:00:00:00:00:02")):
        for flags in (0, 0x8000):
            twins.ask(recorded(name, mac, flags=flags, xid=n).encode(), ARRIVAL, NOW)


MACS = [KNOWN, SECOND, *(f"52:54:00:00:00:0{n}" for n in range(2, 8)), "b8:27:eb:00:00:07"]
MACS += [f"02:00:00:00:02:{n:02x}" for n in range(12)]
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        12: st.just(b"x"),
        51: st.sampled_from([bytes(4), b"\0\0\0\x50", b"\xff\xff\xff\xff", b"\1"]),
        55: st.sampled_from([b"", ASKS, bytes((1, 3, 43, 60, 66, 67, 97, 61)), bytes(range(1, 255))]),
        57: st.sampled_from([b"\x02\x40", b"\x05\xdc", b"\x00\x40"]),
        60: st.sampled_from([b"PXEClient:Arch:00000:UNDI:002001", b"HTTPClient:Arch:00016", b"U-Boot.armv8", b"d"]),
        61: st.sampled_from([b"", b"\1\2\3\4\5\6\7", b"\xff" * 40]),
        77: st.just(b"iPXE"),
        82: st.sampled_from([b"\1\1a", b"\5\4\x0a\x4e\0\1", b"\x0b\4\x0a\x4e\0\1", b"\1\xff"]),
        93: st.sampled_from([b"\0\0", b"\0\7", b"\0\x10", b"\xff\xff", b"\0"]),
        97: st.sampled_from([bytes(17), b"\0" + bytes(range(16)), b"\0RPi4" + bytes(12), b"\1" + bytes(16), b"x"]),
    },
)
ASKED = st.tuples(
    st.sampled_from(list(MessageType)),
    st.sampled_from(MACS),
    st.sampled_from([0, 0x8000, 0x0001]),
    st.sampled_from(["", "10.78.0.1", "10.77.0.254", "10.79.0.1", "192.0.2.1"]),
    st.sampled_from([None, "offered", "10.77.0.9", "10.78.0.100", "10.77.0.10", "10.77.0.206"]),
    st.sampled_from([None, str(SERVER), "10.77.0.2"]),
    st.sampled_from(["0.0.0.0", "0.0.0.0", "0.0.0.0", "10.77.0.9"]),
    OPTIONS,
    st.integers(0, 40_000),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ASKED, min_size=1, max_size=40))
def test_any_history_is_answered_alike(history: list[Any]) -> None:
    twins = Twins(rich_farm())
    now = NOW
    offers: dict[str, IPv4Address] = {}
    for n, (kind, mac, flags, giaddr, wanted, chosen, ciaddr, options, later) in enumerate(history):
        now += later / 10 if later > 20_000 else 0.5
        asked = dict(options)
        if wanted is not None:
            asked[50] = offers.get(mac, IPv4Address("10.77.0.9")).packed if wanted == "offered" else ip(wanted)
        if chosen is not None:
            asked[54] = ip(chosen)
        fields: dict[str, Any] = {"flags": flags, "ciaddr": IPv4Address(ciaddr), "xid": n, "options": asked}
        if giaddr:
            fields["giaddr"] = IPv4Address(giaddr)
        arrival = ARRIVAL if n % 3 else Arrival(SERVER, unicast=True, source_port=1067)
        for answer in twins.ask(message(kind, mac, **fields).encode(), arrival, now):
            if isinstance(answer, tuple) and isinstance(answer[0], bytes):
                offers[mac] = wire.decode(answer[0]).yiaddr
    assert sorted(map(str, twins.plain.leases)) == sorted(map(str, twins.server.leases))


@given(st.binary(max_size=80), st.sampled_from(WHOLE))
def test_broken_options_are_left_to_the_engine_or_answered_alike(tail: bytes, name: str) -> None:
    twins = Twins(rich_farm())
    whole = recorded(name).encode()
    for data in (whole[:240] + tail, whole[: 240 + len(tail)], whole.rstrip(b"\0")[:-1] + tail, whole):
        twins.ask(data.ljust(241, b"\0"), ARRIVAL, NOW)


def ip(text: str) -> bytes:
    """The bytes of an address."""
    return IPv4Address(text).packed
