"""A message understood: who sent it, from which network, what it is about. Or why it gets no answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface

from dhcp import boot, options
from dhcp.options import MessageType, Option, RelaySubOption
from dhcp.plan import DynamicPool, Host, Network, Plan, machine_name
from dhcp.wire import NO_ADDRESS, Message, Op

SERVER_PORT = 67
BOOT_SERVER_PORT = 4011
"""Where PXE clients look for a boot server that gave them no file (PXE 2.1)."""

PROBE = b"\0pxeboot-probe"
"""What option 97 of `pxeboot probe` begins with. It is answered as any machine, and counts as none: what it does is no
boot of the machine that it plays. Option 97 and not the user class, by which servers choose what they answer."""

ETHERNET = 1
INFINIBAND = 32
"""`htype`; a client behind it has no hardware address in `chaddr` (RFC 4390)."""


class Reason(StrEnum):
    """Why a message was not answered; each is counted."""

    NOT_A_REQUEST = "it is no request of a client"
    NO_MACHINE = "its hardware address is no single machine's"
    BAD_RELAY = "its relay's address is no machine's"
    NO_NETWORK = "it came from a network that is not configured"
    NO_ADDRESS = "the machine is not configured, and its network has no pool"
    BOOTP = "a BOOTP client gets no address of a pool (RFC 1534), and this one is not configured"
    POOL_EMPTY = "the pool has no address left"
    AWAY = "the API that keeps the leases of all servers does not answer, and no lease of it is known here"
    OTHER_SERVER = "it is for another server"
    NOT_OURS = "it names an address or a lease that we know nothing of"
    INCOMPLETE = "it lacks an option or an address that it needs"
    TOO_MANY_DECLINED = "too many addresses were declined in this minute"
    TOO_MANY = "more machines that are not configured ask than the limits allow"
    NO_BOOT = "it wants to boot nothing, and its network's addresses are somebody else's"


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
    nearby: tuple[IPv4Interface, ...] = ()
    """All of ours on that interface, if there are several."""

    def near(self, address: IPv4Address) -> IPv4Address:
        """Return ours that a machine at `address` reaches without a router, or `self.address` if there is none."""
        near = [own.ip for own in self.nearby if address in own.network]
        return self.address if not near or self.address in near else near[0]


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
    """Its hardware address."""
    identity: str
    """Who it is to leases: its MAC, since option 61 changes between a machine's ROM, boot loader and system, and all
    of them are to have one address. `id:` and option 61 in hex where the configuration wants that, or where there is
    no hardware address."""
    network: Network
    link: tuple[Network, ...]
    """The networks on its wire: `network`, and those that share it."""
    host: Host | None
    client: boot.Client
    server_identifier: IPv4Address
    """What this client calls us (option 54)."""
    requested: IPv4Address | None
    """Option 50."""
    chosen_server: IPv4Address | None
    """Option 54."""
    relay: Mapping[int, bytes] = field(default_factory=dict)
    """What is in option 82, if a relay put it there (RFC 3046 section 2.1)."""
    by_port: bool = False
    """Whether `host` is told by where the client is plugged in, and by nothing of its own."""
    steered: bool = False
    """Whether something is said of this machine that our own GRUB heeds and no other boot file does: it gets none."""
    not_first: str = ""
    """Why it is not the machine that is listed for the port it is plugged in, so that `host` is None; "" if it is."""

    @property
    def name(self) -> str:
        """The machine's name: as it is listed, or made of its MAC."""
        return self.host.name if self.host else machine_name(self.mac)

    @property
    def relayed(self) -> bool:
        """Whether it came by a relay."""
        return self.message.giaddr != NO_ADDRESS

    @property
    def played(self) -> bool:
        """Whether it is `pxeboot probe` that asks."""
        return self.message.options.get(Option.CLIENT_MACHINE_IDENTIFIER, b"").startswith(PROBE)

    @property
    def is_for_us(self) -> bool:
        """Whether option 54 names us."""
        return self.chosen_server in (self.server_identifier, self.arrival.address)

    def server_identifier_for(self, yiaddr: IPv4Address) -> IPv4Address:
        """Return what the client is to call us once it has `yiaddr`; it keeps the name that it chose."""
        own = self.arrival.address
        return self.server_identifier if self.server_identifier != own or self.is_for_us else self.arrival.near(yiaddr)

    @property
    def static_address(self) -> IPv4Address | None:
        """The machine's own address, if it is one of its wire."""
        if self.host is None or self.network_of(self.host.address) is None:
            return None
        return self.host.address

    @property
    def pools(self) -> tuple[DynamicPool, ...]:
        """The pools that it can have an address of; those of the network it came from first."""
        return tuple(pool for network in self.link for pool in network.pools)

    def network_of(self, address: IPv4Address) -> Network | None:
        """Return the network of its wire in which `address` can be a machine's."""
        return next((network for network in self.link if network.is_host(address)), None)

    def pool_of(self, address: IPv4Address) -> DynamicPool | None:
        """Return the pool of its wire that has `address`."""
        return next((pool for pool in self.pools if address in pool), None)


