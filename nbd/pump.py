"""Threads that serve whichever connection has something to do: one at a time each, and none waits for a peer.

All sockets are in one epoll, and a thread that is free takes the next that is ready. What comes from elsewhere, such
as a read that a disk has finished or an order to stop, wakes a connection by its mailbox. Whatever happens, one
connection is run by one thread at a time, so that it needs no lock of its own.

    epoll: readable ──▶ a thread: Client.run ──▶ epoll again, waiting for what `run` returned
    post(item) ──────▶ the same, or once more by the thread that runs it already
    reads on and on ─▶ a thread of its own for a while: Client.stay

So DHCP on the event loop is as quick as ever: it never waits for these threads but for the interpreter's lock, which
they let go of at every system call.
"""

import logging
import mmap
import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from nbd.turns import FEWEST, Turns

log = logging.getLogger(__name__)

THREADS = max(2, min(4, len(os.sched_getaffinity(0))))
"""More do not serve more, and make the event loop wait longer for the interpreter's lock."""
HOST_S = 10.0
"""How long a thread without a client is kept, in seconds."""
INBOX_BYTES = 1 << 16
"""The most that one system call receives: 2,340 requests."""
STAYS = 64
"""So many clients may have a thread of their own at a time."""
CROWDED_S = 1.0
"""Where one more wanted a thread, nobody has one for so long: that is fair."""
FILL_BYTES = (1 << 18) + (1 << 16)
"""The most that one system call sends."""
READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
HUNG_UP = select.EPOLLRDHUP
"""The client sends no more."""
GONE = select.EPOLLHUP | select.EPOLLERR
"""It takes no more either; always waited for."""


class Desk:
    """What a thread works with."""

    def __init__(self, pump: "Pump") -> None:
        # From the kernel, which gives the pages that are used.
        self.inbox = memoryview(mmap.mmap(-1, INBOX_BYTES))
        self.batch = memoryview(mmap.mmap(-1, FILL_BYTES))
        self._pump = pump

    def is_alone(self) -> bool:
        """Tell whether no other client has a thread of its own: then nobody is kept waiting by waiting busily."""
        return self._pump.stays <= 1

    @property
    def is_crowded(self) -> bool:
        """Whether so many clients have threads of their own that these wait for their turns."""
        return self._pump.stays > FEWEST

    def settle(self) -> None:
        """See `Pump.settle`."""
        self._pump.settle()

    def turns(self, device: int) -> Turns:
        """Return the turns of such threads as read from the disk `device`: one that hangs lets go of no turn."""
        return self._pump.turns(device)


class _Own(threading.local):
    """What a thread has of its own."""

    desk: Desk | None = None
    """Of one that is none of the pump's."""
    is_shared: bool | None = None
    """Where it was placed; None: wherever it began."""


class Client(ABC):
    """A connection, as the threads see it."""

    __slots__ = ("_again", "_armed", "_mail", "_pump", "_running", "fd")

    def __init__(self, pump: "Pump", fd: int) -> None:
        self._pump = pump
        self.fd: int | None = fd
        self._mail: deque[Callable[[], None]] = deque()
        self._running = False
        self._again = False

    def post(self, item: Callable[[], None]) -> None:
        """Have `item` called by the thread that runs this next, also after the end. From any thread."""
        self._mail.append(item)
        self._pump.wake(self)

    def go_on(self, item: Callable[[], None]) -> None:
        """Do as `post`, and run it in this thread, which is none of the pump's, if no other one does."""
        self._mail.append(item)
        self._pump.run_here(self)

    def open_mail(self) -> None:
        """Call what was posted; for `run`."""
        while self._mail:
            self._mail.popleft()()

    @abstractmethod
    def run(self, desk: Desk, events: int) -> int:
        """Do what there is to do, and return which events to wait for; 0: only for mail.

        `events` is what the socket is ready for, 0 if it was not looked at. May not wait for anything. Whoever closes
        the socket calls `Pump.forget` first.
        """

    @property
    @abstractmethod
    def may_stay(self) -> bool:
        """Whether it is worth a thread of its own now."""

    @abstractmethod
    def stay(self, desk: Desk) -> None:
        """Serve it in a thread of its own, as long as it is worth that and `is_called` is false; `run` follows.

        May wait for its socket and for its disk.
        """

    @property
    def is_called(self) -> bool:
        """Whether it is to be run, or the threads are to end. From any thread."""
        return self._again or self._pump.closing or self._pump.is_crowded

    @abstractmethod
    def broken(self) -> None:
        """A bug of ours made `run` raise: end."""


