"""Processes that carry on transfers in which all goes well, so that they cost the event loop nothing.

With the common window of one block a transfer is a dialogue, and the event loop needs several times the processor of
a server in C for each word of it; and there is only one loop. So once a client has answered some windows in a row at
once, its socket and its file are handed to a process of ours that does nothing but this (`tftp.carrier`), and the
loop has it back at the first event that is anything else: a gap, silence, an ERROR, the end. All decisions, counters
and log lines stay here. Clients that find no free carrier are served by the loop.

All carriers are copies of one process, their origin, which is started when the first is wanted. It does nothing else
but say who of them may send when they keep all processors busy (`tftp.turns`).
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tftp.carrier import ENOUGH
from tftp.steady import Steady

log = logging.getLogger("tftp")

IDLE_S = 60.0
"""How long a carrier without work is kept, and the origin without carriers."""
FAILURES = 3
"""After so many carriers that died, no more are started."""
_END_S = 2.0

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from tftp.origin import main; main(int(sys.argv[2]))"

Back = Callable[[Steady | None, bytes], None]
"""Called with where a transfer has come to and a datagram that is to be acted on, if any. None: its carrier died."""


class Origin:
    """The process that carriers are copies of."""

    def __init__(self) -> None:
        """Start it. Raises `OSError`."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.process = subprocess.Popen(
                    # Isolated and without site-packages: it starts in 30 ms and needs nothing but this package.
                    [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parents[1]), str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    process_group=0,
                )
            except OSError:
                self.control.close()
                raise
        self.control.setblocking(False)

    def copy(self) -> socket.socket:
        """Have it make a carrier, and return the socket to that. Raises `OSError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self.control, [b"one"], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    def end(self) -> None:
        """Have it end, and wait for that; it waits for all carriers, which are told to end before."""
        self.control.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Carrier:
    """One process, as its control socket: when that is closed it ends, at once unless it carries something."""

    def __init__(self, control: socket.socket, asker: Hashable) -> None:
        self.control = control
        self.asker = asker
        """For whom it is being started."""
        self.back: Back | None = None
        """Whom to call about what it carries; None when it is free."""
        self.idle: asyncio.TimerHandle | None = None


class Carriers:
    """At most `most` carriers, started when there is work for them. Make one inside a running event loop."""

    def __init__(self, most: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._failures = 0
        self._origin: Origin | None = None
        self._beginning = False  # the origin is being started
        self._asked: set[Hashable] = set()  # for whom a carrier is being started
        self._carriers: set[Carrier] = set()
        self._free: list[Carrier] = []
        self._closed = False
        # Of its own: a new process first closes what it inherited, which takes as long as a disk hangs (FUSE).
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tftp-carriers")

    def ready(self, asker: Hashable) -> bool:
        """Whether one is free. If not, and there may be more, one is started for the next time `asker` asks."""
        wanted = not self._free and not self._closed and len(self._carriers) < self._most
        if wanted and not self._beginning and asker not in self._asked:
            self._start(asker)
        return bool(self._free)

    def carry(self, steady: Steady, sock: socket.socket, file: int, back: Back) -> bool:
        """Have a free carrier go on with `steady`: send `file` from `sock`, which is connected to the client.

        Returns False if none is free after all. Otherwise `back` is called, once. Until then nothing may be read
        from `sock`; to have it back sooner, shut it down.
        """
        while self._free:
            carrier = self._free.pop()
            try:
                socket.send_fds(carrier.control, [steady.pack()], [sock.fileno(), file])
            except OSError:
                self._lost(carrier)
                continue
            if carrier.idle is not None:
                carrier.idle.cancel()
                carrier.idle = None
            carrier.back = back
            return True
        return False

    def close(self) -> None:
        """End all of them. Whoever has something carried shuts its socket down first."""
        self._closed = True
        for carrier in list(self._carriers):
            self._forget(carrier)
        if self._origin is not None:
            self._origin.end()
            self._origin = None
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self, asker: Hashable) -> None:
        if self._origin is None:
            self._beginning = True
            self._loop.run_in_executor(self._thread, Origin).add_done_callback(self._begun)
            return
        try:
            carrier = Carrier(self._origin.copy(), asker)
        except OSError as error:
            self._dismiss_origin()
            self._failed(f"cannot be started: {error}")
            return
        self._asked.add(asker)
        self._carriers.add(carrier)
        self._loop.add_reader(carrier.control, self._readable, carrier)

    def _begun(self, done: "asyncio.Future[Origin]") -> None:
        self._beginning = False
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._failed(f"cannot be started: {error}")
        elif self._closed:
            done.result().end()
        else:
            self._origin = done.result()

    def _rest(self, carrier: Carrier) -> None:
        self._free.append(carrier)
        carrier.idle = self._loop.call_later(IDLE_S, self._dismiss, carrier)

    def _dismiss(self, carrier: Carrier) -> None:
        self._forget(carrier)
        if not self._carriers:
            self._dismiss_origin()

    def _dismiss_origin(self) -> None:
        """Have it end; who asks next gets another."""
        if self._origin is not None:
            self._thread.submit(self._origin.end)
            self._origin = None

    def _readable(self, carrier: Carrier) -> None:
        try:
            message = carrier.control.recv(ENOUGH)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lost(carrier)
            return
        self._asked.discard(carrier.asker)  # its first message says that it is there
        back, carrier.back = carrier.back, None
        self._rest(carrier)
        if back is not None:
            self._failures = 0
            back(*Steady.unpack(message))

    def _lost(self, carrier: Carrier) -> None:
        self._forget(carrier)
        self._failed("ended by itself")
        if carrier.back is not None:
            carrier.back(None, b"")

    def _forget(self, carrier: Carrier) -> None:
        self._loop.remove_reader(carrier.control)
        carrier.control.close()
        self._asked.discard(carrier.asker)
        self._carriers.discard(carrier)
        if carrier in self._free:
            self._free.remove(carrier)
        if carrier.idle is not None:
            carrier.idle.cancel()

    def _failed(self, why: str) -> None:
        self._failures += 1
        log.error("tftp: a process that carries transfers %s", why)
        if self._failures == FAILURES:
            self._most = 0
            log.error("tftp: no more of them are started; transfers go on without, more slowly")
