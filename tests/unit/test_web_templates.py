"""What a machine says of itself is text on the page, and holds no secret there."""

import pytest

from pxeboot.stuck import State
from pxeboot.web.notices import Notice
from pxeboot.web.rows import Mark, Row
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates

EVIL = "\"><img src=x onerror=alert(1)>'`x`"
SECRET = "mount: password=geheim $6$salt$abcdefghijklmnop"


def test_what_is_to_be_typed_shows_as_code_and_not_between_backquotes() -> None:
    """That `pxeboot probe` played a machine is said in the words and the detail of a quiet row."""
    one = Row("m1", State.QUIET, words="`pxeboot probe` played it", detail="`pxeboot probe` as UEFI x64 asks")
    shown = str(Templates(Static()).macros("parts.html").row(one, ""))
    assert shown.count("<code>pxeboot probe</code>") == 2
    assert "`" not in shown


@pytest.mark.parametrize(("count", "open_ones"), [(1, 1), (4, 4), (9, 4)])
def test_of_many_notices_some_are_folded_away(count: int, open_ones: int) -> None:
    """They stand above the machines, which a phone would else not show at all."""
    found = [Notice(True, f"trouble {number}", [f"line {line}" for line in range(8)]) for number in range(count)]
    shown = str(Templates(Static()).macros("parts.html").notices(found))
    seen, _, folded = shown.partition('<li class="rest')
    assert [f"trouble {number}" in seen for number in range(count)] == [number < open_ones for number in range(count)]
    assert folded.count("trouble ") == count - open_ones
    assert (f"{count - open_ones} more" in folded) is (count > open_ones)
    assert shown.count("line 7") == count


def row(text: str, state: State) -> str:
    """Return the row of a machine of which all that it or a peer chose is `text`."""
    one = Row(
        *(text, state, text, text, text, 1.0, text, text, text, text, 5, text, (Mark(False, 1.0, 2.0, text),), 1.0),
        image_id=text,
        intent=text,
    )
    return str(Templates(Static()).macros("parts.html").row(one, ""))


@pytest.mark.parametrize("state", State)
def test_what_a_machine_says_is_text(state: State) -> None:
    shown = row(EVIL, state)
    assert "<img" not in shown
    assert 'alert(1)>"' not in shown


@pytest.mark.parametrize("state", State)
def test_a_row_of_the_farm_shows_no_secret_that_a_machine_told(state: State) -> None:
    """Its name, address and pool are no text of its own."""
    one = Row("m1", state, words=SECRET, detail=SECRET, note=SECRET, refused=SECRET, since_s=1.0, stage="booting")
    shown = str(Templates(Static()).macros("parts.html").row(one, ""))
    assert "***" in shown
    assert "geheim" not in shown
    assert "abcdefghijklmnop" not in shown