class Pump:
    """The threads. They begin with the first client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards the fields below, and those of clients that begin with an underscore."""
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, READABLE)
        self._clients: dict[int, Client] = {}
        self._ready: deque[Client] = deque()
        self._threads: list[threading.Thread] = []
        self._own = _Own()
        self._lent: SimpleQueue[Client] = SimpleQueue()
        self._hosts = 0
        self.stays = 0
        """How many clients have a thread of their own."""
        self.closing = False
        """Whether the threads are to end."""
        self._turns: dict[int, Turns] = {}
        """Of clients' own threads, by their disks."""
        self._crowded_until_s = 0.0

    @property
    def is_crowded(self) -> bool:
        """Whether more clients want threads of their own than may have them."""
        return time.monotonic() < self._crowded_until_s

    def settle(self) -> None:
        """Have this thread run where all threads of NBD do while several clients have one of their own; else anywhere.

        They take turns with the interpreter's lock. To hand it over to another processor costs more than most of what
        is done with it: sixty clients of a cold disk need half the processor, and wait half as long, on one. A thread
        begins where the one is that started it, so the first time it is moved in any case.
        """
        if (is_shared := self.stays > 1) is not self._own.is_shared:
            self._own.is_shared = is_shared
            self._place(is_shared)

    def _place(self, is_shared: bool) -> None:
        """Move this thread.

        Where the main thread may run, which is never moved: a container's processors change while we run. Of these
        several clients have the last; the first has most of the interrupts. Whoever is right is left alone, because
        the kernel gives a thread that was placed once none of the processors that are added later.
        """
        with suppress(OSError):  # where it may not be asked for
            anywhere = os.sched_getaffinity(os.getpid())
            wanted = {max(anywhere)} if is_shared else anywhere
            if os.sched_getaffinity(0) != wanted:
                os.sched_setaffinity(0, wanted)

    def add(self, client: Client) -> None:
        """Take a client, and run it."""
        assert client.fd is not None
        with self._lock:
            self._clients[client.fd] = client
            self._epoll.register(client.fd, select.EPOLLONESHOT)
            while len(self._threads) < THREADS:
                thread = threading.Thread(target=self._work, name="nbd", daemon=True)
                self._threads.append(thread)
                thread.start()
        self.wake(client)

    def turns(self, device: int) -> Turns:
        """Return the turns of clients' own threads that read from a disk."""
        with self._lock:
            return self._turns.setdefault(device, Turns())

    def forget(self, client: Client) -> None:
        """Look at its socket no more."""
        with self._lock:
            if client.fd is not None and self._clients.get(client.fd) is client:
                del self._clients[client.fd]
                with suppress(OSError, ValueError):  # ValueError: the threads have ended
                    self._epoll.unregister(client.fd)
            client.fd = None

    def wake(self, client: Client) -> None:
        """Have it run, once more if it is running."""
        with self._lock:
            if client._running:
                client._again = True
                return
            if self.closing:  # and the bell may be somebody else's by now
                return
            client._running = True
            self._ready.append(client)
            os.eventfd_write(self._bell, 1)

    def run_here(self, client: Client) -> None:
        """Run a client in this thread, or have it run once more if it is running."""
        with self._lock:
            if client._running:
                client._again = True
                return
            client._running = True
        if self._own.desk is None:
            self._own.desk = Desk(self)
        self._run(self._own.desk, client, 0)

    def close(self) -> None:
        """End the threads; clients are not run any more. Waits for what they are doing now, which is not long."""
        with self._lock:
            self.closing = True
            os.eventfd_write(self._bell, 1)
        for thread in self._threads:
            thread.join(1.0)
        if not any(thread.is_alive() for thread in self._threads):
            self._epoll.close()
            os.close(self._bell)

    def _work(self) -> None:
        desk = Desk(self)
        while not self.closing:
            desk.settle()
            for fd, events in self._epoll.poll(maxevents=1):
                client = self._next(fd)
                if client is not None:
                    self._run(desk, client, 0 if fd == self._bell else events)
        os.eventfd_write(self._bell, 1)  # for the next thread

    def _next(self, fd: int) -> Client | None:
        """Return what is to be run now; it is marked as running."""
        with self._lock:
            if fd == self._bell:
                if len(self._ready) <= 1:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._bell)
                if not self._ready:
                    return None
                client: Client | None = self._ready.popleft()
            else:
                client = self._clients.get(fd)
                if client is None:
                    return None
                if client._running:
                    client._again = True
                    return None
                client._running = True
        return client

    def _run(self, desk: Desk, client: Client, events: int) -> None:
        while True:
            try:
                wanted = client.run(desk, events)
            except Exception:
                log.exception("nbd: dropped a client because of an error of ours")
                client.broken()
                wanted = 0
            with self._lock:
                if client._again:
                    client._again = False
                    events = 0
                    continue
                if wanted & (READABLE | WRITABLE) and client.may_stay and self._lend(client):
                    return
                client._running = False
                if client.fd is not None and not self.closing:
                    self._epoll.modify(client.fd, wanted | select.EPOLLONESHOT)
            return

    def _lend(self, client: Client) -> bool:
        """Give a client, which goes on running, a thread of its own; false if there is none."""
        if self.closing or client.fd is None or self.is_crowded:
            return False
        if self.stays >= STAYS:
            self._crowded_until_s = time.monotonic() + CROWDED_S
            return False
        self.stays += 1
        self._epoll.modify(client.fd, select.EPOLLONESHOT)
        self._lent.put(client)
        if self._hosts < self.stays:
            self._hosts += 1
            threading.Thread(target=self._host, name="nbd-stay", daemon=True).start()
        return True

    def _host(self) -> None:
        desk = Desk(self)
        while True:
            try:
                client = self._lent.get(timeout=HOST_S)
            except Empty:
                with self._lock:
                    if self._hosts > self.stays:
                        self._hosts -= 1
                        return
                continue
            try:
                client.stay(desk)
            except Exception:
                log.exception("nbd: dropped a client because of an error of ours")
                client.broken()
            with self._lock:
                self.stays -= 1
            self._run(desk, client, 0)
