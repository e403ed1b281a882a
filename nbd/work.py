"""What one connection has threads do with its export, because a disk may have to be waited for.

Reads that have to wait are done in their order, by one thread for each connection if there are many, which then goes
on with the connection itself: nothing is handed over on the way from the disk to the client. What changes the disk,
and what asks about it, goes in the order in which it came (`Work.order`): FLUSH then comes after every command of this
connection that was before it. Threads answer with whole replies, which wait in `answers` until they are sent.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from errno import EIO
from functools import partial
from typing import TypeVar

from config.disks import DiskHangs, Disks, Pool
from nbd.actions import BlockStatus, Cache, Flush, Trim, Write, WriteZeroes
from nbd.exports import Export
from nbd.pieces import Piece, Pieces
from nbd.replies import SIMPLE, Replies, error_number, most_extents
from nbd.wire import Errno

MAX_READS = 16
"""How many reads of one connection may wait for a disk."""
MAX_READ_BYTES = 1 << 20
"""How much they may be together, if they are more than one, with those whose replies have not left yet."""
MAX_ORDERED_BYTES = 1 << 20
"""How much data of WRITE may wait for a disk before no more is read from the connection."""
ORDERED = 256
"""How many other commands may wait for that."""

FEW = 8
"""While a disk has less to do than that, several reads of one connection are given to it at once."""
SLOW_S = 200e-6
"""A read that took longer has waited for the disk, in seconds."""

CHANGED = "the image was changed in place"

log = logging.getLogger(__name__)

Ordered = Write | Flush | Trim | WriteZeroes | BlockStatus
Post = Callable[[Callable[[], None]], None]
T = TypeVar("T")
_Reply = bytes | bytearray | None
"""None: there can be none, and the client is to be dropped."""


class Work:
    """The work on one open export, for one connection. All but what says so is called by whoever runs that."""

    def __init__(
        self, export: Export, disks: Disks, device: int, post: Post, go_on: Post, settle: Callable[[], None]
    ) -> None:
        """`post` has something called by whoever runs the connection, from any thread; `go_on` also runs it.

        `settle` is called by the threads of the disk, before anything else: see `Pump.settle`.
        """
        self.export = export
        self.replies: Replies = SIMPLE
        self.answers: deque[bytes | bytearray] = deque()
        """Replies that are ready to be sent."""
        self.jobs = 0
        """How many pieces of work threads have, or wait to be taken."""
        self.failed: str | None = None
        """The last error of the disk, for the log."""
        self.torn = False
        """A reply that had begun to leave cannot be finished: hang up."""
        self.cold_reads = 0
        self.writes = 0
        self.written_bytes = 0
        self._disks = disks
        self.device = device
        """`st_dev` of the disk that the export is on."""
        self._post = post
        self._go_on = go_on
        self._settle = settle
        self._cold: deque[tuple[Piece, Pieces]] = deque()
        self._cold_lock = threading.Lock()  # of `_cold` and `_drains`
        self._drains = 0
        self._slow = False
        self._reading = 0
        self._reading_bytes = 0
        self._waiting: list[Ordered] = []
        self._waiting_bytes = 0
        self._ordering = False
        self._first_error: Errno | None = None
        self._closed = False
        self._released = False
        self._abandoned = False

    def has_room(self, length: int) -> bool:
        """Tell whether another read of so many bytes may wait for a disk."""
        held = self._reading_bytes + sum(map(len, self.answers))
        return self._reading < MAX_READS and (not held or held + length <= MAX_READ_BYTES)

    @property
    def is_full(self) -> bool:
        """Whether so much waits in order that no more should be read from the connection."""
        return self._waiting_bytes >= MAX_ORDERED_BYTES or len(self._waiting) >= ORDERED

    def disk(self) -> Pool:
        """Return the threads of the disk that the export is on. Raises `DiskHangs`."""
        return self._disks.of(self.device, self.export.name)

    def read(self, piece: Piece, pieces: Pieces) -> None:
        """Read a piece in a thread; its reply is with its head and tail, or is an error."""
        try:
            pool = self.disk()
            with self._cold_lock:
                self._cold.append((piece, pieces))
                # One thread, so that every client gets its turn; more for a client that is alone with its disk.
                if not self._drains or (pool.waiting < FEW and self._drains < MAX_READS):
                    pool.submit(self.aside, self._drain)
                    self._drains += 1
        except (DiskHangs, RuntimeError) as error:  # as much as we keep waits for it; or the server ends
            self.failed = str(error)
            self.torn = True
            return
        self.cold_reads += 1
        self.jobs += 1
        self._reading += 1
        self._reading_bytes += piece.length

    @property
    def is_slow(self) -> bool:
        """Whether the disk is being waited for, so that what is asked now had better stand in line at once."""
        return self._reading > 0 and self._slow

    def cache(self, asked: Cache) -> None:
        """Bring a range into memory, in a thread."""
        self._reading += 1
        self._begin(partial(self._cache, asked), partial(self._was_read, 0))

    def order(self, action: Ordered) -> None:
        """Carry this out in a thread, after everything that came before it."""
        if self._abandoned:
            return
        self._waiting.append(action)
        if isinstance(action, Write):
            self._waiting_bytes += len(action.data)
            self.writes += action.last
            self.written_bytes += len(action.data)
        self._next()

    def take(self, room: memoryview) -> int | None:
        """Put the next reply into `room`; return its size, or None if it does not fit."""
        answer = self.answers[0]
        if len(answer) > len(room):
            return None
        self.answers.popleft()
        room[: len(answer)] = answer
        self._next()
        return len(answer)

    def close(self) -> None:
        """Let go of the export, as soon as no thread uses it."""
        self._closed = True
        self.answers.clear()
        self._next()
        self._release()

    def abandon(self) -> None:
        """The client is gone: begin nothing more of what would change the disk."""
        self._abandoned = True
        self._waiting.clear()
        self._waiting_bytes = 0

    # In threads

    def aside(self, work: Callable[[], T]) -> T:
        """Do `work`, in a thread of the disk; all that is given to `disk` goes through here."""
        self._settle()
        return work()

    def answer(self, asked: BlockStatus | Cache) -> bytes:
        """Return the answer; waits for the disk. For who runs the connection and may wait, while `jobs` is 0."""
        return self._cache(asked) if isinstance(asked, Cache) else self._carry_out_one(asked)

    def _drain(self) -> None:
        """Read what is to be read, until there is nothing left."""
        while True:
            with self._cold_lock:
                if not self._cold:
                    self._drains -= 1
                    return
                piece, pieces = self._cold.popleft()
            reply: _Reply = None
            began = time.monotonic()
            try:
                reply = None if self._closed else self._read(piece, pieces)
            except Exception:
                log.exception("nbd: a read of %r failed because of an error of ours", self.export.name)
            self._slow = time.monotonic() - began > SLOW_S
            self._go_on(partial(self._finished, partial(self._was_read, piece.length), reply))

    def _read(self, piece: Piece, pieces: Pieces) -> _Reply:
        start = len(piece.head)
        end = start + piece.length
        reply = bytearray(end + len(piece.tail))
        try:
            self.export.read(memoryview(reply)[start:end], piece.offset)
        except OSError as error:
            self.failed = str(error) if self.export.intact() else CHANGED
            return pieces.fail(piece)
        if not self.export.intact():
            self.failed = CHANGED
            return pieces.fail(piece)
        reply[:start] = piece.head
        reply[end:] = piece.tail
        return reply

    def _cache(self, asked: Cache) -> bytes:
        try:
            self.export.prefetch(asked.offset, asked.length)
        except OSError as error:
            self.failed = str(error)
            return self.replies.error(asked.cookie, error_number(error), "", asked.offset)
        return self.replies.ok(asked.cookie, asked.offset)

    def _carry_out(self, actions: list[Ordered]) -> bytes:
        # A client that is gone may be back by another connection, and have sent again what was not answered: nothing
        # of this one may come after that.
        return b"".join(self._carry_out_one(action) for action in actions if not self._abandoned)

    def _carry_out_one(self, action: Ordered) -> bytes:
        """Return the reply, if this is what it is due for: a WRITE comes in pieces, and the first error counts."""
        export, replies = self.export, self.replies
        start = action.offset
        error: Errno | None = None
        try:
            match action:
                case Write(_, offset, data, _, fua):
                    start = action.start
                    if self._first_error is None:
                        export.write(memoryview(data), offset, fua=fua)
                case Flush():
                    export.flush()
                case Trim(_, offset, length, fua):
                    export.trim(offset, length, fua=fua)
                case WriteZeroes(_, offset, length, no_hole, _, fua):
                    export.write_zeroes(offset, length, no_hole=no_hole, fua=fua)
                case BlockStatus(_, offset, length):
                    extents = export.extents(offset, length, most_extents(action))
                    if not export.intact():  # where a file was cut off, it has a hole
                        raise OSError(EIO, CHANGED)
                    return replies.block_status(action, extents)
        except OSError as raised:
            error = error_number(raised)
            if error != Errno.ENOSPC:
                self.failed = raised.strerror or str(raised)
        if isinstance(action, Write):
            error = self._first_error or error
            self._first_error = None if action.last else error
            if not action.last:
                return b""
        return replies.ok(action.cookie, start) if error is None else replies.error(action.cookie, error, "", start)

    # Back

    def _begin(self, work: Callable[[], _Reply], then: Callable[[], None]) -> None:
        """Have a thread do `work`, whose reply is sent; `then` is called before."""
        self.jobs += 1
        try:
            self.disk().submit(self.aside, partial(self._work, work, then))
        except (DiskHangs, RuntimeError) as error:  # as much as we keep waits for it; or the server ends
            self.failed = str(error)
            self._finished(then, None)

    def _work(self, work: Callable[[], _Reply], then: Callable[[], None]) -> None:
        reply: _Reply = None
        try:
            reply = work()
        except Exception:
            log.exception("nbd: a command on %r failed because of an error of ours", self.export.name)
        self._post(partial(self._finished, then, reply))

    def _finished(self, then: Callable[[], None], reply: _Reply) -> None:
        self.jobs -= 1
        then()
        if self._closed:
            self._release()
        elif reply is None:
            self.torn = True
        elif reply:
            self.answers.append(reply)

    def _was_read(self, length: int) -> None:
        self._reading -= 1
        self._reading_bytes -= length

    def _next(self) -> None:
        if self._ordering or not self._waiting or sum(map(len, self.answers)) > MAX_READ_BYTES:
            return
        # What an export consists of may take as much room as a long read: one of these at a time.
        status = next((at for at, action in enumerate(self._waiting, 1) if isinstance(action, BlockStatus)), None)
        actions, self._waiting = self._waiting[:status], self._waiting[status:] if status else []
        self._ordering = True
        self._begin(partial(self._carry_out, actions), self._was_ordered)

    def _was_ordered(self) -> None:
        self._ordering = False
        self._waiting_bytes = sum(len(action.data) for action in self._waiting if isinstance(action, Write))
        self._next()

    def _release(self) -> None:
        if self.jobs or self._waiting or self._released:
            return
        self._released = True
        try:
            self.disk().submit(self.aside, self.export.close)
        except (DiskHangs, RuntimeError):
            self.export.close()
