"""dhcp.engine: an address is looked for on the wire before it is offered for the first time."""

from ipaddress import IPv4Address

from dhcp.actions import Action, Probe, Store
from dhcp.engine import MOST_PROBED, Server
from dhcp.leases import MOST_QUARANTINES_A_MINUTE, SOMEBODY, State
from dhcp.options import MessageType
from dhcp.plan import plan
from dhcp.replies import Send
from tests.support.dhcp_clients import ARRIVAL, KNOWN, SERVER, STRANGER, farm, message
from tests.unit.test_dhcp_request import NOW

DISCOVER = message(MessageType.DHCPDISCOVER, STRANGER)


def server() -> Server:
    """A server that probes."""
    return Server(plan(farm(probe=True)), (), NOW)


def probe_in(actions: list[Action]) -> Probe:
    """The probe that comes first."""
    assert isinstance(actions[0], Probe)
    return actions[0]


def test_a_new_address_is_probed_and_then_offered() -> None:
    asked = server()
    (probe,) = asked.receive(DISCOVER, ARRIVAL, NOW)
    assert isinstance(probe, Probe)
    assert isinstance(probe.then[0], Send)
    assert probe.then[0].message.yiaddr == probe.address


def test_who_asks_again_is_not_made_to_wait_again() -> None:
    asked = server()
    address = probe_in(asked.receive(DISCOVER, ARRIVAL, NOW)).address
    assert isinstance(asked.receive(DISCOVER, ARRIVAL, NOW + 1)[0], Send)
    taken = message(MessageType.DHCPREQUEST, STRANGER, options={50: address.packed, 54: SERVER.packed})
    assert isinstance(asked.receive(taken, ARRIVAL, NOW + 2)[0], Store)
    assert isinstance(asked.receive(DISCOVER, ARRIVAL, NOW + 500)[0], Send), "it has the address"


def test_an_address_of_a_machine_that_is_listed_is_its_own() -> None:
    assert isinstance(server().receive(message(MessageType.DHCPDISCOVER, KNOWN), ARRIVAL, NOW)[0], Send)


def test_behind_a_relay_nobody_can_be_asked() -> None:
    ask = message(MessageType.DHCPDISCOVER, STRANGER, giaddr=IPv4Address("10.77.0.254"))
    assert isinstance(server().receive(ask, ARRIVAL, NOW)[0], Send)


def test_an_address_in_use_rests_and_another_one_is_probed() -> None:
    asked = server()
    first = probe_in(asked.receive(DISCOVER, ARRIVAL, NOW))
    actions = asked.in_use(first, NOW + 0.1)
    second = probe_in(actions)
    assert second.address != first.address
    (store,) = (action for action in actions if isinstance(action, Store))
    lease = store.lease
    assert (lease.address, lease.client, lease.state) == (first.address, SOMEBODY, State.DECLINED)
    others = {
        probe_in(asked.receive(message(MessageType.DHCPDISCOVER, f"02:00:00:00:01:0{n}"), ARRIVAL, NOW)).address
        for n in range(4)
    }
    assert first.address not in others


def test_after_some_addresses_in_use_the_client_has_to_ask_again() -> None:
    asked = server()
    probe = probe_in(asked.receive(DISCOVER, ARRIVAL, NOW))
    for _ in range(MOST_PROBED - 1):
        probe = probe_in(asked.in_use(probe, NOW))
    assert [type(action) for action in asked.in_use(probe, NOW)] == [Store]
    assert isinstance(asked.receive(DISCOVER, ARRIVAL, NOW + 4)[0], Probe)


def test_a_network_where_everything_answers_does_not_empty_the_pool() -> None:
    asked = server()
    for n in range(30):
        actions = asked.receive(message(MessageType.DHCPDISCOVER, f"02:00:00:00:02:{n:02x}"), ARRIVAL, NOW)
        while actions and isinstance(actions[0], Probe):
            actions = asked.in_use(actions[0], NOW)
    assert sum(lease.state is State.DECLINED for lease in asked.leases) <= 10


def test_an_address_seen_in_use_is_not_offered_to_who_asks_again() -> None:
    asked = server()
    for n in range(MOST_QUARANTINES_A_MINUTE):
        asked.leases.found_in_use(f"m{n}", IPv4Address("10.77.0.100") + n, NOW)
    probe = probe_in(asked.receive(DISCOVER, ARRIVAL, NOW))
    seen = {probe.address}
    while (actions := asked.in_use(probe, NOW)) and isinstance(actions[0], Probe):
        probe = actions[0]
        assert probe.address not in seen
        seen.add(probe.address)
    assert probe_in(asked.receive(DISCOVER, ARRIVAL, NOW + 4)).address not in seen


def test_one_question_counts_once_against_a_limit_however_many_addresses_are_in_use() -> None:
    asked = Server(plan(farm(probe=True, limits={"discovers_per_second": 2})), (), NOW)
    probe = probe_in(asked.receive(DISCOVER, ARRIVAL, NOW))
    for _ in range(MOST_PROBED - 1):
        probe = probe_in(asked.in_use(probe, NOW))
    assert isinstance(asked.receive(message(MessageType.DHCPDISCOVER, "02:00:00:00:00:98"), ARRIVAL, NOW)[0], Probe)
