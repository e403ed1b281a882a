"""What a machine says when it asks for an address and something to boot, by its kind and architecture.

Options and their order are those of the firmware itself, as in the recorded clients of tests/data/dhcp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from config.architectures import BY_CODE, BY_NAME, Architecture
from dhcp.options import Option
from dhcp.request import PROBE

_EDK2_ASKS = bytes.fromhex("0102030405060c0d0f111216171c28292a2b3233363a3b3c4243618081828384858687")
_HTTP_ASKS = bytes.fromhex("0102030405060c0d0f111216171c28292a2b3233363a3b3c4361")
_IPXE_ASKS = bytes.fromhex("010306070c0f111a2a2b3c424377798081828384858687afcb")
_PLAIN_ASKS = bytes.fromhex("0103060c0f111a1c2a7779")
_IPXE_HAS = bytes.fromhex("b105018086100eeb03011401170101220101130101110101270101190101100102210101150101180101120101")
"""Option 175: the card's bus identifier and what this iPXE can do."""
_ETHERNET_MTU = 1472
"""What EDK2 and iPXE say in option 57."""


class Kind(StrEnum):
    """What asks."""

    PXE = "pxe"
    """A PXE ROM, or a UEFI firmware that boots by TFTP."""
    HTTP = "http"
    """A UEFI firmware that boots by HTTP."""
    IPXE = "ipxe"
    PLAIN = "plain"
    """A system that only wants an address."""


@dataclass(frozen=True, slots=True)
class Client:
    """The machine that we play. `mac` has six bytes."""

    kind: Kind
    architecture: Architecture
    mac: bytes
    marked: bool = False
    """Whether it says in its option 97 that it is `pxeboot probe`, so that the server begins no boot by it."""

    @property
    def broadcast(self) -> bool:
        """Whether it wants its answers sent to everybody: UEFI firmware does, a BIOS's ROM and iPXE do not."""
        return self.kind is Kind.HTTP or (self.kind is Kind.PXE and self.architecture.name.startswith("uefi"))

    @property
    def machine_identifier(self) -> tuple[int, bytes]:
        """Option 97, which is to be in all that a PXE client sends (RFC 4578 section 2.3)."""
        value = PROBE + self.mac[-3:] if self.marked else b"\0" + bytes(10) + self.mac
        return Option.CLIENT_MACHINE_IDENTIFIER, value

    def options(self, *, wants: Mapping[int, bytes] | None = None) -> list[tuple[int, bytes]]:
        """Return the options after 53, in order. `wants` are those that a DHCPREQUEST adds (50 and 54)."""
        said: list[tuple[int, bytes]] = [*(wants or {}).items()]
        said.append((Option.MAXIMUM_DHCP_MESSAGE_SIZE, _ETHERNET_MTU.to_bytes(2, "big")))
        if self.kind is Kind.PLAIN:
            return [*said, (Option.PARAMETER_REQUEST_LIST, _PLAIN_ASKS)]
        bios = self.architecture.code == 0
        name = "HTTPClient" if self.kind is Kind.HTTP else "PXEClient"
        undi = "002001" if bios else "003001"
        vendor_class = f"{name}:Arch:{self.architecture.code:05}:UNDI:{undi}".encode()
        uuid = self.machine_identifier
        undi_version = (Option.CLIENT_NETWORK_INTERFACE, bytes((1, 2 if bios else 3, 1)))
        code = (Option.CLIENT_SYSTEM_ARCHITECTURE, self.architecture.code.to_bytes(2, "big"))
        who = (Option.VENDOR_CLASS_IDENTIFIER, vendor_class)
        if self.kind is Kind.IPXE:
            more = (
                (Option.USER_CLASS, b"iPXE"),
                (Option.PARAMETER_REQUEST_LIST, _IPXE_ASKS),
                (Option.IPXE, _IPXE_HAS),
            )
            return [*said, code, undi_version, who, *more, (Option.CLIENT_IDENTIFIER, b"\x01" + self.mac), uuid]
        asks = _HTTP_ASKS if self.kind is Kind.HTTP else _EDK2_ASKS
        return [*said, (Option.PARAMETER_REQUEST_LIST, asks), uuid, undi_version, code, who]


def architecture(text: str, kind: Kind) -> Architecture:
    """Return the architecture of a name (`uefi-x64`, or `x64` for short) or a code (7, 0x10).

    For `Kind.HTTP` it is the one that boots by HTTP, where there is one. Raises `ValueError` with the names there are.

    >>> architecture("x64", Kind.PXE).code, architecture("x64", Kind.HTTP).code, architecture("0x0b", Kind.PXE).name
    (7, 16, 'uefi-arm64')
    """
    found = BY_NAME.get(text) or BY_NAME.get(f"uefi-{text}")
    if found is None:
        try:
            code = int(text, 0)
        except ValueError:
            raise ValueError(f"{text!r} is no architecture; the ones there are: {', '.join(BY_NAME)}") from None
        if not 0 <= code <= 0xFFFF:
            raise ValueError(f"{text} is no architecture: option 93 has 16 bits")
        found = BY_CODE.get(code) or Architecture(code, f"0x{code:02x}", f"architecture {code:#04x}")
    if kind is Kind.HTTP and not found.http:
        return next((http for http in BY_NAME.values() if http.http and http.name == f"{found.name}-http"), found)
    return found