def understand(message: Message, arrival: Arrival, plan: Plan) -> Request | Ignored:
    """Return the request that a message is, or why it is none that we answer."""
    mac = message.chaddr.hex(":")
    if message.op is not Op.BOOTREQUEST:
        return Ignored(mac, Reason.NOT_A_REQUEST, "a reply of another server")
    client_id = message.options.get(Option.CLIENT_IDENTIFIER) or None
    nameless = message.htype == INFINIBAND and not any(message.chaddr)
    if nameless and client_id is not None:
        mac = f"id:{client_id.hex()}"
    elif not any(message.chaddr) or (len(message.chaddr) == 6 and message.chaddr[0] & 1):
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
    relays = network if link == giaddr else plan.network_of(giaddr)
    if giaddr != NO_ADDRESS and relays is not None and not relays.is_host(giaddr):
        return Ignored(mac, Reason.BAD_RELAY, f"giaddr is {giaddr}, a whole network's")
    host = plan.host_of(
        mac,
        client_id,
        uuid_of(message.options),
        relay.get(RelaySubOption.CIRCUIT_ID),
        relay.get(RelaySubOption.REMOTE_ID),
    )
    by_port = host is not None and host.at_port
    if by_port:
        by_port = plan.host_of(mac, client_id, uuid_of(message.options), None, None) is None
    override = options.address(relay.get(RelaySubOption.SERVER_IDENTIFIER_OVERRIDE))
    return Request(
        message=message,
        arrival=arrival,
        message_type=message_type,
        mac=mac,
        identity=f"id:{client_id.hex()}" if plan.match_client_id and client_id is not None else mac,
        network=network,
        link=plan.link_of(network),
        host=host,
        client=plan.clients.client(message.options, mac),
        server_identifier=override or arrival.address,
        requested=options.address(message.options.get(Option.REQUESTED_IP_ADDRESS)),
        chosen_server=options.address(message.options.get(Option.SERVER_IDENTIFIER)),
        relay=relay,
        by_port=by_port,
    )


def uuid_of(sent: Mapping[int, bytes]) -> bytes | None:
    """Return the UUID in option 97, None if there is none, or one of nothing but zeros as QEMU sends."""
    value = sent.get(Option.CLIENT_MACHINE_IDENTIFIER, b"")
    return value[1:] if len(value) == 17 and value[0] == 0 and any(value[1:]) else None


def _link(message: Message, arrival: Arrival, link_selection: IPv4Address | None) -> IPv4Address:
    """Return an address of the network that the client is on (RFC 3527, 3011; RFC 2131 section 4.3.1).

    A relay's word counts before the client's (option 118). `ciaddr` is believed only of a message sent to us alone,
    which may have come by a router. A broadcast with an old `ciaddr` comes from where we heard it.
    """
    if link_selection is not None:
        return link_selection
    selected = options.address(message.options.get(Option.SUBNET_SELECTION))
    if selected is not None:
        return selected
    if message.giaddr != NO_ADDRESS:
        return message.giaddr
    if arrival.unicast and message.ciaddr != NO_ADDRESS:
        return message.ciaddr
    return arrival.address
