"""What is remembered of clients to which large blocks did not get through (TQ5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftp import wire
from tftp.engine import Transfer
from tftp.memory import CLIENTS, KEPT_S, STEPS, Memory, lost_blksize
from tftp.options import Terms

CLIENT = "10.77.0.2"


@pytest.mark.parametrize(
    ("lost", "next_offer"),
    [
        (65464, 1468),
        (8968, 1468),
        (1469, 1468),
        (1468, 1400),
        (1428, 1400),
        (1418, 1400),
        (1400, 1024),
        (1024, 512),
        (513, 512),
        (512, None),
        (8, None),
    ],
)
def test_what_was_lost_is_followed_by_the_next_smaller_step(lost: int, next_offer: int | None) -> None:
    memory = Memory()
    memory.lost(CLIENT, lost, 0.0)
    assert memory.most(CLIENT, 1.0) == next_offer
    assert memory.most("10.77.0.3", 1.0) is None


def test_each_failure_goes_one_step_down_and_none_goes_up() -> None:
    memory, offers = Memory(), []
    blksize: int | None = 1468
    while blksize is not None and blksize > 512:
        memory.lost(CLIENT, blksize, 0.0)
        blksize = memory.most(CLIENT, 0.0)
        offers.append(blksize)
    assert offers == [1400, 1024, 512]
    memory.lost(CLIENT, 1468, 0.0)  # of a transfer that began before
    assert memory.most(CLIENT, 0.0) == 512


def test_a_client_is_remembered_while_it_asks_and_forgotten_later() -> None:
    memory = Memory()
    memory.lost(CLIENT, 1468, 0.0)
    assert memory.most(CLIENT, KEPT_S - 1) == 1400
    assert memory.most(CLIENT, 2 * KEPT_S - 2) == 1400  # it asked in between
    assert memory.most(CLIENT, 3 * KEPT_S) is None
    assert len(memory) == 0


def test_no_number_of_clients_takes_more_memory() -> None:
    memory = Memory()
    for number in range(CLIENTS + 10):
        memory.lost(str(number), 1468, 0.0)
    assert len(memory) == CLIENTS
    assert memory.most("9", 0.0) is None
    assert memory.most("10", 0.0) == 1400


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(8, 65464), st.floats(0, 9000)), max_size=30))
def test_an_offer_is_a_step_below_something_that_was_lost(steps: list[tuple[str, int, float]]) -> None:
    memory, now = Memory(), 0.0
    losses: dict[str, list[int]] = {}
    for client, blksize, after in steps:
        now += after
        most = memory.most(client, now)
        assert most is None or most in STEPS
        assert most is None or any(most < lost for lost in losses.get(client, []))
        memory.lost(client, blksize, now)
        losses.setdefault(client, []).append(blksize)


def waiting(size_bytes: int = 10_000, *, oack: bool = True) -> Transfer:
    """A transfer whose first block is on the way."""
    transfer = Transfer(size_bytes, Terms(1468, 1, None, {"blksize": "1468"} if oack else {}))
    transfer.start(0.0)
    if oack:
        transfer.receive(wire.Ack(0), 0.001)
    return transfer


def silent(transfer: Transfer, until: float) -> Transfer:
    while transfer.deadline is not None and transfer.deadline < until:
        transfer.expire(transfer.deadline)
    return transfer


def test_a_first_block_that_is_never_answered_did_not_fit_the_path() -> None:
    assert lost_blksize(silent(waiting(), 2.0), 2.0) == 1468
    assert lost_blksize(silent(waiting(), 100.0), 100.0) == 1468  # given up


def test_a_block_is_no_longer_than_its_file() -> None:
    assert lost_blksize(silent(waiting(700), 2.0), 2.0) == 700


def test_nothing_is_concluded_from_less() -> None:
    assert lost_blksize(waiting(), 0.001) is None  # on its way
    assert lost_blksize(silent(waiting(), 0.5), 0.5) is None  # repeated just now
    assert lost_blksize(silent(waiting(oack=False), 20.0), 20.0) is None  # perhaps nobody is there
    answered = silent(waiting(), 2.0)
    answered.receive(wire.Ack(1), 2.0)
    assert lost_blksize(answered, 2.1) is None
