"""One client's socket: carries out what its `Session` decides, and stops reading from whoever does not read.

Replies are put together in one buffer that all connections share: header, data, header, data. Pages that are in
memory are read straight into it; the others by a few threads, so that a slow disk delays nobody else. What a client
has not taken is kept, at most `BATCH_BYTES` of it and `MAX_COLD` reads, and until it is gone nothing more is read.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address

from config.content import OpenFile
from config.events import Event, Report, Stage
from nbd import actions, wire
from nbd.engine import Session
from nbd.exports import Export, FileExport, Refused
from nbd.replies import error_number, most_extents

PIECE_BYTES = 1 << 18
"""The most that is read from a file at once. A longer READ leaves in pieces, and nothing else in between."""
BATCH_BYTES = PIECE_BYTES + (1 << 16)
"""The most that one system call sends; then it is another connection's turn."""
INBOX_BYTES = 1 << 16
"""The most that one system call receives: 2,340 requests."""
MAX_COLD = 4
"""How many reads of one connection may wait for a disk."""
LINGER_S = 5.0
"""How long a client may take to read its last replies, in seconds."""

log = logging.getLogger(__name__)

Open = Callable[[str, IPv4Address], Awaitable[OpenFile | None]]
"""(export name, who asks) → its open file, which we close, or None if there is no such export for this machine.

The empty name is the default export. Leading slashes are gone from the name; it may hold anything else.
"""
List = Callable[[IPv4Address], Awaitable[Sequence[str]]]
"""(who asks) → the names of the exports that this machine may see."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of a server have in common."""

    open_export: Open
    list_exports: List
    report: Report
    complain: Callable[..., None]
    """Logs a warning, in moderation."""
    chosen: Callable[["Connection"], None]
    """Called when a connection has its export."""
    ended: Callable[["Connection"], None]
    """Called when a connection is over."""
    threads: Executor
    """For reads that wait for a disk."""
    batch: memoryview = field(default_factory=lambda: memoryview(bytearray(BATCH_BYTES)))
    inbox: memoryview = field(default_factory=lambda: memoryview(bytearray(INBOX_BYTES)))


@dataclass(slots=True)
class _Reply:
    """The READ whose reply is being sent: what is left of it."""

    cookie: int
    offset: int
    length: int
    start: int
    total: int
    begun: bool = False
    """Whether its header has left, after which an error can only be told by hanging up."""


