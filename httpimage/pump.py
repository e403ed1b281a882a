"""Files onto sockets by threads: sendfile may wait for a disk there, and uses the processors that there are.

The event loop hands over a connection whose own buffer is empty (`Channel.send`) and is told when all was handed to
the kernel. In between, a connection that takes no more costs no thread: the threads wait together, in one epoll, for
whichever can go on.

    loop:    Channel.send ── epoll ──▶ a thread: sendfile, until the socket is full ──▶ epoll, or done ──▶ loop

A disk that hangs takes at most `MOST_PER_FILE` threads for each file and `MOST_PER_DISK` for all, and others are
started in their place. Nothing waits for a thread, not even the end of the process.
"""

import asyncio
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from httpimage.counts import Counts
from httpimage.transfer import Source, Transfer
from httpimage.turns import Line, Lines

log = logging.getLogger(__name__)

THREADS = 2
"""Threads that are there for connections, whatever hangs. More of them do not send more, and make the event loop wait
longer for the interpreter's lock when processors are scarce: whoever holds it may have to wait for one."""
MOST_THREADS = 64
"""Threads at most, those that hang in a disk included: so 15 disks may hang at once, and all others are served."""
MOST_PER_FILE = 2
"""Threads that work on one file at once."""
MOST_PER_DISK = 4
"""Threads that work on the files of one disk at once, if it is known which one they are on."""
LOOK_S = 0.02
"""How often threads that hang are looked for, while anything is sent."""
STUCK_S = 0.025
"""A thread that has been in one step for so long, and sleeps, waits for a disk."""
SPARE_S = 5.0
"""How long a thread of more than `THREADS` stays without work."""

WINDOW = 2 << 20
WINDOW_S = 180.0
"""How long a peer may take for `WINDOW` bytes, in seconds; slower than 12 kB/s is taken for gone."""

_READY = select.EPOLLOUT | select.EPOLLONESHOT


class Channel:
    """A connection's socket in the hands of a pump: a descriptor of its own, so that no number is used twice."""

    __slots__ = ("_pump", "armed", "busy", "closed", "line", "sock", "transfer")

    def __init__(self, pump: "Pump", sock: socket.socket) -> None:
        self._pump = pump
        self.sock = sock
        self.transfer: Transfer | None = None
        self.line: Line[_Turn] | None = None
        """Whoever else sends the same file, while anything is sent."""
        self.busy = False
        """Whether a thread has it, or it waits in a line."""
        self.armed = False
        """Whether the epoll knows it."""
        self.closed = False

    def send(
        self, source: Source, position: int, length: int, finished: Callable[[Transfer], None], head: bytes = b""
    ) -> Transfer:
        """Send `length` bytes of `source` from `position`, after `head`. `source` is the transfer's from now on.

        `finished` is called in the loop, once, with `error` set or all sent. Nothing else may write meanwhile, and
        nothing else is being sent.
        """
        return self._pump.begin(self, source, position, length, finished, head)

    def close(self) -> None:
        """Give the descriptor back, and end what is being sent; `finished` then hears of a lost connection."""
        self._pump.close_channel(self, ConnectionResetError("the connection was closed"))


_Turn = tuple[Channel, Transfer]


