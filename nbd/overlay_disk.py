"""A disk that is a read-only file and what was changed of it, in blocks of 4096 bytes.

Each block is in one of three states: as in the file below (BASE), changed (DATA), or zeros (ZERO). Changed blocks lie
in a sparse file, in memory or on a disk, at the same offsets as in the whole. Reads take no lock: a block's state
changes only when its bytes are in place, so a read sees a block before a write or after it, never without its bytes.
Writes take turns, in the order in which they came, as they would for the file's inode but for the order.
"""

import re
from collections.abc import Callable, Iterator
from errno import EIO, ENOSPC
from itertools import islice
from threading import Lock
from typing import Protocol

from nbd import extents
from nbd.exports import FileExport
from nbd.extents import Extent
from nbd.overlay_turns import Turns

BLOCK = 4096
"""Bytes. What a machine may change is counted in these, and what a power cut leaves of each is old or new."""
BASE, DATA, ZERO = range(3)

_RUNS = re.compile(rb"\x00+|\x01+|\x02+")
_ZEROS = memoryview(bytes(1 << 20))


class Store(Protocol):
    """Where the changed blocks of one disk lie. Every method raises `OSError`; all but `read_warm` may block."""

    def read_warm(self, into: memoryview, offset: int) -> bool:
        """Fill `into` if that needs no disk; return whether it is filled. Never blocks."""

    def read(self, into: memoryview, offset: int) -> None:
        """Fill `into`."""

    def write(self, pieces: list[bytes | memoryview], offset: int) -> None:
        """Write these, one after the other."""

    def punch(self, offset: int, length: int) -> bool:
        """Give back the space of a range, which then reads as zeros; False if that cannot be done."""

    def note(self, first: int, count: int, state: int) -> None:
        """Remember the state of some blocks, before it counts."""

    @property
    def overdue(self) -> bool:
        """Whether so much was noted that it had better be flushed."""

    def flusher(self, states: bytearray) -> Callable[[], None]:
        """Return what puts everything up to now on stable storage. No write runs now; then they may."""

    def close(self) -> None:
        """Let go of it."""


