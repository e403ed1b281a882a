"""One transfer, packet by packet, and whole transfers over a bad link with a clock of its own."""

from itertools import chain, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tftp_client import Client, Exchange, Fate
from tftp import wire
from tftp.engine import (
    AGAIN_S,
    LAST_WINDOW_S,
    MOST_GUESSES,
    OACK_AGAIN_S,
    RTO_BLOCK_S,
    RTO_FIRST_S,
    RTO_LIMITS_S,
    SILENCE_S,
    TRANSFER_S,
    UNANSWERED_PACKETS,
    Finished,
    Outcome,
    SendBlock,
    SendError,
    SendOptionAck,
    Transfer,
)
from tftp.options import Terms

OPTIONS = {"blksize": "8"}
WAIT_S = 0.001 + RTO_LIMITS_S[0]
"""How long the first block of `begun` is waited for."""


def terms(windowsize: int = 1, *, oack: bool = True, blksize: int = 8, timeout_s: int | None = None) -> Terms:
    return Terms(blksize, windowsize, timeout_s, OPTIONS if oack else {})


def begun(size_bytes: int, windowsize: int = 1, *, now: float = 0.0) -> Transfer:
    """A transfer whose OACK was acknowledged after 1 ms, so that its first window is on the way."""
    transfer = Transfer(size_bytes, terms(windowsize))
    transfer.start(now - 0.001)
    transfer.receive(wire.Ack(0), now)
    return transfer


def blocks(first: int, last: int) -> list[SendBlock]:
    return [SendBlock(number, (number - 1) * 8, 8) for number in range(first, last + 1)]


# One step at a time.


def test_accepted_options_are_answered_with_one_packet() -> None:
    assert Transfer(100, terms(windowsize=4)).start(0.0) == [SendOptionAck(OPTIONS)]


def test_without_options_block_1_is_the_answer() -> None:
    assert Transfer(100, terms(oack=False)).start(0.0) == [SendBlock(1, 0, 8)]


def test_the_acknowledged_oack_draws_the_first_window() -> None:
    transfer = Transfer(100, terms(windowsize=4))
    transfer.start(0.0)
    assert transfer.receive(wire.Ack(1), 0.1) == []
    assert transfer.receive(wire.Ack(0), 0.1) == blocks(1, 4)


@pytest.mark.parametrize(("size_bytes", "lengths"), [(0, [0]), (7, [7]), (8, [8, 0]), (9, [8, 1]), (24, [8, 8, 8, 0])])
def test_the_last_block_is_shorter_than_the_others(size_bytes: int, lengths: list[int]) -> None:
    transfer = begun(size_bytes, windowsize=64)
    again = transfer.expire(transfer.deadline or 0.0)
    assert [action.length for action in again if isinstance(action, SendBlock)] == lengths
    assert transfer.receive(wire.Ack(len(lengths)), 1.0) == [Finished(Outcome.COMPLETE, None)]
    assert transfer.deadline is None


def test_each_ack_draws_the_next_block() -> None:
    transfer = begun(20)
    assert transfer.receive(wire.Ack(1), 0.1) == blocks(2, 2)
    assert transfer.receive(wire.Ack(2), 0.1) == [SendBlock(3, 16, 4)]


@pytest.mark.parametrize("ack", [0, 1, 3, 4, 65535])
def test_with_a_window_of_one_no_other_ack_draws_anything(ack: int) -> None:
    transfer = begun(100)
    transfer.receive(wire.Ack(1), 0.1)  # block 2 is on the way
    deadline = transfer.deadline
    for now in (0.1, 0.15, 0.19):
        assert transfer.receive(wire.Ack(ack), now) == []
    assert transfer.deadline == deadline  # nor does it keep the transfer alive


def test_an_ack_within_the_window_is_answered_from_there_on() -> None:
    transfer = begun(800, windowsize=4)
    assert transfer.receive(wire.Ack(2), 0.1) == blocks(3, 6)


