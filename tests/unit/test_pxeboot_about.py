"""Which machine a line of our log is about, and that it is kept beside what the machine sends."""

import logging
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from pxeboot.about import About, Listening
from pxeboot.messages import Messages, Severity

ABOUT = About(
    {IPv4Address("10.77.0.10"): "m1"}.get,
    {"52:54:00:00:00:0a": "m1", "52:54:00:00:00:0b": "m2"}.get,
    {"m1", "m2"}.__contains__,
)


@pytest.fixture
def messages() -> Iterator[Messages]:
    messages = Messages()
    for name in ("pxeboot", "tftp"):
        logging.getLogger(name).setLevel(logging.INFO)
    with Listening(ABOUT, messages):
        yield messages


def test_a_line_that_says_an_address_is_kept_with_the_machine_that_has_it(messages: Messages) -> None:
    logging.getLogger("tftp").info("tftp %s got %r", "10.77.0.10", "core.efi", extra={"ip": "10.77.0.10"})
    [line] = messages.of("m1")
    assert (line.source, line.text) == ("pxeboot", "tftp 10.77.0.10 got 'core.efi'")
    assert line.severity is Severity.INFORMATIONAL


def test_a_card_is_its_machines(messages: Messages) -> None:
    logging.getLogger("tftp").warning("dhcp does not answer", extra={"mac": "52:54:00:00:00:0b"})
    assert messages.of("m2")[0].severity is Severity.WARNING


def test_a_line_that_begins_with_a_machines_name_is_about_it(messages: Messages) -> None:
    logging.getLogger("pxeboot").warning("%s will not boot: %s", "m1", "no image")
    logging.getLogger("pxeboot").warning("%s is gone, and not served any more", "eth1")
    logging.getLogger("tftp").warning("%s", "m1")
    assert [line.text for line in messages.of("m1")] == ["m1 will not boot: no image"]
    assert len(messages) == 1


def test_a_name_that_is_good_once_is_not_kept(messages: Messages) -> None:
    once = "0123456789abcdef" * 2
    logging.getLogger("httpimage").warning("asked for '/join/%s/': not found", once, extra={"ip": "10.77.0.10"})
    assert [line.text for line in messages.of("m1")] == ["asked for '/join/***/': not found"]


@pytest.mark.parametrize("extra", [{"ip": "10.77.0.99"}, {"mac": "52:54:00:ff:ff:ff"}, {"ip": "no address"}, {}])
def test_what_is_about_nobody_is_kept_of_nobody(messages: Messages, extra: dict[str, str]) -> None:
    logging.getLogger("tftp").warning("a stranger", extra=extra)
    assert len(messages) == 0


def test_what_is_said_of_each_packet_is_not_kept(messages: Messages) -> None:
    logging.getLogger("tftp").setLevel(logging.DEBUG)
    logging.getLogger("tftp").debug("a packet", extra={"ip": "10.77.0.10"})
    assert len(messages) == 0


def test_nothing_is_kept_when_it_is_over() -> None:
    messages = Messages()
    with Listening(ABOUT, messages):
        pass
    logging.getLogger("tftp").warning("late", extra={"ip": "10.77.0.10"})
    assert len(messages) == 0
