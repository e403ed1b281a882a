"""What a reply says and where it goes (RFC 2131 section 4.1 and table 3; PXE; what firmware really reads)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TypedDict

from config.dhcp import INFINITE_S
from config.quirks import Kind
from dhcp import options, wire
from dhcp.layers import ALWAYS, NEVER, SEND, OptionBytes
from dhcp.options import MessageType, Option, RelaySubOption
from dhcp.plan import Plan
from dhcp.request import BOOT_SERVER_PORT, ETHERNET, SERVER_PORT, Request
from dhcp.told import Told, told
from dhcp.wire import NO_ADDRESS, Flags, Message, Op

CLIENT_PORT = 68
EVERYBODY = IPv4Address("255.255.255.255")

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
        Option.VENDOR_CLASS,
        Option.VENDOR_INFORMATION,
    }
)
"""Sent to those that ask for them. An option configured by any other number is sent to everybody."""
_OF_THE_BOOT = frozenset(
    {
        Option.BOOT_FILE_SIZE,
        Option.ROOT_PATH,
        Option.VENDOR_SPECIFIC_INFORMATION,
        Option.VENDOR_CLASS_IDENTIFIER,
        Option.TFTP_SERVER_NAME,
        Option.BOOTFILE_NAME,
        Option.CLIENT_MACHINE_IDENTIFIER,
        Option.VENDOR_CLASS,
        Option.VENDOR_INFORMATION,
        *range(128, 136),  # PXE's own (RFC 4578 section 2.4)
        Option.TFTP_SERVER_ADDRESS,
        Option.IPXE,
        Option.PXELINUX_MAGIC,
        Option.PXELINUX_CONFIG_FILE,
        Option.PXELINUX_PATH_PREFIX,
        Option.PXELINUX_REBOOT_TIME,
    }
)
"""What a boot server may say (PXE 2.1 section 2.2)."""
OF_THE_NETWORK = frozenset({*range(1, 62), 81, 108, 116, 119, 121, 158, 159, 162, 212, 220, 221, 249}) - _OF_THE_BOOT
"""What is the affair of who gives the addresses: a client's names, its network and its lease. A boot server never
sends it."""


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
    smallest: int = wire.SMALLEST
    """The bytes that it is padded to."""
    overload: bool = True
    """Whether options may move into `file` and `sname` when there is no room (option 52)."""

    def pack(self) -> wire.Packed:
        """Return the datagram's payload."""
        packed = self.message.pack(self.size_limit, NEEDED, overload=self.overload)
        if len(packed.data) >= self.smallest:
            return packed
        return wire.Packed(packed.data.ljust(self.smallest, b"\0"), packed.left_out)


def renewal_times(lease_s: int) -> tuple[int, int]:
    """Return (T1, T2): the seconds after which a client renews, then rebinds.

    Half the lease and seven eighths of it (RFC 2131 section 4.4.5), sent as options 58 and 59, so that no firmware
    has to guess.

    >>> renewal_times(3600)
    (1800, 3150)
    """
    return lease_s // 2, lease_s * 7 // 8


def boot_file(request: Request, plan: Plan, address: IPv4Address) -> str:
    """Return the boot file that this client gets at `address`, empty if it wants or gets none."""
    return told(request, plan, address).file.decode("utf-8", "replace")


def grant(
    request: Request, plan: Plan, message_type: MessageType | None, yiaddr: IPv4Address, lease_s: int | None
) -> Send:
    """Return the OFFER, ACK or BOOTP reply that gives `yiaddr`. `lease_s` is None for BOOTP and for an INFORM."""
    message = request.message
    what = told(request, plan, yiaddr if yiaddr != NO_ADDRESS else message.ciaddr)
    if request.client.traits.boot_server:
        what = sent_to_boot_server(what)
    said: dict[int, bytes] = {}
    if message_type is not None:
        said[Option.DHCP_MESSAGE_TYPE] = bytes((message_type,))
        said[Option.SERVER_IDENTIFIER] = request.server_identifier_for(yiaddr).packed
    if lease_s is not None:
        said |= _lease_times(lease_s)
    said[Option.SUBNET_MASK] = what.settings[Option.SUBNET_MASK]
    for code, value in _chosen(request, what):
        said.setdefault(code, value)
    if (fqdn := _fqdn(request, what)) is not None:
        said[Option.CLIENT_FQDN] = fqdn
    said |= _echoed(request)
    # Any other ciaddr is nobody's that we know of, and would be sent what its owner did not ask for.
    has = message_type is not MessageType.DHCPOFFER and yiaddr in (message.ciaddr, NO_ADDRESS)
    ciaddr = message.ciaddr if has else NO_ADDRESS
    reply = _reply(request, said, ciaddr=ciaddr, yiaddr=yiaddr, **_fields(what))
    return _send(request, reply, _destination(request, yiaddr, ciaddr))


