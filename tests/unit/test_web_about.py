import pytest

from pxeboot.messages import Line, Severity
from pxeboot.web.about import image_of, log_of, report_of

TOKEN = "abcdef.0123456789abcdef"
LINES = [
    Line(5.0, "pxeboot", Severity.INFORMATIONAL, "before all boots"),
    Line(12.0, "kernel", Severity.ERROR, "a disk is broken"),
    Line(11.0, "syslog:sshd", Severity.NOTICE, f"--token {TOKEN}"),
    Line(31.0, "pxeboot", Severity.WARNING, "again"),
]


def test_lines_are_in_their_order_and_belong_to_their_boots() -> None:
    said, sources = log_of(LINES, [10.0, 30.0])
    assert [(line.since_s, line.level, line.begins) for line in said] == [
        (None, "plain", False), (1.0, "notice", True), (2.0, "error", False), (1.0, "warning", True),
    ]  # fmt: skip
    assert sources == ["kernel", "pxeboot", "syslog"]
    assert TOKEN not in repr(said)


@pytest.mark.parametrize(
    ("chosen", "texts"),
    [
        ({"level": "warnings"}, ["a disk is broken", "again"]),
        ({"level": "errors"}, ["a disk is broken"]),
        ({"source": "syslog"}, ["--token ***"]),
        ({"source": "pxeboot", "level": "errors"}, []),
        ({"level": "made up"}, ["before all boots", "--token ***", "a disk is broken", "again"]),
    ],
)
def test_one_can_choose_what_to_see(chosen: dict[str, str], texts: list[str]) -> None:
    said, sources = log_of(LINES, [10.0], **chosen)
    assert [line.text for line in said] == texts
    assert len(sources) == 3


def test_a_report_is_shown_in_parts_without_secrets() -> None:
    text = f"no head\n== uptime\n5\n== failed\n== mounts\ntmpfs / tmpfs\n== x\n{TOKEN} hidden-hash\n"
    parts = report_of(text, ["hidden-hash"])
    assert [(part.name, part.text, part.bad) for part in parts] == [
        ("failed", "", False), ("mounts", "tmpfs / tmpfs", False), ("uptime", "5", False), ("x", "*** ***", False),
    ]  # fmt: skip
    assert report_of("") == []


def test_a_report_names_the_image_that_runs() -> None:
    assert image_of("== hostname\nm1\n== image\nabc\n") == "abc"
    assert image_of("== image") == ""
