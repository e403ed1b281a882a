"""A client's side of NBD as bytes: written from the specification, with none of `nbd.wire`, so as to judge it.

What it reads is checked as it is read: a reply that breaks a rule of the specification raises `AssertionError`.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

GREETING = b"NBDMAGICIHAVEOPT\0\3"
FLAGS = struct.pack(">I", 3)

EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO = 1, 2, 3, 5, 6, 7
STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS = 8, 9, 10, 11

ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
ERROR_BIT = 1 << 31
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_TLS_REQD = (ERROR_BIT + n for n in (1, 2, 3, 5))
ERR_UNKNOWN, ERR_SHUTDOWN, ERR_BLOCK_SIZE_REQD, ERR_TOO_BIG = (ERROR_BIT + n for n in (6, 7, 8, 9))

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, RESIZE = range(9)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << bit for bit in range(6))

HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, ROTATIONAL, SEND_TRIM = (1 << bit for bit in range(6))
SEND_WRITE_ZEROES, SEND_DF, CAN_MULTI_CONN, SEND_RESIZE, SEND_CACHE, SEND_FAST_ZERO = (
    1 << bit for bit in range(6, 12)
)

EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108
ERRORS = {EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN}
"""All that a server may tell (Error values)."""

MOST = 32 << 20
"""The largest payload."""


class Headers(Enum):
    """How replies are framed."""

    SIMPLE = auto()
    STRUCTURED = auto()
    EXTENDED = auto()


def option(number: int, data: bytes = b"") -> bytes:
    """An option."""
    return struct.pack(">8sII", b"IHAVEOPT", number, len(data)) + data


def choose(name: str = "", *infos: int, number: int = GO) -> bytes:
    """GO, or INFO."""
    said = name.encode()
    return option(number, struct.pack(f">I{len(said)}sH{len(infos)}H", len(said), said, len(infos), *infos))


def contexts(name: str, *queries: str, number: int = SET_META_CONTEXT) -> bytes:
    """SET_META_CONTEXT, or LIST_META_CONTEXT."""
    said = [name.encode(), *(query.encode() for query in queries)]
    first, *rest = (struct.pack(">I", len(part)) + part for part in said)
    return option(number, first + struct.pack(">I", len(queries)) + b"".join(rest))


def request(
    kind: int,
    cookie: int = 1,
    offset: int = 0,
    length: int = 0,
    flags: int = 0,
    payload: bytes = b"",
    *,
    extended: bool = False,
) -> bytes:
    """A request; with `payload`, its length is `length`."""
    length = length or len(payload)
    if extended:
        return struct.pack(">IHHQQQ", 0x21E41C71, flags, kind, cookie, offset, length) + payload
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length) + payload


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply to an option."""

    option: int
    kind: int
    data: bytes


def answers(data: bytes) -> list[Answer]:
    """The replies to options that `data` consists of."""
    found = []
    while data:
        magic, number, kind, length = struct.unpack_from(">QIII", data)
        assert magic == 0x3E889045565A9
        body = data[20 : 20 + length]
        assert len(body) == length, "a reply to an option that ends early"
        assert kind in {ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT} or ERROR_BIT < kind <= ERROR_BIT + 10
        if kind == ACK:
            assert not body
        elif kind == REP_SERVER:
            assert struct.unpack_from(">I", body)[0] <= length - 4
            text(body[4:])
        elif kind == REP_INFO:
            assert length == {0: 12, 3: 14}.get(struct.unpack_from(">H", body)[0], length) >= 2
        elif kind == REP_META_CONTEXT:
            assert ":" in text(body[4:])
        else:
            text(body)
        found.append(Answer(number, kind, body))
        data = data[20 + length :]
    return found


def text(data: bytes) -> str:
    """A string of the protocol."""
    assert len(data) <= 4096
    assert 0 not in data
    return data.decode()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A simple reply, or a chunk of another one."""

    cookie: int
    kind: int
    """SIMPLE, or the chunk's type."""
    done: bool
    payload: bytes = b""
    error: int = 0
    at: int | None = None
    """The offset that an extended header tells."""

    @property
    def content(self) -> tuple[int, bytes]:
        """(offset, bytes) of a chunk with content, holes as zeros."""
        offset, rest = struct.unpack_from(">Q", self.payload)[0], self.payload[8:]
        return offset, rest if self.kind == OFFSET_DATA else bytes(struct.unpack(">I", rest)[0])

    @property
    def extents(self) -> tuple[int, list[tuple[int, int]]]:
        """(context, [(length, flags)]) of a chunk of BLOCK_STATUS."""
        if self.kind == STATUS_EXT:
            context, count = struct.unpack_from(">II", self.payload)
            found = list(struct.iter_unpack(">QQ", self.payload[8:]))
            assert len(found) == count
        else:
            (context,) = struct.unpack_from(">I", self.payload)
            found = list(struct.iter_unpack(">II", self.payload[4:]))
        return context, [(int(length), int(flags)) for length, flags in found]


