"""Metadata contexts: what a client may ask BLOCK_STATUS about (Metadata querying).

There is one, `base:allocation`, and every export has it.
"""

import struct
from dataclasses import dataclass
from typing import Self

from nbd import wire

ALLOCATION = "base:allocation"
"""Which parts of an export are allocated, and which read as zeros."""
ALLOCATION_ID = 1
"""Our number for it in replies."""


@dataclass(frozen=True, slots=True)
class MetaContextRequest:
    """The data of LIST_META_CONTEXT and SET_META_CONTEXT: which export, and which contexts."""

    name: str
    queries: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the option's data."""
        name, *queries = (wire.counted(text) for text in (self.name, *self.queries))
        return name + struct.pack(">I", len(queries)) + b"".join(queries)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the option's data. Raises `MalformedPacket` when a length does not fit the data exactly."""
        name, at = _string(data, 0)
        if len(data) < at + 4:
            raise wire.MalformedPacket(f"{len(data)} bytes of option data end before the number of queries")
        (count,) = struct.unpack_from(">I", data, at)
        at += 4
        if count > (len(data) - at) // 4:
            raise wire.MalformedPacket(f"{count} queries in {len(data) - at} bytes")
        queries = []
        for _ in range(count):
            query, at = _string(data, at)
            queries.append(query)
        if at != len(data):
            raise wire.MalformedPacket(f"{len(data) - at} bytes after the last query")
        return cls(name, tuple(queries))


def _string(data: bytes, at: int) -> tuple[str, int]:
    """Return the counted string at `at`, and where it ends. Raises `MalformedPacket`."""
    start = at + 4
    if len(data) < start:
        raise wire.MalformedPacket(f"{len(data)} bytes of option data end before a length")
    (length,) = struct.unpack_from(">I", data, at)
    if length > len(data) - start:
        raise wire.MalformedPacket(f"a string of {length} bytes in {len(data) - start} bytes")
    return wire.decode_name(data[start : start + length]), start + length


def listed(queries: tuple[str, ...]) -> list[str]:
    """Return the contexts that LIST_META_CONTEXT tells of: all, if nothing is asked.

    Raises `MalformedPacket` if a query has no namespace.
    """
    check(queries)
    return [ALLOCATION] if not queries or "base:" in queries or ALLOCATION in queries else []


def selected(queries: tuple[str, ...]) -> list[str]:
    """Return the contexts that SET_META_CONTEXT selects: none, if nothing is asked; and no wildcards.

    Raises `MalformedPacket` if a query has no namespace.
    """
    check(queries)
    return [ALLOCATION] if ALLOCATION in queries else []


def check(queries: tuple[str, ...]) -> None:
    """Raise `MalformedPacket` if a query has no namespace. One that we do not know is lawful, and matches nothing."""
    for query in queries:
        if ":" not in query:
            raise wire.MalformedPacket("a query without a namespace")


def reply_data(context: str, context_id: int) -> bytes:
    """Return the data of a REP_META_CONTEXT."""
    return struct.pack(">I", context_id) + context.encode()
