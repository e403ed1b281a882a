"""Which of several addresses of ours a message is about."""

from ipaddress import IPv4Address, IPv4Interface

import pytest

from dhcp.options import MessageType, Option
from dhcp.place import own_address
from tests.support.dhcp_clients import message

OURS = [IPv4Interface("10.77.0.1/24"), IPv4Interface("10.78.0.1/24"), IPv4Interface("10.78.0.2/24")]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, "10.77.0.1", id="nothing-known"),
        pytest.param({"ciaddr": "10.78.0.9"}, "10.78.0.1", id="rebinding"),
        pytest.param({"ciaddr": "10.99.0.9"}, "10.77.0.1", id="from-elsewhere"),
        pytest.param({"giaddr": "10.78.0.9"}, "10.78.0.1", id="relayed"),
        pytest.param({"requested": "10.78.0.9"}, "10.78.0.1", id="init-reboot"),
        pytest.param({"requested": "10.78.0.9", "chosen": "10.78.0.2"}, "10.78.0.2", id="selecting"),
        pytest.param({"requested": "10.78.0.9", "chosen": "10.77.0.1"}, "10.77.0.1", id="selecting-the-primary"),
        pytest.param({"requested": "10.78.0.9", "chosen": "10.99.0.1"}, "10.78.0.1", id="another-server"),
        pytest.param({"ciaddr": "10.77.0.9", "requested": "10.78.0.9"}, "10.77.0.1", id="has-before-wants"),
    ],
)
def test_the_address_is_the_one_in_the_network_concerned(fields: dict[str, str], expected: str) -> None:
    values = {name: IPv4Address(text) for name, text in fields.items()}
    options = {
        code: values.pop(name).packed
        for name, code in (("requested", Option.REQUESTED_IP_ADDRESS), ("chosen", Option.SERVER_IDENTIFIER))
        if name in values
    }
    asked = message(MessageType.DHCPREQUEST, options=options, **values)
    assert own_address(asked, OURS) == IPv4Address(expected)
    assert own_address(asked, OURS[:1]) == OURS[0].ip, "with one there is no choice"
