"""One client's socket: carries out what its `Session` decides, and stops reading from whoever does not read.

It is run by the threads of `nbd.pump`. What has to wait for a disk is done by other threads (`nbd.work`), what has to
ask the catalogue by the event loop; both answer by `post`. A client that reads without a pause gets a thread of its
own, where its READs take the short way (`nbd.stay`).

A client that does not read its replies has at most these in our memory: `pump.FILL_BYTES` that its socket did not
take, replies that waited for a disk (`work.MAX_READ_BYTES`) or writes that do (`work.MAX_ORDERED_BYTES`), and the
requests of one `pump.INBOX_BYTES`. Until they are gone nothing more is read from it.
"""

import logging
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from socket import socket

from nbd.actions import Action, Close, ExportInfo, ListExports, OpenExport, Read, StartTls
from nbd.engine import Phase, Session
from nbd.exports import Export, Refused
from nbd.lines import Line, Plain, Tls
from nbd.output import Order, Output
from nbd.owner import Activity, Owner
from nbd.pieces import PIECE_BYTES
from nbd.pump import GONE, HUNG_UP, READABLE, WRITABLE, Client, Desk, Pump
from nbd.stay import Stay
from nbd.steady import Steady

TURNS = 16
"""How often a client receives or sends before it is another's turn."""
BUSY_TURNS, BUSY_S = 16, 0.25
"""A client that sent READs so many times within so many seconds gets a thread of its own. Each `PIECE_BYTES` that it
asks for count as a time too."""

log = logging.getLogger(__name__)


