"""HTTP dates (RFC 9110 section 5.6.7), with the standard library as the oracle."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpimage.dates import format_date, parse_date


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228799),
        ("Tuesday, 19-Jan-38 03:14:08 GMT", 2**31),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("sun, 06 nov 1994 08:49:37 gmt", None),
        ("784111777", None),
        ("", None),
    ],
)
def test_the_three_forms_are_read_and_nothing_else(text: str, seconds: int | None) -> None:
    assert parse_date(text) == seconds


@given(st.integers(0, 253402300799))
def test_a_date_is_written_as_others_write_it_and_read_back(seconds: int) -> None:
    assert format_date(seconds) == formatdate(seconds, usegmt=True)
    assert parse_date(format_date(seconds)) == seconds


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert parse_date(text) is None or isinstance(parse_date(text), int)
