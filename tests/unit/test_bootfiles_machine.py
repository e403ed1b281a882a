from ipaddress import IPv4Address
from typing import Any

import pytest

from config.model import Farm
from dhcp.plan import machine_name
from pxeboot.bootfiles.machine import Farmhouse, Machine

FIRST, SECOND, STRANGE = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:99"
IP = IPv4Address("10.0.0.10")


def house(**more: Any) -> Farmhouse:
    farm: dict[str, Any] = {
        "dhcp": {"subnets": [{"subnet": "10.0.0.0/24", "unknown": "guests"}, {"subnet": "10.9.0.0/24"}]},
        "images": {"node": {"path": "/images/node"}},
        "pools": [
            {
                "name": "workers",
                "image": "node",
                "tags": ["gpu", "big"],
                "kernel_parameters": ["of-pool"],
                "nodes": [{"name": "m1", "macs": [FIRST, SECOND], "ip": str(IP), "tags": ["own"]}],
            },
            {"name": "guests", "image": "node", "tags": ["big"]},
        ],
        "tags": {
            "all": {
                "lts": {"A": "all", "B": "all", "C": "all", "D": "all"},
                "labels": {"a": "all", "b": "all"},
                "taints": [{"key": "k", "value": "all", "effect": "NoSchedule"}],
                "kernel_parameters": ["of-all"],
                "services": ["ssh", "cron"],
            },
            "gpu": {"lts": {"B": "gpu", "C": "gpu", "D": "gpu"}, "kernel_parameters": ["of-gpu"]},
            "big": {
                "lts": {"C": "big", "D": "big"},
                "labels": {"b": "big"},
                "taints": [
                    {"key": "k", "value": "big", "effect": "NoSchedule"},
                    {"key": "k", "value": "big", "effect": "NoExecute"},
                ],
                "services": ["cron", "big.service"],
            },
            "own": {"lts": {"D": "own"}, "kernel_parameters": ["of-own"]},
            "unused": {"lts": {"A": "unused"}},
        },
        "node": {"services": ["chrony", "ssh"]},
        **more,
    }
    return Farmhouse(Farm.model_validate(farm))


def known(mac: str = FIRST) -> Machine:
    machine = house().machine(mac, IP, "node-x")
    assert machine is not None
    return machine


def test_a_later_tag_wins_over_an_earlier_one_and_all_over_the_tag_all() -> None:
    assert known().lts == {"A": "all", "B": "gpu", "C": "big", "D": "own"}
    assert known().labels == {"a": "all", "b": "big"}


def test_kernel_parameters_of_all_tags_add_up_and_the_pools_come_last() -> None:
    assert known().kernel_parameters == ("of-all", "of-gpu", "of-own", "of-pool")


def test_a_taint_is_told_from_another_by_its_key_and_effect() -> None:
    found = [(taint.key, taint.value, taint.effect) for taint in known().taints]
    assert found == [("k", "big", "NoSchedule"), ("k", "big", "NoExecute")]


def test_services_add_up_and_each_is_named_once() -> None:
    assert known().services == ("chrony", "ssh", "cron", "big.service")


@pytest.mark.parametrize("mac", [FIRST, SECOND])
def test_a_machine_is_the_same_whichever_card_boots(mac: str) -> None:
    machine = known(mac)
    assert (machine.name, machine.mac, machine.macs) == ("m1", mac, (FIRST, SECOND))
    assert house().name_of(mac) == "m1"


def test_a_machine_that_is_not_listed_is_of_its_subnets_pool() -> None:
    machine = house().machine(STRANGE, IPv4Address("10.0.0.200"), "node-x")
    assert machine is not None
    assert (machine.name, machine.mac, machine.macs) == ("node-x", STRANGE, (STRANGE,))
    assert machine.pool.name == "guests"
    assert machine.lts == {"A": "all", "B": "all", "C": "big", "D": "big"}
    assert house().name_of(STRANGE) is None


def test_a_machine_that_is_not_listed_is_no_listed_one_by_its_name() -> None:
    """Anybody may have the MAC that is in the name, and would join as that Node."""
    pools = [
        {"name": "a", "image": "node", "nodes": [{"name": "node-525400000099", "macs": [FIRST], "ip": str(IP)}]},
        {"name": "guests", "image": "node"},
    ]
    found = house(pools=pools)
    assert found.machine(STRANGE, IPv4Address("10.0.0.200"), machine_name(STRANGE)) is None
    other = "52:54:00:00:00:98"
    assert found.machine(other, IPv4Address("10.0.0.200"), machine_name(other)) is not None
    own = found.machine(FIRST, IPv4Address("10.0.0.200"), machine_name(FIRST))
    assert own is not None
    assert own.name == machine_name(STRANGE)


@pytest.mark.parametrize("ip", ["10.9.0.200", "192.0.2.1"])
def test_a_machine_that_is_not_listed_boots_nothing_where_no_pool_is_named(ip: str) -> None:
    assert house().machine(STRANGE, IPv4Address(ip), "node-x") is None


def test_a_listed_machine_is_of_its_pool_wherever_it_is() -> None:
    machine = house().machine(FIRST, IPv4Address("10.9.0.200"), "node-x")
    assert machine is not None
    assert (machine.name, machine.pool.name, machine.ip) == ("m1", "workers", IPv4Address("10.9.0.200"))


def test_an_address_is_the_nodes_whose_static_one_it_is() -> None:
    node = house().node_at(IP)
    assert node is not None
    assert node.name == "m1"
    assert house().node_at(IPv4Address("10.0.0.11")) is None


def test_the_tag_all_need_not_be_defined() -> None:
    machine = house(tags={"gpu": {}, "big": {}, "own": {"lts": {"A": "b"}}}).machine(FIRST, IP, "")
    assert machine is not None
    assert machine.lts == {"A": "b"}
