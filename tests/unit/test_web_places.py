"""Places of those who follow something live are shared between addresses."""

from collections import Counter
from typing import cast
from unittest.mock import Mock

from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.web.places import Places

MOST = 6


class Reader:
    """A connection of somebody, which can be ended by either side."""

    def __init__(self, address: str) -> None:
        self.remote = address
        self.transport: Mock | None = Mock()
        self.transport.is_closing.return_value = False
        self.transport.abort.side_effect = self.leave

    def leave(self) -> None:
        self.transport = None

    @property
    def request(self) -> web.Request:
        return cast(web.Request, self)


def come(places: Places, *addresses: str) -> list[tuple[Reader, bool]]:
    return [(reader, places.take(reader.request)) for reader in map(Reader, addresses)]


def test_one_address_may_have_all_places_until_somebody_else_comes() -> None:
    places = Places(MOST)
    script = come(places, *["script"] * MOST)
    assert all(taken for _, taken in script)
    ((colleague, taken),) = come(places, "colleague")
    assert taken
    assert [reader.transport is None for reader, _ in script] == [True] + [False] * (MOST - 1)
    assert colleague.transport is not None
    assert len(places) == MOST


def test_whoever_has_most_is_not_given_more_and_puts_nobody_out() -> None:
    """All may come from one address, that of a proxy: its pages would put each other out for ever."""
    places = Places(MOST)
    here = come(places, *["proxy"] * MOST)
    assert [taken for _, taken in come(places, "proxy", "proxy")] == [False, False]
    assert all(reader.transport is not None for reader, _ in here)


def test_who_left_counts_no_more() -> None:
    places = Places(MOST)
    here = come(places, *["a"] * MOST)
    here[3][0].leave()
    assert come(places, "a")[0][1]
    assert len(places) == MOST


@given(st.lists(st.sampled_from("abcd"), max_size=60))
def test_however_they_come_all_get_alike_and_who_was_put_out_puts_out_nobody(addresses: list[str]) -> None:
    places = Places(MOST)
    here = come(places, *addresses)
    assert len(places) == min(MOST, len(addresses))
    have = Counter(reader.remote for reader, taken in here if taken and reader.transport is not None)
    put_out = {reader.remote for reader, taken in here if taken and reader.transport is None}
    for address in put_out:
        assert have[address] + 1 >= max(have.values())
        assert not come(places, address)[0][1]
