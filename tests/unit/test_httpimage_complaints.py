"""Log lines that a peer can cause are few."""

import logging

import pytest

from httpimage.complaints import BURST, Complaints


def test_a_flood_is_a_few_lines_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    now = 5.0
    complain = Complaints(logging.getLogger("flood"), lambda: now)
    with caplog.at_level(logging.INFO):
        for _ in range(1000):
            complain(logging.INFO, "http %s did it again", "192.0.2.1")
        assert len(caplog.records) == BURST
        now = 6.0
        complain(logging.INFO, "and another")
    assert caplog.records[-2].getMessage() == f"http {1000 - BURST} more lines like the last ones were left out"
    assert caplog.records[-1].getMessage() == "and another"
    assert complain.count == 1001
