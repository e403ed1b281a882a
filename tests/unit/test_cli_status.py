"""`pxeboot status`: what a person sees, on a wide terminal, a narrow one, and through a pipe."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from pxeboot import screen
from pxeboot.cli.status import fill, queue, roots, table, timeline
from pxeboot.screen import stacked

DETAIL = "DHCPOFFER 10.77.0.100, boot file grub/x86_64-efi/core.efi; UEFI x64, behind a relay"


def machine(name: str = "node-525400000abc", pool: str = "", intent: str = "netboot") -> dict[str, Any]:
    step = {"stage": "address", "first_s": 1.0, "detail": DETAIL}
    return {"name": name, "mac": "52:54:00:00:0a:bc", "ip": "10.77.0.100", "pool": pool, "intent": intent,
            "boot": {"steps": [step], "started_s": 0.0}}  # fmt: skip


def printed(what: Any, width: int) -> list[str]:
    out = StringIO()
    Console(file=out, width=width).print(what)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("pool", ["", "workers-of-the-second-hall"])
def test_what_a_machine_does_is_readable_at_any_width(width: int, pool: str) -> None:
    lines = printed(table([machine(pool=pool), machine("m1", pool, "local")], 61.0, width), width)
    assert max(map(len, lines)) <= width
    words = [line[2:] if line.startswith("  ") else line for line in lines]
    assert all(any(part in line for line in words) for part in ("DHCPOFFER 10.77.0.100", "relay"))
    assert len(lines) <= (14 if width < 60 else 12), "it is not squeezed into a column of a few letters"


def test_a_column_that_would_be_empty_is_left_out() -> None:
    assert "pool" not in printed(table([machine()], 1.0, 120), 120)[1]
    assert "pool" in printed(table([machine(pool="workers")], 1.0, 120), 120)[1]


def test_nobody_has_booted_is_said() -> None:
    assert printed(table([], 0.0, 80), 80) == ["no machine has booted yet"]
    assert printed(timeline({**machine("m1"), "boot": None}), 80)[-1] == "it has not booted yet"


def test_the_fill_of_pools_is_shown_the_fullest_first() -> None:
    pools = [{"first": f"10.0.{n}.1", "last": f"10.0.{n}.9", "used": n, "size": 20} for n in range(21)]
    lines = [line.plain for line in fill(pools)]
    assert lines[0] == "pool 10.0.19.1-10.0.19.9: 19 of 20 addresses used"
    assert lines[-1] == "and 8 more pools, less full (--json has all)"
    assert fill([{"first": "a", "last": "b", "used": 0, "size": 0}]) == []


@pytest.mark.parametrize(
    ("running", "crawling", "waiting", "lines"),
    [
        (0, 0, 0, []),
        (2, 0, 0, ["2 of at most 64 root images are being sent"]),
        (64, 0, 1, ["64 of at most 64 root images are being sent; 1 machine waits for a turn"]),
        (64, 0, 436, ["64 of at most 64 root images are being sent; 436 machines wait for a turn"]),
        (0, 0, 1, ["0 of at most 64 root images are being sent; 1 machine waits for a turn"]),
        (0, 1, 0, ["0 of at most 64 root images are being sent, 1 more hardly moves"]),
        (64, 2, 9, ["64 of at most 64 root images are being sent, 2 more hardly move; 9 machines wait for a turn"]),
    ],
)
def test_root_images_that_are_sent_and_machines_that_wait_are_counted(
    running: int, crawling: int, waiting: int, lines: list[str]
) -> None:
    found = queue({"running": running, "at_most": 64, "crawling": crawling, "waiting": waiting})
    assert [line.plain for line in found] == lines


def test_a_pipe_is_100_columns_wide_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", StringIO())
    assert screen.console().width == 100
    monkeypatch.setenv("COLUMNS", "70")
    assert screen.console().width == 70


def test_stacked_rows_have_their_last_words_below_and_nothing_is_lost() -> None:
    rows = [((Text("a" * 50), Text("1")), Text("why")), ((Text("b"), Text("2")), Text())]
    lines = printed(stacked(("name", "number"), rows, 30), 30)
    assert lines[0] == "name                    number"
    assert "".join(lines).count("a") == 51, "the name's own letter besides"
    assert "  why" in lines
    assert lines[-1].split() == ["b", "2"]


def rooted(connections: int, *, writable: bool = False) -> dict[str, Any]:
    root = {"image": "node", "id": "ab" * 32, "since_s": 1.0, "writable": writable, "connections": connections}
    return {**machine("m1"), "root": root}


def test_machines_that_booted_from_nbd_are_counted() -> None:
    lines = [line.plain for line in roots([machine(), rooted(2), rooted(0)])]
    assert lines == ["2 machines booted from NBD, 1 of them connected"]
    assert [line.plain for line in roots([rooted(1)])] == ["1 machine booted from NBD, 1 of them connected"]
    assert roots([machine()]) == []


@pytest.mark.parametrize(
    ("of", "line"),
    [
        (rooted(1), "root: image node abababababab by NBD, connected"),
        (rooted(0), "root: image node abababababab by NBD, not connected now"),
        (rooted(1, writable=True), "root: a disk of its own over image node abababababab by NBD, connected"),
    ],
)
def test_a_machines_root_is_shown_above_its_boot(of: dict[str, Any], line: str) -> None:
    assert printed(timeline(of), 100)[1].strip() == line
    assert line in printed(timeline({**of, "boot": None}), 100)[1]
    assert "root:" not in "".join(printed(timeline(machine("m1")), 100)[:2])


def test_a_machine_that_is_stuck_says_why_and_what_to_look_at() -> None:
    stuck = {
        "name": "m1", "mac": "52:54:00:00:00:0a", "ip": "10.77.0.10", "pool": "workers",
        "state": "stuck", "trouble": "It has an address and did not fetch its boot program.",
        "look": "`pxeboot probe tftp` shows it.",
        "boot": {"started_s": 0.0, "steps": [{"stage": "address", "first_s": 3.0, "detail": "10.77.0.10"}]},
    }  # fmt: skip
    shown = " ".join(" ".join(printed(table([stuck], 60.0, 120), 120)).split())
    assert "did not fetch its boot program." in shown
    assert "pxeboot probe tftp" in shown
    assert "`" not in shown
