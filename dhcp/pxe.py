"""What is inside option 43 between a PXE client and its servers (PXE 2.1, table 2-1). Pure.

A menu whose first line has the boot server type 0 is how a server says "boot from your own disk": with a prompt of no
seconds it is taken at once. A PXE ROM and iPXE give back to the BIOS then, which boots the disk. EDK2 ends its boot
over IPv4 (PXE-E21) and goes on with its next boot entry; OVMF's are IPv6 and HTTP, a minute or more before the disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address

from config.quirks import Option43
from dhcp.wire import END, PAD

LOCAL_DISK = 0
"""The boot server type that is none: boot from the local disk."""
FOREVER = 255
"""A prompt that shows the menu at once, and waits."""


class Tag(IntEnum):
    """Sub-options, by their names in the specification."""

    PXE_MTFTP_IP = 1
    PXE_MTFTP_DELAY = 5
    PXE_DISCOVERY_CONTROL = 6
    DISCOVERY_MCAST_ADDR = 7
    PXE_BOOT_SERVERS = 8
    PXE_BOOT_MENU = 9
    PXE_MENU_PROMPT = 10
    PXE_BOOT_ITEM = 71


class Discovery(IntFlag):
    """PXE_DISCOVERY_CONTROL: how a client may look for its boot server."""

    NO_BROADCAST = 1
    NO_MULTICAST = 2
    USE_THIS_FILE = 8
    """No prompt, no menu and no other server: the boot file of this packet, if it names one."""


@dataclass(frozen=True, slots=True)
class BootServer:
    """Where the boot servers of a type are; a line of PXE_BOOT_SERVERS."""

    type: int
    addresses: tuple[IPv4Address, ...]


@dataclass(frozen=True, slots=True)
class MenuLine:
    """A line of PXE_BOOT_MENU, and the type of the boot server that it stands for."""

    type: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Prompt:
    """PXE_MENU_PROMPT: so many seconds to ask for the menu by a key; then its first line is taken."""

    timeout_s: int
    text: bytes


@dataclass(frozen=True, slots=True)
class BootItem:
    """PXE_BOOT_ITEM: the line of the menu that was chosen, as the client asks for it on UDP 4011."""

    type: int
    layer: int = 0


@dataclass(frozen=True, slots=True)
class VendorOptions:
    """Option 43 understood. What is not known stays in `others`, by its number."""

    discovery: Discovery | None = None
    servers: tuple[BootServer, ...] = ()
    menu: tuple[MenuLine, ...] = ()
    prompt: Prompt | None = None
    item: BootItem | None = None
    others: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def discovers(self) -> bool:
        """Whether it says anything of how to find a boot server; firmware asks UDP 4011 if it does not."""
        return (
            self.discovery is not None
            or bool(self.servers or self.menu)
            or self.prompt is not None
            or Tag.DISCOVERY_MCAST_ADDR in self.others
        )

    @property
    def is_mtftp_only(self) -> bool:
        """Whether EDK2 throws the whole offer away for it: multicast TFTP (tags 1 to 5), and nothing to discover."""
        return not self.discovers and all(
            tag in self.others for tag in range(Tag.PXE_MTFTP_IP, Tag.PXE_MTFTP_DELAY + 1)
        )

    @property
    def boots_local_disk(self) -> bool:
        """Whether a client that obeys at once, without anybody at its keys, boots from its own disk."""
        waits = self.prompt is not None and self.prompt.timeout_s == FOREVER
        return bool(self.menu) and self.menu[0].type == LOCAL_DISK and not waits

    def encode(self) -> bytes:
        """Return the value of option 43, with its END.

        Raises `ValueError` for a sub-option of more than 255 bytes.
        """
        said: dict[int, bytes] = {}
        if self.discovery is not None:
            said[Tag.PXE_DISCOVERY_CONTROL] = bytes((self.discovery,))
        if self.servers:
            said[Tag.PXE_BOOT_SERVERS] = b"".join(
                server.type.to_bytes(2, "big")
                + bytes((len(server.addresses),))
                + b"".join(a.packed for a in server.addresses)
                for server in self.servers
            )
        if self.prompt is not None:
            said[Tag.PXE_MENU_PROMPT] = bytes((self.prompt.timeout_s,)) + self.prompt.text
        if self.menu:
            said[Tag.PXE_BOOT_MENU] = b"".join(
                line.type.to_bytes(2, "big") + bytes((len(line.text),)) + line.text for line in self.menu
            )
        if self.item is not None:
            said[Tag.PXE_BOOT_ITEM] = self.item.type.to_bytes(2, "big") + self.item.layer.to_bytes(2, "big")
        said |= self.others
        too_long = [tag for tag, value in said.items() if len(value) > 255]
        if too_long:
            raise ValueError(f"sub-option {too_long[0]} of option 43 has more than 255 bytes")
        return b"".join(bytes((tag, len(value))) + value for tag, value in said.items()) + bytes((END,))


def decode(value: bytes) -> VendorOptions:
    """Return what an option 43 says to a PXE client. What is cut or of the wrong length stays in `others`, as it is.

    >>> decode(bytes.fromhex("06 01 08 ff")).discovery
    <Discovery.USE_THIS_FILE: 8>
    """
    others: dict[int, bytes] = {}
    at = 0
    while at < len(value) and value[at] != END:
        if value[at] == PAD:
            at += 1
            continue
        if at + 2 > len(value) or at + 2 + value[at + 1] > len(value):
            break
        others.setdefault(value[at], value[at + 2 : at + 2 + value[at + 1]])
        at += 2 + value[at + 1]
    discovery = (
        Discovery(others.pop(Tag.PXE_DISCOVERY_CONTROL)[0]) if _has(others, Tag.PXE_DISCOVERY_CONTROL, 1) else None
    )
    prompt = item = None
    if others.get(Tag.PXE_MENU_PROMPT):
        text = others.pop(Tag.PXE_MENU_PROMPT)
        prompt = Prompt(text[0], text[1:])
    if _has(others, Tag.PXE_BOOT_ITEM, 4):
        text = others.pop(Tag.PXE_BOOT_ITEM)
        item = BootItem(int.from_bytes(text[:2], "big"), int.from_bytes(text[2:], "big"))
    servers = _servers(others.get(Tag.PXE_BOOT_SERVERS, b""))
    menu = _menu(others.get(Tag.PXE_BOOT_MENU, b""))
    if servers:
        del others[Tag.PXE_BOOT_SERVERS]
    if menu:
        del others[Tag.PXE_BOOT_MENU]
    return VendorOptions(discovery, servers, menu, prompt, item, others)


def _has(others: Mapping[int, bytes], tag: Tag, size: int) -> bool:
    return len(others.get(tag, b"")) == size


def _servers(value: bytes) -> tuple[BootServer, ...]:
    """The lines of PXE_BOOT_SERVERS, none if one of them is cut."""
    found = []
    at = 0
    while at < len(value):
        end = at + 3 + (4 * value[at + 2] if at + 3 <= len(value) else 0)
        if end > len(value) or at + 3 > len(value):
            return ()
        addresses = tuple(IPv4Address(value[i : i + 4]) for i in range(at + 3, end, 4))
        found.append(BootServer(int.from_bytes(value[at : at + 2], "big"), addresses))
        at = end
    return tuple(found)


def _menu(value: bytes) -> tuple[MenuLine, ...]:
    """The lines of PXE_BOOT_MENU, none if one of them is cut."""
    found = []
    at = 0
    while at < len(value):
        end = at + 3 + (value[at + 2] if at + 3 <= len(value) else 0)
        if end > len(value) or at + 3 > len(value):
            return ()
        found.append(MenuLine(int.from_bytes(value[at : at + 2], "big"), value[at + 3 : end]))
        at = end
    return tuple(found)


def _menu_of_one(text: bytes, prompt: bytes) -> bytes:
    """A menu whose only line boots the local disk, taken at once."""
    control = Discovery.NO_BROADCAST | Discovery.NO_MULTICAST
    return VendorOptions(control, menu=(MenuLine(LOCAL_DISK, text),), prompt=Prompt(0, prompt)).encode()


USE_THIS_FILE = VendorOptions(Discovery.USE_THIS_FILE).encode()
"""`06 01 08 ff`: take the boot file of this packet. EDK2 otherwise asks UDP 4011 for it."""
LOCAL_BOOT = _menu_of_one(b"Boot from the local disk", b"Local disk")
"""Boot from your own disk, now. It goes with option 60 = PXEClient and without a boot file."""
OPTION_43: Mapping[Option43, bytes] = {
    Option43.NONE: b"",
    Option43.USE_THIS_FILE: USE_THIS_FILE,
    Option43.RASPBERRY_PI: _menu_of_one(b"Raspberry Pi Boot", b"PXE"),
    Option43.RASPBERRY_PI_SPACES: _menu_of_one(b"Raspberry Pi Boot   ", b"PXE"),
}
"""The value of option 43 for `Traits.option_43`; empty: the option is not sent."""
