"""How bytes get to a client and back: plainly, or through TLS. Nothing of `Line` ever waits for it."""

import socket
import ssl
import struct
from contextlib import suppress
from errno import EFAULT
from typing import Protocol

from nbd.pump import READABLE, WRITABLE

RECORD_BYTES = 1 << 14
"""The most in one record of TLS."""
PATIENCE_S = 0.2
"""How long those methods wait that do, in seconds."""

_TIMEOUT = struct.pack("@ll", 0, int(PATIENCE_S * 1e6))


class Line(Protocol):
    """One socket. Its methods raise `OSError` when the client is gone."""

    @property
    def is_blocked(self) -> bool:
        """Whether `flush` has to be called, once the socket takes more, before anything else is sent."""

    @property
    def has_more(self) -> bool:
        """Whether there is something to receive that the socket does not tell of."""

    def receive(self, into: memoryview) -> int | None:
        """Return how much was received, 0 at the end; None if there is nothing now."""

    def send(self, data: memoryview) -> int:
        """Return how much of `data` was taken; 0 if none is now."""

    def flush(self) -> None:
        """Try to send what was taken and has not left."""

    def close(self) -> None:
        """Hang up."""


class Plain:
    """The socket itself."""

    __slots__ = ("_sock",)
    is_blocked = False
    has_more = False

    def __init__(self, sock: socket.socket) -> None:
        """Take over `sock`."""
        self._sock = sock
        sock.setblocking(True)  # but each call that is not to wait says so
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEOUT)

    def receive(self, into: memoryview) -> int | None:
        """See `Line`."""
        try:
            return self._sock.recv_into(into, 0, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return None

    def await_data(self, into: memoryview) -> int | None:
        """Do as `receive`, after waiting for `PATIENCE_S` at most."""
        try:
            return self._sock.recv_into(into)
        except (BlockingIOError, InterruptedError):
            return None

    def send_all(self, data: memoryview) -> int:
        """Do as `send`, but all of it, unless the client takes nothing for `PATIENCE_S`."""
        sent = 0
        with suppress(BlockingIOError, InterruptedError):
            while sent < len(data):
                sent += self._sock.send(data[sent:])
        return sent

    def send_parts(self, parts: list[bytes | memoryview], *, wait: bool = True) -> int:
        """Do as `send_all`, of several parts, and stop also where one of them cannot be read (EFAULT).

        Without `wait` do as `send`.
        """
        sent, left = 0, parts[:]
        flags = 0 if wait else socket.MSG_DONTWAIT
        try:
            while left:
                done = self._sock.sendmsg(left, (), flags)
                sent += done
                while left and done >= len(left[0]):
                    done -= len(left.pop(0))
                if left:
                    left[0] = memoryview(left[0])[done:]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            if error.errno != EFAULT:
                raise
        return sent

    def send(self, data: memoryview) -> int:
        """See `Line`."""
        try:
            return self._sock.send(data, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return 0

    def flush(self) -> None:
        """See `Line`; there is nothing to do."""

    def close(self) -> None:
        """See `Line`."""
        self._sock.close()


class Tls:
    """The socket with TLS. What OpenSSL has begun to send is kept here: it wants to be given it again, unchanged."""

    __slots__ = ("_begun", "_sock")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Take over `sock`, whose handshake is yet to be done. Raises `OSError`."""
        sock.setblocking(False)
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._begun = b""

    @property
    def is_blocked(self) -> bool:
        """See `Line`."""
        return bool(self._begun)

    @property
    def has_more(self) -> bool:
        """See `Line`."""
        return self._sock.pending() > 0

    def shake_hands(self) -> int:
        """Go on with the handshake; return which event it waits for, 0 when it is over. Raises `OSError`."""
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            return READABLE
        except ssl.SSLWantWriteError:
            return WRITABLE
        return 0

    def receive(self, into: memoryview) -> int | None:
        """See `Line`."""
        received = 0
        try:
            while received < len(into):
                got = self._sock.recv_into(into[received:])
                if not got:
                    break
                received += got
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return received or None
        return received

    def send(self, data: memoryview) -> int:
        """See `Line`."""
        sent = 0
        while sent < len(data) and not self._begun:
            record = data[sent : sent + RECORD_BYTES]
            try:
                sent += self._sock.send(record)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._begun = bytes(record)
                sent += len(record)
        return sent

    def flush(self) -> None:
        """See `Line`."""
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self._begun:
                self._begun = self._begun[self._sock.send(self._begun) :]

    def close(self) -> None:
        """See `Line`; the client is told that this is the end, if it still listens."""
        with suppress(OSError, ValueError):
            self._sock.unwrap()
        self._sock.close()
