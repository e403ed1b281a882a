"""dhcp.shared_wire: what daemon and controller say of leases, in both directions."""

import json
from contextlib import suppress
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhcp import shared_wire as wire
from dhcp.leases import NEVER, Lease, State

TIMES = st.integers(0, 1 << 33) | st.just(NEVER)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)
LEASES = st.builds(Lease, ADDRESSES, NAMES, TIMES, st.sampled_from(State), NAMES)
ENTRIES = st.builds(wire.Entry, LEASES, TIMES, st.text(max_size=20))
WISHES = st.builds(wire.Write, ENTRIES, st.text(max_size=20)) | st.builds(wire.Remove, ADDRESSES, st.text(max_size=9))
OUTCOMES = (
    st.builds(wire.Done, st.none() | ENTRIES)
    | st.builds(wire.Refused, st.none() | ENTRIES)
    | st.builds(wire.Unknown, st.text(max_size=20))
)
NEWS = (
    ENTRIES
    | st.builds(wire.Gone, ADDRESSES, st.text(max_size=9))
    | st.builds(wire.Beat, st.none() | st.text())
    | st.sampled_from([wire.Listing(), wire.Synced()])
)
SAID = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["entry", "gone", "beat", "write", "remove", "done", "refused", "x"]), inner)
    ),
    max_leaves=8,
)


@given(news=NEWS)
def test_news_is_one_line_and_is_read_as_it_was_said(news: wire.News) -> None:
    line = wire.dump_news(news)
    assert "\n" not in line
    assert wire.news_of(line) == news


@given(wishes=st.lists(WISHES, max_size=3), outcomes=st.lists(OUTCOMES, max_size=3))
def test_wishes_and_outcomes_are_read_as_they_were_said(wishes: list[wire.Wish], outcomes: list[wire.Outcome]) -> None:
    assert wire.wishes_of(wire.dump_wishes(wishes)) == wishes
    assert wire.outcomes_of(wire.dump_outcomes(outcomes)) == outcomes


@given(said=SAID | st.binary(max_size=40))
def test_anything_is_read_or_is_not_understood(said: object) -> None:
    body = said if isinstance(said, bytes) else json.dumps(said)
    for read in (wire.news_of, wire.wishes_of, wire.outcomes_of):
        with suppress(wire.NotUnderstood):
            read(body)


@pytest.mark.parametrize("client", ["", "two words", "ctrl\n", "é"])
def test_a_client_is_a_word_that_a_journal_can_hold(client: str) -> None:
    said = wire.entry_json(wire.Entry(Lease(IPv4Address("10.0.0.1"), "x", 5), 6))
    with pytest.raises(wire.NotUnderstood):
        wire.entry_of(said | {"client": client})


def test_what_a_newer_controller_says_is_passed_over() -> None:
    assert wire.news_of('{"weather": "fine"}') is None