def test_a_gap_at_the_start_of_a_window_is_filled_once() -> None:
    transfer = begun(800, windowsize=4)
    assert transfer.receive(wire.Ack(4), 0.001) == blocks(5, 8)
    assert transfer.receive(wire.Ack(4), 0.003) == blocks(5, 8)
    for _ in range(3):  # EDK2 says it once for each of the four blocks (TQ3)
        assert transfer.receive(wire.Ack(4), 0.003) == []
    assert transfer.receive(wire.Ack(8), 0.005) == blocks(9, 12)
    assert transfer.receive(wire.Ack(8), 0.007) == blocks(9, 12)
    assert transfer.resent == 8


def test_a_gap_within_a_window_is_filled_once() -> None:
    transfer = begun(800, windowsize=4)
    assert transfer.receive(wire.Ack(1), 0.002) == blocks(2, 5)
    for _ in range(2):
        assert transfer.receive(wire.Ack(1), 0.004) == []
    assert transfer.receive(wire.Ack(5), 0.005) == blocks(6, 9)


def test_a_repeated_ack_that_cannot_be_about_this_window_is_ignored() -> None:
    transfer = begun(800, windowsize=4)
    assert transfer.receive(wire.Ack(4), 0.001) == blocks(5, 8)
    assert transfer.receive(wire.Ack(4), 0.0012) == []  # no round trip ever took less than 1 ms


def test_silence_repeats_what_is_outstanding_and_waits_longer_each_time() -> None:
    transfer = begun(800, windowsize=4)
    waits, now = [], 0.0
    for _ in range(4):
        assert transfer.deadline is not None
        assert transfer.expire(transfer.deadline - 0.001) == []
        waits.append(transfer.deadline - now)
        now = transfer.deadline
        assert transfer.expire(now) == blocks(1, 4)
    assert waits == pytest.approx([WAIT_S + 3 * RTO_BLOCK_S, *(AGAIN_S * factor for factor in (1, 2, 4))])
    assert transfer.resent == 16


def test_silence_is_waited_for_up_to_a_limit() -> None:
    transfer = begun(800)
    waits, now = [], 0.0
    while transfer.deadline is not None:
        waits.append(transfer.deadline - now)
        now = transfer.deadline
        transfer.expire(now)
    assert waits == sorted(waits[:-1]) + waits[-1:]  # the last one ends with our patience
    assert max(waits) == pytest.approx(RTO_LIMITS_S[1])
    assert len(waits) <= 11  # for 30 s


def test_what_was_sent_twice_leaves_the_wait_as_long_as_silence_made_it() -> None:
    transfer = begun(800)
    assert transfer.expire(WAIT_S) == blocks(1, 1)
    assert transfer.receive(wire.Ack(1), 0.03) == blocks(2, 2)  # after 30 ms, or after 10: nobody knows
    assert transfer.deadline == pytest.approx(0.03 + 2 * WAIT_S)
    transfer.receive(wire.Ack(2), 0.06)  # after 30 ms: that is how fast the client is
    assert transfer.deadline is not None
    assert 0.03 < transfer.deadline - 0.06 < 0.1


def test_an_answer_as_soon_as_ever_after_the_repetition_says_that_the_first_was_lost() -> None:
    transfer = begun(800)
    assert transfer.expire(WAIT_S) == blocks(1, 1)
    assert transfer.receive(wire.Ack(1), WAIT_S + 0.001) == blocks(2, 2)
    assert transfer.deadline == pytest.approx(WAIT_S + 0.001 + WAIT_S)


def test_a_client_that_always_answers_just_after_the_repetition_is_found_to_be_slow() -> None:
    transfer = begun(8000)
    now = 0.0
    for number in range(1, 100):
        now += WAIT_S + 0.001
        if transfer.deadline is not None and transfer.deadline < now:
            transfer.expire(transfer.deadline)
        transfer.receive(wire.Ack(number), now)
    assert transfer.resent == MOST_GUESSES + 1


def test_part_of_a_window_that_was_sent_once_is_timed_though_the_rest_was_sent_twice() -> None:
    transfer = begun(800, windowsize=4)
    transfer.receive(wire.Ack(2), 0.03)  # 3 and 4 go out again, 5 and 6 for the first time
    transfer.receive(wire.Ack(4), 0.04)
    assert transfer.deadline is not None
    early = transfer.deadline - 0.04
    transfer = begun(800, windowsize=4)
    transfer.receive(wire.Ack(2), 0.03)
    transfer.receive(wire.Ack(5), 0.13)
    assert transfer.deadline is not None
    assert transfer.deadline - 0.13 > early


