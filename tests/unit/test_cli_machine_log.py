"""`pxeboot status NAME --log`, and the notes below its steps."""

import io
from typing import Any

import pytest
from rich.console import Console

from pxeboot.cli.machine_log import begin_of, log_lines, note_lines

LINES = [
    {"at_s": 100.5, "source": "pxeboot", "severity": "informational", "text": "dhcp 52:54:00:00:00:0a has 10.77.0.10"},
    {"at_s": 131.0, "source": "journal:systemd", "severity": "error", "text": "Failed to start [kubelet].service."},
    {"at_s": 140.0, "source": "kernel", "severity": "emergency", "text": "Kernel panic - not syncing: " + "x" * 100},
]


def printed(what: Any, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(what)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_each_line_says_when_who_and_what(width: int) -> None:
    text = printed(log_lines(LINES, 100.0), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert " 0.5 s  pxeboot          dhcp 52:54:00:00:00:0a has 10.77.0.10" in text
    assert "31.0 s  journal:systemd  Failed to start [kubelet].service." in text
    assert text.count("x") - text.count("pxeboot") == 100


def test_where_nothing_was_logged_it_says_what_to_do() -> None:
    assert "machine_logs in the farm's file" in printed(log_lines([], 100.0), 120)


def test_notes_stand_below_the_steps_with_their_time() -> None:
    boot = {"started_s": 100.0, "notes": [{"at_s": 131.0, "text": "a unit of its system failed: Failed to start x"}]}
    [note] = note_lines(boot)
    assert note.plain == "    31.0 s  its log says: a unit of its system failed: Failed to start x"
    assert note_lines({}) == []
    assert begin_of({"boot": boot}) == 100.0
