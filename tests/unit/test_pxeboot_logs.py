"""pxeboot.logs: lines on standard error."""

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.logs import BURST, Lines


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log, handler = logging.getLogger("tests.lines"), Lines(stream)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    yield stream
    log.removeHandler(handler)


log = logging.getLogger("tests.lines")


def test_a_record_is_a_line_that_begins_with_its_level(said: io.StringIO) -> None:
    log.info("dhcp %s has %r", "52:54:00:12:34:56", "x\n")
    log.debug("not this one")
    log.warning("100 %")
    assert said.getvalue() == "INFO dhcp 52:54:00:12:34:56 has 'x\\n'\nWARNING 100 %\n"


def test_a_bug_comes_with_its_traceback(said: io.StringIO) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("dhcp failed")
    first, *rest = said.getvalue().splitlines()
    assert first == "ERROR dhcp failed"
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ValueError: why"


def test_a_reader_that_has_stopped_stops_nobody_and_lines_are_counted() -> None:  # F-24
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "w") as stream:
        handler = Lines(stream)
        for number in range(2000):
            handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "%s %s", (number, "é" * 1500), None))
        first = reader.read(1 << 20)
        assert first.startswith(b"INFO 0 ")
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "at last", (), None))
        *_, count, last = reader.read(1 << 20).decode().splitlines()
        whole = first.count(b"\n")
        assert count == f"WARNING {2000 - whole} lines were left out: nobody read them"
        assert last == "INFO at last"


def test_standard_error_that_is_gone_stops_nobody(said: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    said.close()
    log.warning("hello")
    assert "I/O operation on closed file" in capsys.readouterr().err


def record(text: str, *args: object, **said: object) -> logging.LogRecord:
    made = logging.LogRecord("tftp", logging.INFO, "", 0, text, args, None)
    made.__dict__.update(said)
    return made


def written_as_json(made: logging.LogRecord, hide: Callable[[str], str] | None = None) -> dict[str, Any]:
    stream = io.StringIO()
    Lines(stream, "json", hide).emit(made)
    [line] = stream.getvalue().splitlines()
    told: dict[str, Any] = json.loads(line)
    return told


def test_json_has_what_a_record_says_besides_its_text() -> None:
    made = record("tftp %s got %r", "10.77.0.10", "core.efi", ip="10.77.0.10", machine="m1", file="core.efi", bytes=7)
    made.created = 1_795_000_000.25
    assert written_as_json(made) == {
        "time": "2026-11-18T11:06:40.250Z", "level": "INFO", "logger": "tftp",
        "message": "tftp 10.77.0.10 got 'core.efi'",
        "machine": "m1", "ip": "10.77.0.10", "file": "core.efi", "bytes": 7,
    }  # fmt: skip


def test_a_bug_is_one_line_of_json_with_its_traceback() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        made = record("failed")
        made.exc_info = (ValueError, error, error.__traceback__)
    told = written_as_json(made)
    assert told["message"] == "failed"
    assert told["traceback"].endswith("ValueError: why")


def test_json_and_text_leave_out_what_is_to_be_hidden() -> None:
    def hide(text: str) -> str:
        return text.replace("secret", "***")

    assert written_as_json(record("a %s", "secret"), hide)["message"] == "a ***"
    stream = io.StringIO()
    Lines(stream, hide=hide).emit(record("a %s", "secret"))
    assert stream.getvalue() == "INFO a ***\n"


@given(st.text(), st.text(max_size=5000), st.one_of(st.integers(), st.floats(), st.text(), st.none()))
def test_whatever_is_said_is_one_line_that_can_be_parsed(text: str, name: str, size: object) -> None:
    told = written_as_json(record("%s", text, file=name, bytes=size))
    assert told["message"] == text
    assert told.get("file", "") == name


def test_lines_of_json_that_nobody_reads_are_counted_and_those_that_are_there_are_whole() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "w") as stream:
        handler = Lines(stream, "json")
        for number in range(500):
            handler.emit(record("%s %s", number, "é" * 300))
        first = reader.read(1 << 20)
        handler.emit(record("at last"))
        *_, count, last = reader.read(1 << 20).decode().splitlines()
    lines = [json.loads(line) for line in first.splitlines()]
    assert json.loads(count)["message"] == f"{500 - len(lines)} lines were left out: nobody read them"
    assert handler.left_out == 500 - len(lines)
    assert json.loads(last)["message"] == "at last"


def test_a_flood_of_lines_about_finished_things_is_cut_and_counted_and_warnings_are_not(said: io.StringIO) -> None:
    for number in range(3 * BURST):
        log.info("http 10.77.0.10 got %d", number)
    log.warning("what people should hear of")
    lines = said.getvalue().splitlines()
    told = [line for line in lines if line.endswith("lines were left out: there were more than 500 a second")]
    assert lines[-2:] == [told[-1], "WARNING what people should hear of"]
    assert sum(int(line.split()[1]) for line in told) == 3 * BURST - (len(lines) - len(told) - 1)
    assert len(told) < len(lines) / 50