class Disk:
    """One machine's disk, for all of its connections. Safe to use from several threads."""

    def __init__(
        self, base: FileExport, store: Store, states: bytearray, limit_bytes: int, *, flushed: bool = True
    ) -> None:
        """`states` has a byte for each block; of these at most `limit_bytes` may become DATA.

        `flushed` is false if `store` may hold writes that somebody was told of and that no flush has seen.
        """
        self.base = base
        self.size_bytes = base.size_bytes
        self.limit_bytes = limit_bytes
        self.dropped = False
        """Whether it is another one's turn to be this machine's disk: then nothing of it can be used."""
        self._store = store
        self._states = states
        self._used = states.count(DATA)
        self._lock = Turns()
        self._flushing = Lock()
        self._unflushed = not flushed
        self._broken: Exception | None = None

    @property
    def changed_bytes(self) -> int:
        """How much is changed and takes space."""
        return self._used * BLOCK

    def intact(self) -> bool:
        """Return whether it can be read: it was not dropped, and the file below is what it was. Does not block."""
        return not self.dropped and self.base.intact()

    # Reading

    def read_warm(self, into: memoryview, offset: int) -> bool:
        """Fill `into` if that needs no disk; never blocks. False means: use `read`."""
        if self.dropped:
            return False
        states = self._states
        first, last = offset // BLOCK, (offset + len(into) - 1) // BLOCK + 1
        state = states[first]
        if states.count(state, first, last) == last - first:
            return self._warm(state, into, offset)
        return all(self._warm(state, into[at:to], offset + at) for state, at, to in self._runs(offset, len(into)))

    def _warm(self, state: int, into: memoryview, offset: int) -> bool:
        if state == BASE:
            return self.base.read_warm(into, offset)
        if state == DATA:
            return self._store.read_warm(into, offset)
        into[:] = bytes(len(into))
        return True

    def read(self, into: memoryview, offset: int) -> None:
        """Fill `into`; may block on a disk. Raises `OSError`."""
        self._usable()
        for state, at, to in self._runs(offset, len(into)):
            if state == BASE:
                self.base.read(into[at:to], offset + at)
            elif state == DATA:
                self._store.read(into[at:to], offset + at)
            else:
                into[at:to] = bytes(to - at)

    def _runs(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Yield (state, start, end) of the stretches of a range; start and end count from `offset`."""
        first, last = offset // BLOCK, (offset + length - 1) // BLOCK + 1
        before = first * BLOCK - offset
        for run in _RUNS.finditer(bytes(self._states[first:last])):
            start, end = run.span()
            yield run[0][0], max(before + start * BLOCK, 0), min(before + end * BLOCK, length)

    def prefetch(self, offset: int, length: int) -> None:
        """Bring what is unchanged of a range into memory. Raises `OSError`."""
        self._usable()
        for state, at, to in self._runs(offset, length):
            if state == BASE:
                self.base.prefetch(offset + at, to - at)

    def extents(self, offset: int, length: int, most: int) -> list[Extent]:
        """Return what a range consists of, at most `most` stretches; none reaches past it. Raises `OSError`."""
        self._usable()
        most = min(most, extents.MOST)

        def stretches() -> Iterator[Extent]:
            for state, at, to in self._runs(offset, length):
                if state == BASE:
                    below = self.base.extents(offset + at, to - at, most)
                    yield from below
                    if sum(extent.length for extent in below) < to - at:
                        return
                else:
                    yield Extent(to - at, hole=state == ZERO, zero=state == ZERO)

        return extents.merged(islice(stretches(), extents.MOST), most)

    # Writing

    def write(self, data: memoryview, offset: int, *, fua: bool) -> None:
        """Write. Raises `OSError`; ENOSPC, and then nothing is written, if that were more than may be changed."""
        with self._lock:
            self._writable()
            self._write(data, offset)
        self._written(fua)

    def write_zeroes(self, offset: int, length: int, *, no_hole: bool, fua: bool) -> None:
        """Have a range read as zeros. With `no_hole`, space is taken for it as for any other write.

        Raises `OSError`; with `no_hole` and too little space, nothing is written.
        """
        end = offset + length
        first, last = -(-offset // BLOCK), end // BLOCK  # of the blocks that are wholly inside
        with self._lock:
            self._writable()
            if no_hole:
                self._room(offset // BLOCK, -(-end // BLOCK))
                self._fill(offset, end)
            elif first < last:
                self._zero(offset, first * BLOCK - offset)
                self._zero(last * BLOCK, end - last * BLOCK)
                if not self._discard(first, last):
                    self._overwrite(first, last)
            else:
                for at, to in self._parts(offset, end):
                    self._zero(at, to - at)
        self._written(fua)

    def trim(self, offset: int, length: int, *, fua: bool) -> None:
        """Let go of the blocks that are wholly in a range: they read as zeros, and their space is free.

        Where the file system cannot give space back, changed blocks stay what they are. Raises `OSError`.
        """
        first, last = -(-offset // BLOCK), (offset + length) // BLOCK
        if first < last:
            with self._lock:
                self._writable()
                self._discard(first, last)
        self._written(fua)

    def flush(self) -> None:
        """Put every write that has returned on stable storage, whichever connection it came by.

        Raises `OSError`. When the disk below has failed at that once, nobody knows what it has kept: it fails from
        then on, and so do writes.
        """
        with self._flushing:
            with self._lock:
                self._writable()
                if not self._unflushed:
                    return
                flush = self._store.flusher(self._states)
                self._unflushed = False
            try:
                flush()
            except Exception as error:  # whatever it is, such as want of memory: what it covers may not be there
                self._broken = error
                raise

    def close(self) -> None:
        """Let go of the changed blocks. Nobody uses it any more."""
        self._store.close()

    def _usable(self) -> None:
        if self.dropped:
            raise OSError(EIO, "this disk was dropped: its machine has booted again")

    def _writable(self) -> None:
        self._usable()
        if self._broken is not None:
            raise OSError(EIO, f"this disk failed before: {self._broken}")

    def _written(self, fua: bool) -> None:
        if fua or self._store.overdue:
            self.flush()

    def _room(self, first: int, last: int) -> int:
        """Return how many of these blocks will newly take space. Raises ENOSPC if they may not."""
        fresh = last - first - self._states.count(DATA, first, last)
        if fresh and (self._used + fresh) * BLOCK > self.limit_bytes:
            raise OSError(ENOSPC, f"the machine may change {self.limit_bytes >> 20} MiB of its disk")
        return fresh

    def _write(self, data: memoryview, offset: int) -> None:
        end = offset + len(data)
        first, last = offset // BLOCK, -(-end // BLOCK)
        fresh = self._room(first, last)
        self._unflushed = True
        if not fresh:
            self._store.write([data], offset)
            return
        pieces: list[bytes | memoryview] = [data]
        if offset % BLOCK and self._states[first] != DATA:
            pieces.insert(0, self._part(first * BLOCK, offset))
            offset = first * BLOCK
        if end % BLOCK and self._states[last - 1] != DATA:
            pieces.append(self._part(end, last * BLOCK))
        self._store.write(pieces, offset)
        self._set(first, last, DATA)

    def _part(self, start: int, end: int) -> memoryview:
        """Return what is there, to write it beside what is new in the same block."""
        part = memoryview(bytearray(end - start))
        self.read(part, start)
        return part

    def _set(self, first: int, last: int, state: int) -> None:
        self._store.note(first, last - first, state)
        had = self._states.count(DATA, first, last)
        self._states[first:last] = bytes((state,)) * (last - first)
        self._used += (last - first if state == DATA else 0) - had

    def _parts(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield what of each block is in a range that has no whole one: one part, or two."""
        middle = -(-offset // BLOCK) * BLOCK
        if middle >= end:
            yield offset, end
        else:
            yield offset, middle
            yield middle, end

    def _zero(self, offset: int, length: int) -> None:
        """Zero a part of a block, or nothing."""
        if length and self._states[offset // BLOCK] != ZERO:
            self._write(_ZEROS[:length], offset)

    def _discard(self, first: int, last: int) -> bool:
        """Make whole blocks ZERO; return False if those that are DATA stay what they are.

        The hole is made before it is noted: whoever dies in between leaves blocks of zeros that count as changed,
        and not space that nobody counts.
        """
        states = self._states
        if states.count(ZERO, first, last) == last - first:
            return True
        self._unflushed = True
        if not states.count(DATA, first, last) or self._store.punch(first * BLOCK, (last - first) * BLOCK):
            self._set(first, last, ZERO)
            return True
        for run in _RUNS.finditer(bytes(states[first:last])):
            if run[0][0] == BASE:
                self._set(first + run.start(), first + run.end(), ZERO)
        return False

    def _overwrite(self, first: int, last: int) -> None:
        """Write zeros over the blocks that are DATA."""
        for run in _RUNS.finditer(bytes(self._states[first:last])):
            if run[0][0] == DATA:
                self._fill((first + run.start()) * BLOCK, (first + run.end()) * BLOCK)

    def _fill(self, offset: int, end: int) -> None:
        """Write zeros."""
        while offset < end:
            step = min(len(_ZEROS), end - offset)
            self._write(_ZEROS[:step], offset)
            offset += step
