"""What `pxeboot status` says of joins, and in which colour."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pxeboot.cli.joins import clusters, lines
from pxeboot.cli.status import table, timeline

SINCE = 1000.0


def status(*, connected: bool = True, trouble: str = "", **joins: int) -> dict[str, Any]:
    controller = {"connected": connected, "since_s": SINCE, "trouble": trouble, "socket": "/nonexistent/socket"}
    return {"machines": [], "controller": controller, "joins": {"open": 0, **joins}}


def shown(status: dict[str, Any], of_clusters: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    return [(str(line.style), line.plain) for line in lines(status, of_clusters or {}, SINCE + 75)]


def test_nothing_is_said_where_nothing_joins_or_all_is_well() -> None:
    assert shown({"machines": []}) == []
    assert shown(status()) == []
    assert shown({"machines": [], "controller": None, "joins": {"open": 0}}) == []


def test_a_controller_that_does_not_answer_is_red_with_its_reason() -> None:
    assert shown(status(connected=False, trouble="No such file or directory")) == [
        ("bold red", "the controller has not answered for 1 min 15 s (No such file or directory); "
         "machines wait for their join commands"),
    ]  # fmt: skip


def test_what_the_controller_cannot_do_is_said() -> None:
    assert shown(status(trouble="it keeps no cluster prod")) == [
        ("bold red", "the controller: it keeps no cluster prod")
    ]
    found = {"stage": {"trouble": None}, "prod": {"trouble": "the Kubernetes API: no answer within 5 s"}}
    assert shown(status(), found) == [
        ("bold red", "cluster prod: the Kubernetes API: no answer within 5 s; machines wait to join it")
    ]


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"spent": 1}, "1 request for a join command refused: 1 of what was fetched before"),
        (
            {"spent": 2, "address": 1, "late": 3},
            "6 requests for a join command refused: 1 to an address that is not the machine's, "
            "2 of what was fetched before, 3 too late after the menu",
        ),
        ({"denied": 1}, "1 request for a join command refused: 1 by the controller"),
    ],
)
def test_who_was_refused_is_counted_in_red_with_words(counts: dict[str, int], line: str) -> None:
    assert shown(status() | {"joins": counts}) == [("red", line)]


def test_join_commands_are_counted() -> None:
    assert shown(status(open=2, given=1)) == [("dim", "1 join command given, 2 still to be fetched")]


def test_a_controller_that_cannot_be_asked_says_nothing() -> None:
    assert clusters(status()) == {}
    assert clusters(status(connected=False)) == {}
    assert clusters({"machines": []}) == {}


def boot(*steps: tuple[str, str], refused: str | None = None) -> dict[str, Any]:
    listed = [{"stage": stage, "first_s": float(n), "detail": detail} for n, (stage, detail) in enumerate(steps)]
    return {"name": "m1", "mac": "52:54:00:00:0a:bc", "ip": "10.77.0.29", "pool": "", "intent": "netboot",
            "boot": {"steps": listed, "started_s": 0.0, "refused": refused}}  # fmt: skip


def coloured(what: Any, width: int) -> str:
    out = StringIO()
    Console(file=out, width=width, force_terminal=True, color_system="standard").print(what)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_a_machine_that_is_ready_is_green(width: int) -> None:
    assert "\x1b[1;32mready" in coloured(table([boot(("ready", "its Node is Ready"))], 9.0, width), width)
    assert "\x1b[32mjoined" in coloured(table([boot(("joined", "it joined"))], 9.0, width), width)
    assert "\x1b[33mapproved" in coloured(table([boot(("approved", "request csr-1"))], 9.0, width), width)


@pytest.mark.parametrize("width", [80, 120])
def test_a_refused_fetch_is_red_below_what_the_machine_does(width: int) -> None:
    why = "10.77.0.66 asked for its join command, and is not it"
    text = coloured(table([boot(("ready", "its Node is Ready"), refused=why)], 9.0, width), width)
    assert f"\x1b[31m{why}" in text
    assert "its Node is Ready" in text
    assert "\x1b[31m" in coloured(timeline(boot(("system", "up"), ("refused", why))), width).split("refused")[0]


def test_no_part_of_a_secret_can_be_on_the_way() -> None:
    """The functions here pick what they print; a field that nobody thought of is not printed."""
    text = str(shown({**status(given=1), "secret": "0123456789abcdef", "joins": {"given": 1, "secret": 5}}))
    assert "0123456789abcdef" not in text
    assert "secret" not in text
    assert Path(status()["controller"]["socket"]).name not in text
