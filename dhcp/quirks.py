"""Clients that need another answer than the protocols say: one table, how a client is found in it, what follows.

Nothing else in `dhcp` knows firmware by name. The first quirk that matches a client and says something of a trait
decides it; a farm's own come before `TABLE`. What the whole world of clients has in common needs no entry: both byte
orders of a UUID, an option 97, 94 or 61 that is missing, an option 57 that lies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase

from config.quirks import Kind, Match, Option43, Quirk
from dhcp.options import Option

RASPBERRY_PI_MACS = ("b8:27:eb", "dc:a6:32", "e4:5f:01", "28:cd:c1", "d8:3a:dd", "2c:cf:67", "88:a2:9e")
_HEADERS = 28
_RASPBERRY_PI = Quirk(
    name="raspberry-pi",
    source="nobodd documentation; raspberrypi/firmware#1699, #871, #801; rpi-eeprom#82, #87",
    # With the code, since iPXE, EDK2 or Linux on the same board is an ordinary client.
    match=Match(macs=RASPBERRY_PI_MACS, architectures=(0x00, 0x29)),
    kind=Kind.PXE,
    architecture="rpi",
    vendor_class="PXEClient",  # its DHCPREQUEST has none
    option_43=Option43.RASPBERRY_PI,
    nul_after_server_name=False,
    own_file_names=True,
    overload=False,
    sends_request=False,
)
TABLE: tuple[Quirk, ...] = (
    Quirk(
        name="raspberry-pi-3",
        source="raspberrypi/documentation, network boot: add three spaces if it does not boot; firmware#1808",
        match=Match(macs=("b8:27:eb",), architectures=(0x00, 0x29)),
        # Newer ROMs of this vendor code only look for the words, so the longer spelling suits all of them.
        option_43=Option43.RASPBERRY_PI_SPACES,
    ),
    _RASPBERRY_PI,
    _RASPBERRY_PI.model_copy(
        update={
            "name": "raspberry-pi-by-id",
            "source": "raspberrypi/documentation, DHCP_OPTION97: RPi4, RPi5 and the serial number",
            "match": Match(machine_ids=("00:52:50:69",), architectures=(0x00, 0x29)),
        }
    ),
    _RASPBERRY_PI.model_copy(
        update={
            "name": "raspberry-pi-by-code",
            "source": "IANA, processor architecture types: 0x29 is rpiboot",
            "match": Match(architectures=(0x29,)),
        }
    ),
    Quirk(
        name="huawei",
        source="dnsmasq, --dhcp-pxe-vendor",
        match=Match(vendor_classes=("HW-Client*",)),
        kind=Kind.PXE,
        vendor_class="HW-Client",
        option_43=Option43.USE_THIS_FILE,
        architecture_unless_told="bios",
    ),
    Quirk(
        name="u-boot",
        source="u-boot net/bootp.c: reads siaddr and file, 576 bytes, no PXEClient in option 60",
        match=Match(vendor_classes=("U-Boot*",)),
        kind=Kind.OTHER_LOADER,
        overload=False,
        largest_bytes=576 - _HEADERS,
    ),
    Quirk(
        name="u-boot-arm64",
        source="u-boot Kconfig, BOOTP_VCI_STRING; it sends 93 = ff ff if built without its code",
        match=Match(vendor_classes=("U-Boot.armv8*",)),
        architecture_unless_told="uboot-arm64",
    ),
    Quirk(
        name="u-boot-arm32",
        source="u-boot Kconfig, BOOTP_VCI_STRING",
        match=Match(vendor_classes=("U-Boot.arm*",)),
        architecture_unless_told="uboot-arm32",
    ),
    Quirk(
        name="uefi-http",
        source="UEFI 2.10 section 24.7; edk2 HttpBootDhcp4.c: 60 must begin HTTPClient, a packet has 1472 bytes",
        match=Match(vendor_classes=("HTTPClient*",)),
        kind=Kind.HTTP,
        vendor_class="HTTPClient",
        nul_after_vendor_class=True,  # GRUB, started this way, compares it as a C string
        largest_bytes=1500 - _HEADERS,
    ),
    Quirk(
        name="ipxe",
        source="ipxe src/net/udp/dhcp.c: 77 is iPXE, without the length that RFC 3004 wants",
        match=Match(user_classes=("*iPXE*",)),
        kind=Kind.PXE,
        ipxe=True,
        vendor_class="PXEClient",
        option_43=Option43.USE_THIS_FILE,
        architecture_unless_told="bios",
    ),
    Quirk(
        name="flexboot",
        source="warewulf/warewulf3#104: iPXE of another name has no user class, or its own; 175 gives it away",
        match=Match(has_options=(Option.IPXE,)),
        kind=Kind.PXE,
        ipxe=True,
        vendor_class="PXEClient",
        option_43=Option43.USE_THIS_FILE,
        architecture_unless_told="bios",
    ),
    Quirk(
        name="ampere-emag",
        source="tinkerbell/smee#228: ignores the file of a reply that is marked PXEClient",
        # Nothing tells it from other arm64 firmware. That is EDK2, which takes a file of an unmarked reply too.
        match=Match(vendor_classes=("PXEClient*",), architectures=(0x0B,)),
        vendor_class="",
        option_43=Option43.NONE,
    ),
    Quirk(
        name="pxe",
        source="edk2 PxeBcDhcp4.c: without 43 = 06 01 08 it asks UDP 4011, whatever the offer names (edk2#8149)",
        match=Match(vendor_classes=("PXEClient*",)),
        kind=Kind.PXE,
        vendor_class="PXEClient",
        option_43=Option43.USE_THIS_FILE,
        architecture_unless_told="bios",  # the only kind older than option 93
    ),
    Quirk(
        name="names-its-architecture",
        source="RFC 4578 section 2.1: only what boots sends option 93; seen without a class that we know",
        match=Match(has_options=(Option.CLIENT_SYSTEM_ARCHITECTURE,)),
        kind=Kind.OTHER_LOADER,
    ),
    Quirk(
        name="bootp",
        source="RFC 951: 64 bytes for options; RFC 1534",
        match=Match(lacks_options=(Option.DHCP_MESSAGE_TYPE,)),
        kind=Kind.OTHER_LOADER,
        architecture_unless_told="bios",
        overload=False,
        largest_bytes=300,
    ),
)
"""The quirks that we know. For each trait, the first that matches and says something of it decides."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What all quirks of a client come to. Each field is one of `config.quirks.Quirk`, where it is explained."""

    kind: Kind = Kind.PLAIN
    ipxe: bool = False
    architecture: str | None = None
    architecture_unless_told: str | None = None
    vendor_class: str = ""
    nul_after_vendor_class: bool = False
    nul_after_server_name: bool = True
    nul_after_boot_file: bool = True
    option_43: Option43 = Option43.NONE
    boot_server: bool = False
    own_file_names: bool = False
    force_broadcast: bool = False
    overload: bool = True
    reply_delay_s: float = 0.0
    smallest_bytes: int = 300
    largest_bytes: int = 1500 - _HEADERS
    sends_request: bool = True
    because: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Which quirk decided a field, by the field's name. A field that is not here is as for everybody."""


