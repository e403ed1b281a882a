"""pxeboot.api.dhcp, and how `pxeboot status` tells of it."""

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import Farm
from dhcp.leases import Lease, State
from dhcp.plan import plan
from pxeboot.api.dhcp import pools_json
from pxeboot.cli.status import troubles
from tests.support.dhcp_clients import farm

NOW = 1_790_000_000.0
GOOD: dict[str, Any] = {
    "waits": {},
    "cannot_store": None,
    "pools": [{"first": "a", "last": "b", "size": 2, "used": 1}],
}


def test_a_pool_is_as_full_as_its_leases_and_quarantines_that_last() -> None:
    first = IPv4Address("10.77.0.8")
    records = [
        Lease(first, "m1", int(NOW) + 10),
        Lease(first + 1, "m2", int(NOW) + 10, State.DECLINED),
        Lease(first + 3, "m3", int(NOW) + 10, State.RELEASED),
        Lease(first + 4, "m4", int(NOW) - 10),
        Lease(IPv4Address("10.99.0.1"), "m5", int(NOW) + 10),
    ]
    told = pools_json(plan(farm()), records, NOW)
    assert told[0] == {"subnet": "10.77.0.0/24", "first": "10.77.0.8", "last": "10.77.0.15", "size": 7, "used": 2}
    assert [pool["used"] for pool in told[1:]] == [0]


@given(st.lists(st.integers(0x0A4D0000, 0x0A4D0020), unique=True))
def test_the_ends_of_a_pool_are_in_it_and_what_is_excluded_is_not(numbers: list[int]) -> None:
    records = [Lease(IPv4Address(number), "m", int(NOW) + 10) for number in numbers]
    pool = plan(farm()).networks[0].pools[0]
    told = pools_json(plan(farm()), records, NOW)
    assert told[0]["used"] == sum(lease.address in pool for lease in records)


def test_many_leases_are_counted_to_the_pools_they_are_of() -> None:
    pools = [{"subnet": f"10.{n}.0.0/16", "pool": f"10.{n}.1.0-10.{n}.20.255"} for n in range(100)]
    records = [Lease(IPv4Address(f"10.{n}.1.0") + i, "m", int(NOW) + 10) for n in range(100) for i in range(500)]
    many = plan(Farm.model_validate({"dhcp": {"subnets": pools}}))
    assert [pool["used"] for pool in pools_json(many, records, NOW)] == [500] * 100


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ({}, []),
        (
            {"waits": {"eth9": "there is no such interface"}},
            ["interface eth9 is not served: there is no such interface"],
        ),
        ({"cannot_store": "no space"}, ["no leases are given, because they cannot be stored: no space"]),
        ({"pools": [{"first": "a", "last": "b", "size": 2, "used": 2}]}, ["the pool a-b has no address left"]),
    ],
)
def test_what_keeps_dhcp_from_serving_is_a_red_line(trouble: dict[str, Any], said: list[str]) -> None:
    lines = troubles(GOOD | trouble)
    assert [line.plain for line in lines] == said
    assert all(line.style == "bold red" for line in lines)
