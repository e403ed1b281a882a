"""config.interfaces: the addresses of this machine."""

from ipaddress import IPv4Interface

import pytest

from config.interfaces import NoInterface, interface_address


def test_the_loopback_interface_has_its_address() -> None:
    assert interface_address("lo") == IPv4Interface("127.0.0.1/8")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("nosuch0", "there is no interface nosuch0"), ("", "no name"), ("x" * 16, "no name"), ("ü" * 8, "no name")],
)
def test_an_interface_that_is_missing_is_named(name: str, complaint: str) -> None:
    with pytest.raises(NoInterface, match=complaint):
        interface_address(name)