_DECIDABLE = frozenset(field.name for field in fields(Traits)) - {"because"}


def effective(user: Sequence[Quirk]) -> tuple[Quirk, ...]:
    """Return all quirks in the order in which they decide. One of `user` replaces the built-in one of its name."""
    replaced = {quirk.name for quirk in user}
    return (*user, *(quirk for quirk in TABLE if quirk.name not in replaced))


def match(options: Mapping[int, bytes], mac: str, user: Sequence[Quirk] = ()) -> tuple[Quirk, ...]:
    """Return the quirks of the client that sent `options`, in the order in which they decide.

    `mac` is lower-case hex pairs with colons; empty if it has none.
    """
    return tuple(quirk for quirk in effective(user) if matches(quirk.match, options, mac))


def matches(wanted: Match, options: Mapping[int, bytes], mac: str) -> bool:
    """Return whether all that `wanted` asks for is so."""
    return (
        all(code in options for code in wanted.has_options)
        and not any(code in options for code in wanted.lacks_options)
        and _either(wanted.architectures, architecture_codes(options))
        and (not wanted.macs or mac.startswith(wanted.macs))
        and (not wanted.machine_ids or _hex(options, Option.CLIENT_MACHINE_IDENTIFIER).startswith(wanted.machine_ids))
        and _like(wanted.vendor_classes, [options.get(Option.VENDOR_CLASS_IDENTIFIER, b"")])
        and _like(wanted.user_classes, user_classes(options.get(Option.USER_CLASS, b"")))
    )


def combine(quirks: Sequence[Quirk]) -> Traits:
    """Return what these quirks come to, each trait decided by the first of them that says something of it."""
    decided: dict[str, object] = {}
    because: dict[str, str] = {}
    for quirk in quirks:
        for name, value in quirk:
            if name in _DECIDABLE and name not in decided and value is not None:
                decided[name] = value
                because[name] = quirk.name
    return Traits(**decided, because=because)  # type: ignore[arg-type]


def architecture_codes(options: Mapping[int, bytes]) -> list[int]:
    """Return the codes in option 93 (RFC 4578 section 2.1). FF FF is U-Boot's "unset", and odd lengths are nothing."""
    value = options.get(Option.CLIENT_SYSTEM_ARCHITECTURE, b"")
    if len(value) % 2:
        return []
    codes = [int.from_bytes(value[i : i + 2], "big") for i in range(0, len(value), 2)]
    return [code for code in codes if code != 0xFFFF]


def user_classes(value: bytes) -> list[bytes]:
    """Return the classes in option 77 (RFC 3004), or all of it as one, as iPXE and many others send it.

    >>> user_classes(b"\\x04iPXE\\x03lab"), user_classes(b"iPXE")
    ([b'iPXE', b'lab'], [b'iPXE'])
    """
    found = []
    rest = value
    while rest and rest[0] and len(rest) > rest[0]:
        found.append(rest[1 : 1 + rest[0]])
        rest = rest[1 + rest[0] :]
    return found if not rest else [value]


def _either(wanted: Sequence[int], there: Sequence[int]) -> bool:
    return not wanted or any(code in wanted for code in there)


def _like(globs: Sequence[str], values: Sequence[bytes]) -> bool:
    return not globs or any(fnmatchcase(value.decode("latin-1"), glob) for value in values for glob in globs)


def _hex(options: Mapping[int, bytes], code: int) -> str:
    return options.get(code, b"").hex(":")
