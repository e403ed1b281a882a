"""UDP port 69: takes requests, starts transfers, and tells what became of them."""

import asyncio
import logging
import resource
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from config.content import Content, Lookup
from config.events import Event, Report, Stage
from tftp import wire
from tftp.engine import Finished, Outcome, Transfer
from tftp.errors import Busy, NotFound, OutsideRoot, Refused, WriteRefused
from tftp.kernel import (
    Address,
    Port,
    Received,
    Sender,
    learn_destination,
    open_socket,
    path_mtu,
    receive,
    transfer_socket,
)
from tftp.names import normalise
from tftp.netascii import Netascii
from tftp.options import is_netascii, negotiate
from tftp.reader import Reader
from tftp.session import Session

__all__ = ["Limits", "Server", "StageOf", "open_socket", "serve"]

log = logging.getLogger("tftp")

StageOf = Callable[[str], Stage | None]
"""A file's name → what its arrival says about the machine's boot; None: nothing worth telling."""

_DRAIN = 64  # requests per wake-up, then the transfers have their turn
_REPEAT_S = 2.0  # the same request again, so soon, is the same wish (T-22)
_WARNINGS_PER_MINUTE = 30


@dataclass(frozen=True, slots=True)
class Limits:
    """How much runs at once. A request above a limit is told that we are busy; what runs is not touched (A-25)."""

    transfers: int = 1000
    """In all. Each takes two descriptors, so fewer where the process may not have that many."""
    per_source: int = 64
    """For one client address; more than one, because many machines may share an address behind a router."""
    readers: int = 8
    """Threads that read what is not in the page cache."""


@dataclass(slots=True)
class _Wish:
    """A request that is being granted. `session` is None until its file is found."""

    request: wire.ReadRequest
    name: str
    begun_at: float
    task: "asyncio.Task[None] | None" = None
    session: Session | None = None


