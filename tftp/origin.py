"""The process that carriers are copies of: it makes them, and says whose turn it is to send. See `tftp.carriers`."""

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from time import monotonic

from tftp.carrier import ASK, SEND, SEND_EAGERLY, Turn, received, serve
from tftp.turns import LOOK_S, TURN_S, Processors, Turns


def main(control: int) -> None:
    """For each socket that comes by the one with the descriptor `control`, have a copy of this process be a carrier.

    Copies share most of their memory, so that eight of them fit into the caches of a processor together. When
    `control` is closed, this waits for all of them to end.
    """
    # They end when the server does, not before: the server may have to say something to the clients first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a copy ended
    gc.disable()  # nothing here refers to itself, and it would look through the blocks of each part of a file
    with socket.socket(fileno=control) as server:
        copies = _Copies(server)
        while copies.wait():
            pass
    copies.close()  # from now on all may send
    with suppress(ChildProcessError):
        os.wait()  # there is nothing to learn, so it returns when there is no copy any more


class _Copies:
    """The carriers, by the descriptor of the socket on which each asks for its turn."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._askers: dict[int, socket.socket] = {}
        self._turns = Turns(len(os.sched_getaffinity(0)))
        self._processors = Processors()
        self._looked_at = monotonic()
        self._crowded = False
        self._poll = select.poll()
        self._poll.register(server, select.POLLIN)

    def wait(self) -> bool:
        """See to what comes next. Returns False when the server is gone."""
        for descriptor, _ in self._poll.poll(TURN_S * 1000 if self._turns.crowded else None):
            if descriptor != self._server.fileno():
                self._hear(descriptor)
                continue
            descriptors = received(self._server)[1]
            if not descriptors:
                return False
            with socket.socket(fileno=descriptors[0]) as theirs, suppress(OSError):
                self._make(theirs)  # or there is no room; the server sees that its socket is closed
        now = monotonic()
        before, self._crowded = self._crowded, self._turns.crowded
        if self._crowded and not before:  # how busy they were without the crowd is no measure of it
            self._looked_at = now
            self._processors.shares()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._turns.look(*self._processors.shares())
        for descriptor in self._turns.next(now):
            eager = self._turns.few and self._turns.spare
            with suppress(OSError):  # it has ended, which is heard next
                self._askers[descriptor].send(SEND_EAGERLY if eager else SEND)
        return True

    def close(self) -> None:
        """Stop telling anybody to wait."""
        for asker in self._askers.values():
            asker.close()

    def _make(self, server: socket.socket) -> None:
        """Make a copy that serves `server`. Raises `OSError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                copy = os.fork()
            except OSError:
                ours.close()
                raise
            if copy == 0:
                try:
                    ours.close()
                    self.close()
                    self._server.close()
                    serve(server, Turn(theirs))
                except BaseException:  # a bug of ours must not make a second origin of it
                    sys.excepthook(*sys.exc_info())
                finally:
                    os._exit(0)
        self._askers[ours.fileno()] = ours
        self._poll.register(ours, select.POLLIN)

    def _hear(self, descriptor: int) -> None:
        """A carrier asks for its turn, ends it, or is no more."""
        try:
            said = self._askers[descriptor].recv(ASK.size)
        except OSError:
            said = b""
        if not said:
            self._turns.end(descriptor)
            self._poll.unregister(descriptor)
            self._askers.pop(descriptor).close()
            return
        wanted, used_s = ASK.unpack(said)
        self._processors.used(used_s)
        self._turns.ask(descriptor) if wanted else self._turns.end(descriptor)
