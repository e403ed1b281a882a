"""How what comes of a watch is cut into events."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.kube.errors import Unavailable
from pxeboot.kube.watching import lines


def cut(*chunks: bytes) -> list[bytes]:
    async def given() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def collect() -> list[bytes]:
        return [line async for line in lines(given())]

    return asyncio.run(collect())


@given(st.lists(st.binary(max_size=8).map(lambda line: line.replace(b"\n", b"_"))), st.integers(1, 9))
def test_lines_are_the_same_however_they_come(wanted: list[bytes], size: int) -> None:
    whole = b"".join(line + b"\n" for line in wanted)
    assert cut(*(whole[at : at + size] for at in range(0, len(whole), size))) == wanted
    assert cut(whole) == wanted


def test_what_is_cut_off_in_the_middle_is_no_event() -> None:
    assert cut(b'{"a": 1}\n{"b"', b": ") == [b'{"a": 1}']


def test_a_line_that_does_not_end_is_given_up() -> None:
    with pytest.raises(Unavailable, match="longer than any object"):
        cut(*[b"x" * (1 << 20)] * 10)