@dataclass(slots=True)
class _Warnings:
    """At most so many warnings a minute, because a peer causes them."""

    minute: int = 0
    said: int = 0

    def say(self, now: float, text: str, *details: object) -> None:
        """Log a warning, or leave it out and say so once a minute."""
        if int(now // 60) != self.minute:
            self.minute, self.said = int(now // 60), 0
        self.said += 1
        if self.said <= _WARNINGS_PER_MINUTE:
            log.warning(text, *details)
        elif self.said == _WARNINGS_PER_MINUTE + 1:
            log.warning("tftp: more than %d warnings in a minute; the rest is left out", _WARNINGS_PER_MINUTE)


@dataclass(slots=True)
class Server:
    """Grants read requests that arrive at `sock`. Make one inside a running event loop.

    `counters` says how often what happened: `requests`, `duplicates`, `misses`, `refused`, `malformed`, `strays`,
    `broadcasts`, and each `Outcome` by its value.
    """

    sock: socket.socket
    lookup: Lookup
    report: Report
    stage_of: StageOf
    limits: Limits = field(default_factory=Limits)
    counters: Counter[str] = field(default_factory=Counter)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _wishes: dict[Address, _Wish] = field(default_factory=dict)
    _sources: Counter[str] = field(default_factory=Counter)
    _sender: Sender = field(default_factory=Sender)
    _warnings: _Warnings = field(default_factory=_Warnings)
    _executor: ThreadPoolExecutor = field(init=False)
    _most: int = field(init=False)

    def __post_init__(self) -> None:
        self._executor = ThreadPoolExecutor(self.limits.readers, thread_name_prefix="tftp-read")
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A quarter of what the process may open: HTTP and NBD have their sockets in the same process.
        self._most = max(1, min(self.limits.transfers, descriptors // 4))
        learn_destination(self.sock)  # it may have come from systemd
        self._loop.add_reader(self.sock, self._drain)

    def close(self) -> None:
        """End every transfer and give back everything but `sock`."""
        self._loop.remove_reader(self.sock)
        for wish in list(self._wishes.values()):
            if wish.task is not None:
                wish.task.cancel()
            if wish.session is not None:
                wish.session.close()
        self._wishes.clear()
        self._sources.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _drain(self) -> None:
        for _ in range(_DRAIN):
            try:
                received = receive(self.sock)
            except BlockingIOError:
                return
            except OSError as error:
                self._warnings.say(self._loop.time(), "tftp: receiving failed: %s", error)
                return
            if received is None:
                self.counters["malformed"] += 1
                continue
            try:
                self._receive(received)
            except Exception:
                log.exception("tftp %s: a bug of ours lost its request", received.peer[0])

    def _receive(self, received: Received) -> None:
        """Act on a datagram at port 69. Only requests are ever answered (A-24)."""
        peer, local = received.peer, received.local
        if local is None or not peer[1]:  # sent to a broadcast address (RFC 1123 section 4.2.3.5), or no way back
            self.counters["broadcasts"] += 1
            return
        try:
            packet = wire.decode(received.data)
        except wire.MalformedPacket as error:
            self.counters["malformed"] += 1
            log.debug("tftp %s: malformed: %s", peer[0], error)
            if received.data[:2] in {b"\0\1", b"\0\2"}:  # it was to be a request
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
            if earlier.session is None or (earlier.request == request and now - earlier.begun_at < _REPEAT_S):
                self.counters["duplicates"] += 1
                return
            # The same port asks anew: the machine began again, or fetches its next file without a new port.
            earlier.session.close()
            self._forget(peer)
        name = normalise(request.filename)
        is_netascii(request)
        if len(self._wishes) >= self._most:
            raise Busy(f"asked for {name!r}, but {len(self._wishes)} transfers are running")
        if self._sources[peer[0]] >= self.limits.per_source:
            raise Busy(f"asked for {name!r}, but has {self.limits.per_source} transfers running")
        wish = _Wish(request, name, now)
        self._wishes[peer] = wish
        self._sources[peer[0]] += 1
        wish.task = self._loop.create_task(self._grant(wish, peer, local), name=f"tftp {peer[0]}")

    async def _grant(self, wish: _Wish, peer: Address, local: str) -> None:
        """Find the file and start its transfer, or tell the client why not."""
        try:
            content = await self.lookup(wish.name, IPv4Address(peer[0]))
            if content is None:
                raise NotFound(f"asked for {wish.name!r}: there is no such file")
            wish.session = await self._open(wish, content, peer, local)
            wish.session.start()
        except Refused as refusal:
            self._forget(peer)
            self._refuse(peer, local, refusal)
        except Exception as error:
            self._forget(peer)
            self.counters[Outcome.FAILED.value] += 1
            if isinstance(error, OSError):
                log.error("tftp %s: cannot send %r: %s", peer[0], wish.name, error)
            else:
                log.exception("tftp %s: a bug of ours lost its request for %r", peer[0], wish.name)
            self._answer(peer, local, wire.Error(wire.ErrorCode.NOT_DEFINED, "server error"))
        finally:
            wish.task = None

    async def _open(self, wish: _Wish, content: Content, peer: Address, local: str) -> Session:
        """Return the transfer of `content`, not yet started; it then owns `content`. Raises `OSError`."""
        readable: Content | Netascii = content
        try:
            if is_netascii(wish.request):
                readable = await self._converted(content)
            terms = negotiate(wish.request, readable.size_bytes, path_mtu(peer, self.sock))
            sock = transfer_socket(local, self.sock)
        except Exception:
            content.close()
            raise
        reader = Reader(readable, self._executor)
        transfer = Transfer(readable.size_bytes, terms)
        return Session(Port(sock), peer, transfer, reader, self._sender, self._ended)

    async def _converted(self, content: Content) -> Netascii:
        """Return `content` as netascii. When we are cancelled meanwhile, the thread that reads it closes it."""
        work = self._executor.submit(Netascii, content)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            work.add_done_callback(lambda _: content.close())
            raise

    def _ended(self, session: Session, finished: Finished) -> None:
        """Tell what became of a transfer: one line, and an event if the file says something about the boot."""
        wish = self._wishes[session.peer]
        self._forget(session.peer)
        self.counters[finished.outcome.value] += 1
        address, name, transfer = session.peer[0], wish.name, session.transfer
        match finished.outcome:
            case Outcome.COMPLETE | Outcome.UNCONFIRMED:
                detail = f"{transfer.size_bytes} bytes in {self._loop.time() - session.started_at:.1f} s"
                repeats = _repeats(transfer.resent)
                doubt = "" if finished.reason is None else f" ({finished.reason})"
                log.info("tftp %s got %r: %s%s%s", address, name, detail, repeats, doubt)
                stage = self.stage_of(name)
                if stage is not None:
                    detail = f"{name!r}: {detail} over TFTP{repeats}{doubt}"
                    self.report(Event(IPv4Address(address), stage, detail, session.bytes_sent))
            case Outcome.DECLINED | Outcome.UNANSWERED:
                log.debug("tftp %s took nothing of %r: %s", address, name, finished.reason)
            case Outcome.ABORTED:
                log.info("tftp %s stopped within %r: %s", address, name, finished.reason)
            case Outcome.SILENT | Outcome.FAILED:
                self._warnings.say(self._loop.time(), "tftp %s did not get %r: %s", address, name, finished.reason)

    def _forget(self, peer: Address) -> None:
        del self._wishes[peer]
        self._sources[peer[0]] -= 1
        if not self._sources[peer[0]]:
            del self._sources[peer[0]]

    def _refuse(self, peer: Address, local: str, refusal: Refused) -> None:
        if isinstance(refusal, NotFound):  # GRUB alone asks for a dozen files that need not be there (TQ11)
            self.counters["misses"] += 1
            log.debug("tftp %s %s", peer[0], refusal)
        else:
            self.counters["busy" if isinstance(refusal, Busy) else "refused"] += 1
            if isinstance(refusal, OutsideRoot | WriteRefused | Busy):
                self._warnings.say(self._loop.time(), "tftp %s %s", peer[0], refusal)
            else:
                log.debug("tftp %s %s", peer[0], refusal)
        self._answer(peer, local, wire.Error(refusal.code, refusal.message))

    def _answer(self, peer: Address, local: str, error: wire.Error) -> None:
        """Send one ERROR from a port of its own, as a transfer would; never again, whether it arrives or not."""
        with suppress(OSError), transfer_socket(local, self.sock) as sock:
            sock.sendto(error.encode(), peer)


def _repeats(blocks: int) -> str:
    """Return what a person is told of blocks that were sent more than once: nothing if there were none."""
    return f", {blocks} block{'s' * (blocks != 1)} sent again" if blocks else ""


async def serve(
    sock: socket.socket, lookup: Lookup, report: Report, stage_of: StageOf, *, limits: Limits | None = None
) -> None:
    """Serve the files that `lookup` finds to whoever asks at `sock` (from `open_socket`), until cancelled.

    On the way out every transfer ends and all its descriptors are given back. `sock` stays open: it belongs to
    whoever opened it.
    """
    server = Server(sock, lookup, report, stage_of, limits or Limits())
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
