"""dhcp.grants: of the machines behind one port of a switch, one at a time is the one that is listed for it."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import pytest

from config.model import Farm
from dhcp.actions import Store
from dhcp.engine import Holder, Server
from dhcp.fast import FastPath
from dhcp.journal import decode, encode
from dhcp.leases import Lease, State
from dhcp.options import MessageType
from dhcp.plan import Plan, plan
from dhcp.replies import Send
from dhcp.request import Arrival, Ignored
from dhcp.wire import Message
from tests.support.dhcp_clients import message

NOW = 1_790_000_000.0
LEASE_S = 600
SERVER, RELAY, ITS_OWN = (IPv4Address(text) for text in ("10.77.0.1", "10.77.0.254", "10.77.0.10"))
ARRIVAL = Arrival(SERVER, unicast=True)
MACHINE, BMC, SECOND_CARD = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"


def planned(*macs: str, pool: bool = False, listed: bool = True, **known_by: Any) -> Plan:
    subnet = {"subnet": "10.77.0.0/24"} | ({"pool": "10.77.0.100-10.77.0.109"} if pool else {})
    node: dict[str, Any] = {"name": "n1", "ip": str(ITS_OWN), "circuit_id": "eth1", "macs": macs}
    node |= {"dhcp": {"lease_s": LEASE_S}, **known_by}
    pools = [{"name": "workers", "image": "i", "nodes": [node] if listed else []}]
    made = {"dhcp": {"subnets": [subnet]}, "images": {"i": {"path": "/i"}}, "pools": pools}
    return plan(Farm.model_validate(made))


def serving(*macs: str, pool: bool = False, **known_by: Any) -> Server:
    return Server(planned(*macs, pool=pool, **known_by), (), NOW)


def restarted(server: Server, now: float = NOW, after: Plan | None = None) -> Server:
    """A server that finds what another one left on disk."""
    lines = [encode(record) for record in server.records()]
    return Server(after or server.plan, [record for line in lines if (record := decode(line)) is not None], now)


def at_port(kind: MessageType, mac: str, **options: bytes) -> Message:
    sent = {60: b"PXEClient", 82: b"\1\4eth1"} | {int(code[1:]): value for code, value in options.items()}
    return message(kind, mac, giaddr=RELAY, options=sent)


def said(server: Server, ask: Message, now: float = NOW) -> tuple[int, IPv4Address] | str:
    """What is answered, and which address it is about; or why nothing is."""
    for action in server.receive(ask, ARRIVAL, now):
        if isinstance(action, Send):
            return action.message.options[53][0], action.message.yiaddr
        if isinstance(action, Ignored):
            return action.detail
    raise AssertionError("neither")


def discover(server: Server, mac: str, now: float = NOW) -> tuple[int, IPv4Address] | str:
    return said(server, at_port(MessageType.DHCPDISCOVER, mac), now)


def request(server: Server, mac: str, now: float = NOW) -> tuple[int, IPv4Address] | str:
    asked = at_port(MessageType.DHCPREQUEST, mac, o50=ITS_OWN.packed, o54=SERVER.packed)
    return said(server, asked, now)


def renewing(mac: str, kind: MessageType = MessageType.DHCPREQUEST) -> Message:
    """What goes past the relay, so that nothing but its address tells where it is plugged in."""
    return message(kind, mac, ciaddr=ITS_OWN, options={54: SERVER.packed} if kind is MessageType.DHCPRELEASE else {})


OFFERED, ACKNOWLEDGED = (2, ITS_OWN), (5, ITS_OWN)
REFUSED = (6, IPv4Address(0))


def test_the_second_machine_behind_a_port_is_not_the_one_that_is_listed() -> None:
    server = serving()
    assert [discover(server, mac) for mac in (MACHINE, BMC)] == [OFFERED, OFFERED], "nobody is it yet"
    assert request(server, MACHINE) == ACKNOWLEDGED
    assert request(server, BMC) == REFUSED
    why = f"{ITS_OWN}, its port's, is that of {MACHINE}, and 10.77.0.0/24 has no pool"
    assert discover(server, BMC) == why
    assert discover(server, MACHINE) == OFFERED
    assert request(server, MACHINE, NOW + 300) == ACKNOWLEDGED
    assert discover(server, BMC, NOW + LEASE_S + 200) == why, "it was renewed"


def test_who_replaces_a_machine_is_the_one_that_is_listed_once_the_first_ones_time_is_over() -> None:
    server = serving()
    assert request(server, MACHINE) == ACKNOWLEDGED
    assert discover(server, BMC, NOW + LEASE_S - 1) != OFFERED
    assert request(server, BMC, NOW + LEASE_S) == ACKNOWLEDGED


def test_who_renews_past_the_relay_is_the_machine_of_its_port_and_nobody_else_is() -> None:
    server = serving()
    request(server, MACHINE)
    assert said(server, renewing(MACHINE), NOW + 300) == ACKNOWLEDGED
    assert said(server, renewing(BMC), NOW + 300) == REFUSED
    assert discover(server, BMC, NOW + LEASE_S + 200) != OFFERED, "it was renewed"


def test_who_is_first_behind_a_port_is_stored_beside_the_answer_and_not_before_it() -> None:
    server = serving()
    asked = at_port(MessageType.DHCPREQUEST, MACHINE, o50=ITS_OWN.packed, o54=SERVER.packed)
    *_, last = server.receive(asked, ARRIVAL, NOW)
    record = Lease(ITS_OWN, f"port:n1/{MACHINE}", int(NOW) + LEASE_S, mac=MACHINE)
    assert last == Store(record, ours=True)
    assert list(server.records()) == [record]
    assert list(server.leases) == [], "it is no lease of a stranger"
    *_, last = server.receive(renewing(MACHINE, MessageType.DHCPRELEASE), ARRIVAL, NOW + 9)
    assert last == Store(replace(record, state=State.RELEASED, expires=int(NOW) + 9), ours=True)
    assert list(server.records()) == []
    assert request(Server(server.plan, [last.lease], NOW + 9), BMC, NOW + 9) == ACKNOWLEDGED


@pytest.mark.parametrize("macs", [(), (MACHINE,)])
def test_a_server_that_was_started_again_knows_who_is_first_behind_a_port(macs: tuple[str, ...]) -> None:
    server = serving(*macs)
    request(server, MACHINE)
    again = restarted(server, NOW + 9)
    assert discover(again, BMC, NOW + 9) != OFFERED
    assert request(again, BMC, NOW + 9) == REFUSED
    assert said(again, renewing(MACHINE), NOW + 9) == ACKNOWLEDGED
    assert again.who(ITS_OWN, NOW + 9) == server.who(ITS_OWN, NOW) == Holder(MACHINE, "n1", ITS_OWN)
    late = restarted(server, NOW + LEASE_S)
    assert request(late, BMC, NOW + LEASE_S) == ACKNOWLEDGED


def test_a_server_that_was_started_with_a_wrong_clock_lets_the_next_one_have_it_in_the_end() -> None:
    server = serving()
    request(server, MACHINE)
    early = restarted(server, 0.0)
    assert discover(early, BMC, 0.0) != OFFERED
    assert discover(early, BMC, early.plan.longest_promise_s + 1.0) == OFFERED


def test_what_never_ends_is_not_kept_over_a_restart_as_nobody_could_follow_on_a_machine_that_is_gone() -> None:
    server = Server(planned(dhcp={"lease_s": "infinite"}), (), NOW)
    assert request(server, MACHINE) == ACKNOWLEDGED
    assert discover(server, BMC) != OFFERED
    assert request(restarted(server), BMC) == ACKNOWLEDGED


def test_whose_port_is_not_listed_any_more_keeps_its_address_as_a_lease() -> None:
    server = serving()
    request(server, MACHINE)
    again = restarted(server, after=planned(listed=False))
    assert list(again.leases) == [Lease(ITS_OWN, MACHINE, int(NOW) + LEASE_S)]
    assert restarted(again).who(ITS_OWN, NOW) == Holder(MACHINE, None, ITS_OWN)


def test_a_server_that_was_started_again_knows_who_renews_by_his_address() -> None:
    server = serving()
    assert said(server, renewing(MACHINE)) == ACKNOWLEDGED
    assert request(server, BMC) == REFUSED


@pytest.mark.parametrize("kind", [MessageType.DHCPRELEASE, MessageType.DHCPDECLINE])
def test_who_gives_the_address_back_leaves_it_to_the_next(kind: MessageType) -> None:
    server = serving()
    request(server, MACHINE)
    gives_back = renewing(MACHINE, kind)
    if kind is MessageType.DHCPDECLINE:
        gives_back = at_port(kind, MACHINE, o50=ITS_OWN.packed, o54=SERVER.packed)
    server.receive(gives_back, ARRIVAL, NOW)
    assert request(server, BMC) == ACKNOWLEDGED


def test_the_second_one_keeps_the_lease_it_has_until_it_boots_again() -> None:
    server = serving(pool=True)
    request(server, MACHINE)
    offered = discover(server, BMC)
    assert isinstance(offered, tuple)
    has = offered[1]
    assert said(server, at_port(MessageType.DHCPREQUEST, BMC, o50=has.packed, o54=SERVER.packed)) == (5, has)
    rebinding = message(MessageType.DHCPREQUEST, BMC, ciaddr=has, giaddr=RELAY, options={82: b"\1\4eth1"})
    assert said(server, rebinding, NOW + LEASE_S) == (5, has)
    assert discover(server, BMC, NOW + LEASE_S) == OFFERED


def test_a_machine_that_says_who_it_is_is_not_known_by_its_port() -> None:
    uuid = UUID("00112233-4455-6677-8899-aabbccddeeff")
    server = serving(uuid=str(uuid))
    for card in (MACHINE, SECOND_CARD):
        asked = at_port(MessageType.DHCPREQUEST, card, o50=ITS_OWN.packed, o54=SERVER.packed, o97=b"\0" + uuid.bytes)
        assert said(server, asked) == ACKNOWLEDGED
    assert request(server, BMC) == REFUSED


def test_the_second_one_is_a_stranger_and_gets_what_strangers_get() -> None:
    server = serving(pool=True)
    request(server, MACHINE)
    (offer, begins) = server.receive(at_port(MessageType.DHCPDISCOVER, BMC), ARRIVAL, NOW)
    assert isinstance(offer, Send)
    assert IPv4Address("10.77.0.100") <= offer.message.yiaddr <= IPv4Address("10.77.0.109")
    assert f"; {ITS_OWN}, its port's, is that of {MACHINE}; it is not configured" in str(begins)


def test_the_cards_of_a_listed_machine_are_one_machine_at_its_port_too() -> None:
    server = serving(MACHINE, SECOND_CARD)
    assert request(server, MACHINE) == ACKNOWLEDGED
    assert request(server, SECOND_CARD) == ACKNOWLEDGED
    assert discover(server, BMC) != OFFERED


def test_a_listed_card_waits_for_whom_its_port_was_taken_for_the_short_way_too() -> None:
    server = serving(MACHINE)
    assert request(server, BMC) == ACKNOWLEDGED
    ask = message(MessageType.DHCPDISCOVER, MACHINE)
    fast = FastPath(server)
    for _ in range(3):
        assert fast.receive(ask.encode(), Arrival(SERVER), NOW) is None
    assert said(server, ask) == f"{ITS_OWN}, its port's, is that of {BMC}, and 10.77.0.0/24 has no pool"


def test_a_machine_that_is_listed_by_its_card_now_does_not_wait_for_whom_its_port_was() -> None:
    server = serving()
    request(server, MACHINE)
    by_card = planned(SECOND_CARD, circuit_id=None)
    assert restarted(server, after=by_card).who(ITS_OWN, NOW) == Holder(SECOND_CARD, "n1", ITS_OWN)
    [stored] = server.reload(by_card)
    assert stored == Store(Lease(ITS_OWN, f"port:n1/{MACHINE}", 0, State.RELEASED, MACHINE), ours=True)
    asked = message(MessageType.DHCPREQUEST, SECOND_CARD, options={50: ITS_OWN.packed, 54: SERVER.packed})
    for each in (server, restarted(server)):
        assert said(each, asked) == ACKNOWLEDGED


def test_whose_address_is_another_machines_now_keeps_it_as_a_lease_over_a_restart_as_over_a_reload() -> None:
    server = serving()
    request(server, MACHINE)
    for again in (restarted(server, after=planned(name="n2")), server):
        if again is server:
            server.reload(planned(name="n2"))
        assert list(again.leases) == [Lease(ITS_OWN, MACHINE, int(NOW) + LEASE_S)]
        assert request(again, BMC) == REFUSED


def test_a_port_that_is_listed_only_now_is_stored_at_the_reload() -> None:
    server = serving(MACHINE, circuit_id=None)
    asked = message(MessageType.DHCPREQUEST, MACHINE, options={50: ITS_OWN.packed, 54: SERVER.packed})
    assert said(server, asked) == ACKNOWLEDGED
    [stored] = server.reload(planned(MACHINE))
    assert stored == Store(Lease(ITS_OWN, f"card:n1/{MACHINE}", int(NOW) + LEASE_S, mac=MACHINE), ours=True)
    assert request(restarted(server), BMC) == REFUSED


def test_a_wrong_clock_makes_nobody_first_for_years_though_some_leases_never_end() -> None:
    server = serving()
    request(server, MACHINE)
    early = restarted(server, 0.0, planned(dhcp={"lease_s": "infinite"}))
    early.shift(int(NOW))
    assert discover(early, BMC, NOW + 29 * 86400) != OFFERED
    assert discover(early, BMC, NOW + 31 * 86400) == OFFERED
