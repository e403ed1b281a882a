"""A step of a client, and what all models read out of a message."""

from dataclasses import dataclass
from enum import StrEnum

from dhcp import options, pxe
from dhcp.options import MessageType, Option
from dhcp.pxe import VendorOptions
from dhcp.wire import NO_ADDRESS, Message


class Model(StrEnum):
    """The programs that we know how to read like."""

    EDK2_PXE = "EDK2 PXE"
    EDK2_HTTP = "EDK2 HTTP boot"
    IPXE = "iPXE"
    LEGACY_PXE = "PXE ROM"
    U_BOOT = "U-Boot"
    RASPBERRY_PI = "Raspberry Pi ROM"
    BOOTP = "BOOTP client"
    PLAIN = "DHCP client"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the client does."""

    what: str
    """A sentence without its subject: "fetches grub/x86_64-efi/core.efi by TFTP from 10.0.0.1"."""
    ok: bool
    """Whether the boot goes on."""
    because: str
    """Why it does that: the field that decided it, and how one knows."""
    to_disk: bool = False
    """Whether it leaves the network boot for the machine's disk, as it was told."""


def goes(what: str, because: str) -> Step:
    """A step after which the boot goes on."""
    return Step(what, True, because)


def leaves(what: str, because: str) -> Step:
    """A step from the network boot to the machine's disk."""
    return Step(what, True, because, to_disk=True)


def fails(what: str, because: str) -> Step:
    """A step that ends the boot, or that nobody wants."""
    return Step(what, False, because)


@dataclass(frozen=True, slots=True)
class Reply:
    """A message of a server, and how it was packed."""

    message: Message
    overloaded: bool
    """Whether option 52 is in it: options lie in `file` or `sname`."""
    marks: tuple[bytes, ...] = (b"PXEClient",)
    """What option 60 may begin with to make it a PXE offer for this client."""

    @property
    def is_pxe(self) -> bool:
        """Whether option 60 marks it as a PXE offer."""
        return self.vendor_class.startswith(self.marks)

    @property
    def is_proxy(self) -> bool:
        """Whether it offers no address, which is how a client knows a proxyDHCP."""
        return self.message.yiaddr == NO_ADDRESS

    @property
    def message_type(self) -> MessageType | None:
        """Option 53; None for BOOTP."""
        return message_type(self.message)

    @property
    def vendor_class(self) -> bytes:
        """Option 60."""
        return self.message.options.get(Option.VENDOR_CLASS_IDENTIFIER, b"")

    @property
    def vendor(self) -> VendorOptions:
        """Option 43, which PXE clients read only beside option 60 = PXEClient."""
        if not self.is_pxe:
            return VendorOptions()
        return pxe.decode(self.message.options.get(Option.VENDOR_SPECIFIC_INFORMATION, b""))

    @property
    def server(self) -> str:
        """Who sent it: option 54, for a sentence."""
        address = options.address(self.message.options.get(Option.SERVER_IDENTIFIER))
        return str(address) if address is not None else "a server without a name"

    @property
    def next_server(self) -> tuple[str, str]:
        """(siaddr, else option 54, and which of them); two empty texts if there is neither."""
        if self.message.siaddr != NO_ADDRESS:
            return str(self.message.siaddr), "siaddr"
        address = options.address(self.message.options.get(Option.SERVER_IDENTIFIER))
        return (str(address), "option 54, as siaddr is 0") if address is not None else ("", "")

    @property
    def option_67(self) -> str:
        """The boot file in option 67, without the NUL behind it."""
        return text(self.message.options.get(Option.BOOTFILE_NAME, b""))

    @property
    def file(self) -> str:
        """The boot file in the field `file`."""
        return text(self.message.file)

    @property
    def boot_file(self) -> tuple[str, str]:
        """(option 67, else `file`, and which of them); two empty texts if there is neither."""
        if self.option_67:
            return self.option_67, "option 67"
        return (self.file, "the field file, as there is no option 67") if self.file else ("", "")


def message_type(message: Message) -> MessageType | None:
    """Return option 53, None if it is missing (BOOTP) or no type of RFC 2132."""
    value = options.number(message.options.get(Option.DHCP_MESSAGE_TYPE), 1)
    return MessageType(value) if value in set(MessageType) else None


def text(value: bytes) -> str:
    """Return bytes up to their first NUL, fit to be printed."""
    readable = value.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in readable)


def is_url(name: str) -> bool:
    """Return whether a boot file is named by a URL."""
    return "://" in name
