"""What the connections of all listening sockets share: the catalogue, the threads, and the limits to their number."""

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from typing import Any

from config.disks import Disks
from config.events import Event, Report, Stage
from nbd.actions import OpenExport, TlsMode
from nbd.connection import Connection
from nbd.engine import HANDSHAKE_S, Session
from nbd.exports import Asked, Catalogue, Export
from nbd.owner import Activity
from nbd.pump import THREADS, Pump
from nbd.work import Work

MAX_CONNECTIONS = 4096
"""Clients at once; further ones are turned away."""
MAX_PER_PEER = 512
"""Clients at once from one address."""
MAX_HANDSHAKES = 128
"""Clients that have not yet chosen an export. The one that has waited longest makes room for the next."""
DISK_THREADS = 64
"""How many commands may wait for one disk at once, at most one read of each connection."""
DISK_WAITING = 1 << 16
"""How many more wait for their turn. Who comes then is dropped."""
LINGER_S = 5.0
"""How long a client may take to read its last replies, in seconds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tls:
    """Whether clients may, or must, use TLS (STARTTLS), and what a handshake needs."""

    mode: TlsMode
    context: Callable[[], ssl.SSLContext]
    """Returns the newest certificate; asked for each handshake. Called in a thread, may not block."""


class Complaints:
    """Warnings about clients: at most `BURST` of them in `PERIOD_S` seconds, so that no client fills a disk."""

    BURST = 20
    PERIOD_S = 60.0

    def __init__(self) -> None:
        self._since = -self.PERIOD_S
        self._count = 0
        self._lock = threading.Lock()

    def __call__(self, message: str, *args: object) -> None:
        """Log a warning, or count it. Of one client, the first of `args` is its address. From any thread."""
        with self._lock:
            now = time.monotonic()
            if now - self._since >= self.PERIOD_S:
                if self._count > self.BURST:
                    log.warning("nbd: %d more warnings were not logged", self._count - self.BURST)
                self._since, self._count = now, 0
            self._count += 1
            if self._count > self.BURST:
                return
        peer = next((str(arg) for arg in args[:1] if isinstance(arg, IPv4Address)), None)
        log.warning(message, *args, extra={"ip": peer} if peer else None)


class Steps:
    """Steps of TLS handshakes: few at once, so that a flood of them leaves threads for those who read their disk."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: dict[Connection, None] = {}  # in the order of their arrival
        self._lock = threading.Lock()

    def begin(self, connection: Connection) -> bool:
        """Take a place; if there is none, `connection` is woken when there is, and asks again."""
        with self._lock:
            if self._free:
                self._free -= 1
                self._waiting.pop(connection, None)
                return True
            self._waiting[connection] = None
            return False

    def end(self) -> None:
        """Give a place back."""
        with self._lock:
            self._free += 1
            following = next(iter(self._waiting), None)
        if following is not None:
            following.post(_nothing)

    def forget(self, connection: Connection) -> None:
        """Wait no more: it has ended. Another one is woken in its place."""
        with self._lock:
            if connection not in self._waiting:
                return
            del self._waiting[connection]
            following = next(iter(self._waiting), None) if self._free else None
        if following is not None:
            following.post(_nothing)


def _nothing() -> None:
    """Be mail that only wakes."""


