"""What clients there are that need another answer than the protocols say: how to know one, and what to change.

The built-in ones are `dhcp.quirks.TABLE`; a farm adds its own in `dhcp.quirks`.
"""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from config.architectures import parse_architecture
from config.setting import Setting


class Kind(StrEnum):
    """How a client wants to boot."""

    PLAIN = "plain"
    """It only wants an address: an operating system, an initramfs."""
    PXE = "pxe"
    HTTP = "http"
    """UEFI HTTP boot."""
    OTHER_LOADER = "other-loader"
    """It wants a boot file, and is no PXE client: U-Boot, firmware of another class, plain BOOTP."""


class Option43(StrEnum):
    """What option 43 of a reply with a boot file says."""

    NONE = "none"
    USE_THIS_FILE = "pxe-discovery-8"
    """`06 01 08`: use the boot file of this packet, and do not look for a boot server on UDP 4011."""
    RASPBERRY_PI = "raspberry-pi"
    """The menu with the line "Raspberry Pi Boot", without which that ROM takes no offer."""
    RASPBERRY_PI_SPACES = "raspberry-pi-spaces"
    """The same with three spaces behind it, which the oldest ROM wants."""


def parse_hex_prefix(value: object) -> str:
    """Return the first bytes of something, as lower-case hex pairs with colons.

    Raises `ValueError` for anything that is not at least one whole byte of hex.

    >>> parse_hex_prefix("B8-27-EB"), parse_hex_prefix("b827eb")
    ('b8:27:eb', 'b8:27:eb')
    """
    digits = re.sub("[:.-]", "", value).lower() if isinstance(value, str) else ""
    if not digits or len(digits) % 2 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError("are no bytes in hex; write pairs, such as b8:27:eb")
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


HexPrefix = Annotated[str, BeforeValidator(parse_hex_prefix)]
Glob = Annotated[str, Field(min_length=1, max_length=128)]
OptionNumber = Annotated[int, Field(ge=1, le=254)]
ArchitectureCode = Annotated[int, Field(ge=0, le=0xFFFF)]
Size = Annotated[int, Field(ge=300, le=1472)]


class Match(Setting):
    """How to know a client. All that is given must be so; where several values are given, one of them. What says
    nothing matches everybody."""

    vendor_classes: tuple[Glob, ...] = ()
    """Option 60, with * for any text and ? for any character, such as PXEClient:Arch:00007*."""
    user_classes: tuple[Glob, ...] = ()
    """One of the classes in option 77, with * and ?."""
    architectures: tuple[ArchitectureCode, ...] = ()
    """A code in option 93."""
    macs: tuple[HexPrefix, ...] = ()
    """What its MAC begins with: a vendor such as b8:27:eb, or a whole MAC."""
    machine_ids: tuple[HexPrefix, ...] = ()
    """What option 97 begins with, its type (00) first."""
    has_options: tuple[OptionNumber, ...] = ()
    """Options that it sends."""
    lacks_options: tuple[OptionNumber, ...] = ()
    """Options that it does not send."""


class Quirk(Setting):
    """A kind of client, and what is different for it. What is left out is decided by the next quirk that matches
    the client: those of the configuration come first, in their order, then the built-in ones."""

    name: Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """What `pxeboot explain` calls it. One with the name of a built-in quirk replaces that."""
    source: str = ""
    """How one knows: a thread, a document, a recorded packet."""
    match: Match = Match()
    """Which clients."""
    kind: Kind | None = None
    """How the client wants to boot, whatever its option 60 says."""
    ipxe: bool | None = None
    """Whether it is iPXE, which gets the boot file of `dhcp.architectures.ipxe`."""
    architecture: Annotated[str, BeforeValidator(parse_architecture)] | None = None
    """What it is, whatever it says."""
    architecture_unless_told: Annotated[str, BeforeValidator(parse_architecture)] | None = None
    """What it is, if it does not say."""
    vendor_class: str | None = None
    """Option 60 of the replies that name a boot file; empty: none."""
    nul_after_vendor_class: bool | None = None
    """Whether option 60 ends with a NUL."""
    nul_after_server_name: bool | None = None
    """Whether option 66 ends with a NUL."""
    nul_after_boot_file: bool | None = None
    """Whether option 67 ends with a NUL."""
    option_43: Option43 | None = None
    """Option 43 of the replies that name a boot file."""
    boot_server: bool | None = None
    """Whether it is sent to UDP 4011 for its boot file: its offer has option 60, and neither file nor option 43."""
    own_file_names: bool | None = None
    """Whether it knows itself what to fetch, so that its offer is complete without a boot file."""
    force_broadcast: bool | None = None
    """Whether replies go to everybody although it can take them alone."""
    overload: bool | None = None
    """Whether options may move into `file` and `sname` when a reply is full (option 52)."""
    reply_delay_s: Annotated[float, Field(ge=0, le=2)] | None = None
    """Seconds to wait before a reply: some firmware misses an instant one."""
    smallest_bytes: Size | None = None
    """The least UDP payload of a reply."""
    largest_bytes: Size | None = None
    """The largest UDP payload of a reply, whatever option 57 says."""
    sends_request: bool | None = None
    """Whether it asks for the address (DHCPREQUEST) before it uses the offer."""
