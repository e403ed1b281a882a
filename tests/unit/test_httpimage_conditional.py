"""Preconditions and If-Range (reference H-11 to H-16)."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpimage.conditional import Conditions, Decision, Validators, evaluate, range_applies

MODIFIED = 784111777
BEFORE, AT, AFTER = (f"Sun, 06 Nov 1994 08:49:{second} GMT" for second in (36, 37, 38))
FILE = Validators("v1", MODIFIED)
UNDATED = Validators("v1", None)
GO, SAME, FAILED = Decision.PROCEED, Decision.NOT_MODIFIED, Decision.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("conditions", "decision"),
    [
        pytest.param(Conditions(), GO, id="none"),
        pytest.param(Conditions(if_match='"v1"'), GO, id="H-16-equal"),
        pytest.param(Conditions(if_match='"v0", "v1"'), GO, id="H-16-in-a-list"),
        pytest.param(Conditions(if_match="*"), GO, id="H-16-star"),
        pytest.param(Conditions(if_match='"v2"'), FAILED, id="H-16-different"),
        pytest.param(Conditions(if_match='W/"v1"'), FAILED, id="H-16-weak"),
        pytest.param(Conditions(if_match="v1"), FAILED, id="H-16-unquoted"),
        pytest.param(Conditions(if_match='"v1" "v2"'), FAILED, id="H-16-no-comma"),
        pytest.param(Conditions(if_match=""), FAILED, id="H-16-empty"),
        pytest.param(Conditions(if_none_match='"v1"'), SAME, id="H-15-equal"),
        pytest.param(Conditions(if_none_match='W/"v1"'), SAME, id="H-15-weak"),
        pytest.param(Conditions(if_none_match='"a,b" ,, W/"v1",'), SAME, id="H-15-list"),
        pytest.param(Conditions(if_none_match="*"), SAME, id="H-15-star"),
        pytest.param(Conditions(if_none_match='"v2"'), GO, id="H-15-different"),
        pytest.param(Conditions(if_none_match="junk"), GO, id="H-15-junk"),
        pytest.param(Conditions(if_unmodified_since=BEFORE), FAILED, id="H-13-changed-since"),
        pytest.param(Conditions(if_unmodified_since=AT), GO, id="H-13-unchanged-at"),
        pytest.param(Conditions(if_unmodified_since=AFTER), GO, id="H-13-unchanged-after"),
        pytest.param(Conditions(if_unmodified_since="junk"), GO, id="H-13-unmodified-junk"),
        pytest.param(Conditions(if_modified_since=BEFORE), GO, id="H-13-modified-before"),
        pytest.param(Conditions(if_modified_since=AT), SAME, id="H-13-modified-at"),
        pytest.param(Conditions(if_modified_since=AFTER), SAME, id="H-13-modified-after"),
        pytest.param(Conditions(if_modified_since="junk"), GO, id="H-13-modified-junk"),
        pytest.param(Conditions(if_match='"v1"', if_unmodified_since=BEFORE), GO, id="H-13-match-hides-unmodified"),
        pytest.param(
            Conditions(if_none_match='"v2"', if_modified_since=AFTER), GO, id="H-13-none-match-hides-modified"
        ),
        pytest.param(Conditions(if_match='"v2"', if_none_match='"v1"'), FAILED, id="H-13-match-first"),
        pytest.param(Conditions(if_match='"v1"', if_none_match='"v1"'), SAME, id="H-13-then-none-match"),
        pytest.param(Conditions(if_unmodified_since=BEFORE, if_none_match='"v1"'), FAILED, id="H-13-unmodified-first"),
    ],
)
def test_preconditions_decide_in_their_order(conditions: Conditions, decision: Decision) -> None:
    assert evaluate(conditions, FILE) == decision


@pytest.mark.parametrize("conditions", [Conditions(if_unmodified_since=BEFORE), Conditions(if_modified_since=AFTER)])
def test_a_file_without_a_date_ignores_dates(conditions: Conditions) -> None:
    assert evaluate(conditions, UNDATED) == GO


def test_every_combination_follows_the_table_of_the_rfc() -> None:
    """RFC 9110 section 13.2.2 written as one would draw it, against the code, for all 256 combinations."""
    tags, dates = (None, '"v1"', '"v2"', 'W/"v1"'), (None, BEFORE, AT, AFTER)
    for match, unmodified, none_match, modified in product(tags, dates, tags, dates):
        step_1 = match in (None, '"v1"')
        step_2 = match is not None or unmodified != BEFORE
        step_3 = none_match in (None, '"v2"')
        step_4 = none_match is not None or modified in (None, BEFORE)
        expected = FAILED if not (step_1 and step_2) else GO if step_3 and step_4 else SAME
        assert evaluate(Conditions(match, unmodified, none_match, modified), FILE) == expected


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        pytest.param(None, True, id="absent"),
        pytest.param('"v1"', True, id="H-11-equal"),
        pytest.param('W/"v1"', False, id="H-11-weak"),
        pytest.param('"v2"', False, id="H-11-different"),
        pytest.param("v1", False, id="H-11-unquoted"),
        pytest.param("*", False, id="H-11-star"),
        pytest.param('"v1", "v1"', False, id="H-11-list"),
        pytest.param("", False, id="H-11-empty"),
        pytest.param(AT, True, id="H-12-exact"),
        pytest.param(AFTER, False, id="H-12-later"),
        pytest.param(BEFORE, False, id="H-12-earlier"),
    ],
)
def test_if_range_names_exactly_this_version(if_range: str | None, applies: bool) -> None:
    assert range_applies(if_range, FILE, MODIFIED + 1) is applies


def test_a_date_within_a_second_of_ours_is_weak() -> None:  # H-18
    assert not range_applies(AT, FILE, MODIFIED)
    assert not range_applies(AT, UNDATED, MODIFIED + 1)


headers = st.none() | st.text(max_size=40) | st.text('W/"v1*, ', max_size=20)


@given(headers, headers, headers, headers, headers)
def test_any_text_comes_to_a_decision(
    a: str | None, b: str | None, c: str | None, d: str | None, e: str | None
) -> None:
    assert evaluate(Conditions(a, b, c, d), FILE) in Decision
    assert range_applies(e, FILE, MODIFIED) in (True, False)


def test_a_long_list_costs_little() -> None:
    assert evaluate(Conditions(if_none_match='"x",' * 5000 + '"v1"'), FILE) == SAME
    assert evaluate(Conditions(if_none_match=", " * 5000 + "x"), FILE) == GO
