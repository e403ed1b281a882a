"""Bytes ⇄ values of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md): fixed newstyle.

What a server sends in answer to commands is in `nbd.replies`.

Names are the specification's without their prefix: `NBD_OPT_GO` is `Opt.GO`, `NBD_CMD_READ` is `Cmd.READ`.
All integers are big-endian. Section titles in parentheses are those of proto.md.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Self

NBDMAGIC = 0x4E42444D41474943
"""`INIT_PASSWD`: the first eight bytes that a server sends."""
IHAVEOPT = 0x49484156454F5054
"""Newstyle: sent by the server after `NBDMAGIC`, and by the client before each option."""
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
EXTENDED_REQUEST_MAGIC = 0x21E41C71
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF
EXTENDED_REPLY_MAGIC = 0x6E8A278C

MAX_STRING_BYTES = 4096
"""The longest string, such as an export's name (Conventions)."""
MAX_PAYLOAD_BYTES = 1 << 25
"""The payload that every client may count on without negotiation (Block size constraints)."""


class MalformedPacket(ValueError):
    """The peer's bytes are no message of this protocol."""


class HandshakeFlag(IntFlag):
    """What the server offers before anything else (Handshake flags)."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class ClientFlag(IntFlag):
    """What the client takes of the offer (Client flags)."""

    C_FIXED_NEWSTYLE = 1 << 0
    C_NO_ZEROES = 1 << 1


class TransmissionFlag(IntFlag):
    """What an export can do (Transmission flags)."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11
    BLOCK_STAT_PAYLOAD = 1 << 12


class Opt(IntEnum):
    """Options of the haggling phase (Option types)."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    PEEK_EXPORT = 4
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


class Rep(IntEnum):
    """Answers to options; bit 31 marks an error (Option reply types)."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = (1 << 31) + 1
    ERR_POLICY = (1 << 31) + 2
    ERR_INVALID = (1 << 31) + 3
    ERR_PLATFORM = (1 << 31) + 4
    ERR_TLS_REQD = (1 << 31) + 5
    ERR_UNKNOWN = (1 << 31) + 6
    ERR_SHUTDOWN = (1 << 31) + 7
    ERR_BLOCK_SIZE_REQD = (1 << 31) + 8
    ERR_TOO_BIG = (1 << 31) + 9
    ERR_EXT_HEADER_REQD = (1 << 31) + 10


class Info(IntEnum):
    """What INFO and GO tell about an export (NBD_OPT_INFO)."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class Cmd(IntEnum):
    """Commands of the transmission phase (Request types)."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7
    RESIZE = 8


class CmdFlag(IntFlag):
    """Modifiers of a command (Command flags)."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4
    PAYLOAD_LEN = 1 << 5


class Errno(IntEnum):
    """Errors of the transmission phase (Error values); 0 is success."""

    OK = 0
    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108


class ChunkFlag(IntFlag):
    """Modifiers of a chunk (Structured reply chunk message)."""

    DONE = 1 << 0


class Chunk(IntEnum):
    """What a chunk holds; bit 15 marks an error (Structured reply types)."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    BLOCK_STATUS_EXT = 6
    ERROR = (1 << 15) + 1
    ERROR_OFFSET = (1 << 15) + 2


class State(IntFlag):
    """What the metadata context `base:allocation` tells of an extent."""

    HOLE = 1 << 0
    ZERO = 1 << 1


