"""What a reply says and where it goes (RFC 2131 section 4.1 and table 3; PXE; what firmware really reads)."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from dhcp import boot, options, wire
from dhcp.boot import Kind
from dhcp.options import MessageType, Option, RelaySubOption
from dhcp.plan import Plan, machine_name, overlay
from dhcp.request import SERVER_PORT, Request
from dhcp.wire import NO_ADDRESS, Flags, Message, Op

CLIENT_PORT = 68
EVERYBODY = IPv4Address("255.255.255.255")
_ANYWHERE = IPv4Network("0.0.0.0/0")

IP_AND_UDP_HEADERS = 28
SMALLEST_MAXIMUM = 576
"""Every client takes an IP datagram of this size (RFC 2131 section 2); an option 57 below it counts as absent."""
LARGEST_DATAGRAM = 1500
"""We send no more than fits Ethernet, whatever option 57 allows (OVMF says 65280)."""
BOOTP_SIZE = 300
"""BOOTP clients have room for 64 bytes of options (RFC 951)."""

NEEDED = frozenset(
    {
        Option.DHCP_MESSAGE_TYPE,
        Option.SERVER_IDENTIFIER,
        Option.IP_ADDRESS_LEASE_TIME,
        Option.SUBNET_MASK,
        Option.ROUTER,
        Option.VENDOR_CLASS_IDENTIFIER,
        Option.VENDOR_SPECIFIC_INFORMATION,
        Option.TFTP_SERVER_NAME,
        Option.BOOTFILE_NAME,
        Option.CLIENT_IDENTIFIER,
        Option.RELAY_AGENT_INFORMATION,
    }
)
"""What is left out last when a reply is too long for its client."""
_ON_REQUEST = frozenset(
    {
        Option.SUBNET_MASK,
        Option.ROUTER,
        Option.DOMAIN_NAME_SERVER,
        Option.LOG_SERVER,
        Option.HOST_NAME,
        Option.DOMAIN_NAME,
        Option.INTERFACE_MTU,
        Option.BROADCAST_ADDRESS,
        Option.NTP_SERVERS,
        Option.VENDOR_SPECIFIC_INFORMATION,
        Option.VENDOR_CLASS_IDENTIFIER,
        Option.TFTP_SERVER_NAME,
        Option.BOOTFILE_NAME,
        Option.DOMAIN_SEARCH,
        Option.CLASSLESS_STATIC_ROUTE,
    }
)
"""Sent to those that ask for them. An option configured by any other number is sent to everybody."""

PXE_USE_THIS_FILE = bytes((6, 1, 8, 255))
"""Option 43: PXE_DISCOVERY_CONTROL = 8, use the file of this packet; EDK2 otherwise asks UDP 4011 for it."""
IPXE_NO_PROXY = bytes((176, 1, 1))
"""Option 175: do not wait for another DHCP server's boot file."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a reply goes. With `hardware`, to that link address without asking by ARP who has `address`."""

    address: IPv4Address
    port: int
    hardware: bytes | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message`, in at most `size_limit` bytes."""

    message: Message
    destination: Destination
    size_limit: int
    delay_s: float = 0.0
    """Wait so long before: some firmware misses an instant reply."""
    source_port: int = SERVER_PORT
    """Ours: 67, or 4011 for what came there."""

    def pack(self) -> wire.Packed:
        """Return the datagram's payload."""
        bootp = Option.DHCP_MESSAGE_TYPE not in self.message.options
        return self.message.pack(self.size_limit, NEEDED, overload=not bootp)


def renewal_times(lease_s: int) -> tuple[int, int]:
    """Return (T1, T2): the seconds after which a client renews, then rebinds.

    Half the lease and seven eighths of it (RFC 2131 section 4.4.5), sent as options 58 and 59, so that no firmware
    has to guess.

    >>> renewal_times(3600)
    (1800, 3150)
    """
    return lease_s // 2, lease_s * 7 // 8


def boot_file(request: Request, plan: Plan) -> str | None:
    """Return the boot file that this client gets, None if it wants or gets none."""
    if request.host is None and not request.network.unknown_boots:
        return None
    return boot.boot_file(request.client, _next_server(request, plan), plan.http_port)


def grant(
    request: Request, plan: Plan, message_type: MessageType | None, yiaddr: IPv4Address, lease_s: int | None
) -> Send:
    """Return the OFFER, ACK or BOOTP reply that gives `yiaddr`. `lease_s` is None for BOOTP and for an INFORM."""
    message = request.message
    said: dict[int, bytes] = {}
    if message_type is not None:
        said[Option.DHCP_MESSAGE_TYPE] = bytes((message_type,))
        said[Option.SERVER_IDENTIFIER] = request.server_identifier.packed
    if lease_s is not None:
        t1, t2 = renewal_times(lease_s)
        said[Option.IP_ADDRESS_LEASE_TIME] = lease_s.to_bytes(4, "big")
        said[Option.RENEWAL_TIME] = t1.to_bytes(4, "big")
        said[Option.REBINDING_TIME] = t2.to_bytes(4, "big")
    configured = _configured(request)
    boot_options, file = _boot(request, plan, configured)
    available = overlay(boot_options, configured)
    said[Option.SUBNET_MASK] = available[Option.SUBNET_MASK]
    for code in (*_asked(request, available), *boot_options, *(code for code in available if code not in _ON_REQUEST)):
        if available.get(code):
            said.setdefault(code, available[code])
    said |= _echoed(request)
    ciaddr = message.ciaddr if message_type is not MessageType.DHCPOFFER else NO_ADDRESS
    server = _next_server(request, plan)
    reply = _reply(
        request,
        said,
        ciaddr=ciaddr,
        yiaddr=yiaddr,
        siaddr=server,
        sname=str(server).encode() if file else b"",
        file=file if len(file) < 128 else b"",
    )
    return Send(reply, _destination(request, yiaddr, ciaddr), _size_limit(request))


def nak(request: Request, why: str) -> Send:
    """Return the DHCPNAK that sends a client back to DHCPDISCOVER; `why` goes into option 56."""
    said = {
        Option.DHCP_MESSAGE_TYPE: bytes((MessageType.DHCPNAK,)),
        Option.SERVER_IDENTIFIER: request.server_identifier.packed,
        Option.MESSAGE: why.encode(),
    }
    flags = request.message.flags | (Flags.BROADCAST if request.relayed else 0)
    reply = _reply(request, dict(said) | _echoed(request), flags=flags)
    destination = _relay(request) if request.relayed else Destination(EVERYBODY, CLIENT_PORT)
    return Send(reply, destination, _size_limit(request))


def _reply(
    request: Request,
    said: dict[int, bytes],
    *,
    flags: int | None = None,
    ciaddr: IPv4Address = NO_ADDRESS,
    yiaddr: IPv4Address = NO_ADDRESS,
    siaddr: IPv4Address = NO_ADDRESS,
    sname: bytes = b"",
    file: bytes = b"",
) -> Message:
    message = request.message
    return Message(
        op=Op.BOOTREPLY,
        xid=message.xid,
        chaddr=message.chaddr,
        htype=message.htype,
        flags=message.flags if flags is None else flags,
        ciaddr=ciaddr,
        yiaddr=yiaddr,
        siaddr=siaddr,
        giaddr=message.giaddr,
        sname=sname,
        file=file,
        options=said,
    )


def _echoed(request: Request) -> dict[int, bytes]:
    """What a client or its relay gets back as it came: 61 (RFC 6842), and 82, which stays last (RFC 3046)."""
    echoed = (Option.CLIENT_IDENTIFIER, Option.RELAY_AGENT_INFORMATION)
    return {code: request.message.options[code] for code in echoed if code in request.message.options}


def _asked(request: Request, available: Iterable[int]) -> Iterable[int]:
    """The options that the client asks for, in its order; one that says nothing is given all there are."""
    asked = request.message.options.get(Option.PARAMETER_REQUEST_LIST)
    boots = (Option.VENDOR_CLASS_IDENTIFIER, Option.VENDOR_SPECIFIC_INFORMATION)
    return asked if asked is not None else sorted(code for code in available if code not in boots)


def _configured(request: Request) -> dict[int, bytes]:
    """The options that the configuration gives to this machine, by number."""
    host = request.host
    own = {int(Option.HOST_NAME): (host.name if host else machine_name(request.mac)).encode()}
    tags = host.options if host else request.network.unknown_options
    configured = dict(overlay(own, request.network.options, tags))
    routes, routers = configured.get(Option.CLASSLESS_STATIC_ROUTE), configured.get(Option.ROUTER)
    if routes and routers and not options.has_default_route(routes):
        # A client that takes option 121 ignores option 3 (RFC 3442).
        default = options.encode_static_routes([(_ANYWHERE, IPv4Address(routers[:4]))])
        configured[Option.CLASSLESS_STATIC_ROUTE] = routes + default
    return configured


def _boot(request: Request, plan: Plan, configured: dict[int, bytes]) -> tuple[dict[int, bytes], bytes]:
    """Return (options, `file`) that lead a client to its boot file.

    Each field tells the same, since each is the only one that some firmware reads. Options 66 and 67 end with a
    NUL, as old ROMs need it; so does option 60 of an HTTP answer, which GRUB compares as a C string.
    """
    client, said = request.client, {}
    identifier = request.message.options.get(Option.CLIENT_MACHINE_IDENTIFIER, b"")
    if client.boots and len(identifier) == 17 and identifier[0] == 0:
        said[int(Option.CLIENT_MACHINE_IDENTIFIER)] = identifier
    file = (boot_file(request, plan) or "").encode()
    if client.boots and configured.get(Option.BOOTFILE_NAME):
        file = configured[Option.BOOTFILE_NAME].rstrip(b"\0")
    if not file:
        return said, b""
    if client.kind is Kind.PXE:
        said[Option.VENDOR_CLASS_IDENTIFIER] = b"PXEClient"
        said[Option.VENDOR_SPECIFIC_INFORMATION] = PXE_USE_THIS_FILE
    elif client.kind is Kind.HTTP:
        said[Option.VENDOR_CLASS_IDENTIFIER] = b"HTTPClient\0"
    if client.kind is not Kind.HTTP:
        said[Option.TFTP_SERVER_NAME] = str(_next_server(request, plan)).encode() + b"\0"
    said[Option.BOOTFILE_NAME] = file + b"\0"
    if client.ipxe:
        said[Option.IPXE] = IPXE_NO_PROXY
    return said, file


def _next_server(request: Request, plan: Plan) -> IPv4Address:
    return request.network.next_server or plan.server_address or request.arrival.address


def _size_limit(request: Request) -> int:
    if request.message_type is None:
        return BOOTP_SIZE
    asked = options.number(request.message.options.get(Option.MAXIMUM_DHCP_MESSAGE_SIZE), 2) or 0
    return min(max(asked, SMALLEST_MAXIMUM), LARGEST_DATAGRAM) - IP_AND_UDP_HEADERS


def _relay(request: Request) -> Destination:
    """The relay, at its own source port if it says that it listens there (RFC 8357)."""
    inside = options.sub_options(request.message.options.get(Option.RELAY_AGENT_INFORMATION))
    by_source_port = RelaySubOption.RELAY_SOURCE_PORT in inside
    return Destination(request.message.giaddr, request.arrival.source_port if by_source_port else SERVER_PORT)


def _destination(request: Request, yiaddr: IPv4Address, ciaddr: IPv4Address) -> Destination:
    """Return where an answer goes (RFC 2131 section 4.1). `ciaddr` is the one of the answer, already checked."""
    message = request.message
    if request.relayed:
        return _relay(request)
    if ciaddr != NO_ADDRESS:
        return Destination(ciaddr, CLIENT_PORT)
    if message.flags & Flags.BROADCAST or len(message.chaddr) != 6:
        return Destination(EVERYBODY, CLIENT_PORT)
    return Destination(yiaddr, CLIENT_PORT, message.chaddr)
