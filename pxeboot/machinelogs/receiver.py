"""UDP sockets for what machines log: on each interface that is served, for machines that have a lease and nobody else.

Lines are kept beside the machine's timeline (`pxeboot.messages`); what says that its boot fails is told there.
Nothing here is needed to boot: a port that somebody else has is told, and tried again.
"""

import asyncio
import errno
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address

from config.events import Event, Stage
from config.observing import MachineLogs
from pxeboot.hub import TOKEN, Hub, one_line
from pxeboot.machinelogs import netconsole, syslog
from pxeboot.machinelogs.share import Share
from pxeboot.machinelogs.trouble import trouble
from pxeboot.messages import Severity
from pxeboot.seldom import Seldom

log = logging.getLogger("pxeboot")

REASONS = ("stranger", "too_many", "error")
"""Why a datagram is dropped: nobody's address, above the machine's share, or not received."""
_DRAIN = 32
"""Datagrams taken before other servers get their turn."""
_LARGEST = 4096
"""Bytes of a datagram; what is longer is cut. RFC 5426 wants 2,048 of a receiver, netconsole sends 1,000."""
_READ = 600
"""Characters of a line that are searched for tokens: what is kept, and a token that begins in it."""
_BUFFER = 1 << 20
_AGAIN_S = 10.0
_REST_S = 0.5


class Receiving:
    """Receives for all interfaces. Make one inside the running loop."""

    def __init__(self, hub: Hub, settings: MachineLogs) -> None:
        """Nothing is open yet."""
        self._hub = hub
        self._settings = settings
        self._share = Share(time.monotonic())
        self._assembly = netconsole.Assembly()
        self._seldom = Seldom()
        self.dropped: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        """Datagrams that were dropped, by `REASONS`."""

    async def listen(self, interface: str) -> None:
        """Receive on an interface until cancelled."""
        takers: tuple[tuple[str, int | None, Callable[[str, bytes], None]], ...] = (
            ("syslog", self._settings.syslog_port, self._syslog),
            ("netconsole", self._settings.netconsole_port, self._netconsole),
        )
        async with asyncio.TaskGroup() as open_ones:
            for what, port, take in takers:
                if port is not None:
                    open_ones.create_task(self._receive(what, port, interface, take), name=what)

    async def _receive(self, what: str, port: int, interface: str, take: Callable[[str, bytes], None]) -> None:
        loop, said = asyncio.get_running_loop(), False
        while True:
            try:
                sock = _open(port, interface)
                break
            except OSError as error:
                if not said:
                    log.error(
                        "no %s receiver at UDP port %d of %s, tried again: %s", what, port, interface, _why(error)
                    )
                said = True
                await asyncio.sleep(_AGAIN_S)
        with sock:
            loop.add_reader(sock, self._drain, sock, take)
            try:
                await asyncio.Event().wait()
            finally:
                loop.remove_reader(sock)

    def _drain(self, sock: socket.socket, take: Callable[[str, bytes], None]) -> None:
        now_s = time.monotonic()
        for _ in range(_DRAIN):
            try:
                data, (peer, _) = sock.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # the interface goes away
                self.dropped["error"] += 1
                loop = asyncio.get_running_loop()
                loop.remove_reader(sock)
                loop.call_later(_REST_S, partial(self._resume, sock, take))
                return
            machine = self._hub.machine_name(IPv4Address(peer))
            if machine is None:
                self.dropped["stranger"] += 1
            elif not self._share.take(machine, now_s):
                self.dropped["too_many"] += 1
            else:
                try:
                    take(peer, data)
                except Exception:  # a bug of ours must not stop the others
                    log.exception("a line of %s could not be taken", machine)

    def _resume(self, sock: socket.socket, take: Callable[[str, bytes], None]) -> None:
        if sock.fileno() >= 0:
            asyncio.get_running_loop().add_reader(sock, self._drain, sock, take)

    def _syslog(self, peer: str, data: bytes) -> None:
        record = syslog.parse(data)
        self._keep(peer, f"syslog:{record.program}" if record.program else "syslog", record.program or "-", record)

    def _netconsole(self, peer: str, data: bytes) -> None:
        for record in self._assembly.take(peer, data):
            source = f"journal:{record.program}" if record.program else "kernel"
            self._keep(peer, source, record.program, record)

    def _keep(self, peer: str, source: str, program: str, record: syslog.Record | netconsole.Record) -> None:
        """Keep a line, and tell what is wrong with its machine."""
        hub, address = self._hub, IPv4Address(peer)
        machine, text = hub.machine_name(address), kept(record.text)
        if machine is None or not text:
            return
        now_s = time.time()
        hub.messages.add(machine, now_s, one_line(source), text, record.severity)
        if record.severity > Severity.NOTICE and not _looks_bad(text):
            return
        found = trouble(program, text)
        if found is None or not self._seldom(machine, found.kind):
            return
        if found.certain:
            hub.report(Event(address, Stage.FAILED, str(found)))
        else:
            hub.timeline.note(machine, str(found), now_s)
        log.warning("%s: %s", machine, found, extra={"ip": peer})


def kept(text: str) -> str:
    """Return what is kept of a line: its beginning, without tokens."""
    return one_line(TOKEN.sub("***", text.strip()[:_READ]))


def _looks_bad(text: str) -> bool:
    """Return whether a line may be bad news though it does not say so: plain netconsole has no severities."""
    return any(word in text for word in ("panic", "BUG", "error", "memory", "oom", "nbd", "fault", "VFS", "blocked"))


def _open(port: int, interface: str) -> socket.socket:
    """Return a socket for datagrams to `port` that come by `interface`. Raises `OSError`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        sock.setblocking(False)
        sock.bind(("0.0.0.0", port))
    except OSError:
        sock.close()
        raise
    return sock


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is taken; another syslog daemon runs here"
        case errno.EACCES | errno.EPERM:
            return "no privilege; run as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW"
        case _:
            return error.strerror or str(error)
