"""A machine that panicked, as its kernel told it."""

from collections import Counter
from pathlib import Path

from pxeboot.machinelogs.netconsole import Assembly
from pxeboot.machinelogs.trouble import trouble
from pxeboot.messages import Severity

RECORDED = Path(__file__).parent.parent / "data/machinelogs/netconsole-panic.txt"


def test_a_recorded_panic_is_understood_line_by_line() -> None:
    assembly = Assembly()
    told = [record for line in RECORDED.read_bytes().splitlines(keepends=True) for record in assembly.take("m1", line)]
    assert len(told) == len(RECORDED.read_bytes().splitlines())
    assert told[0].text == "loop: module loaded"
    writers = Counter(record.program for record in told)
    assert writers[""] > 50 < writers["systemd"]
    [warning] = [record for record in told if record.program == "mytest"]
    assert (warning.severity, warning.text) == (Severity.ERROR, "a warning of the journal")
    found = [str(what) for record in told if (what := trouble(record.program, record.text)) is not None]
    assert found == [
        "a unit of its system failed: Failed to start pxebad.service.",
        "its kernel panicked: sysrq triggered crash",
    ]
