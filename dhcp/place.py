"""Which of our addresses on an interface a message is about, where there are several. Pure."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface

from dhcp import options
from dhcp.options import Option
from dhcp.wire import NO_ADDRESS, Message


def own_address(message: Message, addresses: Sequence[IPv4Interface]) -> IPv4Address:
    """Return our address, of those of an interface (the primary one first), that a broadcast is for.

    The one that it names (option 54); or else the one in the network of what the client has (`ciaddr`) or wants
    (option 50), or where its relay is; or else the primary one.
    """
    primary = addresses[0].ip
    if len(addresses) == 1:
        return primary
    chosen = options.address(message.options.get(Option.SERVER_IDENTIFIER))
    if any(chosen == address.ip for address in addresses):
        return chosen or primary
    requested = options.address(message.options.get(Option.REQUESTED_IP_ADDRESS))
    for near in (message.giaddr, message.ciaddr, requested):
        if near is not None and near != NO_ADDRESS:
            return next((address.ip for address in addresses if near in address.network), primary)
    return primary


def source_of(answer: Message, addresses: Sequence[IPv4Interface], own: IPv4Address) -> IPv4Address:
    """Return our address that an answer is to come from: what it calls us (option 54), if that is one of
    `addresses`; or else `own`."""
    named = options.address(answer.options.get(Option.SERVER_IDENTIFIER))
    return next((address.ip for address in addresses if address.ip == named), own)
