"""What is kept of what arrives."""

from hypothesis import given
from hypothesis import strategies as st

from nbd.actions import Action, Close
from nbd.inbox import Inbox

THEN: list[Action] = [Close("x")]


def test_bytes_are_taken_in_order() -> None:
    inbox = Inbox()
    inbox.add(b"abc")
    inbox.add(memoryview(b"de"))
    assert (inbox.take(4), bytes(inbox.data)) == (b"abcd", b"e")
    assert not inbox.empty
    assert inbox.take(1) == b"e"
    assert inbox.empty


@given(before=st.binary(max_size=5), drop=st.integers(0, 12), after=st.lists(st.binary(max_size=4), max_size=6))
def test_what_is_dropped_is_never_kept_and_what_comes_after_it_is(
    before: bytes, drop: int, after: list[bytes]
) -> None:
    inbox = Inbox()
    done: list[Action] = []
    inbox.add(before)
    inbox.drop(drop, list(THEN))
    for piece in after:
        assert len(inbox.data) <= max(len(before) + sum(map(len, after)) - drop, 0)
        inbox.add(piece)
    whole = before + b"".join(after)
    assert inbox.data == whole[drop:]
    assert inbox.dropped(done) == (len(whole) >= drop)
    assert done == (THEN if len(whole) >= drop else [])
    assert inbox.dropped(done) == (len(whole) >= drop)
    assert len(done) <= 1  # what is due is due once


def test_a_forgotten_inbox_is_empty() -> None:
    inbox = Inbox()
    done: list[Action] = []
    inbox.add(b"abc")
    inbox.drop(9, list(THEN))
    inbox.clear()
    assert inbox.empty
    assert inbox.dropped(done)
    assert done == []
