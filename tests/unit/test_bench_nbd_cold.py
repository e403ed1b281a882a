"""bench.nbd_cold and bench.slow_disk: the table, and where a slow disk can be made."""

from pathlib import Path

import pytest

from bench.nbd_cold import Disk, Measured, rows
from bench.sides import reached
from bench.slow_disk import Limits, find
from bench.storm_report import Delays

V1 = """\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup /sys/fs/cgroup/blkio cgroup rw,blkio 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"


def measured(p99_ms: float, *broken: str) -> Measured:
    """Machines of which one read in a hundred was as late."""
    delays = Delays(1000, p99_ms / 4, p99_ms, 2 * p99_ms, 0)
    return Measured(delays, delays, 10.0, 1.2, 10**9, 1000.0, 5.0, 1.0, broken)


@pytest.mark.parametrize(("ours", "good"), [(101, False), (100, True), (50, True)])
def test_we_are_to_be_no_later_than_nbd_server(ours: float, good: bool) -> None:
    table = rows({(Disk.REAL, "pxeboot"): {0: measured(ours)}, (Disk.REAL, "nbd-server"): {0: measured(100)}})
    assert table[0].good is good
    assert table[0].ratio == pytest.approx(100 / ours)
    assert [row.good for row in table[1:]] == [None] * (len(table) - 1)


def test_each_disk_is_judged() -> None:
    results = {
        (Disk.REAL, "pxeboot"): {0: measured(50)},
        (Disk.REAL, "nbd-server"): {0: measured(100)},
        (Disk.SLOW, "pxeboot"): {0: measured(150)},
        (Disk.SLOW, "nbd-server"): {0: measured(100)},
    }
    assert [row.good for row in rows(results) if row.good is not None] == [True, False]


def test_a_machine_that_does_not_get_all_is_a_miss() -> None:
    results = {(Disk.REAL, "pxeboot"): {0: measured(1, "hung up")}, (Disk.REAL, "nbd-server"): {0: measured(100)}}
    assert not reached(rows(results))
    assert not reached(rows({}, [(Disk.REAL, "pxeboot")]))


@pytest.mark.parametrize(
    ("mounts", "controllers", "expected"),
    [
        (V1, "", Limits(Path("/sys/fs/cgroup/blkio"), "blkio.throttle.read_iops_device", "{device} {reads}")),
        (V2, "cpu io memory\n", Limits(Path("/sys/fs/cgroup"), "io.max", "{device} riops={reads}")),
        (V2, "cpu memory pids\n", None),
        ("proc /proc proc rw 0 0\n", "io\n", None),
    ],
    ids=["v1", "v2", "v2-without-io", "no-groups"],
)
def test_a_slow_disk_is_made_where_the_kernel_lets_us(mounts: str, controllers: str, expected: Limits | None) -> None:
    assert find(mounts, lambda _place: controllers) == expected
