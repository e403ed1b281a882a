"""One client's socket: carries out what its `Session` decides, and stops reading from whoever does not read.

It is run by the threads of `nbd.pump`. Plain READs of what is in memory take the short way: `nbd.steady` finds them
in what was received, and a batch of them leaves with one system call. What has to wait for a disk is done by other
threads (`nbd.work`), what has to ask the catalogue by the event loop; both answer by `post`.

A client that does not read its replies has at most these in our memory: `FILL_BYTES` that its socket did not take,
replies that waited for a disk (`work.MAX_READ_BYTES`) or writes that do (`work.MAX_ORDERED_BYTES`), and the requests
of one `pump.INBOX_BYTES`. Until they are gone nothing more is read from it.
"""

import logging
import time
from bisect import bisect_right
from collections.abc import Sequence
from ipaddress import IPv4Address
from socket import socket

from nbd.actions import Close, ExportInfo, ListExports, OpenExport, Read, Send, StartTls
from nbd.engine import Phase, Session
from nbd.exports import Export, Refused
from nbd.lines import Line, Plain, Tls
from nbd.output import Order, Output
from nbd.owner import Activity, Owner
from nbd.pieces import PIECE_BYTES
from nbd.pump import GONE, HUNG_UP, READABLE, WRITABLE, Client, Desk, Pump
from nbd.steady import Reads, Steady
from nbd.wire import Errno
from nbd.work import CHANGED

FILL_BYTES = PIECE_BYTES + (1 << 16)
"""The most that is sent at once of anything but plain READs."""
TURNS = 16
"""How often a client receives or sends before it is another's turn."""
QUICK_S = 60e-6
"""A client whose last request came within that many seconds of our answer is asked again and again for the next one
for as long: to sleep and be woken takes a thread about that."""
QUICK_BYTES = 1 << 16
"""Only answers that are no longer are waited after: who asks for more at once has other requests under way."""

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
        self._steady: Steady | None = None  # only while it may be used
        self._unsent = memoryview(b"")
        self._shaking: Tls | None = None
        self._asking = False
        self._closing = False
        self._hung_up = False
        self._gone = False
        self._warned = False
        self._chosen_at = 0.0
        self._answered_at = 0.0
        self._answered_bytes = 0
        self._quick = False  # whether the last request came within QUICK_S

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
            return Activity(self.peer, self.name, None, secure, since, *reads, 0, 0, 0)
        writes = work.writes, work.written_bytes
        return Activity(self.peer, self.name, work.export, secure, since, *reads, work.cold_reads, *writes)

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
        self._look_for_steady()
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
            received = self._wait_a_moment(desk)
            if received is None:
                return False
        if not received:
            self._hangs_up()
            self._output.queue.append(Close(None))
            return True
        data = desk.inbox[:received]
        if self._steady is not None:
            reads, used = self._steady.take(data)
            if reads:
                self._answer_reads(desk.batch, reads)
            if used == received:
                return True
            data = data[used:]
        self._output.queue.extend(self._session.receive(data, time.monotonic()))
        self._look_for_steady()
        return True

    def _wait_a_moment(self, desk: Desk) -> int | None:
        """Receive what comes soon after a short answer, if nobody else wants anything."""
        if not 0 < self._answered_bytes <= QUICK_BYTES or not desk.is_alone():
            return None
        received: int | None = None
        now, until = time.monotonic(), self._answered_at + QUICK_S
        if self._quick:
            while received is None and now < until and desk.is_alone():
                received = self._line.receive(desk.inbox)
                now = time.monotonic()
        if received is None:
            received = self._line.wait(desk.inbox)
            now = time.monotonic()
        self._quick = now < until
        self._answered_bytes = 0
        return received

    def _look_for_steady(self) -> None:
        """Take the short way, if this is between two requests."""
        work = self._output.work
        if work is None or not self._session.at_boundary:
            self._steady = None
        elif self._steady is None:
            steady = Steady(work.export.size_bytes, self._session.replies, PIECE_BYTES)
            self._steady = steady if steady.usable else None

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

    def _answer_reads(self, batch: memoryview, reads: Reads) -> None:
        """Answer READs from memory, as many with one call as fit `batch`; queue those that have to wait."""
        work, data = self._output.working(), self._session.replies.data
        head_size, read_warm = self._session.replies.head_size, work.export.read_warm
        filled, missed = 0, False
        ends: list[int] = []
        taken: Reads = []
        for number, read in enumerate(reads):
            cookie, offset, length = read
            start = filled + head_size
            end = start + length
            if end > len(batch):
                if not self._leave(batch, taken, ends):
                    self._output.queue.extend(Read(*later, False) for later in reads[number:])
                    return
                filled, start, end = 0, head_size, head_size + length
                ends, taken = [], []
            # After a miss no more is tried: it would break the kernel's readahead for what stands in line.
            if not (missed or work.is_slow) and read_warm(batch[start:end], offset):
                batch[filled:start] = data(cookie, offset, length)
                filled = end
                ends.append(end)
                taken.append(read)
            else:
                missed = True
                self._output.read_cold(Read(cookie, offset, length, False))
        if taken:
            self._leave(batch, taken, ends)

    def _leave(self, batch: memoryview, taken: Reads, ends: list[int]) -> bool:
        """Send the answers of `taken`, which lie in `batch` up to `ends`; false if there is an end to it for now."""
        if not self._output.working().export.intact():
            self._warn(CHANGED)
            error = self._session.replies.error
            self._output.queue.extend(Send(error(cookie, Errno.EIO, "", offset)) for cookie, offset, _ in taken)
            return False
        filled = ends[-1]
        sent = self._line.send(batch[:filled])
        self._answered_at, self._answered_bytes = time.monotonic(), filled
        left = len(taken)
        if sent < filled:
            # Only what was begun is kept; the others are read again once it has gone.
            begun = bisect_right(ends, sent)
            self._unsent = memoryview(bytes(batch[sent : ends[begun]]))
            left = begun + 1
            self._output.queue.extend(Read(*later, False) for later in taken[left:])
        self._output.reads += left
        self._output.read_bytes += ends[left - 1] - left * self._session.replies.head_size
        return sent == filled

    def _answer(self, desk: Desk) -> bool:
        """Carry out some of what is queued, and send what comes of it; false if that has to wait for something."""
        filled = self._output.fill(desk.batch[:FILL_BYTES])
        if filled and not self._gone:
            self._send(desk.batch[:filled])
            self._answered_bytes = 0
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
