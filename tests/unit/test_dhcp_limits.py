"""dhcp.limits: what unlisted machines may take."""

from typing import Any

from dhcp.engine import Server
from dhcp.limits import COUNTED_S
from dhcp.options import MessageType
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.request import Ignored, Reason
from tests.support.dhcp_clients import ARRIVAL, KNOWN, message
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
