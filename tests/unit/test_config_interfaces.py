"""What is told about this machine's interfaces."""

from ipaddress import IPv4Address, IPv4Interface

import pytest

from config.interfaces import (
    NoInterface,
    interface_address,
    interface_addresses,
    is_pattern,
    links,
    matches,
    own_addresses,
)


def test_the_loopback_has_its_address_and_network() -> None:
    assert interface_address("lo") == IPv4Interface("127.0.0.1/8")
    assert interface_addresses("lo")[0] == interface_address("lo")
    assert IPv4Address("127.0.0.1") in own_addresses()
    assert links(["lo", "none0"])["lo"].index == 1
    assert list(links(["none0", ""])) == []


def test_a_pattern_is_no_loopback_and_no_name_twice() -> None:
    assert "lo" not in links(["*"])
    assert list(links(["l?", "lo", "lo"])) == ["lo"], "by its name, not by the pattern"


@pytest.mark.parametrize(
    ("name", "expected"), [("eth*", True), ("eth?", True), ("eth[12]", True), ("eth1.100", False)]
)
def test_what_stands_for_several_has_a_wildcard(name: str, expected: bool) -> None:
    assert is_pattern(name) == expected


def test_a_pattern_matches_whole_names_with_their_case() -> None:
    assert matches("eth1.100", "eth*")
    assert not matches("eth1", "ETH*")
    assert not matches("veth1", "eth*")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("nosuch0", "there is no interface nosuch0"), ("", "no name"), ("x" * 16, "no name"), ("ü" * 8, "no name")],
)
def test_an_interface_that_is_missing_is_named(name: str, complaint: str) -> None:
    with pytest.raises(NoInterface, match=complaint):
        interface_address(name)
