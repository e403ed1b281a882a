"""One transfer's socket, timer and file: carries out what `engine.Transfer` decides."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from tftp import wire
from tftp.carriers import Carriers
from tftp.engine import SILENCE_S, Action, Finished, Outcome, SendBlock, SendError, SendOptionAck, Transfer
from tftp.kernel import Address, Port, Sender, keep_to
from tftp.reader import Reader
from tftp.steady import Steady

log = logging.getLogger("tftp")

_DRAIN = 64  # datagrams per wake-up, then the other sockets have their turn
_DATAGRAM = 2048
_TRUSTED = 16  # windows that arrived whole in a row, before another process carries on
_WORTH = 1024 * 1024  # bytes that are left; for less nobody else is troubled
_LOOKS = 6  # within `SILENCE_S`: whether a carrier takes what its client says
_UNREADABLE = "the file cannot be read"


class Session:
    """Sends what `reader` reads to `peer` from `port`, and calls `on_end` once.

    Closes `port` and `reader` at the end. Who shares a port with others is handed what its peer sends (`received`).
    An exception in here is a bug of ours: it is logged, the client is told, and this transfer alone ends.

    `transfer` decides everything. Only while windows arrive whole, `_steady` says what is next, and `transfer` is
    told where that led (`_settle`) before anything else happens; one of `carriers` may go on with it meanwhile.
    """

    def __init__(
        self,
        port: Port,
        peer: Address,
        transfer: Transfer,
        reader: Reader,
        sender: Sender,
        on_end: "Callable[[Session, Finished], None]",
        carriers: Carriers | None = None,
    ) -> None:
        self.peer = peer
        self.transfer = transfer
        self.bytes_sent = 0
        """Of the file, blocks that were sent again included."""
        self._loop = asyncio.get_running_loop()
        self.started_at = self._loop.time()
        self._port = port
        self._sock = port.sock
        self._reader = reader
        self._sender = sender
        self._on_end = on_end
        self._carriers = carriers
        self._steady: Steady | None = None
        self._expected: bytes | None = None  # the ACK of all that was sent, if what follows is in memory
        self._ahead: list[bytes] = []  # what follows
        self._whole = 0  # windows in a row
        self._others: socket.socket | None = None  # gets what strangers send, once a carrier may be asked
        self._alone = False  # nothing of theirs is left in our own queue
        self._carried = False
        self._unheard: tuple[bytes | None, float] = (None, 0.0)  # what its carrier has not taken, seen first when
        self._timer: asyncio.TimerHandle | None = None
        self._wanted: list[SendBlock] = []
        self._loading_since: float | None = None
        self._over = False

    def start(self) -> None:
        """Send the first packet and listen for the answer."""
        if not self._port.shared:
            self._loop.add_reader(self._sock, self._guarded, self._drain)
        self._guarded(lambda: self._carry_out(self.transfer.start(self._loop.time())))

    def close(self) -> None:
        """Stop without a word to anybody and give everything back. Harmless when it is over already."""
        if self._over:
            return
        self._over = True
        if self._carried:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RD)  # its carrier gives up at once
        if not self._port.shared:
            self._loop.remove_reader(self._sock)
        if self._others is not None:
            self._loop.remove_reader(self._others)
            self._others.close()
        if self._timer is not None:
            self._timer.cancel()
        self._port.close()
        self._reader.close()

    def received(self, datagram: bytes) -> None:
        """Act on a datagram of the peer's that came in by a shared port."""
        if not self._carried:
            self._guarded(lambda: self._receive(datagram))

    def _guarded(self, step: Callable[[], None]) -> None:
        if self._over:
            return
        try:
            step()
        except Exception:
            log.exception("tftp %s: a bug of ours ended its transfer", self.peer[0])
            self._break_off()

    def _break_off(self) -> None:
        if not self._over:
            self._send(wire.Error(wire.ErrorCode.NOT_DEFINED, "server error"), self.peer)
            self.close()
            self._on_end(self, Finished(Outcome.FAILED, "server error"))

    def _drain(self) -> None:
        for _ in range(_DRAIN):
            try:
                datagram, sender = self._sock.recvfrom(_DATAGRAM)
            except BlockingIOError:
                self._alone = self._others is not None
                break
            except OSError as error:
                log.debug("tftp %s: receiving failed: %s", self.peer[0], error)
                return
            if sender != self.peer:
                self._turn_away(datagram, sender)
                continue
            whole = self._whole
            self._receive(datagram)
            if self._over:
                return
            if self._whole > whole and self._alone is (self._others is not None):
                break  # the client says nothing more before it has what we just sent
        if self._whole >= _TRUSTED:
            self._offer()

    def _receive(self, datagram: bytes) -> None:
        if self._steady is not None:
            if datagram == self._expected and self._go_on(self._steady):
                return
            self._settle()
        try:
            packet = wire.decode(datagram)
        except wire.MalformedPacket as error:
            log.debug("tftp %s: dropped a datagram: %s", self.peer[0], error)
            return
        if self._loading_since is not None and not isinstance(packet, wire.Error):
            return  # nobody can answer what we have not sent
        self._carry_out(self.transfer.receive(packet, self._loop.time()))

    def _go_on(self, steady: Steady) -> bool:
        """Send the next window if that is all that is to be done."""
        ahead = self._ahead
        if not steady.acknowledged(self._loop.time()):
            return False
        sent = self._sender.send(self._port, self.peer, ahead)
        self.bytes_sent += sum(map(len, ahead[:sent])) - 4 * sent
        self._whole += 1
        self._look_ahead(steady)
        if self._timer is None or self._timer.when() > steady.deadline:
            self._arm(steady.deadline)
        return True

    def _look_ahead(self, steady: Steady) -> None:
        self._expected = None
        if steady.sent < steady.blocks:
            content = self._reader.read_now(*steady.following())
            if content is not None:
                self._expected, self._ahead = steady.exchanges(content)[0]

    def _settle(self) -> None:
        """Tell the engine what was done without it."""
        if self._steady is not None:
            self.transfer.resume(self._steady)
            self._steady = None
            self._whole = 0

    def _offer(self) -> None:
        """Have a carrier go on, if one is free and there is enough left to do."""
        steady, file = self._steady, self._reader.file
        if self._carriers is None or steady is None or file is None or self._port.shared:
            return
        if steady.size_bytes - steady.sent * steady.blksize < _WORTH or not self._carriers.ready(self):
            return
        if self._others is None:
            try:
                self._others = keep_to(self._sock, self.peer)
            except OSError as error:
                log.debug("tftp %s: no second socket at its port: %s", self.peer[0], error)
                self._carriers = None
                return
            self._loop.add_reader(self._others, self._guarded, self._drain_others)
        elif self._alone and self._carriers.carry(steady, self._sock, file, self._back):
            self._loop.remove_reader(self._sock)
            self._carried = True
            self._unheard = None, self._loop.time()
            self._rearm(self._next_look(steady), self._look)

    def _next_look(self, steady: Steady) -> float:
        return min(self._loop.time() + SILENCE_S / _LOOKS, steady.ends_at)

    def _look(self) -> None:
        """End it if its carrier hangs, as when it reads from a disk that hangs.

        Then what the client said last lies unread, look after look: any other carrier takes it within milliseconds,
        and soon hands back a transfer whose client says nothing.
        """
        self._timer = None
        steady, now, unread = self._steady, self._loop.time(), self._unread()
        if steady is None:
            return
        if unread is None or unread != self._unheard[0]:
            self._unheard = unread, now
        actions: list[Action] = []
        if now >= steady.ends_at:
            actions = self.transfer.expire(now)
        elif now - self._unheard[1] >= SILENCE_S and unread is not None:
            reason = f"the process that carried it took nothing for {SILENCE_S:.0f} s: its disk hangs"
            actions = self.transfer.fail(_UNREADABLE, reason)
        if actions:
            self._sock.setblocking(False)  # its carrier wanted it otherwise
            self._carry_out(actions)
        else:
            self._rearm(self._next_look(steady), self._look)

    def _unread(self) -> bytes | None:
        """Return the datagram of the client's that is taken next; None if there is none."""
        try:
            return self._sock.recv(_DATAGRAM, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return None

    def _back(self, steady: Steady | None, datagram: bytes) -> None:
        """Go on from where a carrier has stopped."""
        self._carried = False
        if self._over:
            return
        if self._timer is not None:  # of the next look
            self._timer.cancel()
            self._timer = None
        if steady is None:
            log.error("tftp %s: the process that carried its transfer died", self.peer[0])
            self._break_off()
            return
        if self._steady is not None:  # as it was then
            self.bytes_sent += _bytes(steady) - _bytes(self._steady)
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._guarded, self._drain)
        self._steady = steady
        self._settle()
        self._guarded(lambda: self._receive(datagram) if datagram else self._carry_out(()))

    def _drain_others(self) -> None:
        if self._others is None:
            return
        for _ in range(_DRAIN):
            try:
                datagram, sender = self._others.recvfrom(_DATAGRAM)
            except OSError:
                return
            self._turn_away(datagram, sender)

    def _turn_away(self, datagram: bytes, sender: Address) -> None:
        """Tell a stranger that this is not its transfer (T-04, A-29), but never answer an ERROR."""
        if datagram[:2] != wire.Opcode.ERROR.to_bytes(2, "big"):
            port = self._port if self._others is None else Port(self._others)
            self._send(wire.Error(wire.ErrorCode.UNKNOWN_TRANSFER_ID, "unknown transfer id"), sender, port)

    def _carry_out(self, actions: Iterable[Action]) -> None:
        blocks: list[SendBlock] = []
        for action in actions:
            match action:
                case SendBlock():
                    blocks.append(action)
                case SendOptionAck(options):
                    self._send(wire.OptionAck(options), self.peer)
                case SendError(code, message):
                    self._send(wire.Error(code, message), self.peer)
                case Finished():
                    self.close()
                    self._on_end(self, action)
                    return
        if blocks:
            self._wanted = blocks
        self._send_wanted()
        if not self._wanted and not self._over:
            self._steady = self.transfer.steady()
            if self._steady is not None:
                self._look_ahead(self._steady)
        if self.transfer.deadline is not None and not self._over:
            self._arm(self._due(self.transfer.deadline))

    def _due(self, deadline: float) -> float:
        """Return when silence is to be acted on: our own while the file is read, else the client's."""
        if self._loading_since is not None:
            return self._loading_since + SILENCE_S
        return deadline if self._steady is None else self._steady.deadline

    def _arm(self, deadline: float) -> None:
        """Have one timer that fires no later than the deadline; it is not moved when the deadline goes back."""
        if self._timer is not None and self._timer.when() <= deadline:
            return
        self._rearm(deadline, self._expire)

    def _rearm(self, at: float, step: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._guarded, step)

    def _expire(self) -> None:
        self._timer = None
        now, deadline = self._loop.time(), self.transfer.deadline
        if deadline is None:
            return
        due = self._due(deadline)
        if now < due:  # it was armed for what came before
            self._arm(due)
        elif self._loading_since is not None:
            self._carry_out(self.transfer.fail(_UNREADABLE, f"its disk did not answer for {SILENCE_S:.0f} s"))
        else:
            self._settle()
            self._carry_out(self.transfer.expire(now))

    def _send(self, packet: wire.Error | wire.OptionAck, to: Address, port: Port | None = None) -> None:
        try:
            (port or self._port).send(packet.encode(), to)
        except OSError as error:  # as if lost on the way
            log.debug("tftp %s: sending failed: %s", to[0], error)

    def _send_wanted(self) -> None:
        """Send the blocks that are due, or have them read first. While that takes, nothing else is asked for."""
        if self._loading_since is not None or not self._wanted:
            return
        blocks = self._wanted
        start = blocks[0].offset
        length = blocks[-1].offset + blocks[-1].length - start
        content = self._reader.read_now(start, length)
        if content is None:
            self._loading_since = self._loop.time()
            self._reader.load(self._loop, start, length).add_done_callback(self._loaded)
            return
        self._wanted = []
        rollover = self.transfer.terms.rollover
        datagrams = []
        for block in blocks:
            at = block.offset - start
            datagrams.append(wire.data_header(block.block, rollover) + content[at : at + block.length])
        sent = self._sender.send(self._port, self.peer, datagrams)
        self.bytes_sent += sum(block.length for block in blocks[:sent])

    def _loaded(self, done: "asyncio.Future[None]") -> None:
        self._loading_since = None
        error = None if done.cancelled() else done.exception()
        if self._over:
            return
        if isinstance(error, OSError):
            log.error("tftp %s: reading its file failed: %s", self.peer[0], error)
            self._carry_out(self.transfer.fail(_UNREADABLE))
        elif error is not None:
            log.error("tftp %s: a bug of ours ended its transfer", self.peer[0], exc_info=error)
            self._break_off()
        else:
            self.transfer.postponed(self._loop.time())
            self._guarded(lambda: self._carry_out(()))


def _bytes(steady: Steady) -> int:
    """Return how much of the file was sent."""
    return min(steady.sent * steady.blksize, steady.size_bytes)
