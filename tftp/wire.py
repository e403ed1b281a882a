"""TFTP packets: bytes ⇄ values (RFC 1350, options of RFC 2347)."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class MalformedPacket(ValueError):
    """These bytes are no TFTP packet. The text says why; it holds nothing that the peer sent."""


class Opcode(IntEnum):
    """The first two bytes of a packet (RFC 1350 section 5; OACK: RFC 2347)."""

    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


class ErrorCode(IntEnum):
    """The code of an ERROR packet (RFC 1350 appendix; 8: RFC 2347)."""

    NOT_DEFINED = 0
    FILE_NOT_FOUND = 1
    ACCESS_VIOLATION = 2
    DISK_FULL = 3
    ILLEGAL_OPERATION = 4
    UNKNOWN_TRANSFER_ID = 5
    FILE_ALREADY_EXISTS = 6
    NO_SUCH_USER = 7
    OPTION_REFUSED = 8


_HEADER = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class Request:
    """A wish for a transfer: what RRQ and WRQ share.

    `filename` is what the client sent, byte for byte. `mode` and the names of `options` are in lower case, as they
    compare without case (RFC 1350 section 5, RFC 2347). Text is Latin-1, so that any byte survives a round trip.
    """

    filename: bytes
    mode: str = "octet"
    options: Mapping[str, str] = field(default_factory=dict)

    def _encode(self, opcode: Opcode) -> bytes:
        return b"%b%b\0%b\0%b" % (
            opcode.to_bytes(2, "big"),
            self.filename,
            self.mode.encode("latin-1"),
            _encode_options(self.options),
        )


@dataclass(frozen=True, slots=True)
class ReadRequest(Request):
    """RRQ: the client wants `filename`."""

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return self._encode(Opcode.RRQ)


@dataclass(frozen=True, slots=True)
class WriteRequest(Request):
    """WRQ: the client wants to put `filename` here."""

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return self._encode(Opcode.WRQ)


@dataclass(frozen=True, slots=True)
class Data:
    """DATA: one block of the file; `block` is the low 16 bits of its number."""

    block: int
    data: bytes

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return data_header(self.block) + self.data


@dataclass(frozen=True, slots=True)
class Ack:
    """ACK: every block up to `block` arrived; 0 answers an OACK."""

    block: int

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _HEADER.pack(Opcode.ACK, self.block)


@dataclass(frozen=True, slots=True)
class Error:
    """ERROR: the transfer is over. `code` may be one that we do not know; `message` is Latin-1 without NUL."""

    code: int
    message: str

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _HEADER.pack(Opcode.ERROR, self.code) + self.message.encode("latin-1") + b"\0"


@dataclass(frozen=True, slots=True)
class OptionAck:
    """OACK: the options that the server accepts, with its values (RFC 2347)."""

    options: Mapping[str, str]

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return Opcode.OACK.to_bytes(2, "big") + _encode_options(self.options)


Packet = ReadRequest | WriteRequest | Data | Ack | Error | OptionAck


def data_header(block: int, rollover: int = 0) -> bytes:
    """Return the four bytes before a block's content. Any count of blocks is allowed; `rollover` follows 65535.

    >>> data_header(65536).hex(), data_header(65536, rollover=1).hex()
    ('00030000', '00030001')
    """
    return _HEADER.pack(Opcode.DATA, number(block, rollover))


def number(block: int, rollover: int = 0) -> int:
    """Return the low 16 bits by which a block goes on the wire; `rollover` follows 65535.

    >>> number(65535), number(65536), number(65536, rollover=1)
    (65535, 0, 1)
    """
    return block & 0xFFFF if not rollover or block < 65536 else (block - 1) % 65535 + 1


def advance(number: int, acked: int, rollover: int = 0) -> int | None:
    """Return how many blocks an ACK of `number` is ahead of the block `acked`, which is counted without limit.

    Unambiguous while no more than 65534 blocks are on their way. None: no block that follows has this number (with
    a `rollover` of 1, 0 only ever answers the OACK).

    >>> advance(1, 65535), advance(1, 65535, rollover=1)
    (2, 1)
    """
    if not rollover:
        return (number - acked) & 0xFFFF
    if not number:
        return None if acked else 0
    return (number - acked) % 65535 if acked else number  # before the first block, 65535 is not 0


def decode(datagram: bytes) -> Packet:
    """Return the packet that `datagram` holds.

    Forgiven, because clients do it: bytes after an ACK or after an ERROR's text, an ERROR text without its NUL, a
    last option without a value. Of an option that is there twice, the first counts.

    Raises `MalformedPacket` for everything else that is not as RFC 1350 section 5 draws it.
    """
    number = int.from_bytes(datagram[:2], "big")
    try:
        opcode = Opcode(number)
    except ValueError:
        raise MalformedPacket(f"there is no opcode {number} (RFC 1350 section 5)") from None
    if len(datagram) < 4 and opcode is not Opcode.OACK:
        raise MalformedPacket(f"{len(datagram)} bytes are too few for {opcode.name} (RFC 1350 section 5)")
    second = int.from_bytes(datagram[2:4], "big")
    match opcode:
        case Opcode.RRQ | Opcode.WRQ:
            return _decode_request(opcode, datagram[2:])
        case Opcode.DATA:
            return Data(second, bytes(datagram[4:]))
        case Opcode.ACK:
            return Ack(second)
        case Opcode.ERROR:
            return Error(second, bytes(datagram[4:]).partition(b"\0")[0].decode("latin-1"))
        case Opcode.OACK:
            return OptionAck(_decode_options(_strings(datagram[2:])))


def _decode_request(opcode: Opcode, body: bytes) -> ReadRequest | WriteRequest:
    strings = _strings(body)
    if len(strings) < 2:
        raise MalformedPacket(f"{opcode.name} has no mode (RFC 1350 section 5)")
    filename, mode, *rest = strings
    if not filename:
        raise MalformedPacket(f"{opcode.name} names no file (RFC 1350 section 5)")
    kind = ReadRequest if opcode is Opcode.RRQ else WriteRequest
    return kind(filename, mode.lower().decode("latin-1"), _decode_options(rest))


def _strings(body: bytes) -> list[bytes]:
    """Split NUL-terminated strings. Raises `MalformedPacket` if the last one has no NUL."""
    *strings, rest = bytes(body).split(b"\0")
    if rest:
        raise MalformedPacket("the last string does not end with NUL (RFC 1350 section 5)")
    return strings


def _decode_options(strings: list[bytes]) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in zip(strings[::2], strings[1::2], strict=False):
        options.setdefault(name.lower().decode("latin-1"), value.decode("latin-1"))
    return options


def _encode_options(options: Mapping[str, str]) -> bytes:
    return b"".join(f"{name}\0{value}\0".encode("latin-1") for name, value in options.items())
