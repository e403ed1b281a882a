"""What stands in the file that says which blocks of a disk are changed (`nbd.overlay_map` keeps it).

    pxeboot overlay 1
    {"machine": ..., "image_id": ..., "size_bytes": ..., "keep": ..., "boot_id": ..., "states_bytes": ...}

then the state of every block, a byte each, deflated; the CRC-32 of all that; then records of 24 bytes: the first
block, how many, their new state, and a CRC-32 of that and of where in which file it stands.
"""

import json
import zlib
from dataclasses import dataclass, replace
from errno import EIO
from pathlib import PurePath
from struct import Struct
from struct import error as StructError
from typing import Literal

from nbd.overlay_disk import BASE, BLOCK, DATA, ZERO

Keep = Literal["connection", "boot", "always"]
KEEPS: tuple[Keep, ...] = ("connection", "boot", "always")

HEADER = b"pxeboot overlay 1\n"
RECORD = Struct(">QQLL")
COMMIT, KEEP = 3, 4
"""Records that name no blocks. COMMIT: how long the file was when what it covers was on stable storage. KEEP: which of
`KEEPS` holds from now on."""
_PLACE = Struct(">QQLQ")
_CRC = Struct(">L")
_LONGEST_LINE = 1 << 16
_MOST_BLOCKS = 1 << 32


class OverlayError(OSError):
    """A machine's disk that cannot be used; the text says why."""


class Damaged(OverlayError):
    """Its files are not what we wrote."""


@dataclass(frozen=True, slots=True)
class About:
    """Whose disk it is, of what, and for how long."""

    machine: str
    image_id: str
    size_bytes: int
    keep: Keep


@dataclass(frozen=True, slots=True)
class Found:
    """What a file says."""

    about: About
    states: bytearray
    flushed: bool
    """Whether that is on stable storage. If not, some of it may be in the kernel's memory only."""
    begin: int
    """Where its records begin."""
    end: int
    """Where the last of them ends that is whole."""
    seed: int
    """What the CRCs of its records begin with."""


def head(about: About, boot_id: str, states: bytes) -> tuple[bytes, int]:
    """Return what stands before the records, and the seed of their CRCs."""
    deflated = zlib.compress(states, 1)
    line = {
        "machine": about.machine,
        "image_id": about.image_id,
        "size_bytes": about.size_bytes,
        "keep": about.keep,
        "boot_id": boot_id,
        "states_bytes": len(deflated),
    }
    data = HEADER + json.dumps(line).encode() + b"\n" + deflated
    seed = zlib.crc32(data)
    return data + _CRC.pack(seed), seed


def record(first: int, count: int, kind: int, position: int, seed: int) -> bytes:
    """Return a record that stands at `position`."""
    return RECORD.pack(first, count, kind, zlib.crc32(_PLACE.pack(first, count, kind, position), seed))


def read(data: bytes, boot_id: str, path: PurePath) -> Found:
    """Return what a file says to who starts after the one that wrote it, in the same boot or in another.

    The end of the file may be torn: a record that is not whole, and all after it. Raises `Damaged` if anything before
    is, or if it is no such file at all.
    """
    about, written_in, states, begin, seed = _read_head(data, path)
    records: list[tuple[int, int, int, int]] = []  # with their ends
    broken_at, committed, valid_to = None, begin, begin
    for position in range(begin, len(data) - RECORD.size + 1, RECORD.size):
        first, count, kind, crc = RECORD.unpack_from(data, position)
        if crc != zlib.crc32(_PLACE.pack(first, count, kind, position), seed):
            broken_at = position if broken_at is None else broken_at
            continue
        valid_to = position + RECORD.size
        if kind == COMMIT:
            committed = first
        elif broken_at is None:
            records.append((first, count, kind, position + RECORD.size))
    flushed = not boot_id or boot_id != written_in
    if broken_at is not None and broken_at < (committed if flushed else valid_to):
        raise Damaged(EIO, f"{path}: the record at {broken_at} is damaged, and others after it are not")
    for first, count, kind, after in records:
        if flushed and after > committed:
            break
        if kind == KEEP and first < len(KEEPS):
            about = replace(about, keep=KEEPS[first])
        elif kind in (DATA, ZERO) and count and first + count <= len(states):
            states[first : first + count] = bytes((kind,)) * count
        else:
            raise Damaged(EIO, f"{path}: the record before {after} names blocks that the disk does not have")
    return Found(about, states, flushed, begin, valid_to, seed)


def _read_head(data: bytes, path: PurePath) -> tuple[About, str, bytearray, int, int]:
    try:
        if not data.startswith(HEADER):
            raise ValueError("it does not begin as we begin it")
        newline = data.index(b"\n", len(HEADER), len(HEADER) + _LONGEST_LINE)
        line = json.loads(data[len(HEADER) : newline])
        about = About(str(line["machine"]), str(line["image_id"]), int(line["size_bytes"]), line["keep"])
        blocks, rest = divmod(about.size_bytes, BLOCK)
        end = newline + 1 + int(line["states_bytes"])
        seed = zlib.crc32(data[:end])
        if _CRC.unpack_from(data, end) != (seed,):
            raise ValueError("its head is not whole")
        if about.keep not in KEEPS or rest or not 0 <= blocks <= _MOST_BLOCKS:
            raise ValueError("its head says what we never write")
        states = bytearray(zlib.decompressobj().decompress(data[newline + 1 : end], blocks + 1))
        if len(states) != blocks or states.translate(None, bytes((BASE, DATA, ZERO))):
            raise ValueError("its blocks are in no state that we know")
        return about, str(line["boot_id"]), states, end + _CRC.size, seed
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, StructError, zlib.error) as error:
        raise Damaged(EIO, f"{path}: not a map of changed blocks: {error}") from None
