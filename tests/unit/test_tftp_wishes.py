"""Which requests run at once, and which one makes room for the next (A-25)."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftp import wire
from tftp.engine import Transfer
from tftp.errors import Busy
from tftp.options import Terms
from tftp.wishes import HELD_BYTES, LOOKS, Address, Wish, Wishes


@dataclass
class Session:
    """A transfer that sends nothing."""

    transfer: Transfer
    started_at: float = 0.0
    bytes_sent: int = 0

    def received(self, datagram: bytes) -> None:
        self.transfer.receive(wire.decode(datagram), 0.0)

    def close(self) -> None:
        self.transfer.fail("closed")


def wish(name: str = "f", *, found: bool = True, answered: bool = False) -> Wish:
    made = Wish(wire.ReadRequest(name.encode()), name, 0.0)
    if found:
        made.running = Session(Transfer(10_000, Terms()))
        made.running.transfer.start(0.0)
    if answered:
        answer(made)
    return made


def answer(of: Wish) -> None:
    assert of.running is not None
    of.running.received(wire.Ack(1).encode())


def peers(count: int, first: int = 0) -> list[Address]:
    return [(f"10.0.{number // 250}.{number % 250}", 1024 + number) for number in range(first, first + count)]


def test_the_oldest_that_never_answered_makes_room() -> None:
    wishes, made = Wishes(4, 4), [wish(str(number)) for number in range(6)]
    for peer, one in zip(peers(4), made, strict=False):
        assert wishes.admit(peer, one) is None
    answer(made[0])
    assert wishes.admit(("10.1.0.0", 1), made[4]) is made[1]
    assert wishes.admit(("10.1.0.1", 1), made[5]) is made[2]
    assert len(wishes) == 4
    assert wishes.get(peers(4)[0]) is made[0]
    assert wishes.get(peers(4)[1]) is None


def test_what_runs_is_not_touched() -> None:
    wishes = Wishes(100, 100)
    for peer in peers(100):
        wishes.admit(peer, wish(answered=True))
    for _ in range(3):
        with pytest.raises(Busy, match="100 transfers are running"):
            wishes.admit(("10.1.0.0", 1), wish())
    wishes.remove(peers(1)[0])
    assert wishes.admit(("10.1.0.0", 1), wish()) is None
    assert wishes.admit(("10.1.0.1", 1), wish()) is not None


def test_one_address_makes_room_for_itself_only() -> None:
    wishes = Wishes(100, 3)
    others = [wish() for _ in range(10)]
    for peer, one in zip(peers(10), others, strict=True):
        wishes.admit(peer, one)
    own = [wish(str(number), answered=number == 0) for number in range(5)]
    gone = [wishes.admit(("10.9.9.9", 1 + number), one) for number, one in enumerate(own)]
    assert gone == [None, None, None, own[1], own[2]]
    for one in own:
        answer(one)
    with pytest.raises(Busy, match="but has 3 transfers running"):
        wishes.admit(("10.9.9.9", 99), wish())
    assert len(list(wishes.of("10.9.9.9"))) == 3
    assert list(wishes.of("10.0.0.1")) == [others[1]]
    assert not list(wishes.of("10.5.5.5"))


def test_a_request_whose_file_is_looked_for_stays() -> None:
    wishes = Wishes(10, 10)
    for peer in peers(10):
        wishes.admit(peer, wish(found=False))
    with pytest.raises(Busy):
        wishes.admit(("10.1.0.0", 1), wish())
    assert all(one.running is None for one in wishes.all())
    assert len(wishes) == 10


def test_the_search_for_one_that_can_go_ends_and_goes_on_later() -> None:
    wishes = Wishes(2 * LOOKS + 1, 2 * LOOKS + 1)
    for peer in peers(2 * LOOKS):
        wishes.admit(peer, wish(found=False))
    last = wish()
    wishes.admit(("10.2.0.0", 1), last)
    for _ in range(2):
        with pytest.raises(Busy):
            wishes.admit(("10.1.0.0", 1), wish())
    assert wishes.admit(("10.1.0.0", 1), wish()) is last


@given(
    st.lists(
        st.tuples(st.sampled_from(["admit", "answer", "find", "remove"]), st.integers(0, 5), st.integers(1, 4)),
        max_size=80,
    )
)
def test_no_history_breaks_a_limit_or_ends_what_runs(steps: list[tuple[str, int, int]]) -> None:
    wishes, known = Wishes(6, 3), dict[Address, Wish]()
    for what, host, port in steps:
        peer = (f"10.0.0.{host}", port)
        if what == "admit" and peer not in known:
            one = wish(found=port != 4)
            try:
                gone = wishes.admit(peer, one)
            except Busy:
                full = [one for one in known.values() if one.running is None or one.running.transfer.answered]
                own = [one for (source, _), one in known.items() if source == peer[0] and one in full]
                assert len(full) == 6 or len(own) == 3
                continue
            known[peer] = one
            if gone is not None:
                assert gone.can_go
                known = {other: one for other, one in known.items() if one is not gone}
        elif what == "answer" and peer in known and known[peer].running is not None:
            answer(known[peer])
        elif what == "find" and peer in known and known[peer].running is None:
            known[peer].running = wish().running
        elif what == "remove" and peer in known:
            assert wishes.remove(peer) is known.pop(peer)
        assert {peer: wishes.get(peer) for peer in known} == known
        assert len(wishes) == len(known) <= 6
        for source in {peer[0] for peer in known}:
            assert len(list(wishes.of(source))) <= 3


def test_what_those_hold_that_never_answered_is_bounded_in_bytes() -> None:
    """Two thousand forged requests for a node.cpio of 512 KiB would be a gigabyte."""
    wishes, made, size = Wishes(4096, 64), [wish(str(number)) for number in range(2000)], 512 * 1024
    gone = []
    for peer, one in zip(peers(2000), made, strict=True):
        assert wishes.admit(peer, one) is None
        gone += wishes.hold(peer, size)
    kept = HELD_BYTES // size
    assert gone == made[:-kept], "the oldest go"
    assert wishes.all() == made[-kept:]


def test_who_answered_keeps_what_it_holds_whatever_others_hold() -> None:
    wishes, first = Wishes(4096, 64), wish("first", answered=True)
    one, other, last = peers(3)
    wishes.admit(one, first)
    assert wishes.hold(one, HELD_BYTES) == []
    second, third = wish("second"), wish("third")
    wishes.admit(other, second)
    assert wishes.hold(other, HELD_BYTES) == []
    wishes.admit(last, third)
    assert wishes.hold(last, HELD_BYTES) == [second]
    wishes.remove(last)
    wishes.admit(last, third)
    assert wishes.hold(last, HELD_BYTES) == [], "what is over holds nothing"
    assert wishes.all() == [first, third]


def test_who_gets_no_room_is_told_of_by_what_may_be_told() -> None:
    full = Wishes(0, 9)
    with pytest.raises(Busy) as refused:
        full.admit(("10.0.0.1", 1000), Wish(wire.ReadRequest(b"a/secret"), "a/secret", 0.0, said="a/***"))
    assert "'a/***'" in str(refused.value)
