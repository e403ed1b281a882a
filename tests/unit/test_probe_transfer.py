"""What a witness makes of datagrams, and what a person is told of it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.probe.transfer import Address, Attempt, Witness, judge
from tftp import wire

SERVER = ("10.0.0.1", 69)
TRANSFER = ("10.0.0.1", 40000)
MTU = 1500
ASKED = {"blksize": "1468", "tsize": "0"}
REQUEST = wire.ReadRequest(b"core.efi", "octet", ASKED)

Said = wire.Packet | bytes


def seen(*story: Said | tuple[Said, Address], complete: bool = False, failure: str = "") -> Attempt:
    """Return what a witness says after `story`: requests and ACKs are ours, the rest comes from the transfer's port.

    A packet with an address comes from there. Each is a tenth of a second after the one before.
    """
    witness, now = Witness(SERVER), 100.0
    for said in story:
        packet, sender = said if isinstance(said, tuple) else (said, TRANSFER)
        datagram = packet if isinstance(packet, bytes) else packet.encode()
        if isinstance(packet, wire.ReadRequest | wire.Ack):
            witness.sent(datagram, now)
        else:
            witness.received(datagram, sender, now)
        now += 0.1
    return witness.attempt(now + 4, complete=complete, failure=failure)


def oack(**options: str) -> wire.OptionAck:
    return wire.OptionAck(options)


def told(*attempts: Attempt) -> tuple[str, ...]:
    return judge(attempts, MTU).problems


GRANTED = oack(blksize="1468", tsize="2000")
WHOLE = (REQUEST, GRANTED, wire.Ack(0), wire.Data(1, bytes(1468)), wire.Ack(1), wire.Data(2, bytes(532)), wire.Ack(2))


def test_a_transfer_without_trouble_has_nothing_to_say() -> None:
    attempt = seen(*WHOLE, complete=True)
    assert attempt.asked == ASKED
    assert attempt.granted == {"blksize": "1468", "tsize": "2000"}
    assert (attempt.answered, attempt.blocks, attempt.size_bytes) == (TRANSFER, 2, 2000)
    assert (attempt.blocks_again, attempt.options_again, attempt.sent_again, attempt.requests) == (0, 0, 0, 1)
    assert attempt.first_answer_s == pytest.approx(0.1)
    assert attempt.seconds == pytest.approx(0.5)
    verdict = judge((attempt,), MTU)
    assert (verdict.problems, verdict.notes) == ((), ())


def test_what_is_said_twice_is_counted_on_both_sides() -> None:
    attempt = seen(
        *(REQUEST, REQUEST, GRANTED, wire.Ack(0), GRANTED, wire.Ack(0)),
        *(wire.Data(1, bytes(1468)), wire.Ack(1), wire.Data(1, bytes(1468)), wire.Ack(1), wire.Data(2, bytes(532))),
        wire.Ack(2),
        complete=True,
    )
    assert (attempt.requests, attempt.sent_again) == (2, 3)
    assert (attempt.options_again, attempt.blocks_again) == (1, 1)
    assert (attempt.blocks, attempt.size_bytes) == (2, 2000)
    assert attempt.first_answer_s == pytest.approx(0.1), "since it was asked last"
    assert judge((attempt,), MTU).problems == ()
    assert "lost or late" in judge((attempt,), MTU).notes[0]


def test_what_firmware_drops_the_client_does_not_get() -> None:
    witness = Witness(SERVER)
    witness.sent(REQUEST.encode(), 0)
    data = wire.Data(1, bytes(512)).encode()
    assert not witness.received(data, ("10.0.0.2", 40000), 0)
    assert not witness.received(b"\0\x09", TRANSFER, 0)
    assert witness.received(GRANTED.encode(), TRANSFER, 0)
    assert not witness.received(GRANTED.encode(), TRANSFER, 0), "tftpy breaks off at a second one"
    assert not witness.received(data, ("10.0.0.1", 40001), 0)
    assert witness.received(data, TRANSFER, 0)
    assert witness.received(data, TRANSFER, 0), "which it acknowledges again"
    attempt = witness.attempt(1, complete=False)
    assert attempt.strangers == (("10.0.0.2", 40000), ("10.0.0.1", 40001))
    assert attempt.malformed == 1
    assert len(judge((attempt,), MTU).notes) == 2


def test_block_numbers_begin_again_and_a_block_from_before_is_not_from_the_future() -> None:
    witness = Witness(SERVER)
    witness.sent(REQUEST.encode(), 0)
    for block in range(1, 65538):
        assert witness.received(wire.Data(block & 0xFFFF, b"x" * 8).encode(), TRANSFER, 0)
    assert not witness.received(wire.Data(65535, b"x" * 8).encode(), TRANSFER, 0)
    attempt = witness.attempt(1, complete=True)
    assert (attempt.blocks, attempt.blocks_again, attempt.jumped) == (65537, 1, None)


def test_a_server_that_counts_from_one_again_is_told_apart() -> None:
    witness = Witness(SERVER)
    witness.sent(REQUEST.encode(), 0)
    for block in [*range(1, 65536), 1]:
        witness.received(wire.Data(block, b"x" * 8).encode(), TRANSFER, 0)
    attempt = witness.attempt(1, complete=False, failure="the client breaks off: 'Whoa!'")
    assert "tftp.rollover" in told(attempt)[0]


PROBLEMS = [
    pytest.param([REQUEST, REQUEST], "no answer: UDP port 69 of 10.0.0.1 was asked 2 times in 4 s", id="silence"),
    pytest.param(
        [REQUEST, (GRANTED, ("10.0.0.2", 4000))], "comes from 10.0.0.2, but 10.0.0.1 was asked", id="another address"
    ),
    pytest.param([REQUEST, wire.Error(1, "nope")], r"ERROR 1 \(file not found\), 'nope'. Is the name", id="missing"),
    pytest.param([REQUEST, wire.Error(2, "no")], "ERROR 2 .access violation.*leads out", id="denied"),
    pytest.param([REQUEST, wire.Error(0, "busy")], "ERROR 0 .not defined., 'busy'", id="busy"),
    pytest.param([REQUEST, wire.Error(8, "")], "Try --blksize 0 --no-tsize", id="options refused"),
    pytest.param([REQUEST, wire.Error(99, "\x1b[2J")], r"ERROR 99 \(of no known code\), '\\x1b\[2J'", id="odd"),
    pytest.param(
        [REQUEST, GRANTED, wire.Ack(0), GRANTED, wire.Ack(0), GRANTED],
        "does not hear us at port 40000.*same 3 times.*tftp.single_port: true",
        id="our ACK is lost",
    ),
    pytest.param([*WHOLE[:5]], r"stopped: nothing came for 4 s after block 1 \(1468 bytes\)", id="stopped"),
    pytest.param(
        [*WHOLE[:5], wire.Data(1, bytes(1468)), wire.Ack(1)], "1 blocks had come twice: packets are lost", id="lossy"
    ),
    pytest.param([REQUEST, wire.Data(2, b"")], "block 2 came where 1 was due", id="jumped"),
]


@pytest.mark.parametrize(("story", "says"), PROBLEMS)
def test_what_goes_wrong_is_said_with_what_to_do(story: Sequence[Said], says: str) -> None:
    import re

    problems = told(seen(*story))
    assert len(problems) == 1
    assert re.search(says, problems[0]), problems


def test_the_clients_own_words_are_told_where_it_had_any() -> None:
    assert told(seen(REQUEST, failure="10.0.0.1 says so")) == ("10.0.0.1 says so",)
    assert told(seen(*WHOLE[:4], failure="the client breaks off: 'x'")) == ("the client breaks off: 'x'",)


GRANTS = [
    (oack(blksize="1468", windowsize="4"), "grants 'windowsize', which was not asked for"),
    (oack(blksize="2000"), "grants blksize '2000', of 1468"),
    (oack(blksize="7"), "grants blksize '7'"),
    (oack(blksize="1\u00b24"), "grants blksize '1²4'"),
    (oack(blksize="9" * 40), "grants blksize '9999"),
    (oack(blksize="9" * 9000), "grants blksize '9999"),
    (oack(BLKSIZE="1468"), "writes 'BLKSIZE' in capital letters"),
    (oack(blksize="1468", tsize="1"), r"announced '1' bytes (tsize) and sent 2000"),
]


@pytest.mark.parametrize(("grant", "says"), GRANTS)
def test_a_grant_that_firmware_breaks_off_for_is_a_problem(grant: wire.OptionAck, says: str) -> None:
    problems = told(seen(REQUEST, grant, *WHOLE[2:], complete=True))
    assert any(says in problem for problem in problems), problems


def test_blocks_that_are_lost_on_the_way_are_told_from_an_ack_that_is() -> None:
    first = seen(REQUEST, GRANTED, wire.Ack(0))
    assert (first.stuck, first.too_large) == (True, True)
    assert not seen(REQUEST, GRANTED, wire.Ack(0), GRANTED).too_large
    assert not seen(REQUEST, oack(blksize="512"), wire.Ack(0)).too_large
    assert not seen(REQUEST, oack(tsize="1"), wire.Ack(0)).too_large
    assert not seen(REQUEST, GRANTED, wire.Ack(0), wire.Error(0, "")).too_large
    small = wire.ReadRequest(b"core.efi", "octet", {"blksize": "1368"})
    second = seen(small, oack(blksize="1368"), wire.Ack(0), wire.Data(1, bytes(8)), complete=True)
    [problem] = told(first, second)
    assert "blksize 1468 was granted, and no block of it arrives; with 1368 all is well" in problem
    assert "packets of 1500 bytes" in problem
    assert "tftp.blksize 1368" in problem
    [problem] = told(first, seen(small, oack(blksize="1368"), wire.Ack(0)))
    assert "nor a smaller one" in problem


def test_what_works_and_is_worth_knowing_is_a_note() -> None:
    plain = seen(REQUEST, wire.Data(1, bytes(8)), complete=True)
    assert "knows none of the options" in judge((plain,), MTU).notes[0]
    less = seen(REQUEST, oack(blksize="1024"), wire.Ack(0), wire.Data(1, bytes(8)), complete=True)
    assert "1468 was asked and 1024 granted" in judge((less,), MTU).notes[0]
    whole = seen(*WHOLE, complete=True)
    assert "travel in pieces, as a packet here has 1400" in judge((whole,), 1400).notes[0]
    assert judge((replace(whole, complete=False, error=(1, "")),), MTU).notes == ()


@given(st.lists(st.tuples(st.binary(max_size=40), st.sampled_from([TRANSFER, ("10.0.0.2", 1), ("10.0.0.1", 2)]))))
def test_whatever_comes_is_noted_and_judged(datagrams: list[tuple[bytes, Address]]) -> None:
    witness = Witness(SERVER)
    witness.sent(REQUEST.encode(), 0)
    for datagram, sender in datagrams:
        for start in (b"", b"\0\3", b"\0\4", b"\0\5", b"\0\6"):
            witness.received(start + datagram, sender, 1)
    for complete in (True, False):
        attempt = witness.attempt(2, complete=complete)
        verdict = judge((attempt,), MTU)
        assert complete or verdict.problems