def boot_server(request: Request, plan: Plan, message_type: MessageType) -> Send:
    """Return the answer of a boot server beside somebody else's DHCP server: a boot file and no lease.

    An OFFER as proxyDHCP, whose yiaddr is 0, by which EDK2 knows it; or an ACK, to who asks on port 4011 and to a
    DHCPINFORM. Neither carries 51, 1, 3 or 6 (PXE 2.1): of what is configured, what `boot_server_sends` says.
    """
    message, arrival = request.message, request.arrival
    what = told(request, plan, message.ciaddr)
    if message_type is MessageType.DHCPOFFER and what.file and request.client.kind is Kind.PXE:
        # Without it, EDK2 takes this for no proxyDHCP; also where a quirk wants the file's own reply unmarked.
        what = replace(what, boot={Option.VENDOR_CLASS_IDENTIFIER: b"PXEClient", **what.boot})
    said: dict[int, bytes] = {
        Option.DHCP_MESSAGE_TYPE: bytes((message_type,)),
        Option.SERVER_IDENTIFIER: request.server_identifier.packed,
    }
    for code, value in _chosen(request, what):
        if boot_server_sends(code, what.settings):
            said.setdefault(code, value)
    said |= _echoed(request)
    ciaddr = message.ciaddr if message_type is not MessageType.DHCPOFFER else NO_ADDRESS
    if arrival.port == BOOT_SERVER_PORT:
        destination = Destination(arrival.source, arrival.source_port)
    elif request.relayed:
        destination = _relay(request)
    elif ciaddr != NO_ADDRESS:
        destination = Destination(ciaddr, CLIENT_PORT)
    else:
        destination = Destination(EVERYBODY, CLIENT_PORT)
    reply = _reply(request, said, ciaddr=ciaddr, **_fields(what))
    return _send(request, reply, destination)


def nak(request: Request, why: str) -> Send:
    """Return the DHCPNAK that sends a client back to DHCPDISCOVER; `why` goes into option 56."""
    said = {
        Option.DHCP_MESSAGE_TYPE: bytes((MessageType.DHCPNAK,)),
        Option.SERVER_IDENTIFIER: request.server_identifier.packed,
        Option.MESSAGE: why.encode(),
    }
    flags = request.message.flags | (Flags.BROADCAST if request.relayed else 0)
    echoed = {code: value for code, value in _echoed(request).items() if code != Option.SUBNET_SELECTION}
    reply = _reply(request, dict(said) | echoed, flags=flags)
    destination = _relay(request) if request.relayed else Destination(EVERYBODY, CLIENT_PORT)
    return _send(request, reply, destination)


def _send(request: Request, reply: Message, destination: Destination) -> Send:
    traits = request.client.traits
    return Send(
        reply,
        destination,
        min(_size_limit(request), traits.largest_bytes),
        delay_s=traits.reply_delay_s,
        source_port=request.arrival.port,
        smallest=traits.smallest_bytes,
        overload=traits.overload,
    )


def _lease_times(lease_s: int) -> dict[int, bytes]:
    """Options 51, 58 and 59; a lease that never ends is never renewed."""
    said = {int(Option.IP_ADDRESS_LEASE_TIME): lease_s.to_bytes(4, "big")}
    if lease_s != INFINITE_S:
        t1, t2 = renewal_times(lease_s)
        said[Option.RENEWAL_TIME] = t1.to_bytes(4, "big")
        said[Option.REBINDING_TIME] = t2.to_bytes(4, "big")
    return said


def boot_server_sends(code: int, settings: OptionBytes) -> bool:
    """Return whether a boot server may send an option: if it concerns the boot, or is to be sent always and does not
    concern the network or a lease."""
    return code in _OF_THE_BOOT or (settings.get(SEND + code) == ALWAYS and code not in OF_THE_NETWORK)


