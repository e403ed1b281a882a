"""dhcp.plan: what a farm means for DHCP."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from config.model import DhcpOptions, Farm
from dhcp.layers import option_bytes, overlay
from dhcp.plan import plan
from tests.support.dhcp_clients import KNOWN, SECOND, farm


def test_a_machine_is_the_same_by_each_of_its_macs() -> None:
    made = plan(farm())
    assert made.by_mac[KNOWN] is made.by_mac[SECOND] is made.by_address[IPv4Address("10.77.0.10")]
    assert made.by_mac[KNOWN].name == "n1"


@pytest.mark.parametrize(
    ("setting", "code", "value"),
    [
        ({"routers": ["10.0.0.1", "10.0.0.2"]}, 3, "0a000001 0a000002"),
        ({"domain_name_servers": ["10.0.0.1"]}, 6, "0a000001"),
        ({"log_servers": ["10.0.0.1"]}, 7, "0a000001"),
        ({"domain_name": "a.b"}, 15, "612e62"),
        ({"mtu": 9000}, 26, "2328"),
        ({"broadcast_address": "10.0.0.255"}, 28, "0a0000ff"),
        ({"ntp_servers": ["10.0.0.1"]}, 42, "0a000001"),
        ({"domain_search": ["a.b"]}, 119, "0161 0162 00"),
        ({"static_routes": [{"to": "10.0.0.0/8", "via": "10.1.0.1"}]}, 121, "080a 0a010001"),
        ({"options": {150: "0a:00:00:01"}}, 150, "0a000001"),
        ({"options": {209: "2f61"}}, 209, "2f61"),
        ({"routers": []}, 3, ""),
    ],
)
def test_an_option_by_name_or_number(setting: dict[str, Any], code: int, value: str) -> None:
    assert option_bytes(DhcpOptions.model_validate(setting)) == {code: bytes.fromhex(value)}


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"options": {53: "05"}}, "option 53 "),
        ({"options": {82: "05"}}, "option 82 "),
        ({"options": {150: "xyz"}}, "150"),
        ({"domain_search": ["a..b"]}, "domain"),
    ],
)
def test_an_option_that_cannot_be_sent_is_refused(setting: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        option_bytes(DhcpOptions.model_validate(setting))


def test_the_most_specific_tag_wins() -> None:
    def tag(**dhcp: Any) -> dict[str, Any]:
        return {"dhcp": dhcp}

    made = plan(
        Farm.model_validate(
            {
                "dhcp": {"subnets": [{"subnet": "10.0.0.0/24"}]},
                "images": {"i": {"path": "/i"}},
                "tags": {
                    "all": tag(mtu=1000, domain_name="all"),
                    "first": tag(mtu=2000, domain_name="first", ntp_servers=["10.0.0.2"]),
                    "second": tag(mtu=3000, domain_name="second"),
                    "own": tag(mtu=4000),
                },
                "pools": [
                    {
                        "name": "p",
                        "image": "i",
                        "tags": ["first", "second"],
                        "nodes": [
                            {"name": "a", "macs": ["520000000001"], "ip": "10.0.0.5", "tags": ["own"]},
                            {"name": "b", "macs": ["520000000002"], "ip": "10.0.0.6"},
                        ],
                    }
                ],
            }
        )
    )
    a, b = (overlay(made.by_mac[f"52:00:00:00:00:0{n}"].tags) for n in (1, 2))
    assert (a[26], a[15], a[42]) == ((4000).to_bytes(2, "big"), b"second", b"\n\0\0\2")
    assert b[26] == (3000).to_bytes(2, "big")
    assert overlay(made.networks[0].unknown_tags) == {26: (1000).to_bytes(2, "big"), 15: b"all"}


def test_the_pool_leaves_out_what_belongs_to_somebody() -> None:
    subnet = {"subnet": "10.77.0.0/24", "pool": "10.77.0.0-10.77.0.255", "routers": ["10.77.0.254"]}
    subnet |= {"next_server": "10.77.0.3", "domain_name_servers": ["10.77.0.2", "192.0.2.1"]}
    subnet |= {"broadcast_address": "10.77.0.250"}
    (pool,) = plan(farm(subnets=[subnet])).networks[0].pools
    excluded = {int(IPv4Address(number)) - pool.first for number in pool.excluded}
    assert excluded == {0, 2, 3, 10, 200, 250, 254, 255}
    assert len(pool) == 256
    assert IPv4Address("10.77.0.10") not in pool
    assert IPv4Address("10.77.0.11") in pool
    assert IPv4Address("10.77.1.11") not in pool


@pytest.mark.parametrize("key", ["3", "routers", "6", "domain-name-servers", "7", "42", "28"])
@pytest.mark.parametrize("level", ["dhcp", "shared network", "subnet", "pool", "architecture", "tag", "node"])
def test_the_pool_leaves_out_what_an_option_by_number_or_name_says_is_somebodys(level: str, key: str) -> None:
    assert left_out(level, {"options": {key: "10.77.0.103" if key == "28" else ["192.0.2.1", "10.77.0.103"]}}) == {103}


@pytest.mark.parametrize(
    ("option", "excluded"),
    [
        ({3: {"hex": "0a4d0067 0a4d"}}, {103}),
        ({121: [{"to": "10.96.0.0/12", "via": "10.77.0.103"}, {"to": "0.0.0.0/0", "via": "10.77.0.104"}]}, {103, 104}),
        ({121: {"hex": "00 0a4d0067 20 0a4d"}}, {103}),
        ({3: None, 5: ["10.77.0.103"]}, set()),
    ],
)
def test_of_an_option_what_is_a_whole_address_is_left_out(option: dict[int, Any], excluded: set[int]) -> None:
    assert left_out("subnet", {"options": option}) == excluded


def left_out(level: str, said: dict[str, Any]) -> set[int]:
    """The last byte of each address of 10.77.0.100 to 10.77.0.110 that is not offered; `said` stands at a level."""
    at: dict[str, dict[str, Any]] = {level: said}
    pool = {"range": "10.77.0.100-10.77.0.110", **at.get("pool", {})}
    subnet = {"subnet": "10.77.0.0/24", "shared_network": "wire", "pools": [pool], **at.get("subnet", {})}
    node = {"name": "a", "macs": [KNOWN], "ip": "10.77.0.5", "dhcp": at.get("node", {})}
    made = plan(
        Farm.model_validate(
            {
                "dhcp": {
                    "subnets": [subnet],
                    "shared_networks": {"wire": at.get("shared network", {})},
                    "architectures": {"bios": at.get("architecture", {})},
                    **at.get("dhcp", {}),
                },
                "images": {"i": {"path": "/i"}},
                "tags": {"t": {"dhcp": at.get("tag", {})}},
                "pools": [{"name": "p", "image": "i", "nodes": [node]}],
            }
        )
    )
    (free,) = made.networks[0].pools
    return {number & 0xFF for number in free.excluded}


def test_a_network_of_two_addresses_gives_both() -> None:
    network = plan(farm(subnets=[{"subnet": "10.1.0.0/31", "pool": "10.1.0.0-10.1.0.1"}])).networks[0]
    assert network.pools[0].excluded == frozenset()
    assert network.is_host(IPv4Address("10.1.0.0"))


def test_the_smallest_network_is_meant() -> None:
    made = plan(farm(subnets=[{"subnet": "10.0.0.0/8"}, {"subnet": "10.77.0.0/24"}]))
    network = made.network_of(IPv4Address("10.77.0.5"))
    assert network is not None
    assert str(network.network) == "10.77.0.0/24"
    assert made.network_of(IPv4Address("192.0.2.1")) is None
    assert [network.is_host(IPv4Address(f"10.77.0.{n}")) for n in (0, 1, 254, 255)] == [False, True, True, False]