def test_a_client_that_becomes_slow_is_sent_a_few_copies_only() -> None:
    transfer = begun(8000)
    now = 0.0
    for number in range(1, 500):
        now += 0.0002 if number < 100 else 0.075
        while transfer.deadline is not None and transfer.deadline < now:
            transfer.expire(transfer.deadline)
        transfer.receive(wire.Ack(number), now)
    assert transfer.resent <= 3


@pytest.mark.parametrize(
    ("options", "timeout_s", "waits"),
    [
        pytest.param({"blksize": "8", "tsize": "800"}, None, [1, 2, 4, 8, 8], id="grub"),
        pytest.param({"blksize": "8", "tsize": "800", "timeout": "6"}, 6, [1, 2, 4, 6, 6], id="curl"),
        pytest.param({"blksize": "8", "timeout": "2"}, 2, [1, 2, 2, 2, 2], id="impatient"),
        pytest.param({"blksize": "8"}, None, [OACK_AGAIN_S, 8, 8, 3.5], id="atftp"),
        pytest.param({}, None, [1, 2, 4, 8, 8], id="no-oack"),
    ],
)
def test_the_first_answer_is_waited_for(options: dict[str, str], timeout_s: int | None, waits: list[float]) -> None:
    transfer = Transfer(800, Terms(8, 1, timeout_s, options))
    [first] = transfer.start(0.0)
    now, waited = 0.0, []
    while transfer.deadline is not None:
        waited.append(transfer.deadline - now)
        now = transfer.deadline
        for action in transfer.expire(now):
            assert action == first or isinstance(action, Finished)
    assert waited == waits


@pytest.mark.parametrize("oack", [True, False])
def test_a_repeated_request_is_answered_at_once(oack: bool) -> None:
    transfer = Transfer(800, terms(oack=oack))
    request = wire.ReadRequest(b"f")
    first = transfer.start(0.0)
    assert transfer.receive(request, 0.01) == []  # the line doubled it
    for number in range(1, UNANSWERED_PACKETS):
        assert transfer.receive(request, 0.1 * number) == first
    assert transfer.receive(request, 0.9) == []  # its address may be forged


def test_a_repeated_request_is_late_once_the_client_has_answered() -> None:
    transfer = begun(800)
    assert transfer.receive(wire.ReadRequest(b"f"), 0.1) == []


def test_an_ack_0_that_the_client_had_to_repeat_does_not_tell_how_fast_it_is() -> None:
    transfer = Transfer(800, terms())
    transfer.start(0.0)
    transfer.receive(wire.Ack(0), 5.0)  # atftp, whose first was lost
    assert transfer.deadline == 5.0 + RTO_FIRST_S


def test_the_wait_follows_the_answers() -> None:
    transfer = begun(8000)
    now = 0.0
    for number in range(1, 30):
        now += 0.5
        transfer.receive(wire.Ack(number), now)
    assert transfer.deadline is not None
    assert 0.5 < transfer.deadline - now < 1.5
    for number in range(30, 90):
        now += 0.002
        transfer.receive(wire.Ack(number), now)
    assert transfer.deadline - now == pytest.approx(0.002 + RTO_LIMITS_S[0], rel=0.05)


def test_the_timeout_of_a_client_is_the_longest_wait() -> None:
    transfer = Transfer(800, terms(timeout_s=2))
    transfer.start(0.0)
    transfer.receive(wire.Ack(0), 0.01)
    waits, now = [], 0.01
    for _ in range(8):
        assert transfer.deadline is not None
        waits.append(transfer.deadline - now)
        now = transfer.deadline
        assert transfer.expire(now) == blocks(1, 1)
    assert max(waits) == pytest.approx(2.0)
    assert waits == pytest.approx(sorted(waits))


def test_a_patient_client_is_waited_for() -> None:
    transfer = Transfer(800, terms(timeout_s=255))
    transfer.start(0.0)
    transfer.receive(wire.Ack(0), 0.5)
    _, end, finished = packets_until_the_end(transfer, 0.5)
    assert finished.outcome is Outcome.SILENT
    assert end == pytest.approx(0.5 + 3 * 255)