class Connection(Client):
    """One client, from `accept` to the end. All but `post` is called in the thread that runs it."""

    def __init__(self, pump: Pump, owner: Owner, sock: socket, peer: IPv4Address, session: Session) -> None:
        super().__init__(pump, sock.fileno())
        self.peer = peer
        self.since_s = time.time()
        self.name = ""
        self._owner = owner
        self._sock = sock
        self._line: Line = Plain(sock)
        self._session = session
        self._output = Output(session.start(time.monotonic()), self._obey)
        self._unsent = memoryview(b"")
        self._shaking: Tls | None = None
        self._asking = False
        self._closing = False
        self._hung_up = False
        self._gone = False
        self._warned = False
        self._errors = 0
        self._chosen_at = 0.0
        self._plain = 0  # how often READs have come since
        self._plain_since = 0.0

    @property
    def is_haggling(self) -> bool:
        """Whether no export was chosen yet."""
        return self._output.work is None

    @property
    def activity(self) -> Activity:
        """What it does. From any thread."""
        output, work = self._output, self._output.work
        reads = output.reads, output.read_bytes
        secure, since = self._session.secure, self.since_s
        if work is None:
            return Activity(self.peer, self.name, None, secure, since, *reads, 0, 0, 0, self._errors)
        writes = work.writes, work.written_bytes
        return Activity(
            self.peer, self.name, work.export, secure, since, *reads, work.cold_reads, *writes, self._errors
        )

    # Posted

    def expire(self) -> None:
        """Act on silence."""
        for action in self._session.expire(time.monotonic()):
            self.end(str(action))

    def make_room(self) -> None:
        """End for the sake of others, but not if an export was chosen meanwhile."""
        if self.is_haggling:
            self.end("too many clients that choose no export")

    def finish(self) -> None:
        """Answer what was received, then close; options are told that we stop.

        ESHUTDOWN, which the specification would like, becomes an I/O error in a machine's root; after a plain close
        the kernel's client connects again, finds the same export, and asks again.
        """
        self._session.stopping()
        if not self.is_haggling:
            self._output.queue.append(Close(None))

    def opened(self, action: OpenExport, found: Export | Refused | OSError) -> None:
        """Go on after `Owner.open`. What went wrong, the catalogue has told people: it knows whose machine this is."""
        self._asking = False
        if not isinstance(found, Refused | OSError):
            self._opened(action, found)
        elif isinstance(found, OSError):  # to be told that there is none would make a machine give up
            log.debug("nbd %s asked for %r: %s", self.peer, action.name, found)
            self.end("its export cannot be opened")
        elif not self._gone:
            log.debug("nbd %s asked for %r: %s", self.peer, action.name, found.name)
            self._output.queue.extend(self._session.export_refused(found))

    def _opened(self, action: OpenExport, export: Export) -> None:
        work = self._owner.work(self, export)
        if self._gone:
            work.close()
            return
        info = ExportInfo(export.size_bytes, export.writable, export.description, fast_zero=export.writable)
        self._output.queue.extend(self._session.export_opened(info))
        if not action.keep:
            work.close()
            return
        work.replies = self._session.replies
        self.name, self._output.work, self._chosen_at = action.name, work, time.monotonic()
        self._plain, self._plain_since = BUSY_TURNS, self._chosen_at  # it will read now
        self._owner.chosen(self, export)

    def listed(self, names: Sequence[str] | OSError) -> None:
        """Go on after `Owner.names`."""
        self._asking = False
        if isinstance(names, OSError):
            self._owner.complain("nbd %s asked for our exports: %s", self.peer, names)
            self.end("the exports cannot be listed")
        elif not self._gone:
            self._output.queue.extend(self._session.exports_listed(names))

    def end(self, why: str) -> None:
        """Close now. The export is closed when no thread uses it any more."""
        if self._gone:
            return
        self._gone = True
        self._pump.forget(self)
        self._line.close()
        self._output.clear()
        self._unsent = memoryview(b"")
        if self._output.work is None:
            log.debug("nbd %s left without an export: %s", self.peer, why)
        else:
            self._abandon()
            self._output.work.close()
            log.info(
                "nbd %s left %r: %d reads, %.1f MiB in %.0f s",
                self.peer,
                self.name,
                self._output.reads,
                self._output.read_bytes / (1 << 20),
                time.monotonic() - self._chosen_at,
                extra={"ip": str(self.peer), "file": self.name, "bytes": self._output.read_bytes},
            )
        self._owner.ended(self)  # the last thing, for there the server may stop

    def broken(self) -> None:
        """See `Client`."""
        self.end("an error of ours")

    # Run by the pump

    def run(self, desk: Desk, events: int) -> int:
        """See `Client`."""
        self.open_mail()
        if events & GONE:
            self.end("the client is gone")
        elif events & HUNG_UP:
            self._hangs_up()
        if self._gone:
            return 0
        try:
            wanted = self._serve(desk)
        except OSError as error:
            self.end(str(error))
            return 0
        work = self._output.work
        if work is not None and work.failed is not None:
            self._errors += 1
            self._warn(work.failed)
            work.failed = None
        if work is not None and work.torn:
            self.end("a reply that had begun cannot be finished")
        return wanted

    def _serve(self, desk: Desk) -> int:
        """Go on until there is nothing to do now, or others should have their turn; return what to wait for."""
        for _ in range(TURNS):
            if self._gone:
                return 0
            if self._shaking is not None:
                if (wanted := self._shake(self._shaking)) is not None:
                    return wanted
            elif self._unsent or self._line.is_blocked:
                if not self._flush():
                    return WRITABLE
            elif not self._output.is_empty:
                if not self._answer(desk):
                    return self._only_mail()
            elif self._closing:
                self.end("closed")
            elif self._asking or (self._output.work is not None and self._output.work.is_full):
                return self._only_mail()
            elif not self._receive(desk):
                return READABLE
        more = self._unsent or self._line.is_blocked or self._line.has_more or not self._output.is_empty
        return WRITABLE if more else READABLE

    def _only_mail(self) -> int:
        """Return what to wait for when nothing is read from the client: that it hangs up, unless it has."""
        return 0 if self._hung_up else HUNG_UP

    def _hangs_up(self) -> None:
        """The client sends no more. What it has asked for is answered; what was to change its disk is not begun."""
        self._hung_up = True
        self._abandon()

    def _abandon(self) -> None:
        """Begin no more writes, unless the client has said goodbye: it may send them again by another connection."""
        if self._output.work is not None and self._session.phase is not Phase.CLOSED:
            self._output.work.abandon()

    def _receive(self, desk: Desk) -> bool:
        """Take what has arrived, and answer it if it is plain; false if there is nothing."""
        received = self._line.receive(desk.inbox)
        if received is None:
            return False
        if not received:
            self._hangs_up()
            self._output.queue.append(Close(None))
            return True
        actions = self._session.receive(desk.inbox[:received], time.monotonic())
        self._count_plain(actions)
        self._output.queue.extend(actions)
        return True

    def _count_plain(self, actions: Sequence[Action]) -> None:
        now = time.monotonic()
        if now - self._plain_since > BUSY_S:
            self._plain, self._plain_since = 0, now
        lengths = [action.length for action in actions if isinstance(action, Read)]
        self._plain += bool(lengths) + sum(lengths) // PIECE_BYTES

    @property
    def may_stay(self) -> bool:
        """See `Client`."""
        if self._plain < BUSY_TURNS or not self._session.at_boundary or not isinstance(self._line, Plain):
            return False
        work = self._output.work
        idle = work is not None and not work.jobs and self._output.has_only_short_reads
        return idle and not (self._hung_up or self._closing or self._gone)

    def stay(self, desk: Desk) -> None:
        """See `Client`."""
        line, output = self._line, self._output
        steady = Steady(output.working().export.size_bytes, self._session.replies, PIECE_BYTES)
        self._plain = 0
        if not isinstance(line, Plain):
            return

        def count(reads: int, read_bytes: int) -> None:
            output.reads += reads
            output.read_bytes += read_bytes

        try:
            self._unsent = self._unsent[line.send_all(self._unsent) :]
            if self._unsent:
                return
            stay = Stay(desk, line, self._session, steady, output.working(), count)
            rest = stay.serve(output.take_short_reads(), lambda: self.is_called)
        except OSError as error:
            self.end(str(error))
            return
        self._unsent = memoryview(rest.unsent)
        output.queue.extend(Read(*read, False) for read in rest.reads)
        output.queue.extend(rest.actions)
        if rest.data or rest.actions:  # it has not paused, but asked for something else
            self._plain, self._plain_since = BUSY_TURNS, time.monotonic()
            output.queue.extend(self._session.receive(rest.data, self._plain_since))
        if rest.has_ended:
            self._hangs_up()
            output.queue.append(Close(None))

    # Sending

    def _flush(self) -> bool:
        """Send what is left of before; true if that is all."""
        if self._line.is_blocked:
            self._line.flush()
        if self._unsent and not self._line.is_blocked:
            self._unsent = self._unsent[self._line.send(self._unsent) :]
        return not self._unsent and not self._line.is_blocked

    def _send(self, data: memoryview) -> None:
        rest = data[self._line.send(data) :]
        if rest:
            self._unsent = memoryview(bytes(rest))

    def _answer(self, desk: Desk) -> bool:
        """Carry out some of what is queued, and send what comes of it; false if that has to wait for something."""
        filled = self._output.fill(desk.batch)
        if filled and not self._gone:
            self._send(desk.batch[:filled])
        return filled is not None

    def _obey(self, order: Order, is_first: bool) -> bool:
        """Carry out what the session wants of us; false if it has to wait until all before it is sent."""
        match order:
            case OpenExport():
                self._asking = True
                self._owner.open(self, order, self._session.secure)
            case ListExports():
                self._asking = True
                self._owner.names(self, self._session.secure)
            case StartTls():
                if not is_first:
                    return False
                # From here on all that is received is the handshake's.
                self._line = self._shaking = Tls(self._sock, self._owner.tls_context())
            case Close(reason):
                if reason is not None:
                    self._owner.complain("nbd %s: dropped: %s", self.peer, reason)
                if not self._closing:
                    self._closing = True
                    self._owner.lingers(self)
        return True

    def _warn(self, what: str) -> None:
        """Say once that the export is broken."""
        if not self._warned:
            self._warned = True
            self._owner.complain("nbd %s reads %r: %s", self.peer, self.name, what)

    def _shake(self, tls: Tls) -> int | None:
        """Do a step of the handshake; return what it waits for, or None when it is over. Raises `OSError`."""
        if not self._owner.may_shake(self):
            return 0
        try:
            wanted = tls.shake_hands()
        except OSError as error:
            self._owner.complain("nbd %s: no TLS handshake: %s", self.peer, error)
            self.end("no TLS handshake")
            return 0
        finally:
            self._owner.shook()
        if wanted:
            return wanted
        self._shaking = None
        self._output.queue.extend(self._session.secured())
        return None
