"""tftp.steady: the short way sends what the engine would, and leaves it in the same state."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tftp import wire
from tftp.engine import Action, SendBlock, SendError, SendOptionAck, Transfer
from tftp.options import Terms
from tftp.steady import Steady

CONTENT = bytes(range(251)) * 40


class Twins:
    """Two transfers of one file: the first is told everything, the second goes the short way where it can."""

    def __init__(self, terms: Terms, size_bytes: int, now: float) -> None:
        self.content = CONTENT[:size_bytes]
        self.plain = Transfer(size_bytes, terms)
        self.other = Transfer(size_bytes, terms)
        self.steady: Steady | None = None
        self.hits = 0
        assert self.datagrams(self.plain.start(now)) == self.datagrams(self.other.start(now))

    def datagrams(self, actions: Sequence[Action]) -> list[object]:
        """What the client sees of actions; and how it ends."""
        out: list[object] = []
        for action in actions:
            match action:
                case SendBlock(block, offset, length):
                    header = wire.data_header(block, self.plain.terms.rollover)
                    out.append(header + self.content[offset : offset + length])
                case SendOptionAck(options):
                    out.append(wire.OptionAck(options).encode())
                case SendError(code, message):
                    out.append(wire.Error(code, message).encode())
                case _:
                    out.append(action)
        return out

    def receive(self, datagram: bytes, now: float) -> list[object]:
        """Both get a datagram; what they agree on is returned."""
        expected = self.datagrams(self.plain.receive(wire.decode(datagram), now))
        steady = self.steady
        if steady is not None and datagram == steady.ack:
            offset, length = steady.following()
            ahead = steady.exchanges(memoryview(self.content)[offset : offset + length])
            if steady.acknowledged(now):
                self.hits += 1
                assert ahead[0] == (datagram, expected)
                self.steady, rest = Steady.unpack(steady.pack() + b"rest")
                assert rest == b"rest"
                self.same()
                return expected
        assert self.datagrams(self._engine().receive(wire.decode(datagram), now)) == expected
        self.steady = self.other.steady()
        self.same()
        return expected

    def expire(self, now: float) -> None:
        if self.steady is not None:
            assert self.steady.deadline == self.plain.deadline
        expected = self.datagrams(self.plain.expire(now))
        assert self.datagrams(self._engine().expire(now)) == expected
        self.steady = self.other.steady()
        self.same()

    def same(self) -> None:
        if self.steady is not None:
            self.other.resume(self.steady)
        assert vars(self.other) == vars(self.plain)

    def _engine(self) -> Transfer:
        if self.steady is not None:
            self.other.resume(self.steady)
            self.steady = None
        return self.other


def options(blksize: int, windowsize: int, timeout_s: int | None, *, oack: bool = True, rollover: int = 0) -> Terms:
    return Terms(blksize, windowsize, timeout_s, {"tsize": "1"} if oack else {}, rollover)


@pytest.mark.parametrize("oack", [False, True])
@pytest.mark.parametrize("windowsize", [1, 3, 64])
def test_a_transfer_without_trouble_goes_the_short_way_but_for_its_ends(windowsize: int, oack: bool) -> None:
    twins, now = Twins(options(8, windowsize, None, oack=oack), 4000, 5.0), 5.0
    while twins.plain.deadline is not None:
        now += 0.001
        twins.receive(wire.Ack(twins.plain.sent).encode(), now)
    assert twins.hits >= 500 // windowsize - 3
    assert twins.plain.acked == 501


@pytest.mark.parametrize("rollover", [0, 1])
def test_it_knows_what_follows_block_65535(rollover: int) -> None:
    steady = Steady(10**6, 8, 4, rollover, 65529, 65533, 5.0, 0.001, 0.0, 0.001, 0.02, 8.0, 5.02, 3600.0)
    [(ack, datagrams)] = steady.exchanges(memoryview(bytes(32)))
    assert ack == steady.ack
    assert [int.from_bytes(datagram[2:4]) for datagram in datagrams] == [65534, 65535, rollover, rollover + 1]
    assert steady.ack == wire.Ack(65533).encode()
    assert steady.acknowledged(5.001)
    assert steady.ack == wire.Ack(rollover + 1).encode()


@pytest.mark.parametrize("size_bytes", [0, 7, 8, 4000, 4001])
@pytest.mark.parametrize("least_bytes", [0, 1, 100, 10**6])
@pytest.mark.parametrize("windowsize", [1, 3, 64])
def test_what_is_to_come_is_known_for_many_windows(windowsize: int, least_bytes: int, size_bytes: int) -> None:
    def begun(sent: int) -> Steady:
        return Steady(size_bytes, 8, windowsize, 0, 0, sent, 5.0, 0.0, 0.0, 0.001, 0.02, 8.0, 5.02, 3600.0)

    sent = min(windowsize, begun(0).blocks)
    together, singly = [], []
    steady = begun(sent)
    while steady.sent < steady.blocks:
        offset, length = steady.following(least_bytes)
        assert length >= min(least_bytes, size_bytes - offset)
        for ack, window in steady.exchanges(memoryview(CONTENT[:size_bytes])[offset : offset + length]):
            assert ack == steady.ack
            assert steady.acknowledged(5.001)
            together.append(window)
    steady = begun(sent)
    while steady.sent < steady.blocks:
        offset, length = steady.following()
        singly.append(steady.exchanges(memoryview(CONTENT[:size_bytes])[offset : offset + length])[0][1])
        assert steady.acknowledged(5.001)
    assert together == singly
    assert sum(map(len, together)) == steady.blocks - sent
    assert steady.exchanges(memoryview(b"")) == []


def test_a_transfer_that_takes_too_long_is_for_the_engine() -> None:
    steady = Steady(10**6, 8, 4, 0, 8, 12, 5.0, 0.001, 0.0, 0.001, 0.02, 8.0, 5.02, 6.0)
    before = steady.pack()
    assert not steady.acknowledged(6.0)
    assert steady.pack() == before


@given(
    sent=st.integers(1, 70_000),
    blocks=st.integers(0, 100),
    rollover=st.integers(0, 1),
    rtts_s=st.lists(st.floats(0.0, 0.02), min_size=100, max_size=100),
)
def test_blocks_that_were_not_timed_are_told_as_those_that_were(
    sent: int, blocks: int, rollover: int, rtts_s: list[float]
) -> None:
    def begun() -> Steady:
        return Steady(10**6, 8, 1, rollover, sent - 1, sent, 5.0, 0.001, 0.0, 0.001, 0.02, 8.0, 5.021, 3600.0)

    timed, told, now = begun(), begun(), 5.0
    for rtt_s in rtts_s[:blocks]:
        now += rtt_s
        assert timed.acknowledged(now)
    told.reached(sent + blocks, now)
    assert (told.acked, told.sent, told.sent_at) == (timed.acked, timed.sent, timed.sent_at)
    assert told.ack == timed.ack
    assert told.coming(bytes(80)) == timed.coming(bytes(80))
    assert told.deadline == (now + 0.021 if blocks else 5.021)


STEP = st.one_of(
    st.tuples(st.just("ack"), st.just(0)),
    st.tuples(st.just("odd ack"), st.integers(-5, 5)),
    st.tuples(st.just("silence"), st.just(0)),
    st.tuples(st.just("nonsense"), st.integers(0, 5)),
)


@settings(max_examples=300)
@given(
    steps=st.lists(st.tuples(STEP, st.floats(0.0, 3.0).map(lambda x: x**8)), max_size=60),
    blksize=st.sampled_from([8, 9, 100]),
    windowsize=st.sampled_from([1, 1, 2, 5]),
    timeout_s=st.sampled_from([None, None, 1, 5]),
    size_bytes=st.integers(0, 3000),
    oack=st.booleans(),
)
def test_whatever_the_client_says_both_ways_are_one(
    steps: list[tuple[tuple[str, int], float]],
    blksize: int,
    windowsize: int,
    timeout_s: int | None,
    size_bytes: int,
    oack: bool,
) -> None:
    now = 5.0
    twins = Twins(options(blksize, windowsize, timeout_s, oack=oack), size_bytes, now)
    for (kind, number), wait_s in steps:
        now += wait_s
        if twins.plain.deadline is None:
            return
        match kind:
            case "ack":
                twins.receive(wire.Ack(twins.plain.sent & 0xFFFF).encode(), now)
            case "odd ack":
                twins.receive(wire.Ack((twins.plain.sent + number) & 0xFFFF).encode(), now)
            case "silence":
                now = max(now, twins.plain.deadline)
                twins.expire(now)
            case _:
                packets: list[wire.Packet] = [
                    *(wire.Data(1, b"x"), wire.OptionAck({}), wire.Ack(0), wire.ReadRequest(b"f"), wire.Ack(65535)),
                    wire.WriteRequest(b"f"),
                ]
                twins.receive(packets[number].encode(), now)
