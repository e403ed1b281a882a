"""dhcp.limits: what unlisted machines may take."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from dhcp.actions import Store
from dhcp.engine import Server
from dhcp.limits import COUNTED_S
from dhcp.options import MessageType
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.request import Ignored, Reason
from tests.support.dhcp_clients import ARRIVAL, KNOWN, SERVER, message
from tests.unit.test_dhcp_request import NOW, RELAY, farm_of


def is_offered(server: Server, mac: str, now: float = NOW, port: bytes = b"") -> bool:
    """Ask, and return whether there was an offer."""
    fields: dict[str, Any] = {"giaddr": RELAY, "options": {82: bytes((1, len(port))) + port}} if port else {}
    (action, *_) = server.receive(message(MessageType.DHCPDISCOVER, mac, **fields), ARRIVAL, now)
    if isinstance(action, Ignored):
        assert action.reason is Reason.TOO_MANY
    return isinstance(action, Send)


def test_so_many_discovers_a_second_and_machines_that_are_listed_always() -> None:
    server = Server(plan(farm_of({"macs": [KNOWN]}, limits={"discovers_per_second": 3})), (), NOW)
    assert [is_offered(server, f"02:00:00:00:00:{n:02x}") for n in range(5)] == [True] * 3 + [False] * 2
    assert is_offered(server, KNOWN)
    assert is_offered(server, "02:00:00:00:00:07", NOW + 0.4)
    assert not is_offered(server, "02:00:00:00:00:08", NOW + 0.4)


def test_so_many_clients_behind_a_port() -> None:
    server = Server(plan(farm_of({"macs": [KNOWN]}, limits={"clients_per_circuit": 2})), (), NOW)
    assert [is_offered(server, f"02:00:00:00:00:0{n}", port=b"p1") for n in range(3)] == [True, True, False]
    assert is_offered(server, "02:00:00:00:00:00", port=b"p1"), "who is counted may ask again"
    assert is_offered(server, "02:00:00:00:00:02", port=b"p2"), "another port"
    assert is_offered(server, KNOWN, port=b"p1")
    assert is_offered(server, "02:00:00:00:00:02", NOW + COUNTED_S + 1, port=b"p1")


def test_limits_that_did_not_change_keep_their_count_over_a_reload() -> None:
    made = plan(farm_of(limits={"discovers_per_second": 1}))
    server = Server(made, (), NOW)
    assert is_offered(server, "02:00:00:00:00:01")
    server.reload(made)
    assert not is_offered(server, "02:00:00:00:00:02")


@pytest.mark.parametrize("limits", [{"clients_per_circuit": 1}, {"discovers_per_second": 1}])
def test_who_takes_an_address_that_was_not_offered_is_counted(limits: dict[str, int]) -> None:
    server = Server(plan(farm_of(limits=limits)), (), NOW)
    got = []
    for n in range(4):
        address = IPv4Address(f"10.77.0.{100 + n}").packed
        how: dict[str, Any] = (
            {"options": {50: address, 54: SERVER.packed}} if n % 2 else {"ciaddr": IPv4Address(address)}
        )
        options = how.pop("options", {}) | {82: b"\1\2p1"}
        ask = message(MessageType.DHCPREQUEST, f"02:00:00:00:03:0{n}", giaddr=RELAY, options=options, **how)
        got.append(next(type(action) for action in server.receive(ask, ARRIVAL, NOW)))
    assert got == [Store, Ignored, Ignored, Ignored]


def test_who_renews_what_he_has_is_not_counted_again() -> None:
    server = Server(plan(farm_of(limits={"discovers_per_second": 1})), (), NOW)
    server.leases.bind("02:00:00:00:03:00", IPv4Address("10.77.0.100"), 3600, NOW)
    for _ in range(3):
        ask = message(MessageType.DHCPREQUEST, "02:00:00:00:03:00", ciaddr=IPv4Address("10.77.0.100"))
        assert not isinstance(server.receive(ask, ARRIVAL, NOW)[0], Ignored)


def test_a_clock_that_is_set_back_leaves_no_port_full() -> None:
    server = Server(plan(farm_of(limits={"clients_per_circuit": 1})), (), NOW)
    assert is_offered(server, "02:00:00:00:00:01", port=b"p1")
    server.shift(-72_000)
    assert not is_offered(server, "02:00:00:00:00:02", NOW - 72_000, port=b"p1")
    assert is_offered(server, "02:00:00:00:00:02", NOW - 72_000 + COUNTED_S + 1, port=b"p1")
