"""Listens for NBD clients, keeps their number in bounds, and stops them in good order."""

import asyncio
import errno
import logging
import os
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address

from config.events import Report
from nbd.connection import Connection, List, Open, Shared

__all__ = ["List", "Open", "open_socket", "serve"]

MAX_CONNECTIONS = 4096
"""Clients at once; further ones are turned away."""
MAX_PER_PEER = 512
"""Clients at once from one address."""
MAX_HANDSHAKES = 128
"""Clients that have not yet chosen an export. The one that has waited longest makes room for the next."""
THREADS = 4
"""How many reads may wait for disks at once."""
STOP_S = 1.0
"""How long clients may take to read their last replies when the server stops, in seconds."""

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


async def serve(sock: socket.socket, open_export: Open, list_exports: List, report: Report) -> None:
    """Serve exports on a socket of `open_socket` until cancelled; then close it.

    Clients get `STOP_S` for the replies that they have asked for. Reports `Stage.FETCH` for each export opened.
    """
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="nbd")
    server = Server(sock, open_export, list_exports, report, threads)
    server.resume()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        try:
            await server.stop()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


class Complaints:
    """Warnings about clients: at most `BURST` of them in `PERIOD_S` seconds, so that no client fills a disk."""

    BURST = 20
    PERIOD_S = 60.0

    def __init__(self) -> None:
        self._since = 0.0
        self._count = 0

    def __call__(self, message: str, *args: object) -> None:
        """Log a warning, or count it."""
        now = asyncio.get_running_loop().time()
        if now - self._since >= self.PERIOD_S:
            if self._count > self.BURST:
                log.warning("nbd: %d more warnings were not logged", self._count - self.BURST)
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= self.BURST:
            log.warning(message, *args)


class Server:
    """The listening socket and its connections."""

    def __init__(
        self,
        sock: socket.socket,
        open_export: Open,
        list_exports: List,
        report: Report,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._complain = Complaints()
        self._connections: set[Connection] = set()
        self._per_peer: Counter[IPv4Address] = Counter()
        self._handshakes: dict[Connection, None] = {}  # in the order of their arrival
        self._pause: asyncio.TimerHandle | None = None
        self._stopped: asyncio.Event = asyncio.Event()
        self._shared = Shared(open_export, list_exports, report, self._complain, self._chosen, self._ended, threads)

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
        for connection in list(self._connections):
            connection.finish()
        self._stopped.clear()
        if self._connections:
            try:
                async with asyncio.timeout(STOP_S):
                    await self._stopped.wait()
            except TimeoutError:
                for connection in list(self._connections):
                    connection.end("the server stops")

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
                self._complain("nbd: cannot accept clients: %s", error)
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(1.0, self.resume)
                return
            self._admit(sock, IPv4Address(host))

    def _admit(self, sock: socket.socket, peer: IPv4Address) -> None:
        if len(self._connections) >= MAX_CONNECTIONS or self._per_peer[peer] >= MAX_PER_PEER:
            self._complain(
                "nbd %s: turned away: %d connections, %d of them its own",
                peer,
                len(self._connections),
                self._per_peer[peer],
            )
            sock.close()
            return
        if len(self._handshakes) >= MAX_HANDSHAKES:
            next(iter(self._handshakes)).end("too many clients that choose no export")
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        connection = Connection(self._shared, sock, peer)
        self._connections.add(connection)
        self._per_peer[peer] += 1
        self._handshakes[connection] = None
        connection.start()

    def _chosen(self, connection: Connection) -> None:
        self._handshakes.pop(connection, None)

    def _ended(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._handshakes.pop(connection, None)
        self._per_peer[connection.peer] -= 1
        if not self._per_peer[connection.peer]:
            del self._per_peer[connection.peer]
        if not self._connections:
            self._stopped.set()
