from ipaddress import IPv4Address

from config.events import Stage
from dhcp.actions import Action, Datagram, Happened, Probe
from dhcp.engine import Server
from dhcp.options import MessageType
from dhcp.plan import plan
from dhcp.replies import Destination
from dhcp.request import Arrival
from pxeboot.answered import MOST, Answered
from tests.support.dhcp_clients import ARRIVAL, STRANGER, farm, message

HERE = Arrival(IPv4Address("10.0.0.1"))
ACK = Datagram(b"ack", Destination(IPv4Address("10.0.0.9"), 68), 1)


def told(mac: str, *, boots: bool = True) -> Action:
    return Happened(mac, Stage.ADDRESS, "10.0.0.9", boots)


def test_the_newest_answer_of_a_machine_that_boots_is_kept() -> None:
    answered = Answered()
    offer = Datagram(b"offer", ACK.destination, 1)
    answered.note(b"discover", HERE, [offer, told("m")], 1.0)
    answered.note(b"request", HERE, [ACK, told("m")], 2.0)
    kept = answered.of("m")
    assert kept is not None
    assert (kept.asked, kept.data, kept.at_s, kept.destination.address) == (
        b"request",
        b"ack",
        2.0,
        IPv4Address("10.0.0.9"),
    )


def test_a_running_system_that_renews_and_a_request_without_an_answer_leave_it_as_it_was() -> None:
    answered = Answered()
    answered.note(b"request", HERE, [ACK, told("m")], 1.0)
    answered.note(b"renewal", HERE, [Datagram(b"x", ACK.destination, 1), told("m", boots=False)], 2.0)
    answered.note(b"silence", HERE, [told("m")], 3.0)
    kept = answered.of("m")
    assert kept is not None
    assert kept.data == b"ack"
    assert answered.of("other") is None


def test_an_offer_that_waits_for_a_probe_is_kept_too() -> None:
    discover = message(MessageType.DHCPDISCOVER, STRANGER, options={60: b"PXEClient:Arch:00000:UNDI:002001"})
    (probe,) = actions = Server(plan(farm(probe=True)), (), 1.0).receive(discover, ARRIVAL, 1.0)
    assert isinstance(probe, Probe)
    answered = Answered()
    answered.note(b"discover", ARRIVAL, actions, 1.0)
    kept = answered.of(STRANGER)
    assert kept is not None
    assert kept.asked == b"discover"
    assert kept.reply is probe.then[0]


def test_made_up_machines_do_not_fill_the_memory() -> None:
    answered = Answered()
    for n in range(MOST + 10):
        answered.note(b"request", HERE, [ACK, told(str(n))], 1.0)
    assert len(answered) == MOST
    assert answered.of("0") is None
    assert answered.of(str(MOST + 9)) is not None
