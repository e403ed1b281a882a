"""tftp.turns: who sends, when there are more than keep the processors busy."""

import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tftp.carrier import ASK, DATAGRAM, PATIENCE, SEND, SEND_EAGERLY, Turn, _receiver
from tftp.steady import Steady
from tftp.turns import LONGEST_S, Processors, Turns


def asked(turns: Turns, *whom: int) -> None:
    for who in whom:
        turns.ask(who)


def test_first_come_first_served() -> None:
    turns = Turns(1)
    asked(turns, 3, 1, 2, 4)
    assert turns.next(0.0) == [3, 1]  # two for each processor, to begin with
    assert turns.next(0.1) == []
    turns.ask(3)  # its turn is over, and it stands behind all others
    assert turns.next(0.1) == [2]
    asked(turns, 1, 2)
    assert turns.next(0.1) == [4, 3]
    turns.end(4)
    turns.end(1)  # while it waits
    assert turns.next(0.1) == [2]


def test_nobody_waits_for_who_does_not_come_back() -> None:
    turns = Turns(1)
    asked(turns, 1, 2, 3)
    assert turns.next(0.0) == [1, 2]
    turns.ask(2)
    assert turns.next(LONGEST_S - 0.01) == [3]
    assert turns.next(LONGEST_S) == [2]
    turns.ask(1)  # it came back after all
    assert turns.next(2 * LONGEST_S) == [1]


@pytest.mark.parametrize(
    ("idle", "ours", "limit"),
    [
        (0.0, 0.5, 2),  # the carriers keep the processors busy: fewer
        (0.04, 0.3, 2),
        (0.1, 0.5, 4),
        (0.5, 0.5, 8),  # there is room: more
        (0.0, 0.2, 8),  # something else keeps them busy
        (1.0, 0.0, 8),
    ],
)
def test_fewer_send_when_they_keep_the_processors_busy(idle: float, ours: float, limit: int) -> None:
    turns = Turns(2)
    asked(turns, *range(7))
    turns.next(0.0)
    turns.look(idle, ours)
    assert turns.limit == limit


def test_one_for_each_processor_always_sends_and_no_more_are_let_than_wait() -> None:
    turns = Turns(2)
    asked(turns, 1, 2)
    assert not turns.crowded
    assert turns.next(0.0) == [1, 2]
    turns.look(1.0, 0.0)
    assert turns.limit == 4
    turns.ask(3)
    assert turns.crowded
    for _ in range(5):
        turns.look(0.0, 1.0)
    assert turns.limit == 2


def test_the_shares_of_the_processors_are_those_since_the_last_look(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    processors = Processors(str(stat))
    stat.write_text("cpu  140 0 110 820 20 0 5 5 7 7\n")  # a second more, of which 0.4 s idle or waiting for a disk
    processors.used(0.2)
    processors.used(0.05)
    idle, ours = processors.shares()
    assert idle == pytest.approx(0.4)
    assert ours == pytest.approx(0.25)
    assert processors.shares() == (1.0, 0.0)  # no time went by


def test_where_nobody_tells_the_times_they_are_idle(tmp_path: Path) -> None:
    assert Processors(str(tmp_path / "none")).shares() == (1.0, 0.0)


def test_a_turn_that_was_waited_for_is_not_taken_for_a_slow_client() -> None:
    steady = Steady(1 << 20, 512, 1, 0, 1, 2, 5.0, 0, 0, 0, 0, 0, deadline=9.0, ends_at=99.0)
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(60.0)
    with theirs, ours, ThreadPoolExecutor(1) as pool:
        turn = Turn(ours)
        began = time.monotonic()
        waiting = pool.submit(turn.take, steady)
        wanted, used_s = ASK.unpack(theirs.recv(100))
        assert wanted
        assert used_s >= 0
        time.sleep(0.05)
        assert not waiting.done()
        theirs.send(SEND)
        waiting.result(60.0)
        assert not turn.eager
        assert 5.05 <= steady.sent_at <= 5.0 + time.monotonic() - began
        turn.end()
        assert ASK.unpack(theirs.recv(100))[0] is False


def test_without_an_origin_nobody_waits() -> None:
    steady = Steady(1 << 20, 512, 1, 0, 1, 2, 5.0, 0, 0, 0, 0, 0, deadline=9.0, ends_at=99.0)
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours:
        turn = Turn(ours)
        for _ in range(3):
            turn.take(steady)
            turn.end()


def test_a_carrier_looks_for_answers_while_they_come_soon() -> None:
    steady = Steady(1 << 20, 512, 1, 0, 1, 2, 5.0, 0, 0, 0, 0, 0, deadline=9.0, ends_at=99.0)
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client, sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs, ours, client, sock:
        turn = Turn(ours)
        theirs.send(SEND_EAGERLY)
        turn.take(steady)
        assert turn.eager
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 20_000))
        receive = _receiver(sock, turn)
        client.send(b"soon")
        assert receive(sock.fileno(), DATAGRAM) == b"soon"
        for _ in range(PATIENCE):
            assert turn.eager
            with pytest.raises(BlockingIOError):  # it looked, and then it waited
                receive(sock.fileno(), DATAGRAM)
        assert not turn.eager
        client.send(b"late")
        assert receive(sock.fileno(), DATAGRAM) == b"late"
        assert _receiver(sock, turn) is os.read


@pytest.mark.parametrize(("processors", "carriers", "few"), [(1, 1, False), (2, 1, True), (2, 2, False), (8, 4, True)])
def test_a_few_carriers_have_processors_to_themselves(processors: int, carriers: int, few: bool) -> None:
    turns = Turns(processors)
    asked(turns, *range(carriers))
    turns.next(0.0)
    assert turns.few == few


def test_who_looks_for_answers_keeps_no_processor_from_others() -> None:
    turns = Turns(2)
    assert turns.spare
    turns.look(0.04, 0.5)
    assert not turns.spare
    turns.look(0.3, 0.1)
    assert turns.spare
