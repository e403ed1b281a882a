"""Client system architectures: what a machine calls itself in option 93 (RFC 4578 section 2.1, and IANA's list).

The names are what a configuration calls them by (`dhcp.architectures`), so they never change.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from config.mistakes import suggestion

IPXE = "ipxe"
"""Stands in `dhcp.architectures` for iPXE, on whatever machine it runs."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One kind of machine and firmware, as far as a boot program must fit it."""

    code: int
    """In option 93. The text of option 60 says it in decimal: `Arch:00016` is 0x10."""
    name: str
    """What a configuration calls it."""
    words: str
    """What a person calls it."""
    http: bool = False
    """Whether it fetches its boot file by HTTP, so that the file is named by a URL."""
    platform: str = ""
    """The architecture whose boot programs run on it too, and whose settings hold for it; "" is its own."""

    @property
    def settings(self) -> tuple[str, ...]:
        """The names whose settings hold for it, the most specific first.

        >>> BY_NAME["uefi-x64-http"].settings
        ('uefi-x64-http', 'uefi-x64')
        """
        return (self.name, self.platform) if self.platform else (self.name,)


_ALL = (
    Architecture(0x00, "bios", "BIOS"),
    Architecture(0x01, "pc98", "NEC PC-98"),
    Architecture(0x02, "uefi-ia64", "UEFI Itanium"),
    Architecture(0x03, "alpha", "DEC Alpha"),
    Architecture(0x04, "arc-x86", "ARC x86"),
    Architecture(0x05, "lean-client", "Intel Lean Client"),
    Architecture(0x06, "uefi-ia32", "UEFI IA32"),
    Architecture(0x07, "uefi-x64", "UEFI x64"),
    # Officially Intel's XScale. x64 firmware sends it.
    Architecture(0x08, "uefi-xscale", "UEFI x64", platform="uefi-x64"),
    # RFC 4578 has 7 and 9 the wrong way round (its errata), and so has firmware made before they were noticed.
    Architecture(0x09, "uefi-ebc", "UEFI x64", platform="uefi-x64"),
    Architecture(0x0A, "uefi-arm32", "UEFI ARM 32"),
    Architecture(0x0B, "uefi-arm64", "UEFI ARM 64"),
    Architecture(0x0C, "powerpc-openfirmware", "PowerPC Open Firmware"),
    Architecture(0x0D, "powerpc-epapr", "PowerPC ePAPR"),
    Architecture(0x0E, "power-opal", "POWER OPAL"),
    Architecture(0x0F, "uefi-ia32-http", "UEFI IA32 HTTP", http=True, platform="uefi-ia32"),
    Architecture(0x10, "uefi-x64-http", "UEFI x64 HTTP", http=True, platform="uefi-x64"),
    Architecture(0x11, "uefi-ebc-http", "EFI byte code HTTP", http=True),
    Architecture(0x12, "uefi-arm32-http", "UEFI ARM 32 HTTP", http=True, platform="uefi-arm32"),
    Architecture(0x13, "uefi-arm64-http", "UEFI ARM 64 HTTP", http=True, platform="uefi-arm64"),
    # Not "bios": what that starts needs the PXE ROM that it came by.
    Architecture(0x14, "bios-http", "BIOS HTTP", http=True),
    Architecture(0x15, "uboot-arm32", "U-Boot ARM 32"),
    Architecture(0x16, "uboot-arm64", "U-Boot ARM 64"),
    Architecture(0x17, "uboot-arm32-http", "U-Boot ARM 32 HTTP", http=True, platform="uboot-arm32"),
    Architecture(0x18, "uboot-arm64-http", "U-Boot ARM 64 HTTP", http=True, platform="uboot-arm64"),
    Architecture(0x19, "uefi-riscv32", "RISC-V 32"),
    Architecture(0x1A, "uefi-riscv32-http", "RISC-V 32 HTTP", http=True, platform="uefi-riscv32"),
    Architecture(0x1B, "uefi-riscv64", "RISC-V 64"),
    Architecture(0x1C, "uefi-riscv64-http", "RISC-V 64 HTTP", http=True, platform="uefi-riscv64"),
    Architecture(0x1D, "uefi-riscv128", "RISC-V 128"),
    Architecture(0x1E, "uefi-riscv128-http", "RISC-V 128 HTTP", http=True, platform="uefi-riscv128"),
    Architecture(0x1F, "s390", "s390x"),
    Architecture(0x20, "s390-extended", "s390x extended"),
    Architecture(0x21, "uefi-mips32", "MIPS 32"),
    Architecture(0x22, "uefi-mips64", "MIPS 64"),
    Architecture(0x23, "uefi-sunway32", "Sunway 32"),
    Architecture(0x24, "uefi-sunway64", "Sunway 64"),
    Architecture(0x25, "uefi-loongarch32", "LoongArch 32"),
    Architecture(0x26, "uefi-loongarch32-http", "LoongArch 32 HTTP", http=True, platform="uefi-loongarch32"),
    Architecture(0x27, "uefi-loongarch64", "LoongArch 64"),
    Architecture(0x28, "uefi-loongarch64-http", "LoongArch 64 HTTP", http=True, platform="uefi-loongarch64"),
    Architecture(0x29, "rpi", "Raspberry Pi"),
)

BY_CODE: Mapping[int, Architecture] = {architecture.code: architecture for architecture in _ALL}
BY_NAME: Mapping[str, Architecture] = {architecture.name: architecture for architecture in _ALL}

ARCHITECTURE_NAMES = (*BY_NAME, IPXE)
"""What `dhcp.architectures` may name."""


def parse_architecture(value: object) -> str:
    """Return the name of an architecture.

    Raises `ValueError` for anything else, with the names there are.

    >>> parse_architecture("uefi-x64")
    'uefi-x64'
    """
    if not isinstance(value, str) or value not in BY_NAME:
        near = suggestion(str(value), BY_NAME)
        raise ValueError("is no architecture" + (near or f"; the ones there are: {', '.join(BY_NAME)}"))
    return value
