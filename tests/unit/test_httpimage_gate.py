"""How many root images are let out at once."""

from ipaddress import IPv4Address

import pytest

from config.delivery import Http
from httpimage.admission import Admitted, Wait
from httpimage.gate import BULK_BYTES, Gate


@pytest.mark.parametrize(
    ("downloads", "rate_mbit_s", "at_most"),
    [(64, None, 64), (64, 1000, 64), (64, 5, 39), (1000, 1, 7), (1, 1, 1)],
)
def test_a_low_rate_is_given_to_fewer_at_once(downloads: int, rate_mbit_s: int | None, at_most: int) -> None:
    gate = Gate(Http(downloads=downloads, rate_mbit_s=rate_mbit_s))
    assert (gate.downloads, gate.running, gate.waiting) == (at_most, 0, 0)


def test_another_number_of_downloads_counts_at_once_and_cuts_nobody_off() -> None:
    gate = Gate(Http(downloads=2))
    runs = [gate.admission.ask(IPv4Address("10.28.0.1") + n, BULK_BYTES, 0.0) for n in range(3)]
    assert [isinstance(answer, Admitted) for answer in runs] == [True, True, False]
    gate.follow(Http(downloads=1))
    assert (gate.downloads, gate.running, gate.waiting) == (1, 2, 1)
    assert isinstance(gate.admission.ask(IPv4Address("10.28.0.3"), BULK_BYTES, 1.0), Wait)
    gate.follow(Http(downloads=3))
    assert isinstance(gate.admission.ask(IPv4Address("10.28.0.3"), BULK_BYTES, 2.0), Admitted), "it kept its place"


def test_a_subnet_that_gets_a_rate_has_its_running_downloads_counted() -> None:
    gate = Gate(Http())
    first = gate.admission.ask(IPv4Address("10.28.0.1"), BULK_BYTES, 0.0)
    assert isinstance(first, Admitted)
    gate.follow(Http.model_validate({"subnet_rates_mbit_s": {"10.28.0.0/24": 2}}))
    own = [gate.admission.ask(IPv4Address("10.28.0.2") + n, BULK_BYTES, 0.0) for n in range(15)]
    assert [isinstance(answer, Admitted) for answer in own] == [True] * 14 + [False]
    gate.follow(Http())
    gate.admission.end(first.turn, BULK_BYTES, 1.0)
    assert gate.running == 14


def test_a_low_rate_of_a_subnet_is_given_to_fewer_of_it_at_once() -> None:
    """Each is sent 16 kB/s at least: 15 of them share 2 Mbit/s."""
    gate = Gate(Http.model_validate({"subnet_rates_mbit_s": {"10.28.0.0/24": 2}}))
    own = [gate.admission.ask(IPv4Address("10.28.0.1") + n, BULK_BYTES, 0.0) for n in range(16)]
    assert [isinstance(answer, Admitted) for answer in own] == [True] * 15 + [False]
    assert isinstance(gate.admission.ask(IPv4Address("10.29.0.1"), BULK_BYTES, 0.0), Admitted)
