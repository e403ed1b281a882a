"""dhcp.sending: an answer that another thread may send."""

import errno
from ipaddress import IPv4Address

from dhcp.actions import Datagram
from dhcp.replies import Destination
from dhcp.sending import Early

OWN = IPv4Address("10.77.0.1")
ANSWER = Datagram(b"answer", Destination(IPv4Address("10.77.0.9"), 68), 1)


def test_an_early_answer_says_that_it_left() -> None:
    left: list[tuple[Datagram, IPv4Address]] = []
    early = Early(lambda datagram, own: left.append((datagram, own)), ANSWER, OWN)
    assert not early.sent
    early()
    assert early.sent
    assert left == [(ANSWER, OWN)]


def test_an_early_answer_that_cannot_leave_is_left_to_the_loop() -> None:
    def full(_datagram: Datagram, _own: IPv4Address) -> None:
        raise OSError(errno.ENOBUFS, "no room")

    early = Early(full, ANSWER, OWN)
    early()
    assert not early.sent
