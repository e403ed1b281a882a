"""What is written on the page can be read: contrasts of the style sheet's colours (WCAG 2.2, 1.4.3 and 1.4.11)."""

import re
from pathlib import Path

import pytest

STYLE = (Path(__file__).parent.parent.parent / "pxeboot/web/static/style.css").read_text()
THEMES = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in STYLE.split("@media")[:2]]
TEXT = [
    *[(one, ground) for one in ("text", "muted", "accent", "stuck") for ground in ("ground", "surface")],
    ("stuck", "stuck-soft"), ("text", "stuck-soft"), ("text", "accent-soft"), ("accent", "accent-soft"),
]  # fmt: skip


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
def test_text_is_read_on_its_ground(theme: dict[str, str]) -> None:
    assert {(one, ground): contrast(theme[one], theme[ground]) for one, ground in TEXT if
            contrast(theme[one], theme[ground]) < 4.5} == {}  # fmt: skip


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
def test_borders_of_fields_and_marks_are_seen(theme: dict[str, str]) -> None:
    for ground in ("ground", "surface"):
        assert contrast(theme["field"], theme[ground]) >= 3, ground


def test_black_on_white_is_twenty_one() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
