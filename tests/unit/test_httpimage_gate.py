"""How many root images are let out at once."""

import pytest

from config.delivery import Http
from httpimage.gate import Gate


@pytest.mark.parametrize(
    ("downloads", "rate_mbit_s", "at_most"),
    [(64, None, 64), (64, 1000, 64), (64, 5, 39), (1000, 1, 7), (1, 1, 1)],
)
def test_a_low_rate_is_given_to_fewer_at_once(downloads: int, rate_mbit_s: int | None, at_most: int) -> None:
    gate = Gate(Http(downloads=downloads, rate_mbit_s=rate_mbit_s))
    assert (gate.downloads, gate.running, gate.waiting) == (at_most, 0, 0)
