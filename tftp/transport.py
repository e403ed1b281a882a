"""UDP port 69: takes requests, starts transfers, and tells what became of them."""

import asyncio
import logging
import resource
import socket
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from config.content import Content, Lookup, Made
from config.delivery import Tftp
from config.events import Event, Report, Stage
from tftp import wire
from tftp.engine import Finished, Outcome, Transfer
from tftp.errors import Busy, NotFound, OutsideRoot, Refused, TooLarge, WriteRefused
from tftp.helpers import Helpers, Limits
from tftp.kernel import (
    Address,
    Port,
    Received,
    Sender,
    open_socket,
    path_mtu,
    prepare,
    receive,
    shared_port,
    transfer_socket,
)
from tftp.memory import Memory, lost_blksize
from tftp.names import normalise
from tftp.netascii import Netascii
from tftp.options import Most, is_netascii, negotiate
from tftp.ratelog import Kind, RateLog
from tftp.reader import Reader
from tftp.session import Session
from tftp.wishes import Running, Wish, Wishes

__all__ = ["Limits", "Server", "StageOf", "open_socket", "serve"]

log = logging.getLogger("tftp")

StageOf = Callable[[str], Stage | None]
"""A file's name → what its arrival says about the machine's boot; None: nothing worth telling."""

_DRAIN = 64  # datagrams per wake-up, then the other sockets have their turn
_AT_ONCE = 16  # of these, requests that are begun
_BACKLOG = 1024  # requests that wait for that; what comes above is lost, as it would be in the kernel
_REPEAT_S = 2.0  # the same request again, so soon, is the same wish (T-22)
_LOOKUP_S = 8.0  # how long a file may be looked for
_TEXT_BYTES = 16 * 1024 * 1024  # nobody's configuration is larger, but a kernel is
_DESCRIPTORS = 3  # of a transfer: its socket, its file, and one for strangers while a carrier has the first
_REQUESTS = frozenset((b"\0\1", b"\0\2"))  # how RRQ and WRQ begin


