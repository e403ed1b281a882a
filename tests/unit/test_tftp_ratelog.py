"""What is logged of what peers cause, and what is left out."""

import logging

import pytest

from tftp.ratelog import A_MINUTE, OF_ONE, Kind, RateLog

LEFT_OUT = "tftp: more than 30 warnings like the last one in a minute; the rest is left out"


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tftp")


def test_one_client_takes_a_part_of_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    seldom = RateLog()
    for _ in range(1000):
        seldom.say(0.0, Kind.REFUSED, "10.0.0.1", "evil")
    assert caplog.messages == [*["evil"] * OF_ONE, "tftp 10.0.0.1: more of this kind is left out for a minute"]
    seldom.say(0.0, Kind.REFUSED, "10.0.0.2", "other")
    seldom.say(0.0, Kind.ENDED, "10.0.0.1", "ended")
    assert caplog.messages[-2:] == ["other", "ended"]


def test_forged_addresses_hide_nothing_of_another_kind(caplog: pytest.LogCaptureFixture) -> None:
    seldom = RateLog()
    for number in range(5000):
        seldom.say(0.0, Kind.REFUSED, f"10.0.{number // 250}.{number % 250}", "evil")
    assert caplog.messages == [*["evil"] * A_MINUTE, LEFT_OUT]
    seldom.say(0.0, Kind.OURS, "", "%s", "the disk fails", level=logging.ERROR)
    seldom.say(0.0, Kind.BUSY, "10.0.0.1", "busy")
    seldom.say(0.0, Kind.NARROW, "10.0.0.1", "narrow")
    assert caplog.messages[-3:] == ["the disk fails", "busy", "narrow"]
    assert caplog.records[-3].levelno == logging.ERROR


def test_our_own_errors_are_bounded_by_themselves(caplog: pytest.LogCaptureFixture) -> None:
    seldom = RateLog()
    for _ in range(1000):
        seldom.say(0.0, Kind.OURS, "", "the disk fails", level=logging.ERROR)
    assert caplog.messages == [*["the disk fails"] * A_MINUTE, LEFT_OUT]


def test_the_next_minute_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    seldom = RateLog()
    for now in (0.0, 60.0):
        for _ in range(100):
            seldom.say(now, Kind.ENDED, "10.0.0.1", "ended")
    assert caplog.messages.count("ended") == 2 * OF_ONE
