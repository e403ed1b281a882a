"""The packets that real firmware sends, made up for any machine. Pure.

What PXE, UEFI HTTP and iPXE say is in `pxeboot.probe.client`; the others are here. A test compares them with the
recorded clients of tests/data/dhcp, option by option.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address
from uuid import UUID

from config.architectures import Architecture
from dhcp.options import MessageType, Option, RelaySubOption
from dhcp.pxe import BootItem, MenuLine, VendorOptions
from dhcp.quirks import RASPBERRY_PI_MACS
from dhcp.request import BOOT_SERVER_PORT, SERVER_PORT, Arrival
from dhcp.wire import NO_ADDRESS, Flags, Message, Op
from pxeboot.probe.client import Client, Kind

_U_BOOT_ASKS = bytes((1, 3, 6, 12, 17))
_RASPBERRY_PI_ASKS = bytes.fromhex("2b3c438081828384858687420103")
_PLAIN_ASKS = bytes.fromhex("010306 0c 0f 11 1a 1c 28 77 79")
"""klibc's ipconfig, which runs in a Debian initramfs."""
_PI_CLASS = b"PXEClient:Arch:00000:UNDI:002001"
_NOT_UNDI = bytes((1, 0, 0))
_MADE_UP_XID = 0x70786562


class Asks(StrEnum):
    """What it asks, as `--message` names it."""

    DISCOVER = "discover"
    REQUEST = "request"
    BOOTP = "bootp"
    BOOT_SERVER = "4011"


@dataclass(frozen=True, slots=True)
class Sender:
    """The machine that a packet is made up for, and what stands between it and us."""

    mac: bytes
    kind: Kind
    architecture: Architecture
    uuid: UUID | None = None
    """In option 97, as EFI sends it; a made-up one unless given."""
    client_id: bytes | None = None
    """Option 61."""
    giaddr: IPv4Address = NO_ADDRESS
    """The relay."""
    circuit_id: bytes | None = None
    remote_id: bytes | None = None

    @property
    def raspberry_pi(self) -> bool:
        """Whether it is a Raspberry Pi's boot ROM."""
        return self.kind is Kind.PXE and self.architecture.name == "rpi"

    @property
    def words(self) -> str:
        """What asks, for people."""
        match self.kind:
            case Kind.PLAIN:
                return "a system that only wants an address"
            case Kind.IPXE:
                return f"iPXE ({self.architecture.words})"
            case Kind.HTTP:
                return f"{self.architecture.words.removesuffix(' HTTP')} firmware (HTTP boot)"
            case Kind.PXE:
                return f"{self.architecture.words} firmware (PXE)"


def is_raspberry_pi(mac: bytes) -> bool:
    """Return whether a MAC is one of a Raspberry Pi."""
    return mac.hex(":").startswith(RASPBERRY_PI_MACS)


def options_of(sender: Sender) -> dict[int, bytes]:
    """Return the options of its DHCPDISCOVER behind 53, in its order, without a relay's."""
    code = sender.architecture.code.to_bytes(2, "big")
    if sender.kind is Kind.PLAIN:
        said: dict[int, bytes] = {
            Option.PARAMETER_REQUEST_LIST: _PLAIN_ASKS,
            Option.VENDOR_CLASS_IDENTIFIER: b"Linux ipconfig",
        }
    elif sender.kind is not Kind.IPXE and sender.architecture.name.startswith("uboot"):
        said = {
            Option.MAXIMUM_DHCP_MESSAGE_SIZE: (576).to_bytes(2, "big"),
            Option.CLIENT_SYSTEM_ARCHITECTURE: code,
            Option.CLIENT_NETWORK_INTERFACE: _NOT_UNDI,
            Option.VENDOR_CLASS_IDENTIFIER: b"U-Boot.armv8" if "64" in sender.architecture.name else b"U-Boot.armv7",
            Option.PARAMETER_REQUEST_LIST: _U_BOOT_ASKS,
        }
    elif sender.raspberry_pi:
        # It calls itself a BIOS; only boot loaders of a newer kind say their code.
        said = {
            Option.PARAMETER_REQUEST_LIST: _RASPBERRY_PI_ASKS,
            Option.CLIENT_SYSTEM_ARCHITECTURE: bytes(2) if is_raspberry_pi(sender.mac) else code,
            Option.CLIENT_NETWORK_INTERFACE: bytes((1, 2, 1)),
            Option.CLIENT_MACHINE_IDENTIFIER: b"\0" + 4 * sender.mac[-4:],
            Option.VENDOR_CLASS_IDENTIFIER: _PI_CLASS,
        }
    else:
        said = dict(Client(sender.kind, sender.architecture, sender.mac).options())
    if sender.uuid is not None:
        said[Option.CLIENT_MACHINE_IDENTIFIER] = b"\0" + sender.uuid.bytes_le
    if sender.client_id is not None:
        said[Option.CLIENT_IDENTIFIER] = sender.client_id
    return said