def packets_until_the_end(transfer: Transfer, now: float) -> tuple[int, float, Finished]:
    sent = 0
    while True:
        assert transfer.deadline is not None
        now = transfer.deadline
        for action in transfer.expire(now):
            if isinstance(action, Finished):
                return sent, now, action
            sent += 1


@pytest.mark.parametrize("oack", [True, False])
@pytest.mark.parametrize("timeout_s", [None, 1, 5, 255])
def test_a_forged_address_gets_five_packets_at_most(oack: bool, timeout_s: int | None) -> None:
    transfer = Transfer(800, terms(windowsize=64 if oack else 1, oack=oack, timeout_s=timeout_s))
    first = len(transfer.start(0.0))
    repeated, end, finished = packets_until_the_end(transfer, 0.0)
    assert first == 1
    assert first + repeated <= UNANSWERED_PACKETS
    assert end <= SILENCE_S
    assert finished.outcome is Outcome.UNANSWERED


def test_a_client_that_falls_silent_is_given_up() -> None:
    transfer = begun(800)
    _, end, finished = packets_until_the_end(transfer, 0.0)
    assert finished.outcome is Outcome.SILENT
    assert end == pytest.approx(SILENCE_S)


def test_a_lost_last_ack_ends_quietly() -> None:
    transfer = begun(20, windowsize=4)
    sent, end, finished = packets_until_the_end(transfer, 0.0)
    assert finished.outcome is Outcome.UNCONFIRMED
    assert LAST_WINDOW_S <= end <= 2 * LAST_WINDOW_S
    assert sent <= 8 * 3


def test_a_slow_reader_is_served_but_not_for_ever() -> None:
    transfer = begun(2**30)
    now, number = 0.0, 0
    while transfer.deadline is not None:
        now, number = now + 4.9, number + 1
        while transfer.deadline is not None and transfer.deadline < now:
            actions = transfer.expire(transfer.deadline)
        if transfer.deadline is not None:
            actions = transfer.receive(wire.Ack(number & 0xFFFF), now)
            assert isinstance(actions[0], SendBlock)
    assert now == pytest.approx(TRANSFER_S, abs=5)
    assert isinstance(actions[0], SendError)
    assert isinstance(actions[1], Finished)
    assert actions[1].outcome is Outcome.SILENT


@pytest.mark.parametrize("late", [wire.Ack(1), wire.Error(0, "")])
def test_the_size_probe_of_edk2_is_no_failure(late: wire.Packet) -> None:
    transfer = Transfer(800, terms(windowsize=4))
    transfer.start(0.0)
    abort = wire.Error(wire.ErrorCode.OPTION_REFUSED, "User aborted the transfer")
    reason = "the client ended it with error 8: 'User aborted the transfer'"
    assert transfer.receive(abort, 0.1) == [Finished(Outcome.DECLINED, reason)]
    assert transfer.deadline is None
    assert transfer.receive(late, 0.2) == []
    assert transfer.expire(99.0) == []
    assert transfer.fail("x") == []


def test_an_error_within_the_file_ends_the_transfer_and_is_not_answered() -> None:
    transfer = begun(800)
    transfer.receive(wire.Ack(1), 0.1)
    assert transfer.receive(wire.Error(3, "disk\nfull"), 0.2) == [
        Finished(Outcome.ABORTED, "the client ended it with error 3: 'disk\\nfull'")
    ]


@pytest.mark.parametrize(
    "packet", [wire.Data(1, b""), wire.OptionAck({}), wire.ReadRequest(b"f"), wire.WriteRequest(b"f")]
)
def test_packets_that_make_no_sense_are_ignored(packet: wire.Packet) -> None:
    transfer = begun(800)
    deadline = transfer.deadline
    assert transfer.receive(packet, 0.01) == []
    assert transfer.deadline == deadline


