"""pxeboot.logs: lines on standard error."""

import io
import logging
import os
from collections.abc import Iterator

import pytest

from pxeboot.logs import Lines


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