def decode_name(data: bytes) -> str:
    """Return a string as it came from the wire.

    Raises `MalformedPacket` if it is over 4096 bytes, holds a NUL or is not UTF-8 (Conventions).
    """
    if len(data) > MAX_STRING_BYTES:
        raise MalformedPacket(f"a name of {len(data)} bytes; {MAX_STRING_BYTES} are allowed")
    if 0 in data:
        raise MalformedPacket("a name with a NUL in it")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedPacket("a name that is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class Greeting:
    """The server's first message (Newstyle negotiation)."""

    flags: HandshakeFlag

    SIZE: ClassVar[int] = 18

    def encode(self) -> bytes:
        """Return the 18 bytes."""
        return struct.pack(">QQH", NBDMAGIC, IHAVEOPT, self.flags)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the first 18 bytes of `data`. Raises `MalformedPacket`."""
        if len(data) < cls.SIZE:
            raise MalformedPacket(f"a greeting of {len(data)} bytes, expected {cls.SIZE}")
        first, second, flags = struct.unpack_from(">QQH", data)
        if (first, second) != (NBDMAGIC, IHAVEOPT):
            raise MalformedPacket(f"a greeting with the magic {first:#x} {second:#x}")
        return cls(HandshakeFlag(flags))


_OPTION = struct.Struct(">QII")


@dataclass(frozen=True, slots=True)
class OptionHeader:
    """The start of each option: which one, and how many bytes of data follow."""

    option: int
    length: int

    SIZE: ClassVar[int] = _OPTION.size

    def encode(self) -> bytes:
        """Return the 16 bytes."""
        return _OPTION.pack(IHAVEOPT, self.option, self.length)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the first 16 bytes of `data`. Raises `MalformedPacket`."""
        if len(data) < cls.SIZE:
            raise MalformedPacket(f"an option header of {len(data)} bytes, expected {cls.SIZE}")
        magic, option, length = _OPTION.unpack_from(data)
        if magic != IHAVEOPT:
            raise MalformedPacket(f"an option with the magic {magic:#x}")
        return cls(option, length)


_OPTION_REPLY = struct.Struct(">QIII")


@dataclass(frozen=True, slots=True)
class OptionReply:
    """An answer to an option; its `data` depends on the reply type."""

    option: int
    type: int
    data: bytes = b""

    def encode(self) -> bytes:
        """Return header and data."""
        return _OPTION_REPLY.pack(OPTION_REPLY_MAGIC, self.option, self.type, len(self.data)) + self.data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read one reply, which must be all of `data`. Raises `MalformedPacket`."""
        if len(data) < _OPTION_REPLY.size:
            raise MalformedPacket(f"an option reply of {len(data)} bytes, expected at least {_OPTION_REPLY.size}")
        magic, option, kind, length = _OPTION_REPLY.unpack_from(data)
        if magic != OPTION_REPLY_MAGIC:
            raise MalformedPacket(f"an option reply with the magic {magic:#x}")
        if len(data) != _OPTION_REPLY.size + length:
            raise MalformedPacket(f"an option reply of {len(data)} bytes, expected {_OPTION_REPLY.size + length}")
        return cls(option, kind, data[_OPTION_REPLY.size :])


@dataclass(frozen=True, slots=True)
class InfoRequest:
    """The data of INFO and GO: which export, and what to tell about it (NBD_OPT_INFO)."""

    name: str
    requests: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Return the option's data."""
        name = self.name.encode()
        count = len(self.requests)
        return struct.pack(f">I{len(name)}sH{count}H", len(name), name, count, *self.requests)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the option's data. Raises `MalformedPacket` when a length does not fit the data exactly."""
        if len(data) < 6:
            raise MalformedPacket(f"{len(data)} bytes of option data, expected at least 6")
        (name_bytes,) = struct.unpack_from(">I", data)
        if name_bytes > len(data) - 6:
            raise MalformedPacket(f"a name of {name_bytes} bytes in {len(data)} bytes of option data")
        (count,) = struct.unpack_from(">H", data, 4 + name_bytes)
        if len(data) != 6 + name_bytes + 2 * count:
            raise MalformedPacket(f"{count} information requests do not fill the option's {len(data)} bytes")
        name = decode_name(data[4 : 4 + name_bytes])
        return cls(name, struct.unpack_from(f">{count}H", data, 6 + name_bytes))


def counted(text: str) -> bytes:
    """Return a string with its length in front."""
    encoded = text.encode()
    return struct.pack(">I", len(encoded)) + encoded


def server_data(name: str) -> bytes:
    """Return the data of a REP_SERVER: an export that exists (NBD_OPT_LIST)."""
    return counted(name)


def info_export(size: int, flags: TransmissionFlag) -> bytes:
    """Return the data of the REP_INFO that tells an export's size in bytes and its flags (NBD_INFO_EXPORT)."""
    return struct.pack(">HQH", Info.EXPORT, size, flags)


def info_name(name: str) -> bytes:
    """Return the data of the REP_INFO that tells an export's name (NBD_INFO_NAME)."""
    return struct.pack(">H", Info.NAME) + name.encode()


def info_description(description: str) -> bytes:
    """Return the data of the REP_INFO that describes an export for people (NBD_INFO_DESCRIPTION)."""
    return struct.pack(">H", Info.DESCRIPTION) + description[: MAX_STRING_BYTES // 4].encode()


def info_block_size(minimum: int, preferred: int, maximum: int) -> bytes:
    """Return the data of the REP_INFO that tells the block sizes in bytes (NBD_INFO_BLOCK_SIZE)."""
    return struct.pack(">HIII", Info.BLOCK_SIZE, minimum, preferred, maximum)


def export_name_reply(size: int, flags: TransmissionFlag, zeroes: bool) -> bytes:
    """Return the answer to EXPORT_NAME, which has no header; `zeroes` unless NO_ZEROES was agreed."""
    return struct.pack(">QH", size, flags) + (bytes(124) if zeroes else b"")


@dataclass(frozen=True, slots=True)
class Request:
    """A command of the transmission phase. After a WRITE, `length` bytes of payload follow (Request message)."""

    type: int
    cookie: int
    offset: int = 0
    length: int = 0
    flags: int = 0

    MAGIC: ClassVar[int] = REQUEST_MAGIC
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">IHHQQI")
    SIZE: ClassVar[int] = 28

    def encode(self) -> bytes:
        """Return the 28 bytes, or 32."""
        return self.LAYOUT.pack(self.MAGIC, self.flags, self.type, self.cookie, self.offset, self.length)

    @classmethod
    def decode(cls, data: bytes | bytearray, start: int = 0) -> Self:
        """Read the 28 or 32 bytes of `data` from `start`. Raises `MalformedPacket`."""
        if len(data) - start < cls.SIZE:
            raise MalformedPacket(f"a request of {len(data) - start} bytes, expected {cls.SIZE}")
        magic, flags, command, cookie, offset, length = cls.LAYOUT.unpack_from(data, start)
        if magic != cls.MAGIC:
            raise MalformedPacket(f"a request with the magic {magic:#x}")
        return cls(command, cookie, offset, length, flags)


@dataclass(frozen=True, slots=True)
class ExtendedRequest(Request):
    """The same with a length of 64 bits, after EXTENDED_HEADERS.

    With `CmdFlag.PAYLOAD_LEN`, which a WRITE must have, `length` bytes of payload follow.
    """

    MAGIC: ClassVar[int] = EXTENDED_REQUEST_MAGIC
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">IHHQQQ")
    SIZE: ClassVar[int] = 32


_SIMPLE_REPLY = struct.Struct(">IIQ")


@dataclass(frozen=True, slots=True)
class SimpleReply:
    """The answer to a request; after a successful READ, its data follow (Simple reply message)."""

    cookie: int
    error: int = Errno.OK

    SIZE: ClassVar[int] = _SIMPLE_REPLY.size

    def encode(self) -> bytes:
        """Return the 16 bytes."""
        return _SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, self.error, self.cookie)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the first 16 bytes of `data`. Raises `MalformedPacket`."""
        if len(data) < cls.SIZE:
            raise MalformedPacket(f"a reply of {len(data)} bytes, expected {cls.SIZE}")
        magic, error, cookie = _SIMPLE_REPLY.unpack_from(data)
        if magic != SIMPLE_REPLY_MAGIC:
            raise MalformedPacket(f"a reply with the magic {magic:#x}")
        return cls(cookie, error)
