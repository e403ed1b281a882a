"""A message understood: who sent it, from which network, what it is about. Or why it gets no answer."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from dhcp import boot, options
from dhcp.options import MessageType, Option, RelaySubOption
from dhcp.plan import Host, Network, Plan
from dhcp.wire import NO_ADDRESS, Message, Op

SERVER_PORT = 67
BOOT_SERVER_PORT = 4011
"""Where PXE clients look for a boot server that gave them no file (PXE 2.1)."""


class Reason(StrEnum):
    """Why a message was not answered; each is counted."""

    NOT_A_REQUEST = "it is no request of a client"
    NO_MACHINE = "its hardware address is no single machine's"
    BAD_RELAY = "its relay's address is no machine's"
    NO_NETWORK = "it came from a network that is not configured"
    NO_ADDRESS = "the machine is not configured, and its network has no pool"
    POOL_EMPTY = "the pool has no address left"
    OTHER_SERVER = "it is for another server"
    NOT_OURS = "it names an address or a lease that we know nothing of"
    INCOMPLETE = "it lacks an option or an address that it needs"
    TOO_MANY_DECLINED = "too many addresses were declined in this minute"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a message came in."""

    address: IPv4Address
    """Ours, on the interface that it came in by."""
    unicast: bool = False
    """Whether it was sent to that address, and not to everybody."""
    source_port: int = SERVER_PORT
    port: int = SERVER_PORT
    """Ours that it came to: 67, or `BOOT_SERVER_PORT`."""
    source: IPv4Address = NO_ADDRESS
    """Its sender's; 0.0.0.0 of a client that has none yet."""
    interface: str = ""
    """The name of the interface; only for people."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message gets no answer."""

    mac: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Request:
    """A message from a client, with what the configuration says about him."""

    message: Message
    arrival: Arrival
    message_type: MessageType | None
    """Option 53; None for a BOOTP client, which has none (RFC 1534)."""
    mac: str
    """Who asks. Option 61 is not looked at: it changes between a machine's ROM, boot loader and system, and all of
    them are to have one address."""
    network: Network
    host: Host | None
    client: boot.Client
    server_identifier: IPv4Address
    """What this client calls us (option 54)."""
    requested: IPv4Address | None
    """Option 50."""
    chosen_server: IPv4Address | None
    """Option 54."""

    @property
    def relayed(self) -> bool:
        """Whether it came by a relay."""
        return self.message.giaddr != NO_ADDRESS

    @property
    def is_for_us(self) -> bool:
        """Whether option 54 names us."""
        return self.chosen_server in (self.server_identifier, self.arrival.address)

    @property
    def static_address(self) -> IPv4Address | None:
        """The machine's own address, if it is one of this network."""
        if self.host is None or not self.network.is_host(self.host.address):
            return None
        return self.host.address


def understand(message: Message, arrival: Arrival, plan: Plan) -> Request | Ignored:
    """Return the request that a message is, or why it is none that we answer."""
    mac = message.chaddr.hex(":")
    if message.op is not Op.BOOTREQUEST:
        return Ignored(mac, Reason.NOT_A_REQUEST, "a reply of another server")
    if not any(message.chaddr) or (len(message.chaddr) == 6 and message.chaddr[0] & 1):
        return Ignored(mac, Reason.NO_MACHINE, f"chaddr is {mac or 'empty'}")
    kind = message.options.get(Option.DHCP_MESSAGE_TYPE)
    message_type = None
    if kind is not None:
        try:
            message_type = MessageType(options.number(kind, 1) or 0)
        except ValueError:
            return Ignored(mac, Reason.NOT_A_REQUEST, f"option 53 is {kind[:8].hex(' ') or 'empty'}")
    giaddr = message.giaddr
    if giaddr != NO_ADDRESS and (
        giaddr.is_loopback or giaddr.is_multicast or giaddr.is_reserved or giaddr == arrival.address
    ):
        return Ignored(mac, Reason.BAD_RELAY, f"giaddr is {giaddr}")
    relay = options.sub_options(message.options.get(Option.RELAY_AGENT_INFORMATION)) if giaddr != NO_ADDRESS else {}
    link = _link(message, arrival, options.address(relay.get(RelaySubOption.LINK_SELECTION)))
    network = plan.network_of(link)
    if network is None:
        return Ignored(mac, Reason.NO_NETWORK, f"no subnet has {link}")
    override = options.address(relay.get(RelaySubOption.SERVER_IDENTIFIER_OVERRIDE))
    return Request(
        message=message,
        arrival=arrival,
        message_type=message_type,
        mac=mac,
        network=network,
        host=plan.by_mac.get(mac),
        client=boot.client(message.options, bootp=message_type is None),
        server_identifier=override or arrival.address,
        requested=options.address(message.options.get(Option.REQUESTED_IP_ADDRESS)),
        chosen_server=options.address(message.options.get(Option.SERVER_IDENTIFIER)),
    )


def _link(message: Message, arrival: Arrival, link_selection: IPv4Address | None) -> IPv4Address:
    """Return an address of the network that the client is on (RFC 3527; RFC 2131 section 4.3.1).

    `ciaddr` is believed only of a message sent to us alone, which may have come by a router. A broadcast with an
    old `ciaddr` comes from where we heard it.
    """
    if message.giaddr != NO_ADDRESS:
        return link_selection or message.giaddr
    if arrival.unicast and message.ciaddr != NO_ADDRESS:
        return message.ciaddr
    return arrival.address
