"""What a machine says of itself is text on the page, and holds no secret there."""

import pytest

from pxeboot.stuck import State
from pxeboot.web.rows import Mark, Row
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates

EVIL = "\"><img src=x onerror=alert(1)>'`x`"
SECRET = "mount: password=geheim $6$salt$abcdefghijklmnop"


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