def _chosen(request: Request, what: Told) -> Iterator[tuple[int, bytes]]:
    """The options to send, in their order: those asked for, those that lead to the boot file, and those that are
    configured by number or to be sent always. What is never to be sent is left out."""
    settings = what.settings
    asked = request.message.options.get(Option.PARAMETER_REQUEST_LIST)
    if not asked:  # a client that says nothing is given all there is
        unasked = (Option.VENDOR_CLASS_IDENTIFIER, Option.VENDOR_SPECIFIC_INFORMATION)
        asked = bytes(sorted(code for code in settings if code < 255 and code not in unasked))
    forced = (
        code for code in settings if code < 255 and (code not in _ON_REQUEST or settings.get(SEND + code) == ALWAYS)
    )
    for code in (*asked, *what.boot, *forced):
        configured = settings.get(code)
        there = configured if configured is not None else what.boot.get(code)
        if there and settings.get(SEND + code) != NEVER:
            yield code, there


def sent_to_boot_server(what: Told) -> Told:
    """Return what a client is told that fetches its boot file's name from port 4011: that it is to ask there."""
    left = {Option.VENDOR_CLASS_IDENTIFIER, Option.CLIENT_MACHINE_IDENTIFIER}
    return replace(what, file=b"", boot={code: value for code, value in what.boot.items() if code in left})


def _fields(what: Told) -> "_Fields":
    """The fields of the header that lead to the boot file."""
    name = what.server_name if what.file else b""
    return {
        "siaddr": what.server,
        "sname": name if len(name) < 64 else b"",
        "file": what.file if len(what.file) < 128 else b"",
    }


class _Fields(TypedDict):
    siaddr: IPv4Address
    sname: bytes
    file: bytes


def _reply(
    request: Request,
    said: Mapping[int, bytes],
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
    """What a client or its relay gets back as it came: 61 (RFC 6842), 118 (RFC 3011), and 82, which stays last
    (RFC 3046)."""
    echoed = (Option.CLIENT_IDENTIFIER, Option.SUBNET_SELECTION, Option.RELAY_AGENT_INFORMATION)
    return {code: request.message.options[code] for code in echoed if code in request.message.options}


def _fqdn(request: Request, what: Told) -> bytes | None:
    """Option 81 for a client that sent it: its name as we know it, and that we write nothing into DNS (RFC 4702)."""
    asked = options.client_fqdn(request.message.options.get(Option.CLIENT_FQDN, b""))
    if asked is None:
        return None
    labels = (what.settings.get(code, b"").decode("latin-1") for code in (Option.HOST_NAME, Option.DOMAIN_NAME))
    try:
        return options.encode_client_fqdn(asked.flags, ".".join(filter(None, labels)))
    except ValueError:  # a name is configured that DNS cannot carry
        return None


def _size_limit(request: Request) -> int:
    if request.message_type is None:
        return BOOTP_SIZE
    asked = options.number(request.message.options.get(Option.MAXIMUM_DHCP_MESSAGE_SIZE), 2) or 0
    return min(max(asked, SMALLEST_MAXIMUM), LARGEST_DATAGRAM) - IP_AND_UDP_HEADERS


def _relay(request: Request) -> Destination:
    """The relay, at its own source port if it says that it listens there (RFC 8357)."""
    by_source_port = RelaySubOption.RELAY_SOURCE_PORT in request.relay
    return Destination(request.message.giaddr, request.arrival.source_port if by_source_port else SERVER_PORT)


def _destination(request: Request, yiaddr: IPv4Address, ciaddr: IPv4Address) -> Destination:
    """Return where an answer goes (RFC 2131 section 4.1). `ciaddr` is the one of the answer, already checked."""
    message = request.message
    if request.relayed:
        return _relay(request)
    if ciaddr != NO_ADDRESS:
        return Destination(ciaddr, CLIENT_PORT)
    broadcast = message.flags & Flags.BROADCAST or request.client.traits.force_broadcast
    if broadcast or message.htype != ETHERNET or len(message.chaddr) != 6:
        return Destination(EVERYBODY, CLIENT_PORT)
    return Destination(yiaddr, CLIENT_PORT, message.chaddr)
