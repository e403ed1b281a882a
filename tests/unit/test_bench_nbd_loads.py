"""bench.nbd_loads: what fio says, medians, ratios and the verdict."""

import pytest

from bench.nbd_loads import LOADS, Measured, NotMeasured, read_fio, rows
from bench.sides import reached

PERCENTILES = ";".join(f"{share}%={value}" for share, value in (("50.000000", 79), ("99.000000", 370)))
SAID = (
    "fio: connected to NBD server\n"
    f"3;fio-3.33;x;0;0;157100;156943;39235;1001;3;2440;11.9;21.6;3;3402;89.6;101.8;{PERCENTILES}"
    f"{';0%=0' * 18};19;3406\n"
)
"""The beginning of what fio 3.33 says of reads of 4 KiB."""


def measured(mb_per_s: float, cpu_s: float = 1.0) -> Measured:
    """Reads of 4 KiB, 40,960,000 bytes of them."""
    return Measured(40_960_000, 10_000, 40.96 / mb_per_s, 100.0, cpu_s)


def test_fio_tells_how_much_it_read_how_long_and_how_late() -> None:
    assert read_fio(SAID, 4096) == Measured(157100 * 1024, 39275, 1.001, 370.0)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("fio: nbd_connect_uri: Connection refused\n", id="no-figures"),
        pytest.param(SAID.replace(";x;0;0;", ";x;0;5;"), id="an-error"),
        pytest.param(SAID.replace(";157100;", ";0;"), id="nothing-read"),
        pytest.param("3;fio-3.33;x;0;0;157100\n", id="cut-off"),
        pytest.param(SAID.replace("99.000000%=", "99.000000%"), id="no-percentile"),
    ],
)
def test_what_fio_did_not_measure_is_no_figure(said: str) -> None:
    with pytest.raises(NotMeasured):
        read_fio(said, 4096)


def test_we_are_compared_with_the_best_of_the_others_round_by_round() -> None:
    table = rows(
        {
            ("4k-16", "pxeboot"): {0: measured(10), 1: measured(130), 2: measured(120)},
            ("4k-16", "nbdkit"): {0: measured(8), 1: measured(100), 2: measured(100)},
            ("4k-16", "qemu-nbd"): {0: measured(50), 1: measured(50), 2: measured(50)},
        }
    )
    assert table[0].ratio == pytest.approx(1.25)
    assert table[0].good is True
    assert table[1].values["nbdkit"] == pytest.approx(100.0)
    assert reached(table)


@pytest.mark.parametrize(("load", "ours", "good"), [("copy4", 119, False), ("copy4", 120, True), ("4k-1", 100, True)])
def test_each_load_has_a_target(load: str, ours: float, good: bool) -> None:
    table = rows({(load, "pxeboot"): {0: measured(ours)}, (load, "nbdkit"): {0: measured(100)}})
    assert table[0].good is good


def test_a_round_in_which_one_of_both_failed_makes_no_ratio() -> None:
    table = rows({("copy1", "pxeboot"): {1: measured(9)}, ("copy1", "nbdkit"): {0: measured(3), 1: measured(6)}})
    assert table[0].ratio == pytest.approx(1.5)


def test_a_load_that_once_failed_with_us_is_missed() -> None:
    results = {("copy1", "pxeboot"): {0: measured(500)}, ("copy1", "nbdkit"): {0: measured(1), 1: measured(1)}}
    assert not reached(rows(results, [("copy1", "pxeboot")]))
    assert reached(rows(results, [("copy1", "nbdkit")]))
    assert not reached(rows({}, [("copy1", "pxeboot")]))


def test_without_a_peer_nothing_is_judged() -> None:
    (first, *_) = rows({("copy1", "pxeboot"): {0: measured(500)}})
    assert (first.ratio, first.good) == (None, None)


def test_every_load_has_a_name_of_its_own() -> None:
    assert len({load.name for load in LOADS}) == len(LOADS)
