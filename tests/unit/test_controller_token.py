"""The bootstrap token: its form, its Secret, and that its secret half stays hidden."""

import hashlib
import re
import traceback
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.controller.token import (
    ALPHABET,
    FORM,
    MACHINES_GROUP,
    BootOfNode,
    NotAToken,
    Token,
    boot_group,
    hide_tokens,
    node_digest,
    parse_rfc3339,
    read_boot_group,
    rfc3339,
    secret_name,
)

TOKEN = Token("abcdef", "0123456789abcdef")


def test_a_hundred_thousand_tokens_have_the_form_and_never_repeat() -> None:
    made = [Token.make().reveal() for _ in range(100_000)]
    assert all(FORM.fullmatch(text) for text in made)
    assert len({text[7:] for text in made}) == len(made)
    # 36 characters, 2.2 million drawn: each is expected 61,111 times, with a standard deviation of 244.
    drawn = Counter("".join(made).replace(".", ""))
    assert set(drawn) == set(ALPHABET)
    assert all(abs(count - 61_111) < 6 * 244 for count in drawn.values())


@pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, "{!r}".format])
def test_a_token_never_shows_its_secret(show: object) -> None:
    assert callable(show)
    assert "0123456789abcdef" not in show(TOKEN)
    assert "abcdef" in show(TOKEN)


def test_a_traceback_shows_no_token_that_was_refused() -> None:
    text = f"abcdef.{'0123456789abcdef'.upper()}"
    with pytest.raises(NotAToken) as refused:
        Token.parse(text)
    assert text not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "text", ["", "abcdef", "abcde.0123456789abcdef", "abcdef.0123456789abcdef\n", "ABCDEF." + "0" * 16]
)
def test_what_has_another_form_is_no_token(text: str) -> None:
    with pytest.raises(NotAToken):
        Token.parse(text)


def test_a_secret_is_named_as_the_api_demands() -> None:
    assert secret_name(TOKEN.id) == "bootstrap-token-abcdef"


@given(st.floats(0, 2**33))
def test_a_time_is_cut_to_whole_seconds_and_never_later(seconds: float) -> None:
    assert seconds - 1 < parse_rfc3339(rfc3339(seconds)) <= seconds


@given(st.text(), st.text())
def test_a_token_in_any_text_is_hidden(before: str, after: str) -> None:
    secret = Token.make().secret
    hidden = hide_tokens(f"{before} abcdef.{secret} {after}")
    assert secret not in hidden
    assert "abcdef.<hidden>" in hidden


def seed(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_a_seed_stands_for_one_token() -> None:
    assert Token.derived(seed(1)) == Token.derived(seed(1)) != Token.derived(seed(2))


def test_a_derived_token_never_changes_its_making() -> None:
    """A controller of another version, started between two requests, must make the same one."""
    assert Token.derived("00" * 32).reveal() == "uaqsgp.gvd6r02f771jeq1p"


def test_derived_tokens_have_no_bias_and_no_repeat() -> None:
    made = [Token.derived(seed(number)) for number in range(20_000)]
    assert len({token.secret for token in made}) == len(made)
    # 36 characters, 440,000 drawn: each is expected 12,222 times, with a standard deviation of 109.
    drawn = Counter("".join(token.id + token.secret for token in made))
    assert set(drawn) == set(ALPHABET)
    assert all(abs(count - 12_222) < 6 * 109 for count in drawn.values())


def test_the_id_is_no_part_of_the_secret() -> None:
    """The same key with the same name for both would make one the beginning of the other."""
    made = [Token.derived(seed(number)) for number in range(2_000)]
    alike = sum(token.id[place] == token.secret[place] for token in made for place in range(6))
    assert alike < 12_000 / 36 + 6 * 18


@pytest.mark.parametrize("node", ["m1c29", "m1.rack-7.farm.example", "x" * 63])
def test_a_boot_group_is_one_that_the_api_server_takes_and_is_read_back(node: str) -> None:
    group = boot_group("0123456789abcdef", node)
    assert re.fullmatch(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]", group)
    assert read_boot_group(group) == BootOfNode("0123456789abcdef", node_digest(node))
    assert read_boot_group(MACHINES_GROUP) is None
    assert read_boot_group(group + "0") is None
    assert read_boot_group(group.upper()) is None