def test_a_failure_of_ours_is_told() -> None:
    transfer = begun(800)
    assert transfer.fail("the file cannot be read") == [
        SendError(wire.ErrorCode.NOT_DEFINED, "the file cannot be read"),
        Finished(Outcome.FAILED, "the file cannot be read"),
    ]
    assert transfer.deadline is None
    assert begun(800).fail("server error", "its disk hangs")[1] == Finished(Outcome.FAILED, "its disk hangs")
    assert transfer.fail("once more") == []


@pytest.mark.parametrize("read_s", [0.001, 11.0, 29.0, 100.0])
def test_what_had_to_be_read_first_is_waited_for_from_when_it_was_sent(read_s: float) -> None:
    transfer = begun(800)
    transfer.postponed(read_s)
    assert transfer.deadline == pytest.approx(read_s + WAIT_S)
    assert transfer.resent == 0
    _, end, finished = packets_until_the_end(transfer, read_s)
    assert finished.outcome is Outcome.SILENT
    assert end == pytest.approx(read_s + SILENCE_S)
    transfer.postponed(end)
    assert transfer.deadline is None


# Whole transfers.


def exchange(content: bytes, windowsize: int, fates: list[Fate], **manner: bool) -> Exchange:
    oack = manner.pop("oack", True) or windowsize > 1
    client = Client(8, windowsize, **manner)
    return Exchange(content, Transfer(len(content), terms(windowsize, oack=oack)), client, fates).run()


@pytest.mark.parametrize("windowsize", [1, 2, 4, 16])
@pytest.mark.parametrize("position", range(14))
def test_any_one_loss_costs_at_most_one_window(windowsize: int, position: int) -> None:
    content = bytes(range(100))
    fates = [*repeat(Fate.PASS, position), Fate.LOSE]
    done = exchange(content, windowsize, fates)
    assert bytes(done.client.content) == content
    assert done.finished == Finished(Outcome.COMPLETE, None)
    assert len(done.blocks_sent) <= 13 + windowsize
    assert done.transfer.resent == len(done.blocks_sent) - 13


@pytest.mark.parametrize("position", range(1, 13))
def test_edk2_acknowledging_every_later_block_still_costs_one_window(position: int) -> None:
    content = bytes(range(100))
    fates = [*repeat(Fate.PASS, 2 + position), Fate.LOSE]
    done = exchange(content, 4, fates, eager=True)
    assert bytes(done.client.content) == content
    assert len(done.blocks_sent) <= 13 + 4


def test_doubled_packets_draw_no_second_block_with_a_window_of_one() -> None:
    content = bytes(200)
    done = exchange(content, 1, [Fate.DOUBLE] * 200, eager=True)
    assert bytes(done.client.content) == content
    assert done.blocks_sent == list(range(1, 27))


@pytest.mark.parametrize("windowsize", [2, 4])
def test_doubled_acks_draw_no_second_window(windowsize: int) -> None:
    content = bytes(200)
    client = Client(8, windowsize, eager=True)
    done = Exchange(content, Transfer(200, terms(windowsize)), client, ack_fates=repeat(Fate.DOUBLE)).run()
    assert bytes(done.client.content) == content
    assert done.blocks_sent == list(range(1, 27))


def test_an_ack_after_a_time_out_is_answered_with_what_follows_the_window() -> None:
    transfer = begun(800, windowsize=4)
    assert transfer.expire(0.1) == blocks(1, 4)  # the client has 1 to 3, and says so when 1 comes again
    assert transfer.receive(wire.Ack(3), 0.102) == blocks(5, 7)
    assert transfer.receive(wire.Ack(3), 0.102) == []
    assert transfer.receive(wire.Ack(3), 0.104) == blocks(4, 7)  # it insists: 4 is lost again
    assert transfer.receive(wire.Ack(3), 0.106) == []
    assert transfer.receive(wire.Ack(7), 0.108) == blocks(8, 11)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("windowsize", [2, 4, 16])
@pytest.mark.parametrize(("fate", "late_s"), [(Fate.DOUBLE, 0.0), (Fate.LATE, 0.002), (Fate.LATE, 0.05)])
def test_one_copy_or_delay_does_not_echo_to_the_end(windowsize: int, eager: bool, fate: Fate, late_s: float) -> None:
    content = bytes(800)
    for position in range(40):
        client = Client(8, windowsize, eager=eager)
        fates = [*repeat(Fate.PASS, position), fate]
        done = Exchange(content, Transfer(800, terms(windowsize)), client, fates, late_s=late_s).run()
        assert bytes(client.content) == content
        assert done.transfer.resent <= 2 * windowsize


