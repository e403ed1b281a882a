"""bench.tftp_report: medians, ratios and the verdict."""

import pytest

from bench.tftp_report import Run, Scenario, missed, render, rows


def runs(*speeds: float) -> list[Run]:
    """Measurements of so many megabytes a second."""
    return [Run(10**9, 1000 / speed, 2.0, 1.0, 0.0) for speed in speeds]


def test_medians_are_compared_with_the_best_of_the_peers_that_count() -> None:
    table = rows(
        {
            (Scenario.EIGHT, "pxeboot"): runs(90, 110, 100),
            (Scenario.EIGHT, "dnsmasq"): runs(70, 60, 80),
            (Scenario.EIGHT, "tftpd-hpa"): runs(80, 500, 70),
            (Scenario.EIGHT, "atftpd"): runs(50, 50, 50),
        }
    )
    assert table[0].ratio == pytest.approx(1.25)
    assert table[0].reached is True
    assert table[1].values["pxeboot"] == pytest.approx(2.0)
    assert missed(table) == []


@pytest.mark.parametrize(("ours", "reached"), [(199, False), (200, True)])
def test_a_window_is_to_be_twice_as_fast(ours: float, reached: bool) -> None:
    table = rows({(Scenario.WINDOW, "pxeboot"): runs(ours), (Scenario.WINDOW, "atftpd"): runs(100)})
    assert table[0].reached is reached
    assert [row.label for row in missed(table)] == ([] if reached else [table[0].label])


def test_without_a_peer_nothing_is_judged() -> None:
    table = rows({(Scenario.ONE, "pxeboot"): runs(10)})
    assert table[0].ratio is None
    assert missed(table) == []


def test_the_table_says_what_was_missed() -> None:
    table = rows({(Scenario.ONE, "pxeboot"): runs(10), (Scenario.ONE, "dnsmasq"): runs(20)})
    text = render(table, ["pxeboot", "dnsmasq"])
    assert "0.50   >= 1 x dnsmasq   MISSED" in text