def flags_of(sender: Sender) -> int:
    """Return the flags that it sends: UEFI wants its answers broadcast, and so does klibc; others do not."""
    uefi = sender.architecture.name.startswith("uefi") and sender.kind in (Kind.PXE, Kind.HTTP)
    return Flags.BROADCAST if uefi or sender.kind is Kind.PLAIN else 0


def discover(sender: Sender) -> Message:
    """Return its DHCPDISCOVER."""
    return _message(sender, {Option.DHCP_MESSAGE_TYPE: bytes((MessageType.DHCPDISCOVER,))} | options_of(sender))


def request(sender: Sender, address: IPv4Address, server: IPv4Address) -> Message:
    """Return the DHCPREQUEST by which it takes `address` from `server`."""
    said = {
        Option.DHCP_MESSAGE_TYPE: bytes((MessageType.DHCPREQUEST,)),
        Option.SERVER_IDENTIFIER: server.packed,
        Option.REQUESTED_IP_ADDRESS: address.packed,
    }
    return _message(sender, said | options_of(sender))


def bootp(sender: Sender) -> Message:
    """Return a BOOTP request, which has no message type and no options (RFC 951)."""
    said = {} if sender.client_id is None else {int(Option.CLIENT_IDENTIFIER): sender.client_id}
    return replace(_message(sender, said), flags=0)


def boot_server(asked: Message, address: IPv4Address, menu: Sequence[MenuLine] = ()) -> Message:
    """Return what the sender of `asked` sends to UDP 4011 once it has `address`; of a menu, for the first line."""
    left_out = (Option.SERVER_IDENTIFIER, Option.REQUESTED_IP_ADDRESS, Option.RELAY_AGENT_INFORMATION)
    kept = {code: value for code, value in asked.options.items() if code not in left_out}
    said = kept | {Option.DHCP_MESSAGE_TYPE: bytes((MessageType.DHCPREQUEST,))}
    if menu:
        said[Option.VENDOR_SPECIFIC_INFORMATION] = VendorOptions(item=BootItem(menu[0].type)).encode()
    return replace(asked, flags=0, ciaddr=address, giaddr=NO_ADDRESS, hops=0, options=said)


def arrival_of(message: Message, ours: IPv4Address) -> Arrival:
    """Return how a made-up packet comes in at `ours`: by broadcast, or by its relay."""
    if message.giaddr == NO_ADDRESS:
        return Arrival(ours, source_port=68)
    return Arrival(ours, unicast=True, source_port=SERVER_PORT, source=message.giaddr)


def boot_server_arrival(message: Message, ours: IPv4Address, *, uefi: bool) -> Arrival:
    """Return how a packet of `boot_server` comes in: from port 4011 (EDK2), or from 68 (iPXE, ROMs)."""
    port = BOOT_SERVER_PORT if uefi else 68
    return Arrival(ours, unicast=True, source_port=port, port=BOOT_SERVER_PORT, source=message.ciaddr)


def _message(sender: Sender, said: Mapping[int, bytes]) -> Message:
    relayed = sender.giaddr != NO_ADDRESS
    inside = {RelaySubOption.CIRCUIT_ID: sender.circuit_id, RelaySubOption.REMOTE_ID: sender.remote_id}
    relay = b"".join(bytes((code, len(v))) + v for code, v in inside.items() if v is not None)
    return Message(
        op=Op.BOOTREQUEST,
        xid=_MADE_UP_XID,
        chaddr=sender.mac,
        hops=int(relayed),
        flags=flags_of(sender),
        giaddr=sender.giaddr,
        options={int(code): value for code, value in said.items()}
        | ({int(Option.RELAY_AGENT_INFORMATION): relay} if relay and relayed else {}),
    )