@dataclass(slots=True)
class Server:
    """Grants read requests that arrive at `sock`. Make one inside a running event loop.

    `helpers` are for several servers; without them it has its own.

    `counters` says how often what happened: `requests`, `duplicates`, `misses`, `refused`, `busy`, `malformed`,
    `strays`, `broadcasts`, `displaced` (by another request, without ever having answered), `overflow` (lost because
    too many waited), `narrowed` (blocks made smaller, because larger ones did not arrive), each `Outcome` by its
    value, and of all transfers that ended `bytes` and `resent` blocks.
    """

    sock: socket.socket
    lookup: Lookup
    report: Report
    stage_of: StageOf
    limits: Limits = field(default_factory=Limits)
    settings: Tftp = field(default_factory=Tftp)
    counters: Counter[str] = field(default_factory=Counter)
    helpers: Helpers | None = None
    said: Callable[[str], str] = str
    """A file's name as it may be told: a part of it may be a secret between us and one machine."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    _backlog: deque[Received] = field(default_factory=deque)
    _later: asyncio.Handle | None = None
    _sender: Sender = field(default_factory=Sender)
    _memory: Memory = field(default_factory=Memory)
    _seldom: RateLog = field(default_factory=RateLog)
    _wishes: Wishes = field(init=False)
    _helpers: Helpers = field(init=False)

    def __post_init__(self) -> None:
        self._wishes = Wishes(self.limits.transfers, self.limits.per_source)
        self.share(1)
        self._helpers = self.helpers or Helpers(self.limits)
        prepare(self.sock)  # it may have come from systemd
        self._loop.add_reader(self.sock, self._drain)

    @property
    def at_most(self) -> int:
        """How many transfers run at once."""
        return self._wishes.most

    @property
    def running(self) -> int:
        """How many run, or wait for their file."""
        return len(self._wishes)

    def share(self, servers: int) -> None:
        """Be one of so many `servers` of this process, that have its descriptors between them."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A quarter of what the process may open: HTTP and NBD have their sockets in the same process.
        most = descriptors // 4 // _DESCRIPTORS // max(1, servers)
        self._wishes.most = max(1, min(self.limits.transfers, most))

    def close(self) -> None:
        """End every transfer and give back everything but `sock` and the `helpers` of others."""
        self._loop.remove_reader(self.sock)
        if self._later is not None:
            self._later.cancel()
        for task in self._tasks:
            task.cancel()
        for wish in self._wishes.all():
            if wish.running is not None:
                wish.running.close()
        if self.helpers is None:
            self._helpers.close()

    def _drain(self) -> None:
        """Take what has arrived: what is no request is acted on at once, so that no flood of those comes before it."""
        for _ in range(_DRAIN):
            try:
                received = receive(self.sock)
            except BlockingIOError:
                break
            except OSError as error:
                self._seldom.say(self._loop.time(), Kind.OURS, "", "tftp: receiving failed: %s", error)
                break
            if received is None:
                self.counters["malformed"] += 1
            elif received.data[:2] not in _REQUESTS:
                self._guarded(received)
            elif len(self._backlog) < _BACKLOG:
                self._backlog.append(received)
            else:
                self.counters["overflow"] += 1
        if self._later is None:
            self._begin()

    def _begin(self) -> None:
        """Act on some of the requests that wait: on fewer while many files are still being looked for."""
        self._later = None
        for _ in range(max(1, min(_AT_ONCE, self._wishes.most // 2 - len(self._tasks)))):
            if not self._backlog:
                return
            self._guarded(self._backlog.popleft())
        if self._backlog:
            self._later = self._loop.call_soon(self._begin)

    def _guarded(self, received: Received) -> None:
        try:
            self._receive(received)
        except Exception:
            log.exception("tftp %s: a bug of ours lost its request", received.peer[0])

    def _receive(self, received: Received) -> None:
        """Act on a datagram at port 69. Only requests are ever answered (A-24).

        With a single port, what is no request is for the transfer of its sender, if that has one.
        """
        peer, local = received.peer, received.local
        if local is None or not peer[1]:  # sent to a broadcast address (RFC 1123 section 4.2.3.5), or no way back
            self.counters["broadcasts"] += 1
            return
        if self.settings.single_port and received.data[:2] not in _REQUESTS:
            wish = self._wishes.get(peer)
            if wish is not None and wish.running is not None:
                wish.running.received(received.data)
                return
        try:
            packet = wire.decode(received.data)
        except wire.MalformedPacket as error:
            self.counters["malformed"] += 1
            log.debug("tftp %s: malformed: %s", peer[0], error)
            if received.data[:2] in _REQUESTS:  # it was to be a request
                self._answer(peer, local, wire.Error(wire.ErrorCode.ILLEGAL_OPERATION, "malformed request"))
            return
        try:
            match packet:
                case wire.ReadRequest():
                    self._read_request(packet, peer, local)
                case wire.WriteRequest():
                    raise WriteRefused(f"asked to write {packet.filename!r}")
                case wire.Data() | wire.Ack() | wire.Error() | wire.OptionAck():
                    self.counters["strays"] += 1
        except Refused as refusal:
            self._refuse(peer, local, refusal)

    def _read_request(self, request: wire.ReadRequest, peer: Address, local: str) -> None:
        """Begin to grant `request`. Raises `Refused`."""
        self.counters["requests"] += 1
        now = self._loop.time()
        earlier = self._wishes.get(peer)
        if earlier is not None:
            if earlier.running is None:
                self.counters["duplicates"] += 1
                return
            lost = not earlier.running.transfer.answered  # it may be our answer that did not arrive
            if earlier.request == request and (lost or now - earlier.begun_at < _REPEAT_S):
                self.counters["duplicates"] += 1
                earlier.running.received(request.encode())
                return
            # The same port asks anew: the machine began again, or fetches its next file without a new port.
            self._learn(peer[0], now)
            earlier.running.close()
            self._wishes.remove(peer)
        name = normalise(request.filename)
        is_netascii(request)
        wish = Wish(request, name, now, said=self.said(name))
        self._displace(self._wishes.admit(peer, wish))
        task = self._loop.create_task(self._grant(wish, peer, local), name=f"tftp {peer[0]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _displace(self, wish: Wish | None) -> None:
        if wish is not None and wish.running is not None:
            self.counters["displaced"] += 1
            wish.running.close()

    async def _grant(self, wish: Wish, peer: Address, local: str) -> None:
        """Find the file and start its transfer, or tell the client why not."""
        try:
            content = await self._found(wish, IPv4Address(peer[0]))
            if content is None:
                raise NotFound(f"asked for {wish.said!r}: there is no such file")
            wish.running = session = await self._open(wish, content, peer, local)
            if isinstance(content, Made):
                for displaced in self._wishes.hold(peer, content.size_bytes):
                    self._displace(displaced)
            try:
                session.start()
            except BaseException:
                session.close()
                raise
        except Refused as refusal:
            self._wishes.remove(peer)
            self._refuse(peer, local, refusal)
        except Exception as error:
            self._wishes.remove(peer)
            self.counters[Outcome.FAILED.value] += 1
            if isinstance(error, OSError):
                text = "tftp %s: cannot send %r: %s"
                now, details = self._loop.time(), (peer[0], wish.said, error)
                self._seldom.say(now, Kind.OURS, "", text, *details, level=logging.ERROR)
            else:
                log.exception("tftp %s: a bug of ours lost its request for %r", peer[0], wish.said)
            self._answer(peer, local, wire.Error(wire.ErrorCode.NOT_DEFINED, "server error"))

    async def _found(self, wish: Wish, client: IPv4Address) -> Content | None:
        """Return what the lookup finds. Raises `Busy` when that takes too long, and whatever the lookup raises.

        A client that is told so goes on with what it would do without the file; iPXE otherwise waits for ever (TQ12).
        What a thread still finds later is closed by the lookup.
        """
        try:
            async with asyncio.timeout(_LOOKUP_S):
                return await self.lookup(wish.name, client)
        except TimeoutError as error:  # ours, or that of a lookup that knows better
            why = error if error.args else f"it was not found within {_LOOKUP_S:.0f} s: a disk hangs"
            raise Busy(f"asked for {wish.said!r}: {why}") from None

    async def _open(self, wish: Wish, content: Content, peer: Address, local: str) -> Session:
        """Return the transfer of `content`, not yet started; it then owns `content`. Raises `Refused`, `OSError`."""
        readable: Content | Netascii = content
        try:
            threads = self._helpers.disks.of(content)
            if is_netascii(wish.request):
                if content.size_bytes > _TEXT_BYTES:
                    raise TooLarge(f"asked for {wish.said!r} as netascii: {content.size_bytes} bytes")
                readable = await self._converted(content, threads)
            most = self._most(peer[0], self._loop.time())
            terms = negotiate(wish.request, readable.size_bytes, path_mtu(peer, local, self.sock), most)
            port = self._port(local)
        except Exception:
            content.close()
            raise
        transfer = Transfer(readable.size_bytes, terms)
        reader, carriers = Reader(readable, threads), self._helpers.carriers
        return Session(port, peer, transfer, reader, self._sender, self._ended, carriers)

    def _port(self, local: str) -> Port:
        """Return where to answer a client from that asked our address `local`. Raises `OSError`."""
        if self.settings.single_port:
            return shared_port(self.sock, local)
        return Port(transfer_socket(local, self.sock))

    def _most(self, client: str, now: float) -> Most:
        """Return the most that `client` is granted."""
        self._learn(client, now)
        settings, fits = self.settings, self._memory.most(client, now)
        blksize = settings.blksize if fits is None else min(settings.blksize, fits)
        return Most(blksize, settings.windowsize, settings.rollover)

    def _learn(self, client: str, now: float) -> None:
        """Take note of the transfers of a client that asks anew while their first block does not arrive."""
        for wish in self._wishes.of(client):
            if wish.running is not None:
                self._note(client, wish.running, now)

    def _note(self, client: str, running: Running, now: float) -> None:
        """Remember it if the first block of a transfer seems not to fit its path (TQ5)."""
        blksize = lost_blksize(running.transfer, now - running.started_at)
        if blksize is None or not running.bytes_sent:  # what a disk or our own kernel kept back is not lost
            return
        before = self._memory.most(client, now)
        if before is None or blksize <= before:  # otherwise it began before we knew
            self._memory.lost(client, blksize, now)
        after = self._memory.most(client, now)
        if after != before:
            self.counters["narrowed"] += 1
            text = "tftp %s: blocks of %d bytes do not arrive; from now on it gets %d at most"
            self._seldom.say(now, Kind.NARROW, client, text, client, blksize, after)

    @staticmethod
    async def _converted(content: Content, threads: Executor) -> Netascii:
        """Return `content` as netascii. When we are cancelled meanwhile, the thread that reads it closes it."""
        work = threads.submit(Netascii, content)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            work.add_done_callback(lambda _: content.close())
            raise

    def _ended(self, session: Session, finished: Finished) -> None:
        """Tell what became of a transfer: one line, and an event if the file says something about the boot."""
        wish = self._wishes.remove(session.peer)
        self._note(session.peer[0], session, self._loop.time())
        if finished.outcome is Outcome.UNCONFIRMED and session.bytes_sent < session.transfer.size_bytes:
            finished = Finished(Outcome.SILENT, "not all of it was sent")  # so nobody has it
        self.counters[finished.outcome.value] += 1
        self.counters["bytes"] += session.bytes_sent
        self.counters["resent"] += session.transfer.resent
        address, name, transfer = session.peer[0], wish.said, session.transfer
        match finished.outcome:
            case Outcome.COMPLETE | Outcome.UNCONFIRMED:
                seconds = self._loop.time() - session.started_at
                detail = f"{transfer.size_bytes} bytes in {seconds:.1f} s"
                repeats = _repeats(transfer.resent)
                doubt = "" if finished.reason is None else f" ({finished.reason})"
                about: dict[str, object] = {"ip": address, "file": name, "bytes": transfer.size_bytes}
                about |= {"seconds": round(seconds, 3), "resent": transfer.resent}
                log.info("tftp %s got %r: %s%s%s", address, name, detail, repeats, doubt, extra=about)
                stage = self.stage_of(wish.name)
                if stage is not None:
                    detail = f"{name!r}: {detail} over TFTP{repeats}{doubt}"
                    sent, resent = session.bytes_sent, transfer.resent
                    self.report(Event(IPv4Address(address), stage, detail, sent, seconds, resent))
            case Outcome.DECLINED | Outcome.UNANSWERED:
                log.debug("tftp %s took nothing of %r: %s", address, name, finished.reason)
            case Outcome.ABORTED:
                about = {"ip": address, "file": name}
                log.info("tftp %s stopped within %r: %s", address, name, finished.reason, extra=about)
            case Outcome.SILENT | Outcome.FAILED:
                ours = finished.outcome is Outcome.FAILED
                kind, source = (Kind.OURS, "") if ours else (Kind.ENDED, address)
                text, details = "tftp %s did not get %r: %s", (address, name, finished.reason)
                self._seldom.say(self._loop.time(), kind, source, text, *details)

    def _refuse(self, peer: Address, local: str, refusal: Refused) -> None:
        if isinstance(refusal, NotFound):  # GRUB alone asks for a dozen files that need not be there (TQ11)
            self.counters["misses"] += 1
            log.debug("tftp %s %s", peer[0], refusal)
        else:
            self.counters["busy" if isinstance(refusal, Busy) else "refused"] += 1
            if isinstance(refusal, OutsideRoot | WriteRefused | Busy):
                kind = Kind.BUSY if isinstance(refusal, Busy) else Kind.REFUSED
                self._seldom.say(self._loop.time(), kind, peer[0], "tftp %s %s", peer[0], refusal)
            else:
                log.debug("tftp %s %s", peer[0], refusal)
        self._answer(peer, local, wire.Error(refusal.code, refusal.message))

    def _answer(self, peer: Address, local: str, error: wire.Error) -> None:
        """Send one ERROR from a port as a transfer's; never again, whether it arrives or not."""
        try:
            port = self._port(local)
        except OSError:  # no descriptor is left
            port = shared_port(self.sock, local)
        with suppress(OSError):
            port.send(error.encode(), peer)
        port.close()


def _repeats(blocks: int) -> str:
    """Return what a person is told of blocks that were sent more than once: nothing if there were none."""
    return f", {blocks} block{'s' * (blocks != 1)} sent again" if blocks else ""


async def serve(
    sock: socket.socket,
    lookup: Lookup,
    report: Report,
    stage_of: StageOf,
    *,
    settings: Tftp | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve the files that `lookup` finds to whoever asks at `sock` (from `open_socket`), until cancelled.

    On the way out every transfer ends and all its descriptors are given back. `sock` stays open: it belongs to
    whoever opened it.
    """
    server = Server(sock, lookup, report, stage_of, limits or Limits(), settings or Tftp())
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
