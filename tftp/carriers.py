"""Processes that carry on transfers in which all goes well, so that they cost the event loop nothing.

With the common window of one block a transfer is a dialogue, and the event loop needs several times the processor of
a server in C for each word of it; and there is only one loop. So once a client has answered some windows in a row at
once, its socket and its file are handed to a process of ours that does nothing but this (`tftp.carrier`), and the
loop has it back at the first event that is anything else: a gap, silence, an ERROR, the end. All decisions, counters
and log lines stay here. Clients that find no free carrier are served by the loop.
"""

import asyncio
import logging
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
"""How long a carrier without work is kept: each takes some 6 MB."""
FAILURES = 3
"""After so many carriers that died, no more are started."""
_END_S = 2.0

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from tftp.carrier import main; main(int(sys.argv[2]))"

Back = Callable[[Steady | None, bytes], None]
"""Called with where a transfer has come to and a datagram that is to be acted on, if any. None: its carrier died."""


class Carrier:
    """One process."""

    def __init__(self) -> None:
        """Start it. Raises `OSError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.process = subprocess.Popen(
                    # Isolated and without site-packages: it starts in 30 ms and needs nothing but this package.
                    [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parents[1]), str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self.control = ours
        self.back: Back | None = None
        """Whom to call about what it carries; None when it is free."""
        self.idle: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Have it end, and wait for that. It ends at once unless it carries something."""
        self.control.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Carriers:
    """At most `most` carriers, started when there is work for them. Make one inside a running event loop."""

    def __init__(self, most: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._failures = 0
        self._asked: set[Hashable] = set()  # for whom one is being started
        self._carriers: set[Carrier] = set()
        self._free: list[Carrier] = []
        self._closed = False
        # Of its own: a new process first closes what it inherited, which takes as long as a disk hangs (FUSE).
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tftp-carriers")

    def ready(self, asker: Hashable) -> bool:
        """Whether one is free. If not, and there may be more, one is started for the next time `asker` asks."""
        known = len(self._carriers) + len(self._asked)
        if not self._free and not self._closed and asker not in self._asked and known < self._most:
            self._asked.add(asker)
            start = self._loop.run_in_executor(self._thread, Carrier)
            start.add_done_callback(lambda done: self._started(asker, done))
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
        for carrier in self._carriers:
            self._loop.remove_reader(carrier.control)
            if carrier.idle is not None:
                carrier.idle.cancel()
            carrier.end()
        self._carriers.clear()
        self._free.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _started(self, asker: Hashable, done: "asyncio.Future[Carrier]") -> None:
        self._asked.discard(asker)
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._failed(f"cannot be started: {error}")
            return
        carrier = done.result()
        if self._closed:
            carrier.end()
            return
        self._carriers.add(carrier)
        self._loop.add_reader(carrier.control, self._readable, carrier)
        self._rest(carrier)

    def _rest(self, carrier: Carrier) -> None:
        self._free.append(carrier)
        carrier.idle = self._loop.call_later(IDLE_S, self._dismiss, carrier)

    def _dismiss(self, carrier: Carrier) -> None:
        self._forget(carrier)
        carrier.end()

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
        back, carrier.back = carrier.back, None
        self._rest(carrier)
        if back is not None:
            self._failures = 0
            back(*Steady.unpack(message))

    def _lost(self, carrier: Carrier) -> None:
        self._forget(carrier)
        carrier.control.close()
        carrier.process.kill()
        self._failed(f"ended by itself with code {carrier.process.wait()}")
        if carrier.back is not None:
            carrier.back(None, b"")

    def _forget(self, carrier: Carrier) -> None:
        self._loop.remove_reader(carrier.control)
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
