"""What we serve on: each interface with its sockets and its four servers, from when it is there until it goes.

An interface is served once it exists, is up and has an IPv4 address. It is served on while it is down or without an
address, so that what runs goes on when it is back; it is closed when it is gone, or is another one of the same name
(the kernel's index says so). The others know nothing of it. A port that another program has stops us at the start;
later, on an interface that came back, it is an error in the log, and tried again.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Interface

import dhcp.engine
import dhcp.fast
import dhcp.others
import dhcp.sniff
import dhcp.store
import dhcp.transport
import dhcp.wire
import httpimage.gate
import httpimage.handshakes
import httpimage.tls
import httpimage.transport
import nbd.transport
import tftp.helpers
import tftp.transport
from config import interfaces
from config.content import Lookup, WebLookup
from config.delivery import Http, Tftp
from config.events import Report, Stage
from config.interfaces import Link
from config.model import Server, Tls
from pxeboot.inherited import Inherited
from pxeboot.joining.text import told
from pxeboot.links import Links, Watch
from pxeboot.nbdkit.engine import Engine

log = logging.getLogger("pxeboot")

AGAIN_S = 3.0
"""When to try once more to open the sockets of an interface."""


class Sockets:
    """The listening sockets of one interface; `link` is what it was when they were opened."""

    def __init__(
        self,
        link: Link,
        server: Server,
        tls: Tls | None,
        nbdkit_port: int | None = None,
        inherited: Inherited | None = None,
    ) -> None:
        """Bind them all, but those that are `inherited`; that of nbdkit if it has a port.

        Raises `OSError` that names the port.
        """
        self.link = link
        kept = inherited or Inherited()
        with ExitStack() as undo:
            self.dhcp = dhcp.transport.open_sockets(link.name)
            undo.callback(self.dhcp.close)
            anywhere = "0.0.0.0"
            self.tftp: socket.socket = undo.enter_context(tftp.transport.open_socket(anywhere, link.name))
            self.http: socket.socket = undo.enter_context(
                kept.take("http", link.name) or httpimage.transport.open_socket(anywhere, server.http_port, link.name)
            )
            self.https: socket.socket | None = None
            if tls is not None:
                self.https = undo.enter_context(
                    kept.take("https", link.name) or httpimage.transport.open_socket(anywhere, tls.port, link.name)
                )
            for sock in filter(None, (self.http, self.https)):
                httpimage.transport.notice_silence(sock)
            self.nbd: socket.socket = undo.enter_context(
                kept.take("nbd", link.name) or nbd.transport.open_socket(anywhere, server.nbd_port, link.name)
            )
            self.nbdkit: socket.socket | None = None
            if nbdkit_port is not None:
                self.nbdkit = undo.enter_context(nbd.transport.open_socket(anywhere, nbdkit_port, link.name))
            self._close = undo.pop_all()

    def close(self) -> None:
        """Close them all."""
        self._close.close()


def open_all(
    server: Server,
    tls: Tls | None,
    cleanup: ExitStack,
    nbdkit_port: int | None = None,
    inherited: Inherited | None = None,
) -> dict[str, Sockets]:
    """Return the sockets of the interfaces that can be served now, by name. Raises `OSError` that names a port."""
    opened = {}
    for name, link in interfaces.links(server.interfaces).items():
        if lacks(link) is None:
            opened[name] = Sockets(link, server, tls, nbdkit_port, inherited)
            cleanup.callback(opened[name].close)
    return opened


def lacks(link: Link | None) -> str | None:
    """Return what an interface lacks to be served; None if nothing."""
    if link is None:
        return "there is no such interface"
    if not link.addresses:
        return "it has no IPv4 address"
    return None if link.up else "it is down"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the servers of every interface have in common."""

    engine: dhcp.engine.Server
    fast: dhcp.fast.FastPath
    others: dhcp.others.Others
    leases: dhcp.store.LeaseStore
    lookup: Lookup
    """Of TFTP."""
    web: WebLookup
    """Of HTTP: the same names, and some more."""
    report: Report
    stage_of: Callable[[str], Stage | None]
    accept: Callable[[IPv4Address, str, str], bool]
    nbd: nbd.transport.Service
    credentials: httpimage.tls.Credentials | None = None
    """For HTTP with TLS, if there is a listener for it."""
    nbd_credentials: httpimage.tls.Credentials | None = None
    """For NBD with TLS, if it has any."""
    tftp: Tftp = field(default_factory=Tftp)
    gate: httpimage.gate.Gate = field(default_factory=lambda: httpimage.gate.Gate(Http()))
    """Which root images may be sent now, of all interfaces together."""
    nbdkit: Engine | None = None
    """The second engine for NBD, if it has images to serve."""
    beside: Callable[[str], Coroutine[None, None, None]] | None = None
    """What else is served on an interface, by its name, until cancelled; it ends for no trouble of its own."""
    answered: dhcp.transport.Answered | None = None
    """Told of DHCP's answers."""


