"""What perfdhcp's report says, read from reports of perfdhcp 2.2.0."""

import math

import pytest

from bench import dhcp_perfdhcp
from bench.dhcp_perfdhcp import Half, NoReport, Trial

OVERLOADED = """\
Running: perfdhcp -4 -l eth0 -r 20000 -p 5 -R 10000000 -W 1000000 10.28.0.1
Scenario: basic.
Multi-thread mode enabled.
***Rate statistics***
Rate: 1531.07 4-way exchanges/second, expected rate: 20000

***Malformed Packets***
Malformed packets: 0
***Statistics for: DISCOVER-OFFER***
sent packets: 85235
received packets: 9688
drops: 75547
drops ratio: 88.6338 %
orphans: 0
rejected leases: 0
non unique addresses: 0

min delay: 7.702 ms
avg delay: 44.046 ms
max delay: 72.188 ms
std deviation: 7.803 ms
collected packets: 24147

***Statistics for: REQUEST-ACK***
sent packets: 9688
received packets: 9187
drops: 501
drops ratio: 5.171 %
orphans: 0
rejected leases: 0
non unique addresses: 0

min delay: 10.859 ms
avg delay: 42.090 ms
max delay: 70.475 ms
std deviation: 7.579 ms
collected packets: 47
"""
DEAF = """\
***Statistics for: DISCOVER-OFFER***
sent packets: 500
received packets: 0
drops: 500
drops ratio: 100 %
orphans: 0

Delay summary unavailable! No packets received.

***Statistics for: REQUEST-ACK***
sent packets: 0
received packets: 0
drops: 0
drops ratio: nan %
orphans: 0

Delay summary unavailable! No packets received.
"""


def test_each_half_is_read() -> None:
    trial = dhcp_perfdhcp.parse(OVERLOADED, 20000, 5)
    assert trial == Trial(20000, 5, Half(85235, 9688, 44.046), Half(9688, 9187, 42.090))


def test_an_exchange_is_dropped_when_either_half_is() -> None:
    trial = dhcp_perfdhcp.parse(OVERLOADED, 20000, 5)
    assert trial.dropped == pytest.approx(1 - 9187 / 85235)
    assert trial.done_per_s == pytest.approx(9187 / 5)
    assert trial.begun == pytest.approx(85235 / 100_000)
    assert trial.mean_ms == pytest.approx(86.136)


def test_a_server_that_never_answers_dropped_everything() -> None:
    trial = dhcp_perfdhcp.parse(DEAF, 100, 5)
    assert (trial.dropped, trial.done_per_s) == (1.0, 0.0)
    assert math.isnan(trial.mean_ms)


def test_nothing_sent_is_nothing_done() -> None:
    assert Trial(100, 5, Half(0, 0, math.nan), Half(0, 0, math.nan)).dropped == 1.0


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("perfdhcp: bind failed", id="an-error"),
        pytest.param(OVERLOADED.partition("***Statistics for: REQUEST")[0], id="half-a-report"),
        pytest.param(OVERLOADED.replace("received packets", "got"), id="another-wording"),
    ],
)
def test_what_is_no_report_is_said_to_be_none(text: str) -> None:
    with pytest.raises(NoReport):
        dhcp_perfdhcp.parse(text, 100, 5)


def test_the_machines_of_the_warm_up_are_others() -> None:
    warm = dhcp_perfdhcp.argv("10.28.0.1", "eth0", 400, period_s=4, seed=1, clients=1000, warm_up=200)
    load = dhcp_perfdhcp.argv("10.28.0.1", "eth0", 400, period_s=4, seed=1, clients=1000)
    assert warm[warm.index("-n") + 1] == "200"
    assert "-p" not in warm
    assert load[load.index("-p") + 1] == "4"
    assert warm[warm.index("-b") + 1] != load[load.index("-b") + 1]


def test_known_machines_are_read_from_a_file() -> None:
    command = dhcp_perfdhcp.argv("10.28.0.1", "eth0", 400, period_s=4, seed=1, clients=1000, macs="/tmp/macs")
    assert command[command.index("-M") + 1] == "/tmp/macs"
    assert not {"-R", "-b"} & set(command)
