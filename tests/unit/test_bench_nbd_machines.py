"""bench.nbd_machines: what machines read, and what they make of the answers."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nbd_machines import ALIGNMENT, Broken, Machine, Read, plan
from nbd import wire

MIB = 1 << 20


def answer(cookie: int, length: int, error: int = 0) -> bytes:
    """A reply with so many bytes of content, which look like the head of another reply."""
    content = wire.SimpleReply(99).encode() * (length // wire.SimpleReply.SIZE + 1)
    return wire.SimpleReply(cookie, error).encode() + content[:length]


@given(size=st.integers(1, 64).map(lambda n: n * 65536), seed=st.integers(0, 9), machine=st.integers(0, 59))
def test_all_that_a_machine_reads_is_on_the_disk(size: int, seed: int, machine: int) -> None:
    for read in plan(size, 200, seed, machine):
        assert read.offset % ALIGNMENT == 0
        assert read.length > 0
        assert read.offset + read.length <= size


def test_machines_read_much_that_is_the_same_and_some_that_is_their_own() -> None:
    plans = [set(plan(4096 * MIB, 1706, 1, machine)) for machine in range(3)]
    same = set.intersection(*plans)
    assert 0.5 < len(same) / 1706 < 0.9
    assert all(len(own - same) > 300 for own in plans)


def test_a_boot_is_about_as_large_as_a_recorded_one() -> None:
    reads = plan(4096 * MIB, 1706, 1, 0)
    assert len(reads) == 1706
    assert 18 * MIB < sum(read.length for read in reads) < 27 * MIB


def test_another_round_reads_other_places() -> None:
    assert not set(plan(4096 * MIB, 500, 1, 0)) & set(plan(4096 * MIB, 500, 2, 0))


def test_only_so_many_reads_are_in_flight() -> None:
    machine = Machine([Read(0, 4096), Read(4096, 1024), Read(8192, 4096)], depth=2)
    assert len(machine.ask(0.0)) == 2 * wire.Request.SIZE
    assert machine.ask(0.0) == b""
    machine.receive(memoryview(answer(2, 1024)), 1.0)
    assert wire.Request.decode(machine.ask(1.0)) == wire.Request(wire.Cmd.READ, 3, 8192, 4096)
    assert machine.outstanding == 2


@given(cuts=st.lists(st.integers(1, 4200), max_size=40))
def test_answers_may_come_in_any_order_and_in_any_pieces(cuts: list[int]) -> None:
    machine = Machine([Read(0, 4096), Read(4096, 1024), Read(8192, 4096)], depth=3)
    machine.ask(10.0)
    data = memoryview(answer(3, 4096) + answer(1, 4096) + answer(2, 1024))
    for size in chain(cuts, [len(data)]):
        machine.receive(data[:size], 10.5)
        data = data[size:]
    assert machine.outstanding == 0
    assert (machine.delays_ms, machine.others_ms, machine.bytes_read) == ([500.0, 500.0], [500.0], 9216)


@pytest.mark.parametrize("data", [answer(1, 0, error=5), answer(7, 4096)], ids=["an-error", "not-asked-for"])
def test_an_answer_that_must_not_be_is_told(data: bytes) -> None:
    machine = Machine([Read(0, 4096)], depth=1)
    machine.ask(0.0)
    with pytest.raises(Broken):
        machine.receive(memoryview(data), 0.0)