class Group:
    """The servers of one interface."""

    def __init__(
        self, sockets: Sockets, parts: Parts, helpers: tftp.helpers.Helpers, tftp_counts: Counter[str]
    ) -> None:
        """Take over `sockets`, which `run` closes. What TFTP counts is added to `tftp_counts`."""
        self.sockets = sockets
        self._parts = parts
        self._helpers = helpers
        self._tftp_counts = tftp_counts
        self._tftp: tftp.transport.Server | None = None
        self._groups = 1
        self._dhcp = dhcp.transport.Service(
            *(sockets.dhcp, parts.engine, parts.leases, parts.report, parts.fast.receive),
            chosen=self._chosen,
            answered=parts.answered,
        )

    def follow(self, addresses: Sequence[IPv4Interface], own: frozenset[IPv4Address]) -> None:
        """Go on with other addresses of the interface; `own` are all of this machine."""
        self._dhcp.follow(addresses, own)

    @property
    def counts(self) -> Counter[str]:
        """What DHCP counts on this interface."""
        return self._dhcp.counts

    @property
    def sent(self) -> Counter[bytes]:
        """How many answers DHCP sent here, by what their option 53 holds; those of the short way are not here."""
        return self._dhcp.sent

    @property
    def transfers(self) -> tuple[int, int]:
        """How many transfers TFTP runs here, and at most how many."""
        return (0, 0) if self._tftp is None else (self._tftp.running, self._tftp.at_most)

    def share(self, groups: int) -> None:
        """Be one of so many, between which what the process may open is divided."""
        self._groups = groups
        if self._tftp is not None:
            self._tftp.share(groups)

    def send_by(self, settings: Tftp) -> None:
        """Send by TFTP with these settings, what is asked for from now on."""
        self._parts = replace(self._parts, tftp=settings)
        if self._tftp is not None:
            self._tftp.settings = settings

    def _chosen(self, message: dhcp.wire.Message, interface: str, now: float) -> None:
        """A machine takes another server's offer."""
        text = self._parts.others.chosen(message, interface, now)
        if text is not None:
            log.warning("%s", text)

    async def run(self) -> None:
        """Serve until cancelled."""
        parts, sockets = self._parts, self.sockets
        try:
            self._tftp = tftp.transport.Server(
                *(sockets.tftp, parts.lookup, parts.report, parts.stage_of),
                settings=parts.tftp,
                counters=self._tftp_counts,
                helpers=self._helpers,
                said=told,
            )
            self._tftp.share(self._groups)
            app = httpimage.transport.application(parts.web, parts.report, parts.stage_of, parts.accept, parts.gate)
            async with asyncio.TaskGroup() as servers:
                servers.create_task(self._dhcp.run(), name="dhcp")
                warn = partial(log.warning, "%s")
                watching = dhcp.sniff.watch(sockets.link.name, parts.others, warn, parts.leases.clock)
                servers.create_task(watching, name="others")
                door = None
                if sockets.https is not None and parts.credentials is not None:
                    door = httpimage.handshakes.Door(sockets.https, parts.credentials)
                servers.create_task(httpimage.transport.serve(sockets.http, app, door), name="http")
                servers.create_task(nbd.transport.listen(parts.nbd, sockets.nbd), name="nbd")
                if parts.beside is not None:
                    servers.create_task(parts.beside(sockets.link.name), name="beside")
                if sockets.nbdkit is not None and parts.nbdkit is not None:
                    second = parts.nbdkit.run(sockets.nbdkit, sockets.link.name)
                    servers.create_task(second, name="nbdkit")
        finally:
            if self._tftp is not None:
                self._tftp.close()
            sockets.close()


