"""dhcp.transport: an answer that the thread which stored its lease may send."""

from ipaddress import IPv4Address

import pytest

from config.events import Stage
from dhcp.actions import Action, Datagram, Happened, Store
from dhcp.leases import Lease
from dhcp.replies import Destination
from dhcp.transport import Promise

OWN = IPv4Address("10.77.0.1")
CLIENT = "52:54:00:12:34:56"
STORE = Store(Lease(IPv4Address("10.77.0.9"), CLIENT, 1_790_000_000))
ANSWER = Datagram(b"answer", Destination(IPv4Address("10.77.0.9"), 68), 1)
EVENT = Happened(CLIENT, Stage.ADDRESS, "10.77.0.9")


@pytest.mark.parametrize(
    ("rest", "leaves", "sent"),
    [
        pytest.param([ANSWER, EVENT], True, True, id="it leaves"),
        pytest.param([ANSWER, EVENT], False, False, id="it cannot leave, and is left to the loop"),
        pytest.param([EVENT], True, False, id="there is none"),
        pytest.param([], True, False, id="nothing waits"),
    ],
)
def test_an_early_answer_says_whether_it_left(rest: list[Action | Datagram], leaves: bool, sent: bool) -> None:
    tried: list[tuple[Datagram, IPv4Address]] = []
    told: list[tuple[Promise, BaseException | None]] = []

    def send(datagram: Datagram, own: IPv4Address) -> bool:
        tried.append((datagram, own))
        return leaves

    promise = Promise(STORE, rest, OWN, send, lambda promise, error: told.append((promise, error)))
    assert not promise.sent
    promise.early()
    assert promise.sent == sent
    assert tried == [(ANSWER, OWN)] * (ANSWER in rest)
    assert not told, "that is for the loop"
    promise.kept(None)
    assert told == [(promise, None)]
