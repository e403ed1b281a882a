"""What a client is, and which boot file it gets (options 60, 77, 93 and 175; RFC 4578 section 2.1)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address

from dhcp.options import Option

BIOS_FILE = "grub/i386-pc/core.0"
X64_FILE = "grub/x86_64-efi/core.efi"

ARCHITECTURES: Mapping[int, str] = {
    0x00: "BIOS",
    0x02: "UEFI Itanium",
    0x06: "UEFI IA32",
    0x07: "UEFI x64",
    0x08: "UEFI x64",  # officially Xscale; x64 firmware sends it
    0x09: "UEFI x64",  # officially EFI byte code; x64 firmware sends it (errata of RFC 4578)
    0x0A: "UEFI ARM 32",
    0x0B: "UEFI ARM 64",
    0x0C: "PowerPC Open Firmware",
    0x0E: "POWER OPAL",
    0x0F: "UEFI IA32 HTTP",
    0x10: "UEFI x64 HTTP",
    0x11: "EFI byte code HTTP",
    0x12: "UEFI ARM 32 HTTP",
    0x13: "UEFI ARM 64 HTTP",
    0x14: "BIOS HTTP",
    0x15: "U-Boot ARM 32",
    0x16: "U-Boot ARM 64",
    0x17: "U-Boot ARM 32 HTTP",
    0x18: "U-Boot ARM 64 HTTP",
    0x19: "RISC-V 32",
    0x1A: "RISC-V 32 HTTP",
    0x1B: "RISC-V 64",
    0x1C: "RISC-V 64 HTTP",
    0x1F: "s390x",
    0x20: "s390x extended",
    0x25: "LoongArch 32",
    0x26: "LoongArch 32 HTTP",
    0x27: "LoongArch 64",
    0x28: "LoongArch 64 HTTP",
    0x29: "Raspberry Pi",
}
"""What option 93's codes mean, in words."""
_TFTP_FILES = {0x00: BIOS_FILE, 0x07: X64_FILE, 0x08: X64_FILE, 0x09: X64_FILE}
_HTTP_FILES = {0x10: X64_FILE}
_UNSET = 0xFFFF
_ARCH_IN_CLASS = re.compile(rb"Arch:([0-9]{5})")


class Kind(Enum):
    """How a client wants to boot; it decides the option 60 and 43 that it is answered with."""

    PLAIN = auto()
    """It only wants an address: an operating system, an initramfs."""
    PXE = auto()
    HTTP = auto()
    OTHER_LOADER = auto()
    """It wants a boot file, and is no PXE client: U-Boot, firmware of another class, plain BOOTP."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client, as far as its boot file depends on it."""

    kind: Kind
    architecture: int | None
    """Option 93's first code that we know, else its first; None if nothing told it."""
    ipxe: bool
    vendor_class: bytes

    @property
    def boots(self) -> bool:
        """Whether it wants a boot file at all."""
        return self.kind is not Kind.PLAIN

    def __str__(self) -> str:
        name = self.vendor_class.split(b":")[0][:32]
        words = "an unnamed client" if not name else repr(name.decode("latin-1"))
        if self.kind in (Kind.PXE, Kind.HTTP):
            words = "PXEClient" if self.kind is Kind.PXE else "HTTPClient"
        if self.ipxe:
            words = f"iPXE, {words}"
        if not self.boots:
            return words
        if self.architecture is None:
            return f"unknown architecture ({words})"
        return f"{ARCHITECTURES.get(self.architecture, f'architecture {self.architecture}')} ({words})"


def client(options: Mapping[int, bytes], *, bootp: bool = False) -> Client:
    """Return what the options of a request say about its sender. `bootp`: it has no message type.

    Option 93 is a list, and the first code that we have a file for counts. If it is absent, unset (FF FF, U-Boot)
    or of odd length, the class text decides: `Arch:00007` in decimal. A PXE or BOOTP client that says nothing
    is taken for a BIOS, the only kind older than these options.
    """
    vendor_class = options.get(Option.VENDOR_CLASS_IDENTIFIER, b"")
    codes = _architectures(options.get(Option.CLIENT_SYSTEM_ARCHITECTURE, b""))
    ipxe = Option.IPXE in options or options.get(Option.USER_CLASS) in (b"iPXE", b"\x04iPXE")
    if vendor_class.startswith(b"HTTPClient"):
        kind = Kind.HTTP
    elif vendor_class.startswith(b"PXEClient") or ipxe:
        kind = Kind.PXE
    elif bootp or codes or vendor_class.startswith((b"U-Boot", b"HW-Client")):
        kind = Kind.OTHER_LOADER
    else:
        kind = Kind.PLAIN
    if not codes and (text := _ARCH_IN_CLASS.search(vendor_class)):
        codes = [int(text[1])]
    files = _HTTP_FILES if kind is Kind.HTTP else _TFTP_FILES
    architecture = next((code for code in codes if code in files), codes[0] if codes else None)
    if architecture is None and (bootp or kind is Kind.PXE):
        architecture = 0
    return Client(kind, architecture, ipxe, vendor_class)


def boot_file(client: Client, server: IPv4Address, http_port: int) -> str | None:
    """Return the boot file's name for TFTP, or its URL for a client that boots over HTTP; None: we have none.

    iPXE gets the same file as any client of its architecture. We serve no iPXE, so it cannot meet itself again.
    """
    if client.architecture is None or not client.boots:
        return None
    if client.kind is Kind.HTTP:
        name = _HTTP_FILES.get(client.architecture)
        port = "" if http_port == 80 else f":{http_port}"
        return None if name is None else f"http://{server}{port}/{name}"
    return _TFTP_FILES.get(client.architecture)


def _architectures(value: bytes) -> list[int]:
    if len(value) % 2:
        return []
    codes = [int.from_bytes(value[i : i + 2], "big") for i in range(0, len(value), 2)]
    return [code for code in codes if code != _UNSET]