class Service:
    """The server but for its listening sockets (`nbd.transport.listen`): the `Owner` of all connections."""

    def __init__(self, catalogue: Catalogue, report: Report, tls: Tls | None = None) -> None:
        """Begin no thread yet. Made, and called if nothing else is said, in the running loop."""
        self._catalogue = catalogue
        self._report = report
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._pump = Pump()
        self._disks = Disks(DISK_THREADS, DISK_WAITING, "nbd-disk")
        self._steps = Steps(THREADS - 1)
        self._connections: dict[Connection, Callable[[Connection], None]] = {}
        self._per_peer: Counter[IPv4Address] = Counter()
        self._haggling: dict[Connection, asyncio.TimerHandle] = {}  # in the order of their arrival
        self._tasks: set[asyncio.Task[None]] = set()
        self._past: Counter[str] = Counter()
        self._accepted = self._turned_away = 0
        self.complain = Complaints()

    def use(self, tls: Tls | None) -> None:
        """Treat the clients that come from now on so. Connections that are there go on as they are."""
        self._tls = tls

    def connections(self) -> list[Activity]:
        """Return what every connection does."""
        return [connection.activity for connection in self._connections]

    @property
    def counters(self) -> Counter[str]:
        """What all connections have done since the start; `open` is how many there are, the others only grow."""
        total = self._past.copy()
        for activity in self.connections():
            total.update(_counts(activity))
        total.update(open=len(self._connections), accepted=self._accepted, turned_away=self._turned_away)
        return total

    def close(self) -> None:
        """End the threads. There are no connections left, or they are beyond hope."""
        for task in self._tasks:
            task.cancel()
        self._pump.close()
        self._disks.close()

    def refuses(self, peer: IPv4Address) -> str | None:
        """Return why a client is not let in, if it is not."""
        total, own = len(self._connections), self._per_peer[peer]
        if total < MAX_CONNECTIONS and own < MAX_PER_PEER:
            return None
        self._turned_away += 1
        return f"{total} connections, {own} of them its own"

    def admit(self, sock: socket.socket, peer: IPv4Address, ended: Callable[[Connection], None]) -> Connection:
        """Serve a client that was just accepted; `ended` is called in the loop."""
        if len(self._haggling) >= MAX_HANDSHAKES:
            oldest = next(iter(self._haggling))
            self._haggling.pop(oldest).cancel()
            oldest.post(oldest.make_room)
        session = Session(self._tls.mode if self._tls is not None else TlsMode.NONE)
        connection = Connection(self._pump, self, sock, peer, session)
        self._connections[connection] = ended
        self._accepted += 1
        self._per_peer[peer] += 1
        self._haggling[connection] = self._loop.call_later(HANDSHAKE_S + 0.01, connection.post, connection.expire)
        self._pump.add(connection)
        return connection

    # What connections ask, in the pump's threads

    def open(self, connection: Connection, action: OpenExport, secure: bool) -> None:
        """See `nbd.owner.Owner`."""
        asked = Asked(action.name, connection.peer, secure, action.keep)
        self._in_loop(self._begin, self._open(connection, action, asked))

    def names(self, connection: Connection, secure: bool) -> None:
        """See `nbd.owner.Owner`."""
        self._in_loop(self._begin, self._names(connection, secure))

    def work(self, connection: Connection, export: Export) -> Work:
        """See `nbd.owner.Owner`."""
        return Work(export, self._disks, export.device, connection.post, connection.go_on, self._pump.settle)

    def chosen(self, connection: Connection, export: Export) -> None:
        """See `nbd.owner.Owner`."""
        self._in_loop(self._chosen, connection, export)

    def lingers(self, connection: Connection) -> None:
        """See `nbd.owner.Owner`."""
        self._in_loop(self._loop.call_later, LINGER_S, connection.post, partial(connection.end, "closed"))

    def ended(self, connection: Connection) -> None:
        """See `nbd.owner.Owner`."""
        self._steps.forget(connection)
        self._in_loop(self._ended, connection)

    def tls_context(self) -> ssl.SSLContext:
        """See `nbd.owner.Owner`."""
        if self._tls is None:
            raise RuntimeError("the session wants TLS where there is none")
        return self._tls.context()

    def may_shake(self, connection: Connection) -> bool:
        """See `nbd.owner.Owner`."""
        return self._steps.begin(connection)

    def shook(self) -> None:
        """See `nbd.owner.Owner`."""
        self._steps.end()

    # In the loop

    def _in_loop(self, call: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *args)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, connection: Connection, action: OpenExport, asked: Asked) -> None:
        try:
            found = await self._catalogue.open(asked)
        except OSError as error:
            connection.post(partial(connection.opened, action, error))
        except Exception:
            log.exception("nbd %s: cannot open %r", connection.peer, action.name)
            connection.post(partial(connection.end, "an error of ours"))
        else:
            connection.post(partial(connection.opened, action, found))

    async def _names(self, connection: Connection, secure: bool) -> None:
        try:
            names = await self._catalogue.names(connection.peer, secure)
        except OSError as error:
            connection.post(partial(connection.listed, error))
        except Exception:
            log.exception("nbd %s: cannot list the exports", connection.peer)
            connection.post(partial(connection.end, "an error of ours"))
        else:
            connection.post(partial(connection.listed, names))

    def _chosen(self, connection: Connection, export: Export) -> None:
        if connection in self._haggling:
            self._haggling.pop(connection).cancel()
        detail = f"NBD export {export.name!r} opened, {export.size_bytes / 1e6:.0f} MB"
        self._report(Event(connection.peer, Stage.FETCH, detail))
        about = {"ip": str(connection.peer), "file": connection.name}
        log.info("nbd %s attached %r: %.0f MB", connection.peer, connection.name, export.size_bytes / 1e6, extra=about)

    def _ended(self, connection: Connection) -> None:
        if connection in self._haggling:
            self._haggling.pop(connection).cancel()
        ended = self._connections.pop(connection, None)
        if ended is None:
            return
        self._past.update(_counts(connection.activity))
        self._per_peer[connection.peer] -= 1
        if not self._per_peer[connection.peer]:
            del self._per_peer[connection.peer]
        ended(connection)


def _counts(activity: Activity) -> dict[str, int]:
    return {
        "reads": activity.reads,
        "read_bytes": activity.read_bytes,
        "cold_reads": activity.cold_reads,
        "writes": activity.writes,
        "written_bytes": activity.written_bytes,
        "errors": activity.errors,
    }