class Serving:
    """Serves every interface that the configuration names, as they come and go."""

    def __init__(
        self,
        server: Server,
        parts: Parts,
        opened: Mapping[str, Sockets],
        moved: Callable[[Sequence[IPv4Interface]], None],
        tls: Tls | None = None,
        inherited: Inherited | None = None,
    ) -> None:
        """Begin with the sockets that are `opened`. `moved` is told our addresses there, as they change.

        Make one inside a running event loop.
        """
        self._inherited = inherited
        self._server = server
        self._tls = tls
        self._parts = parts
        self._opened = dict(opened)
        self._moved = moved
        self._links: Links = {}
        self._own: frozenset[IPv4Address] = frozenset()
        self._groups: dict[str, Group] = {}
        self._helpers = tftp.helpers.Helpers(tftp.helpers.Limits())
        self._tftp_counts: Counter[str] = Counter()
        self._tasks: dict[Group, asyncio.Task[None]] = {}
        self._waits: dict[str, str] = {}
        self._retry: asyncio.Handle | None = None
        self._servers = asyncio.TaskGroup()
        self._watch = Watch(server.interfaces, self._changed)

    def follow(self, server: Server, tftp: Tftp) -> None:
        """Serve other interfaces, and send by TFTP otherwise, from now on. Ports stay as they are."""
        self._server = server
        self._parts = replace(self._parts, tftp=tftp)
        for group in self._groups.values():
            group.send_by(tftp)
        self._watch.follow(server.interfaces)
        self._say_what_is_missing()

    @property
    def served(self) -> list[str]:
        """The names of the interfaces that are served now."""
        return sorted(self._groups)

    @property
    def waits(self) -> Mapping[str, str]:
        """What is not served yet, and what it lacks."""
        return self._waits

    def counts(self) -> Counter[str]:
        """What DHCP dropped, could not send, left out and offered without a probe on all interfaces, by its name."""
        return sum((group.counts for group in self._groups.values()), Counter[str]())

    def sent(self) -> Counter[bytes]:
        """How many answers DHCP sent on all interfaces, by what their option 53 holds, but for the short way."""
        return sum((group.sent for group in self._groups.values()), Counter[bytes]())

    def tftp_counts(self) -> Mapping[str, int]:
        """What TFTP counted on all interfaces since we started (`tftp.transport.Server`)."""
        return self._tftp_counts

    def transfers(self) -> tuple[int, int]:
        """How many transfers TFTP runs on all interfaces, and at most how many."""
        numbers = [group.transfers for group in self._groups.values()]
        return sum(running for running, _ in numbers), sum(most for _, most in numbers)

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled. `ready` is called once everything that can be served is."""
        try:
            async with self._servers:
                self._watch.look()
                if not self._links:
                    self._changed({}, interfaces.own_addresses())
                for credentials in (self._parts.credentials, self._parts.nbd_credentials):
                    if credentials is not None:
                        self._servers.create_task(credentials.watch(), name="certificate")
                ready()
                await self._watch.run()
        finally:
            self._helpers.close()
            if self._retry is not None:
                self._retry.cancel()

    def _changed(self, links: Links, own: frozenset[IPv4Address]) -> None:
        """Close what is gone, open what is there, and tell each its addresses."""
        self._links, self._own = links, own
        self._parts.engine.own_addresses(own)
        for name, group in list(self._groups.items()):
            link = links.get(name)
            if link is None or link.index != group.sockets.link.index:
                if any(interfaces.matches(name, pattern) for pattern in self._server.interfaces):
                    log.warning("%s is gone, and not served any more", name)
                else:
                    log.info("%s is not in the farm any more, and not served from now on", name)
                self._tasks[group].cancel()
                del self._groups[name]
        for name, link in links.items():
            if name not in self._groups and lacks(link) is None:
                self._open(link)
            if name in self._groups:
                self._groups[name].follow(link.addresses, own)
        for group in self._groups.values():
            group.share(len(self._groups))
        self._say_what_is_missing()
        self._moved([address for name in self._groups for address in links[name].addresses])

    def _open(self, link: Link) -> None:
        """Serve an interface, or try again later."""
        sockets = self._opened.pop(link.name, None)
        if sockets is not None and sockets.link.index != link.index:
            sockets.close()
            sockets = None
        try:
            port = self._parts.nbdkit.settings.port if self._parts.nbdkit is not None else None
            opened = sockets or Sockets(link, self._server, self._tls, port, self._inherited)
            group = Group(opened, self._parts, self._helpers, self._tftp_counts)
        except OSError as error:
            if any(other.sockets.link.index == link.index for other in self._tasks):
                return  # it is still being closed, and we are called when it is
            log.error("%s cannot be served, and is tried again: %s", link.name, error.strerror or error)
            self._try_again()
            return
        self._groups[link.name] = group
        task = self._tasks[group] = self._servers.create_task(self._run(group), name=link.name)
        task.add_done_callback(lambda _: self._ended(group))

    async def _run(self, group: Group) -> None:
        name = group.sockets.link.name
        try:
            await group.run()
        except* OSError as errors:  # what an interface that goes away does to its sockets
            for error in errors.exceptions:
                log.error("%s cannot be served any more, and is tried again: %s", name, error)
            if self._groups.get(name) is group:
                del self._groups[name]
            self._try_again()

    def _ended(self, group: Group) -> None:
        del self._tasks[group]
        # It was renamed, and its ports were still taken under its new name, or under its old one again.
        waits = any(name not in self._groups and lacks(link) is None for name, link in self._links.items())
        if waits and self._retry is None:
            self._retry = asyncio.get_running_loop().call_soon(self._once_more)

    def _try_again(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(AGAIN_S, self._once_more)

    def _once_more(self) -> None:
        self._retry = None
        self._changed(self._links, self._own)

    def _say_what_is_missing(self) -> None:
        """Log a line when what an interface lacks has changed."""
        waits = {}
        for name in self._server.interfaces:
            if interfaces.is_pattern(name):
                if not any(interfaces.matches(link, name) for link in self._links):
                    waits[name] = "no interface with an IPv4 address has such a name"
            elif (what := lacks(self._links.get(name))) is not None:
                waits[name] = what
        for name, what in waits.items():
            if self._waits.get(name) != what:
                log.warning("waiting for %s: %s", name, what)
        self._waits = waits
