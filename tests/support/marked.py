"""A farm's file with a mark before each place where something is wrong, and what is said there."""

import re
from pathlib import Path

from config.load import ConfigErrors, load

MARK = "▸"


def said(folder: Path, text: str) -> list[str]:
    """Return what is wrong in a file with this text, as LINE:COLUMN: MESSAGE."""
    path = folder / "farm.yaml"
    path.write_text(text)
    try:
        load(path)
    except ConfigErrors as errors:
        return [line.removeprefix(f"{path}:") for line in str(errors).split("\n")]
    return []


def assert_said(folder: Path, marked: str, *patterns: str) -> None:
    """Each mark in the text is the place of one mistake, and the first pattern is found in what is said of the first.

    There must be no other mistakes.
    """
    places, text = [], marked
    while (at := text.find(MARK)) >= 0:
        before = text[:at]
        places.append(f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: ")
        text = before + text[at + 1 :]
    found = said(folder, text)
    assert len(places) == len(patterns), "a pattern for each mark"
    assert len(found) == len(places), found
    for line, place, pattern in zip(found, places, patterns, strict=True):
        assert line.startswith(place), (place, found)
        assert re.search(pattern, line.removeprefix(place)), (pattern, found)
