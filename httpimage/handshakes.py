"""Connections with TLS: accepted, and handed on once their handshake is over. Few at once, and not for long."""

import asyncio
import logging
import socket
import ssl
from asyncio import sslproto
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from httpimage.complaints import Complaints
from httpimage.tls import Credentials

HANDSHAKE_S = 10.0
"""How long a handshake may take from the connection on, in seconds."""
MAX_HANDSHAKES = 512
"""Handshakes at once."""
MAX_HANDSHAKES_PER_PEER = 32
"""Handshakes with one address at once."""
WRITE_BUFFER = 1 << 15
"""Bytes that wait to be encrypted, or to be sent, before a sender waits; asyncio would take half a megabyte."""
READ_BUFFER = 1 << 14
"""Bytes that are read from a connection at once. asyncio takes 256 KiB for each connection as long as it lasts, and
a thousand would cost 270 MB; our clients send some hundred bytes at a time."""

_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS 1.2 or later",
    "VERSION_TOO_LOW": "it speaks no TLS 1.2 or later",
    "NO_SHARED_CIPHER": "it knows none of our ciphers",
    "HTTP_REQUEST": "it speaks HTTP without TLS",
    "WRONG_VERSION_NUMBER": "it speaks no TLS",
}


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket whose connections use TLS."""

    sock: socket.socket
    credentials: Credentials


class Handshakes:
    """Those that are going on."""

    def __init__(self, door: Door, protocol: Callable[[], asyncio.Protocol], complain: Complaints) -> None:
        """`protocol` makes what a connection is handed to; it sees nothing of one whose handshake fails."""
        self._door = door
        self._protocol = protocol
        self._complain = complain
        self._by_peer: Counter[str] = Counter()
        sslproto.SSLProtocol.max_size = READ_BUFFER  # the only place where it can be said

    def take(self, sock: socket.socket, peer: str) -> Coroutine[Any, Any, None] | None:
        """Return what is done with a connection; None if there are too many, and it was closed."""
        if self._by_peer.total() >= MAX_HANDSHAKES or self._by_peer[peer] >= MAX_HANDSHAKES_PER_PEER:
            self._complain(logging.WARNING, "https %s: too many handshakes at once: one refused", peer)
            sock.close()
            return None
        self._by_peer[peer] += 1
        return self._shake(sock, peer)

    async def _shake(self, sock: socket.socket, peer: str) -> None:
        """Have a connection introduce itself, and hand it on."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await _readable(sock)  # who says nothing costs a socket, and none of the memory that TLS takes
                context = self._door.credentials.context
                transport, _ = await loop.connect_accepted_socket(self._protocol, sock, ssl=context)
            transport.set_write_buffer_limits(high=WRITE_BUFFER)
        except TimeoutError:
            self._complain(logging.INFO, "https %s: no handshake within %d s", peer, HANDSHAKE_S)
        except OSError as error:  # ssl.SSLError is one
            self._complain(logging.INFO, "https %s: no handshake: %s", peer, why(error))
        finally:
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]


async def _readable(sock: socket.socket) -> None:
    """Wait until the peer has said something, or is gone. Closes the socket if it is cancelled."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(sock, there.set)
    try:
        await there.wait()
    except asyncio.CancelledError:
        loop.remove_reader(sock)
        sock.close()
        raise
    loop.remove_reader(sock)


def why(error: OSError) -> str:
    """Return why a handshake failed, for a person."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError(reason=str() as reason) if "ALERT" in reason:
            return f"it does not accept us: {reason.lower().replace('_', ' ')}"
        case ssl.SSLError(reason=str() as reason):
            return _REASONS.get(reason, reason.lower().replace("_", " "))
        case _:
            return "it went away"
