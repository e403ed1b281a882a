"""Listens for NBD clients, keeps their number in bounds, and stops them in good order."""

import asyncio
import errno
import logging
import os
import socket
from functools import partial
from ipaddress import IPv4Address

from config.events import Report
from nbd.connection import Connection
from nbd.exports import Catalogue
from nbd.owner import Activity
from nbd.service import Service, Tls

__all__ = ["Activity", "Service", "Tls", "open_socket", "serve"]

STOP_S = 1.0
"""How long clients may take to read their last replies when the server stops, in seconds."""
REFUSE_S = 0.2
"""For how long clients that have no export yet are told that the server stops, in seconds."""

# A machine that was rebooted answers the first keepalive probe with a reset; one behind a switch that is being
# restarted has 20 minutes before its root is taken away.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 60), (socket.TCP_KEEPCNT, 20))

log = logging.getLogger(__name__)


def open_socket(address: str, port: int = 10809, interface: str | None = None) -> socket.socket:
    """Return a listening socket on `address`, reachable only through `interface` if one is given.

    Raises `OSError`, with what to do about it, when the port is taken, the address is not ours or we may not.
    """
    where = f"NBD on TCP {address}:{port}" + (f" ({interface})" if interface else "")
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.bind((address, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        match error.errno:
            case errno.EADDRINUSE:
                why = "another program has this port"
            case errno.EADDRNOTAVAIL:
                why = "no interface has this address"
            case errno.EACCES | errno.EPERM:
                why = "not permitted; it needs root or CAP_NET_BIND_SERVICE (and CAP_NET_RAW for an interface)"
            case errno.ENODEV:
                why = "there is no such interface"
            case _:
                why = os.strerror(error.errno or 0)
        raise OSError(error.errno, f"{where}: {why}") from None
    sock.setblocking(False)
    return sock


async def serve(sock: socket.socket, catalogue: Catalogue, report: Report, tls: Tls | None = None) -> None:
    """Serve exports on one socket of `open_socket` until cancelled; then close it.

    Clients get `STOP_S` for the replies that they have asked for. Reports `Stage.FETCH` for each export opened.
    """
    service = Service(catalogue, report, tls)
    try:
        await listen(service, sock)
    finally:
        service.close()


async def listen(service: Service, sock: socket.socket) -> None:
    """Serve on one of several sockets, as `serve` does."""
    listener = Listener(service, sock)
    listener.resume()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await listener.stop()


class Listener:
    """A listening socket, and the connections that came by it."""

    def __init__(self, service: Service, sock: socket.socket) -> None:
        self._service = service
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._connections: set[Connection] = set()
        self._stopped = asyncio.Event()

    def resume(self) -> None:
        """Accept clients."""
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    async def stop(self) -> None:
        """Accept no more, let the clients have their replies for `STOP_S`, close them all."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for connection in self._connections:
            connection.post(connection.finish)
        for patience_s in (REFUSE_S, STOP_S - REFUSE_S, STOP_S):
            if not self._connections:
                return
            try:
                async with asyncio.timeout(patience_s):
                    await self._stopped.wait()
            except TimeoutError:
                for connection in self._connections:
                    if connection.is_haggling or patience_s != REFUSE_S:
                        connection.post(partial(connection.end, "the server stops"))

    def _accept(self) -> None:
        """Take a few clients that have come, then let others have their turn."""
        for _ in range(16):
            try:
                sock, (host, _port) = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError as error:  # out of descriptors or memory: the same again at once would only spin
                self._service.complain("nbd: cannot accept clients: %s", error)
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(1.0, self.resume)
                return
            self._admit(sock, IPv4Address(host))

    def _admit(self, sock: socket.socket, peer: IPv4Address) -> None:
        if (why := self._service.refuses(peer)) is not None:
            self._service.complain("nbd %s: turned away: %s", peer, why)
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self._connections.add(self._service.admit(sock, peer, self._ended))

    def _ended(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._stopped.set()
