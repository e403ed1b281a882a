"""A megabyte over bad lines, to clients as people run them, by a clock of its own: how long, how many packets.

The same with the programs themselves: `tests/net/test_tftp_loss.py`, and twenty times each: `bench/tftp_loss.py`.
"""

import random
from statistics import median

import pytest

from tests.support.tftp_models import (
    Atftp,
    AtftpWindow,
    Busybox,
    Client,
    Curl,
    Edk2,
    Fetch,
    Grub,
    Line,
    TftpHpa,
)
from tftp.engine import Outcome

MIB = random.Random(1).randbytes(2**20)
RUNS = 20
WITHIN_S = {0.01: 3.0, 0.05: 8.0, 0.10: 20.0}
"""What the median of the runs may take, by loss, for clients that ask for blocks of 1,428 bytes and no window."""


def runs(client: type[Client], line: Line, number: int = RUNS) -> list[Fetch]:
    """That many downloads, each with other luck."""
    return [Fetch(MIB, client(), line, seed).run() for seed in range(number)]


@pytest.mark.parametrize("loss", WITHIN_S)
@pytest.mark.parametrize("client", [Curl, Busybox, Grub])
def test_a_client_without_windows_gets_the_file_in_time_and_whole_in_every_run(
    client: type[Client], loss: float
) -> None:
    done = runs(client, Line(loss=loss))
    assert [fetch.client.failed for fetch in done if not fetch.whole] == []
    assert median(fetch.took_s for fetch in done) < WITHIN_S[loss]
    assert {fetch.finished.outcome for fetch in done if fetch.finished} <= {Outcome.COMPLETE, Outcome.UNCONFIRMED}


@pytest.mark.parametrize("loss", WITHIN_S)
def test_atftp_gets_the_file_whole_in_every_run_but_its_own_timer_may_cost_more_than_the_loss(loss: float) -> None:
    done = runs(Atftp, Line(loss=loss))
    assert [fetch.client.failed for fetch in done if not fetch.whole] == []
    own_s = median(5.0 * fetch.client.timeouts for fetch in done)
    assert median(fetch.took_s for fetch in done) < WITHIN_S[loss] + 3 * own_s
    assert (own_s == 0) == (loss == 0.01)


@pytest.mark.parametrize("loss", WITHIN_S)
@pytest.mark.parametrize(("client", "times"), [(Edk2, 4), (AtftpWindow, 1)])
def test_a_client_with_windows_gets_the_file_in_less(client: type[Client], times: int, loss: float) -> None:
    done = runs(client, Line(loss=loss))
    assert [fetch.client.failed for fetch in done if not fetch.whole] == []
    assert median(fetch.took_s for fetch in done) < WITHIN_S[loss] / times


@pytest.mark.parametrize("loss", WITHIN_S)
def test_blocks_of_512_bytes_cost_three_times_as_much(loss: float) -> None:
    done = runs(TftpHpa, Line(loss=loss), 5)
    assert all(fetch.whole for fetch in done)
    assert median(fetch.took_s for fetch in done) < 3 * WITHIN_S[loss]


BAD = [
    pytest.param(Line(double=0.05), id="double"),
    pytest.param(Line(late=0.05), id="late"),
    pytest.param(Line(late=0.05, late_s=0.03), id="later"),
    pytest.param(Line(delay_s=0.05), id="far"),
    pytest.param(Line(loss=0.01), id="corrupt"),  # the kernel drops what has a wrong checksum
    pytest.param(Line(loss=0.01, double=0.05, late=0.05, late_s=0.02, delay_s=0.05), id="all"),
]


@pytest.mark.parametrize("line", BAD)
@pytest.mark.parametrize("client", [Curl, Busybox, Grub, TftpHpa, Edk2])
def test_the_file_is_whole_after_copies_delays_and_wrong_checksums(client: type[Client], line: Line) -> None:
    assert [fetch.client.failed for fetch in runs(client, line, 3) if not fetch.whole] == []


@pytest.mark.parametrize("line", BAD[1:4])
def test_atftp_gets_the_file_unless_its_oack_is_doubled(line: Line) -> None:
    assert [fetch.client.failed for fetch in runs(Atftp, line, 3) if not fetch.whole] == []


def test_atftp_gives_up_when_the_line_doubles_the_oack_whatever_we_do() -> None:
    fetch = Fetch(MIB, Atftp(), Line(double=1.0), 0).run()
    assert fetch.client.failed == "unexpected OACK"
    assert fetch.finished is not None
    assert fetch.finished.outcome is Outcome.DECLINED


@pytest.mark.parametrize("line", [Line(delay_s=0.05), Line(double=0.05), Line(late=0.05, late_s=0.005)])
@pytest.mark.parametrize("client", [Curl, Atftp, Busybox, Grub, TftpHpa])
def test_nothing_is_sent_twice_to_a_client_that_is_only_far_away(client: type[Client], line: Line) -> None:
    fetch = Fetch(MIB, client(), line, 3).run()
    assert fetch.transfer is not None
    assert fetch.data_sent <= fetch.transfer.blocks + 1


@pytest.mark.parametrize("client", [Edk2, AtftpWindow])
def test_no_window_is_sent_twice_to_a_client_that_is_only_far_away(client: type[Client]) -> None:
    fetch = Fetch(MIB, client(), Line(delay_s=0.05), 3).run()
    assert fetch.transfer is not None
    assert fetch.data_sent == fetch.transfer.blocks


@pytest.mark.parametrize("client", [Curl, Atftp, Busybox, Grub, TftpHpa, Edk2, AtftpWindow])
def test_a_machine_that_is_away_for_three_seconds_is_sent_a_few_copies(client: type[Client]) -> None:
    fetch = Fetch(MIB, client(), Line(), 3, pauses={0.005: 3.0}).run()
    assert fetch.whole
    assert fetch.took_s > 3.0
    assert fetch.transfer is not None
    assert fetch.data_sent <= fetch.transfer.blocks + 6 * fetch.client.windowsize


@pytest.mark.parametrize("client", [Curl, Atftp, Grub, TftpHpa])
def test_a_machine_that_writes_to_flash_now_and_then_is_sent_one_copy_each_time(client: type[Client]) -> None:
    pauses = {0.02 + 0.06 * number: 0.03 for number in range(5)}
    fetch = Fetch(MIB, client(), Line(), 3, pauses=pauses).run()
    assert fetch.whole
    assert fetch.transfer is not None
    assert fetch.data_sent <= fetch.transfer.blocks + len(pauses)


def test_a_line_that_is_dead_is_given_up_by_both() -> None:
    fetch = Fetch(MIB, Curl(), Line(loss=1.0), 0).run()
    assert fetch.client.failed == "timed out"
    assert fetch.transfer is None