SIMPLE, NONE, OFFSET_DATA, OFFSET_HOLE, STATUS, STATUS_EXT = -1, 0, 1, 2, 5, 6
ERROR, ERROR_OFFSET = (1 << 15) + 1, (1 << 15) + 2


def chunks(data: bytes, headers: Headers, reads: Mapping[int, int] | None = None) -> list[Chunk]:
    """The replies that `data` consists of. `reads`, cookie → length, are the READs, for their simple replies."""
    return [*_chunks(memoryview(data), headers, reads or {})]


def _chunks(data: memoryview, headers: Headers, reads: Mapping[int, int]) -> Iterator[Chunk]:
    while data:
        magic = struct.unpack_from(">I", data)[0]
        if magic == 0x67446698:
            error, cookie = struct.unpack_from(">IQ", data, 4)
            assert headers is not Headers.EXTENDED, "a simple reply where headers are extended"
            assert headers is Headers.SIMPLE or cookie not in reads, "a simple reply to a READ"
            length = 0 if error else reads.get(cookie, 0)
            yield Chunk(
                cookie, SIMPLE, done=True, payload=bytes(data[16 : 16 + length]), error=_error(error) if error else 0
            )
            assert len(data) >= 16 + length, "a simple reply that ends early"
            data = data[16 + length :]
            continue
        at = None
        if magic == 0x668E33EF:
            assert headers is Headers.STRUCTURED
            size, (flags, kind, cookie, length) = 20, struct.unpack_from(">HHQI", data, 4)
        else:
            assert magic == 0x6E8A278C, f"a reply with the magic {magic:#x}"
            assert headers is Headers.EXTENDED
            size, (flags, kind, cookie, at, length) = 32, struct.unpack_from(">HHQQQ", data, 4)
        payload = bytes(data[size : size + length])
        assert len(payload) == length, "a chunk that ends early"
        assert flags in {0, 1}
        yield _checked(Chunk(cookie, kind, bool(flags), payload, at=at), headers)
        data = data[size + length :]


def _checked(chunk: Chunk, headers: Headers) -> Chunk:
    length = len(chunk.payload)
    match chunk.kind:
        case 0:
            assert length == 0
            assert chunk.done
        case 1:
            assert length >= 9
        case 2:
            assert length == 12
            assert chunk.content[1]
        case 5 | 6:
            assert (chunk.kind == STATUS) is (headers is Headers.STRUCTURED)
            found = chunk.extents[1]
            assert found
            assert all(extent and flags <= 3 for extent, flags in found)
        case 0x8001 | 0x8002:
            error, said = struct.unpack_from(">IH", chunk.payload)
            assert length == 6 + said + (8 if chunk.kind == ERROR_OFFSET else 0)
            text(chunk.payload[6 : 6 + said])
            return Chunk(chunk.cookie, chunk.kind, chunk.done, chunk.payload, _error(error), chunk.at)
        case _:
            raise AssertionError(f"a chunk of type {chunk.kind}")
    return chunk


def _error(number: int) -> int:
    assert number in ERRORS, f"error {number}"
    return number


def content(found: Sequence[Chunk], offset: int, length: int) -> bytes:
    """The bytes that one READ got; its chunks cover the range once, and the last one only is marked so."""
    assert [chunk.done for chunk in found] == [False] * (len(found) - 1) + [True]
    assert not any(chunk.error for chunk in found)
    if found[0].kind == SIMPLE:
        return found[0].payload
    pieces = sorted(chunk.content for chunk in found if chunk.kind != NONE)
    assert all(chunk.at in {None, offset} for chunk in found)
    whole = b""
    for start, piece in pieces:
        assert start == offset + len(whole)
        whole += piece
    assert len(whole) == length
    return whole
