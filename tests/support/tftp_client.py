"""A TFTP client without a socket, and a link with a clock of its own, to run the engine against.

The client follows RFC 1350 and RFC 7440. Three manners of real ones can be switched on: a client that acknowledges
every block that is out of order (EDK2, TQ3), one that acknowledges old duplicates (GRUB, TQ4), and one that keeps
its last ACK to itself (T-07).
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from math import inf

from tftp import wire
from tftp.engine import Action, Finished, SendBlock, SendError, SendOptionAck, Transfer

CLIENT_TIMER_S = 1.0


class Client:
    """Takes packets, gives ACKs. `content` is what it has; `done` when it has the whole file.

    Unless `eager`, it reports a gap once, as U-Boot does; `remind` is what it says after a second of silence.
    """

    def __init__(
        self, blksize: int, windowsize: int, *, eager: bool = False, silent_end: bool = False, rollover: int = 0
    ) -> None:
        self.blksize = blksize
        self.windowsize = windowsize
        self.eager = eager
        self.silent_end = silent_end
        self.rollover = rollover
        self.content = bytearray()
        self.error: wire.Error | None = None
        self.done = False
        self._blocks = 0
        self._since_ack = 0
        self._gap_told = False

    def receive(self, packet: wire.Packet) -> list[wire.Packet]:
        match packet:
            case wire.OptionAck():
                return [wire.Ack(0)] if not self._blocks else []
            case wire.Error():
                self.error = packet
                return []
            case wire.Data(block, data):
                return self._take(block, data)
            case _:
                raise AssertionError(packet)

    def remind(self) -> list[wire.Packet]:
        return self._ack() if self._blocks and not self.done else []

    def _take(self, block: int, data: bytes) -> list[wire.Packet]:
        if block != self._number(self._blocks + 1):
            if not self.eager and self._gap_told and self.windowsize > 1:
                return []
            self._gap_told = True
            self._since_ack = 0
            return self._ack()
        self._blocks += 1
        self._since_ack += 1
        self._gap_told = False
        self.content += data
        if len(data) < self.blksize:
            self.done = True
        if self.done or self._since_ack == self.windowsize:
            self._since_ack = 0
            return self._ack()
        return []

    def _ack(self) -> list[wire.Packet]:
        if self.done and self.silent_end:
            return []
        return [wire.Ack(self._number(self._blocks))]

    def _number(self, count: int) -> int:
        """What the block is called on the wire; written otherwise than in `wire`, whose judge this is."""
        while count > 65535:
            count += self.rollover - 65536
        return count


class Fate(Enum):
    """What the link does to a packet."""

    PASS = "pass"
    LOSE = "lose"
    DOUBLE = "double"
    LATE = "late"


@dataclass
class Exchange:
    """One transfer of `content` between `transfer` and `client`, each packet meeting the next of `fates`.

    With `ack_fates`, what the client sends has fates of its own.
    """

    content: bytes
    transfer: Transfer
    client: Client
    fates: Iterable[Fate] = ()
    ack_fates: Iterable[Fate] | None = None
    delay_s: float = 0.001
    late_s: float = 0.02
    blocks_sent: list[int] = field(default_factory=list)
    oacks_sent: int = 0
    finished: Finished | None = None
    now: float = 1000.0

    def run(self) -> "Exchange":
        """Go on until both sides are at rest."""
        self._fates: Iterator[Fate] = iter(self.fates)
        self._ack_fates = self._fates if self.ack_fates is None else iter(self.ack_fates)
        self._on_link: list[tuple[float, int, bool, wire.Packet]] = []  # arrival, order, to the client?
        self._order = 0
        self._remind_at = self.now + CLIENT_TIMER_S
        self._obey(self.transfer.start(self.now))
        while True:
            arrival = self._on_link[0][0] if self._on_link else None
            deadline = self.transfer.deadline
            if self._remind_at < min(arrival or inf, deadline or inf) and deadline is not None:
                self.now = self._remind_at
                self._remind_at += CLIENT_TIMER_S
                for answer in self.client.remind():
                    self._send(answer, to_client=False)
            elif arrival is not None and (deadline is None or arrival <= deadline):
                self.now, _, to_client, packet = heapq.heappop(self._on_link)
                if to_client:
                    self._remind_at = self.now + CLIENT_TIMER_S
                    for answer in self.client.receive(packet):
                        self._send(answer, to_client=False)
                else:
                    self._obey(self.transfer.receive(packet, self.now))
            elif deadline is not None:
                self.now = deadline
                self._obey(self.transfer.expire(self.now))
            else:
                return self

    def _obey(self, actions: list[Action]) -> None:
        for action in actions:
            assert self.finished is None, "it acts after its end"
            match action:
                case SendOptionAck(options):
                    self.oacks_sent += 1
                    self._send(wire.OptionAck(options), to_client=True)
                case SendBlock(block, offset, length):
                    self.blocks_sent.append(block)
                    data = self.content[offset : offset + length]
                    assert len(data) == length
                    number = wire.data_header(block, self.transfer.terms.rollover)[2:]
                    self._send(wire.Data(int.from_bytes(number, "big"), data), to_client=True)
                case SendError(code, message):
                    self._send(wire.Error(code, message), to_client=True)
                case Finished():
                    self.finished = action

    def _send(self, packet: wire.Packet, *, to_client: bool) -> None:
        match next(self._fates if to_client else self._ack_fates, Fate.PASS):
            case Fate.PASS:
                delays = [self.delay_s]
            case Fate.LOSE:
                delays = []
            case Fate.DOUBLE:
                delays = [self.delay_s, self.delay_s]
            case Fate.LATE:
                delays = [self.late_s]
        for delay in delays:
            self._order += 1
            heapq.heappush(self._on_link, (self.now + delay, self._order, to_client, packet))
