"""What is answered where addresses are somebody else's affair: proxyDHCP, and the boot server on port 4011 (PXE 2.1).

Who boots is told what; nobody gets a lease or a DHCPNAK, and a client that does not boot hears nothing. Whose address
is whose is learnt from what machines say to the other server, since a machine's boot files depend on who it is.
"""

from collections import OrderedDict
from ipaddress import IPv4Address

from config.events import Stage
from dhcp import replies
from dhcp.actions import Action
from dhcp.options import MessageType
from dhcp.plan import Plan
from dhcp.request import BOOT_SERVER_PORT, Ignored, Reason, Request
from dhcp.telling import happened
from dhcp.told import told
from dhcp.wire import NO_ADDRESS

MOST_HEARD = 20_000


class Heard:
    """Which machine has which address of another server's; the one longest not heard of is forgotten first."""

    def __init__(self) -> None:
        self._macs: OrderedDict[IPv4Address, str] = OrderedDict()

    def at(self, address: IPv4Address) -> str | None:
        """Return the MAC of who said that it has `address`."""
        return self._macs.get(address)

    def learn(self, address: IPv4Address, mac: str) -> None:
        """Take in that a machine says that it has, or takes, `address`."""
        self._macs.pop(address, None)
        self._macs[address] = mac
        if len(self._macs) > MOST_HEARD:
            self._macs.popitem(last=False)

    def forget(self, address: IPv4Address) -> None:
        """Take in that nobody has `address`."""
        self._macs.pop(address, None)


def answer(request: Request, plan: Plan, heard: Heard) -> list[Action]:
    """Return what to do about a message in a proxied network, or to port 4011 in any."""
    at_4011 = request.arrival.port == BOOT_SERVER_PORT
    ciaddr = request.message.ciaddr
    has = ciaddr if ciaddr != NO_ADDRESS else request.requested
    _listen(request, has, heard)
    if not request.client.boots:
        return [Ignored(request.mac, Reason.NO_BOOT, f"{request.client} wants no boot file")]
    match request.message_type:
        case MessageType.DHCPDISCOVER if not at_4011:
            begins = happened(request, Stage.DISCOVER, f"{request.client}, asks what to boot")
            what = told(request, plan, NO_ADDRESS)
            if what.file or (request.client.traits.own_file_names and not request.steered):
                return [replies.boot_server(request, plan, MessageType.DHCPOFFER), begins]
            if what.declines_to_boot:
                why = (
                    "no file is ours that heeds what it is to do"
                    if request.steered
                    else "it is configured to boot nothing"
                )
                return [begins, Ignored(request.mac, Reason.NO_BOOT, why)]
            return [begins, happened(request, Stage.FAILED, f"there is no boot file for {request.client}")]
        case MessageType.DHCPREQUEST | MessageType.DHCPINFORM if at_4011 or (
            request.message_type is MessageType.DHCPINFORM and ciaddr != NO_ADDRESS
        ):
            if request.network_of(request.arrival.source if at_4011 else ciaddr) is None or ciaddr == NO_ADDRESS:
                return [Ignored(request.mac, Reason.NOT_OURS, f"it asks from {request.arrival.source} for {ciaddr}")]
            return [
                replies.boot_server(request, plan, MessageType.DHCPACK),
                happened(request, Stage.ADDRESS, f"{ciaddr}, asks port {request.arrival.port} what to boot"),
            ]
        case _ if not at_4011 and request.message_type is MessageType.DHCPREQUEST and has is not None:
            detail = f"{has} of {request.chosen_server or 'another server'}"
            return [happened(request, Stage.ADDRESS, detail)]
        case _:
            return [Ignored(request.mac, Reason.OTHER_SERVER, "addresses are another server's here")]


def _listen(request: Request, has: IPv4Address | None, heard: Heard) -> None:
    """Learn whose address it is from those who take or use one; a DHCPDISCOVER only wishes."""
    if has is None or not request.network.proxy or not request.network.is_host(has):
        return
    match request.message_type:
        case MessageType.DHCPREQUEST | MessageType.DHCPINFORM:
            heard.learn(has, request.mac)
        case MessageType.DHCPRELEASE | MessageType.DHCPDECLINE if heard.at(has) == request.mac:
            heard.forget(has)