class _Worker:
    """One thread."""

    def __init__(self) -> None:
        self.since: float | None = None
        """When its present step began."""
        self.number = 0
        """Its number in the kernel, once it runs."""

    def is_stuck(self, now: float) -> bool:
        """Tell whether it waits for something, and has for a while; not whether it waits for a processor."""
        since = self.since
        if since is None or now - since < STUCK_S:
            return False
        try:
            fd = os.open(f"/proc/self/task/{self.number}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no descriptor is left
            return True
        try:
            return os.read(fd, 256).rpartition(b")")[2][:2] != b" R"
        finally:
            os.close(fd)


class Pump:
    """The threads, for all connections of a server. Everything public is called in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, counts: Counts | None = None) -> None:
        """Start nothing yet. What is sent is added to `counts`."""
        self.counts = counts or Counts()
        self._loop = loop
        self._lock = threading.Lock()
        """Guards what threads share: the fields of channels and lines, `_channels`, `_workers` and `_finished`."""
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._channels: dict[int, Channel] = {}
        self._lines: Lines[_Turn] = Lines(per_file=MOST_PER_FILE, per_disk=MOST_PER_DISK)
        self._workers: set[_Worker] = set()
        self._finished: list[_Turn] = []
        self._active: set[Channel] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._next_round = 0.0
        self._closed = False
        self._short = False
        """Whether the last thread could not be started."""

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return len(self._workers)

    def channel(self, fd: int) -> Channel:
        """Return a channel to a TCP socket that does not block. Raises `OSError` if no descriptor is left."""
        duplicate = os.dup(fd)
        channel = Channel(self, socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=duplicate))
        with self._lock:
            self._channels[duplicate] = channel
        return channel

    def begin(
        self,
        channel: Channel,
        source: Source,
        position: int,
        length: int,
        finished: Callable[[Transfer], None],
        head: bytes,
    ) -> Transfer:
        """What `Channel.send` does. Raises `OSError` if it cannot begin; nothing is held then."""
        transfer = Transfer(source, position, length, head, finished)
        if channel.closed or self._closed:
            transfer.error = ConnectionResetError("the connection was closed")
            source.drop()
            self._loop.call_soon(finished, transfer)
            return transfer
        if channel.transfer is not None:
            source.drop()
            raise RuntimeError("a connection sends one thing at a time")
        self._hire(THREADS - len(self._workers))
        try:
            with self._lock:
                channel.line, channel.transfer = self._lines.of(source.device, source.etag), transfer
                self._arm(channel)
        except BaseException:
            channel.line = channel.transfer = None
            source.drop()
            raise
        self._active.add(channel)
        if self._watch is None:
            self._watch = self._loop.call_later(LOOK_S, self._look)
        return transfer

    def close_channel(self, channel: Channel, reason: Exception) -> None:
        """Close a channel; what it sends ends with `reason`."""
        with self._lock:
            if channel.closed:
                return
            channel.closed = True
            held = channel.busy
            transfer, channel.transfer = channel.transfer, None
            if transfer is not None:
                with suppress(OSError):  # the peer sees the end now, also while a thread still holds the socket
                    channel.sock.shutdown(socket.SHUT_RDWR)
            if not held:
                self._forget(channel)
        self._active.discard(channel)
        if transfer is not None:
            transfer.error = reason
            if not held:  # otherwise it is the thread that gives the file back
                transfer.source.drop()
            self._loop.call_soon(transfer.finished, transfer)

    def close(self) -> None:
        """End all transfers and threads. Does not wait: a thread that hangs in a disk ends when it comes back."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            channel.close()
        with self._lock:
            if not self._workers:
                self._shut()
            elif not self._epoll.closed:
                os.eventfd_write(self._bell, 1)

    def _look(self) -> None:
        """Look after threads that hang and peers that read too slowly, while anything is being sent."""
        self._watch = self._loop.call_later(LOOK_S, self._look) if self._active else None
        now = time.monotonic()
        with self._lock:
            workers = list(self._workers)
        free = sum(not worker.is_stuck(now) for worker in workers)
        self._hire(min(THREADS - free, MOST_THREADS - len(workers)))
        if now >= self._next_round:
            self._next_round = now + min(1.0, WINDOW_S / 4)
            self._drop_slow_readers(now)

    def _drop_slow_readers(self, now: float) -> None:
        for channel in list(self._active):
            transfer = channel.transfer
            if transfer is None:
                continue
            if transfer.sent - transfer.mark >= WINDOW:
                transfer.mark, transfer.since = transfer.sent, now
            elif now - transfer.since > WINDOW_S:
                self.close_channel(channel, TimeoutError("the peer reads too slowly"))

    def _hire(self, count: int) -> None:
        """Start threads; what cannot be started now is tried again by the next look."""
        for _ in range(count):
            worker = _Worker()
            thread = threading.Thread(target=self._work, args=(worker,), name="http-pump", daemon=True)
            with self._lock:
                try:
                    thread.start()
                except RuntimeError as error:
                    short, self._short = self._short, True
                    if not short:
                        log.warning("http sends files with %d threads: %s", len(self._workers), error)
                    return
                self._workers.add(worker)
            self._short = False

    def _reap(self) -> None:
        """Tell whoever waits what the threads have finished."""
        with self._lock:
            finished, self._finished = self._finished, []
        for channel, transfer in finished:
            self._active.discard(channel)
            self.counts.sent_bytes += transfer.sent
            transfer.source.drop()
            try:
                transfer.finished(transfer)
            except Exception:  # the others have to hear of theirs
                log.exception("http: the end of %r could not be told", transfer.source.name)

    # What follows runs in threads, or under the lock.

    def _work(self, worker: _Worker) -> None:
        worker.number = threading.get_native_id()
        while not self._closed:
            ready = self._epoll.poll(SPARE_S, 1)
            if ready:
                self._serve(worker, ready[0][0])
            elif self._is_spare(worker):
                return
        with self._lock:
            self._workers.discard(worker)
            if not self._workers:
                self._shut()

    def _is_spare(self, worker: _Worker) -> bool:
        """Let a thread that found no work go, if there are enough."""
        with self._lock:
            if len(self._workers) <= THREADS:
                return False
            self._workers.discard(worker)
            return True

    def _serve(self, worker: _Worker, fd: int) -> None:
        """Take a step for a connection, and for those that waited for its disk meanwhile."""
        turn = self._turn(fd)
        while turn is not None:
            channel, transfer = turn
            done, error = False, None
            worker.since = time.monotonic()
            try:
                done = not channel.closed and transfer.step(channel.sock)
            except Exception as failure:  # of the peer, of the disk, or ours: in any case the end of this transfer
                error = failure
            worker.since = None
            turn = self._after(channel, transfer, done, error)

    def _turn(self, fd: int) -> "_Turn | None":
        """Take a connection into a thread's hands, unless enough threads work on its file."""
        with self._lock:
            channel = self._channels.get(fd)
            if channel is None or channel.busy or channel.transfer is None:
                return None  # the descriptor was closed, and perhaps used again, since epoll told of it
            channel.busy = True
            turn = channel, channel.transfer
            return turn if channel.line is not None and channel.line.enter(turn) else None

    def _after(self, channel: Channel, transfer: Transfer, done: bool, error: Exception | None) -> "_Turn | None":
        """Give a connection back, and return the next that waits for the same disk."""
        abandoned = news = False
        with self._lock:
            channel.busy = False
            following = None if channel.line is None else channel.line.leave()
            if channel.closed:
                self._forget(channel)
                abandoned = True
            elif done or error is not None:
                transfer.error = error
                channel.transfer = None
                self._finished.append((channel, transfer))
                news = len(self._finished) == 1
            else:
                self._arm(channel)
        if abandoned:
            transfer.source.drop()
        if news:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._reap)
        return None if following is None else following[1]

    def _arm(self, channel: Channel) -> None:
        """Let a thread have it, as soon as its socket takes something."""
        if channel.armed:
            self._epoll.modify(channel.sock.fileno(), _READY)
        else:
            self._epoll.register(channel.sock.fileno(), _READY)
            channel.armed = True

    def _forget(self, channel: Channel) -> None:
        """Close the descriptor."""
        fd = channel.sock.fileno()
        del self._channels[fd]
        if channel.armed:
            self._epoll.unregister(fd)  # the connection has another descriptor, so closing this one does not do it
        channel.sock.close()

    def _shut(self) -> None:
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self._bell)