@settings(max_examples=150)
@given(
    content=st.binary(max_size=400),
    windowsize=st.integers(1, 9),
    fates=st.lists(st.sampled_from(Fate), max_size=60),
    eager=st.booleans(),
    oack=st.booleans(),
)
def test_a_file_survives_whatever_the_link_does_for_a_while(
    content: bytes, windowsize: int, fates: list[Fate], eager: bool, oack: bool
) -> None:
    for position in range(len(fates)):  # with more losses than that, both sides rightly give up
        if fates[max(0, position - 9) : position + 1].count(Fate.LOSE) > 3:
            fates[position] = Fate.PASS
    done = exchange(content, windowsize, fates, eager=eager, oack=oack)
    assert bytes(done.client.content) == content
    assert done.client.done
    assert done.finished is not None
    assert done.finished.outcome in {Outcome.COMPLETE, Outcome.UNCONFIRMED}
    assert len(done.blocks_sent) - done.transfer.resent == len(content) // 8 + 1


@settings(max_examples=60)
@given(
    content=st.binary(max_size=400),
    fates=st.lists(st.sampled_from([Fate.PASS, Fate.DOUBLE, Fate.LATE]), max_size=150),
    eager=st.booleans(),
)
def test_delays_and_copies_cost_no_block_with_a_window_of_one(content: bytes, fates: list[Fate], eager: bool) -> None:
    client = Client(8, 1, eager=eager)
    late_s = RTO_LIMITS_S[0] / 2
    done = Exchange(content, Transfer(len(content), terms()), client, fates, late_s=late_s).run()
    assert bytes(client.content) == content
    assert done.blocks_sent == list(range(1, len(content) // 8 + 2))


@settings(max_examples=60)
@given(content=st.binary(max_size=400), windowsize=st.integers(1, 5))
def test_a_client_that_keeps_its_last_ack_has_the_file_all_the_same(content: bytes, windowsize: int) -> None:
    done = exchange(content, windowsize, [], silent_end=True)
    assert bytes(done.client.content) == content
    assert done.finished is not None
    assert done.finished.outcome is Outcome.UNCONFIRMED


@pytest.mark.parametrize("windowsize", [1, 64])
def test_block_numbers_wrap_and_the_transfer_goes_on(windowsize: int) -> None:
    content = bytes(range(256)) * 4400  # 140,800 blocks of 8 bytes: the number wraps twice, the last block is empty
    fates = chain(repeat(Fate.PASS, 131060), repeat(Fate.LOSE, 3)) if windowsize == 1 else ()
    done = Exchange(
        content, Transfer(len(content), terms(windowsize)), Client(8, windowsize), fates, delay_s=0.0001
    ).run()
    assert done.client.content == content
    assert done.finished == Finished(Outcome.COMPLETE, None)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["ack", "wait", "error", "junk"]), st.integers(0, 70)), max_size=60))
def test_no_sequence_of_packets_makes_it_send_what_is_not_in_the_file(steps: list[tuple[str, int]]) -> None:
    transfer = Transfer(401, terms(windowsize=4))
    now, over = 0.0, False
    actions = transfer.start(now)
    for what, number in steps:
        for action in actions:
            assert not over
            match action:
                case SendBlock(block, offset, length):
                    assert 1 <= block <= 51
                    assert offset == (block - 1) * 8
                    assert length == min(8, 401 - offset)
                case Finished():
                    over = True
                case SendOptionAck() | SendError():
                    pass
        now += number / 100
        match what:
            case "ack":
                actions = transfer.receive(wire.Ack(number), now)
            case "error":
                actions = transfer.receive(wire.Error(number, ""), now)
            case "junk":
                actions = transfer.receive(wire.Data(number, b""), now)
            case _:
                now = max(now, transfer.deadline or 0.0)
                actions = transfer.expire(now)
        assert (transfer.deadline is None) == (over or any(isinstance(action, Finished) for action in actions))
