"""Whole conversations with `nbd.engine.Session`: made of a few bytes each, judged by `tests.support.nbd_checks`."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support import nbd_checks, nbd_talk
from tests.support.nbd_checks import NAMES, parts
from tests.support.nbd_driver import Driver

ITEMS = st.lists(st.binary(min_size=5, max_size=7), max_size=20).map(
    lambda items: b"".join(bytes((len(item),)) + item for item in items)
)
CHOSEN = bytes((4, 0x08, 2, 3, 1))
"""GO of a disk that can be written."""
STRUCTURED, EXTENDED = bytes((1, 4)), bytes((1, 10))
CONTEXT = bytes((3, 75, 2, 0))
STARTS = (CHOSEN, STRUCTURED + CHOSEN, STRUCTURED + CONTEXT + CHOSEN, EXTENDED + CHOSEN, EXTENDED + CONTEXT + CHOSEN)


@settings(max_examples=300)
@given(first=st.sampled_from((12, 12, 13, 14, 4, 0)), start=st.sampled_from((b"", *STARTS)), items=ITEMS)
def test_a_client_that_says_well_formed_things_gets_the_answers_of_the_specification(
    first: int, start: bytes, items: bytes
) -> None:
    nbd_checks.conversation(bytes((first,)) + start + items)


@settings(max_examples=300)
@given(data=st.binary(max_size=300))
@example(data=bytes(300))
def test_any_bytes_are_answered_the_same_in_any_pieces_or_end_the_connection(data: bytes) -> None:
    nbd_checks.any_bytes(data)


@settings(max_examples=300)
@given(data=st.binary(max_size=40))
def test_whatever_an_export_says_of_its_extents_the_answer_keeps_to_the_rules(data: bytes) -> None:
    nbd_checks.extents(data)


@settings(max_examples=300)
@given(head=st.binary(min_size=3, max_size=3), items=ITEMS)
def test_the_short_way_takes_what_the_session_would_have_understood(head: bytes, items: bytes) -> None:
    nbd_checks.steady(head + items)


@settings(max_examples=100)
@given(stream=ITEMS, trailing=st.binary(max_size=100))
def test_trailing_bytes_change_no_answer_to_what_came_before(stream: bytes, trailing: bytes) -> None:
    alone, followed = Driver(nbd_checks.exports()), Driver(nbd_checks.exports())
    said = nbd_talk.FLAGS + nbd_talk.option(nbd_talk.STRUCTURED_REPLY) + nbd_talk.choose(NAMES[2])
    alone.say(said)
    for item in parts(stream):
        if alone.closed is None:
            said += nbd_checks.message(item, alone).data
            alone.say(nbd_checks.message(item, alone).data)
    whole = Driver(nbd_checks.exports()).say(said)
    assert followed.say(said + trailing)[: len(whole)] == whole


def test_the_conversations_reach_transmission() -> None:
    """So that the tests above do not hold because nothing is ever asked."""
    for start in STARTS:
        driver = nbd_checks.opened(b"\0")
        driver.say(nbd_talk.FLAGS)
        for item in parts(start):
            driver.say(nbd_checks.message(item, driver).data)
        assert driver.disk is not None
        if CONTEXT in start:
            driver.headers = nbd_checks.headers(driver)
            assert driver.ask(nbd_talk.BLOCK_STATUS, 0, 4096)[0].extents[1] == [(4096, 0)]
