"""One transfer's socket, timer and file: carries out what `engine.Transfer` decides."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from tftp import wire
from tftp.engine import Action, Finished, Outcome, SendBlock, SendError, SendOptionAck, Transfer
from tftp.kernel import Address, Port, Sender
from tftp.reader import Reader

log = logging.getLogger("tftp")

_DRAIN = 64  # datagrams per wake-up, then the other sockets have their turn
_DATAGRAM = 2048


class Session:
    """Sends what `reader` reads to `peer` from `port`, and calls `on_end` once.

    Closes `port` and `reader` at the end. Who shares a port with others is handed what its peer sends (`received`).
    An exception in here is a bug of ours: it is logged, the client is told, and this transfer alone ends.
    """

    def __init__(
        self,
        port: Port,
        peer: Address,
        transfer: Transfer,
        reader: Reader,
        sender: Sender,
        on_end: "Callable[[Session, Finished], None]",
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
        self._timer: asyncio.TimerHandle | None = None
        self._wanted: list[SendBlock] = []
        self._loading = False
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
        if not self._port.shared:
            self._loop.remove_reader(self._sock)
        if self._timer is not None:
            self._timer.cancel()
        self._port.close()
        self._reader.close()

    def received(self, datagram: bytes) -> None:
        """Act on a datagram of the peer's that came in by a shared port."""
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
                return
            except OSError as error:
                log.debug("tftp %s: receiving failed: %s", self.peer[0], error)
                return
            if sender == self.peer:
                self._receive(datagram)
            else:
                self._turn_away(datagram, sender)
            if self._over:
                return

    def _receive(self, datagram: bytes) -> None:
        try:
            packet = wire.decode(datagram)
        except wire.MalformedPacket as error:
            log.debug("tftp %s: dropped a datagram: %s", self.peer[0], error)
            return
        self._carry_out(self.transfer.receive(packet, self._loop.time()))

    def _turn_away(self, datagram: bytes, sender: Address) -> None:
        """Tell a stranger that this is not its transfer (T-04, A-29), but never answer an ERROR."""
        if datagram[:2] != wire.Opcode.ERROR.to_bytes(2, "big"):
            self._send(wire.Error(wire.ErrorCode.UNKNOWN_TRANSFER_ID, "unknown transfer id"), sender)

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
        self._arm()

    def _arm(self) -> None:
        """Have one timer that fires no later than the deadline; it is not moved when the deadline goes back."""
        deadline = self.transfer.deadline
        if deadline is None or self._over:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._guarded, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._carry_out(self.transfer.expire(self._loop.time()))

    def _send(self, packet: wire.Error | wire.OptionAck, to: Address) -> None:
        try:
            self._port.send(packet.encode(), to)
        except OSError as error:  # as if lost on the way
            log.debug("tftp %s: sending failed: %s", to[0], error)

    def _send_wanted(self) -> None:
        """Send the blocks that are due, or have them read first. While that takes, later wishes replace them."""
        if self._loading or not self._wanted:
            return
        blocks = self._wanted
        start = blocks[0].offset
        length = blocks[-1].offset + blocks[-1].length - start
        content = self._reader.read_now(start, length)
        if content is None:
            self._loading = True
            self._reader.load(self._loop, start, length).add_done_callback(self._loaded)
            return
        self._wanted = []
        view, rollover = memoryview(content), self.transfer.terms.rollover
        datagrams = [
            (wire.data_header(block.block, rollover), view[block.offset - start : block.offset - start + block.length])
            for block in blocks
        ]
        sent = self._sender.send(self._port, self.peer, datagrams)
        self.bytes_sent += sum(block.length for block in blocks[:sent])

    def _loaded(self, done: "asyncio.Future[None]") -> None:
        self._loading = False
        error = None if done.cancelled() else done.exception()
        if self._over:
            return
        if isinstance(error, OSError):
            log.error("tftp %s: reading its file failed: %s", self.peer[0], error)
            self._carry_out(self.transfer.fail("the file cannot be read"))
        elif error is not None:
            log.error("tftp %s: a bug of ours ended its transfer", self.peer[0], exc_info=error)
            self._break_off()
        else:
            self._guarded(self._send_wanted)