class Connection:
    """One client, from `accept` to the end."""

    def __init__(self, shared: Shared, sock: socket.socket, peer: IPv4Address) -> None:
        self.peer = peer
        self._shared = shared
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._session = Session()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None  # asks for an export, or the list of them
        self._export: Export | None = None
        self._queue: deque[actions.Action] = deque()
        self._reply: _Reply | None = None
        self._cold = 0
        self._read_cold: deque[bytes | bytearray] = deque()
        self._unsent = memoryview(b"")
        self._reading = False
        self._closing = False
        self._gone = False
        self._warned = False
        self._opened_at = 0.0
        self._reads = 0
        self._bytes = 0

    def start(self) -> None:
        """Greet the client."""
        self._queue.extend(self._session.start(self._loop.time()))
        if self._session.deadline is not None:
            self._timer = self._loop.call_at(self._session.deadline, self._expire, self._session.deadline)
        self._pump()

    def finish(self) -> None:
        """Answer what was received, then close: the client's next connection finds the same export.

        ESHUTDOWN, which the specification would like, becomes an I/O error in a machine's root; after a plain close
        the kernel's client reconnects and asks again.
        """
        self._queue.append(actions.Close(None))
        self._pump()

    def end(self, why: str) -> None:
        """Close now. Files still being read by a thread are closed when that is done."""
        if self._gone:
            return
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._queue.clear()
        self._read_cold.clear()
        self._unsent = memoryview(b"")
        if self._export is None:
            log.debug("nbd %s left without an export: %s", self.peer, why)
        else:
            log.info(
                "nbd %s left %r: %d reads, %.1f MiB in %.0f s",
                self.peer,
                self._export.name,
                self._reads,
                self._bytes / (1 << 20),
                self._loop.time() - self._opened_at,
            )
            self._release()
        self._shared.ended(self)

    def _release(self) -> None:
        if self._export is not None and not self._cold:
            self._export.close()

    def _expire(self, deadline: float) -> None:
        # Not queued behind replies that such a client may never read.
        for action in self._session.expire(deadline):
            self.end(str(action))

    def _guard(self, step: Callable[[], None]) -> None:
        """Run a callback; a bug in it ends this connection and not the daemon."""
        try:
            step()
        except Exception:
            log.exception("nbd %s: dropped because of an error of ours", self.peer)
            self.end("an error of ours")

    # The socket

    def _readable(self) -> None:
        try:
            received = self._sock.recv_into(self._shared.inbox)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.end(str(error))
            return
        if received:
            self._queue.extend(self._session.receive(self._shared.inbox[:received], self._loop.time()))
        else:
            self._queue.append(actions.Close(None))
        self._turn()

    def _writable(self) -> None:
        self._unsent = self._send(self._unsent)
        if not self._gone and not self._unsent:
            self._loop.remove_writer(self._sock.fileno())
            self._turn()

    def _send(self, data: memoryview) -> memoryview:
        """Send what the socket takes; return the rest."""
        try:
            return data[self._sock.send(data) :]
        except (BlockingIOError, InterruptedError):
            return data
        except OSError as error:
            self.end(str(error))
            return memoryview(b"")

    def _pump(self) -> None:
        self._guard(self._turn)

    def _turn(self) -> None:
        """Carry out actions until one batch is sent, the client is slow, or something has to be waited for."""
        if self._gone:
            return
        if not self._unsent and (filled := self._fill(self._shared.batch)):
            rest = self._send(self._shared.batch[:filled])
            if self._gone:
                return
            if rest:
                self._unsent = memoryview(bytes(rest))
                self._loop.add_writer(self._sock.fileno(), self._guard, self._writable)
            elif self._queue or self._reply or self._read_cold:
                self._loop.call_soon(self._pump)
        idle = not (self._unsent or self._queue or self._reply or self._read_cold)
        if self._closing and idle and not self._cold:
            self.end("closed")
            return
        reading = idle and not self._closing and self._task is None
        if reading and not self._reading:
            self._loop.add_reader(self._sock.fileno(), self._guard, self._readable)
        elif self._reading and not reading:
            self._loop.remove_reader(self._sock.fileno())
        self._reading = reading

    # The actions

    def _fill(self, batch: memoryview) -> int:
        """Carry out actions in order, as far as their output fits `batch`; return how much of it is filled."""
        filled = 0
        while self._read_cold and filled + len(self._read_cold[0]) <= len(batch):
            data = self._read_cold.popleft()
            batch[filled : filled + len(data)] = data
            filled += len(data)
        if self._read_cold:
            return filled
        intact = self._intact()
        while self._reply or self._queue:
            if self._reply:
                took = self._read_piece(self._reply, batch[filled:], intact)
            else:
                took = self._carry_out(self._queue[0], batch[filled:])
                if took is not None:
                    self._queue.popleft()
            if took is None:
                break
            filled += took
        return filled

    def _intact(self) -> bool:
        """Return whether the export, if there is one, is still the file that was opened."""
        if self._export is None or self._export.intact():
            return True
        self._warn("the image was changed in place")
        return False

    def _warn(self, what: str) -> None:
        """Say once per connection that its export is broken."""
        if not self._warned and self._export is not None:
            self._warned = True
            self._shared.complain("nbd %s reads %r: %s", self.peer, self._export.name, what)

    def _carry_out(self, action: actions.Action, room: memoryview) -> int | None:
        """Carry out or begin an action; return how much of `room` it took, or None if it has to wait."""
        match action:
            case actions.Read(cookie, offset, length):
                if length > PIECE_BYTES and self._cold:
                    return None  # its pieces must not be mixed with the replies that the threads are preparing
                self._reply = _Reply(cookie, offset, length, offset, length)
                self._reads += 1
            case actions.Send(data):
                if len(data) > len(room):
                    return None
                room[: len(data)] = data
                return len(data)
            case actions.Cache() | actions.BlockStatus():
                if self._cold == MAX_COLD:
                    return None
                reply = _Reply(action.cookie, action.offset, 0, action.offset, 0)
                self._in_thread(partial(self._command, action), reply, bytearray(), 0)
            case actions.OpenExport():
                self._task = self._loop.create_task(self._open(action))
            case actions.ListExports():
                self._task = self._loop.create_task(self._list())
            case actions.StartTls() | actions.Write() | actions.Flush() | actions.Trim() | actions.WriteZeroes():
                raise RuntimeError("neither TLS nor writing was offered")
            case actions.Close(reason):
                if self._cold:
                    return None
                if reason is not None:
                    self._shared.complain("nbd %s: dropped: %s", self.peer, reason)
                if not self._closing:
                    self._closing = True
                    self._loop.call_later(LINGER_S, self.end, "closed")
        return 0

    def _command(self, action: actions.Cache | actions.BlockStatus) -> bytes:
        """Carry out, in a thread, what may wait for a disk; return the answer."""
        export, replies = self._opened_export(), self._session.replies
        try:
            match action:
                case actions.Cache(_, offset, length):
                    export.prefetch(offset, length)
                case actions.BlockStatus(_, offset, length):
                    return replies.block_status(action, export.extents(offset, length, most_extents(action)))
        except OSError as error:
            return replies.error(action.cookie, error_number(error), str(error), action.offset)
        return replies.ok(action.cookie, action.offset)

    def _read_piece(self, reply: _Reply, room: memoryview, intact: bool) -> int | None:
        """Put the next piece of a reply into `room`; return its size, or None if it has to wait."""
        head = 0 if reply.begun else self._session.replies.head_size
        length = min(reply.length, PIECE_BYTES)
        if head + length > len(room) or (self._cold and reply.begun):
            return None
        if not intact:
            refusal = self._read_failed(reply, head)
            room[: len(refusal)] = refusal
            return len(refusal)
        export, offset = self._opened_export(), reply.offset
        if export.read_warm(room[head : head + length], offset):
            room[:head] = self._head(reply, head)
            self._advance(reply, length)
            return head + length
        if self._cold == MAX_COLD:
            return None
        piece = bytearray(head + length)
        self._advance(reply, length)
        self._in_thread(partial(export.read, memoryview(piece)[head:], offset), reply, piece, head)
        return None if self._reply else 0

    def _opened_export(self) -> Export:
        if self._export is None:
            raise RuntimeError("the session reads before an export was opened")
        return self._export

    def _advance(self, reply: _Reply, length: int) -> None:
        """Count a piece as read; after the last one it is the next action's turn."""
        reply.begun = True
        reply.offset += length
        reply.length -= length
        self._bytes += length
        if not reply.length:
            self._reply = None

    def _head(self, reply: _Reply, head: int) -> bytes:
        """Return what stands before all of a READ's data; `head` is 0 if it has left."""
        return self._session.replies.data(reply.cookie, reply.start, reply.total)[:head]

    def _read_failed(self, reply: _Reply, head: int) -> bytes:
        """Return an EIO; but hang up if the reply's header has left (`head` is 0, Simple reply message)."""
        if self._reply is reply:
            self._reply = None
        if not head:
            self.end("a read failed in the middle of its reply")
        return self._session.replies.error(reply.cookie, wire.Errno.EIO, offset=reply.start)

    def _in_thread(self, work: Callable[[], bytes | None], reply: _Reply, piece: bytearray, head: int) -> None:
        """Do what waits for a disk, then send `piece`, whose first `head` bytes are for the header."""
        self._cold += 1
        future = self._loop.run_in_executor(self._shared.threads, work)
        future.add_done_callback(lambda done: self._guard(partial(self._thread_done, done, reply, piece, head)))

    def _thread_done(self, done: asyncio.Future[bytes | None], reply: _Reply, piece: bytearray, head: int) -> None:
        self._cold -= 1
        error = "the server stops" if done.cancelled() else done.exception()
        if self._gone:
            self._release()
        elif error is None:
            if (answer := done.result()) is None:
                piece[:head] = self._head(reply, head)
            self._read_cold.append(piece if answer is None else answer)
        else:
            self._warn(str(error))
            self._read_cold.append(self._read_failed(reply, head))
        self._turn()

    # The questions

    async def _open(self, action: actions.OpenExport) -> None:
        try:
            file = await self._shared.open_export(action.name, self.peer)
        except Exception:
            log.exception("nbd %s: cannot open %r", self.peer, action.name)
            self.end("an error of ours")
            return
        if self._gone:
            if file is not None:
                file.close()
            return
        self._task = None
        if file is None:
            self._shared.complain("nbd %s asked for %r: no such export", self.peer, action.name)
            self._queue.extend(self._session.export_refused(Refused.UNKNOWN))
        else:
            self._opened(FileExport(action.name, file), action.keep)
        self._pump()

    def _opened(self, export: Export, keep: bool) -> None:
        self._queue.extend(self._session.export_opened(actions.ExportInfo(export.size_bytes)))
        if not keep:
            export.close()
            return
        self._export = export
        self._opened_at = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._shared.chosen(self)
        detail = f"NBD export {export.name!r} opened, {export.size_bytes / 1e6:.0f} MB"
        self._shared.report(Event(self.peer, Stage.FETCH, detail))

    async def _list(self) -> None:
        try:
            names = await self._shared.list_exports(self.peer)
        except Exception:
            log.exception("nbd %s: cannot list the exports", self.peer)
            self.end("an error of ours")
            return
        if self._gone:
            return
        self._task = None
        self._queue.extend(self._session.exports_listed(names))
        self._pump()
