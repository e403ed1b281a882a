"""TFTP clients as people run them, and a bad line with a clock of its own, to run the engine against.

What a model does when a packet is lost was seen on the program itself (its version is named) or read in its source;
`tests/net/test_tftp_loss.py` has the programs. All of them ask for blocks of one size and for one file.
"""

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tftp import wire
from tftp.engine import Action, Finished, SendBlock, SendError, SendOptionAck, Transfer
from tftp.options import negotiate

MTU = 1500
REPEAT_S = 2.0
"""As in `tftp.transport`: an answered client that asks again after that begins anew."""


class Client:
    """A client that asks for no window, repeats its last packet when its timer is due, and confirms old blocks.

    `content` is what it has so far, `done` whether that is all, `failed` why it gave up. Each model overrides what it
    does otherwise.
    """

    options: ClassVar[dict[str, str]] = {"blksize": "1428", "tsize": "0"}
    timer_s = 5.0
    tries = 5
    """How often the same packet is sent at most."""

    def __init__(self) -> None:
        self.content: list[bytes] = []
        self.blocks = 0
        self.done = False
        self.failed: str | None = None
        self.deadline: float | None = None
        self.blksize = 512
        self.windowsize = 1
        self.timeouts = 0
        """How often its timer was due."""
        self._accepted = False
        self._since_ack = 0
        self._last: wire.Packet = wire.ReadRequest(b"f", "octet", self.options)
        self._sent = 0

    def start(self, now: float) -> list[wire.Packet]:
        """Ask."""
        return self._say(self._last, now)

    def expire(self, now: float) -> list[wire.Packet]:
        """Its timer is due: it says the same again, or gives up."""
        self.timeouts += 1
        if self._sent >= self.tries:
            return self._give_up("timed out")
        self._sent += 1
        self.deadline = now + self._wait_s()
        return [self._last]

    def receive(self, packet: wire.Packet, now: float) -> list[wire.Packet]:
        """Take a packet; the answers to it."""
        match packet:
            case _ if self.done or self.failed:
                return []
            case wire.OptionAck(options):
                return self._agree(options, now)
            case wire.Data(block, data):
                if block != (self.blocks + 1) & 0xFFFF:
                    return self._unexpected(block, now)
                return self._take(data, now)
            case wire.Error(_, message):
                return self._give_up(message)
            case _:
                raise AssertionError(packet)

    def _agree(self, options: Mapping[str, str], now: float) -> list[wire.Packet]:
        if self.blocks:
            return []
        self._accepted = True
        self.blksize = int(options.get("blksize", 512))
        self.windowsize = int(options.get("windowsize", 1))
        return self._say(wire.Ack(0), now)

    def _take(self, data: bytes, now: float) -> list[wire.Packet]:
        self.blocks += 1
        self.content.append(data)
        self.done = len(data) < self.blksize
        self._since_ack += 1
        if self.done or self._since_ack == self.windowsize:
            return self._confirm(now)
        self._sent = 0
        self.deadline = now + self._wait_s()
        return []

    def _unexpected(self, block: int, now: float) -> list[wire.Packet]:
        """Take a block that is not the next one: a copy of the last is confirmed; a window's gap is told."""
        if self.windowsize > 1 or block == self.blocks & 0xFFFF:
            return self._confirm(now)
        return []

    def _confirm(self, now: float) -> list[wire.Packet]:
        self._since_ack = 0
        return self._say(wire.Ack(self.blocks & 0xFFFF), now)

    def _say(self, packet: wire.Packet, now: float) -> list[wire.Packet]:
        self._last = packet
        self._sent = 1
        self.deadline = None if self.done else now + self._wait_s()
        return [packet]

    def _wait_s(self) -> float:
        return self.timer_s

    def _give_up(self, why: str) -> list[wire.Packet]:
        self.failed = why
        self.deadline = None
        return []


class Curl(Client):
    """curl 7.88: repeats its request after 6 s and a bit, and an ACK after 72 s. A second OACK sets it back to 0."""

    options: ClassVar[dict[str, str]] = {"tsize": "0", "blksize": "1428", "timeout": "6"}
    tries = 50

    def _agree(self, options: Mapping[str, str], now: float) -> list[wire.Packet]:
        self.blocks, kept = 0, self.blocks
        assert not kept, "it would write the beginning once more"
        return super()._agree(options, now)

    def _wait_s(self) -> float:
        return 72.0 if self._accepted else 7.0


class Atftp(Client):
    """atftp 0.8.0: ends the transfer when it sees a second OACK.

    It confirms the first block that is not the next one, and then no other until it has made progress or has heard
    nothing for 5 s.
    """

    options: ClassVar[dict[str, str]] = {"blksize": "1428"}

    def __init__(self) -> None:
        super().__init__()
        self._confirmed_again = -1

    def _agree(self, options: Mapping[str, str], now: float) -> list[wire.Packet]:
        if self._accepted:
            return [*self._give_up("unexpected OACK"), wire.Error(0, "Undefined error code")]
        return super()._agree(options, now)

    def _unexpected(self, block: int, now: float) -> list[wire.Packet]:
        if self._confirmed_again == self.blocks:
            self.deadline = now + self._wait_s()
            return []
        self._confirmed_again = self.blocks
        return self._confirm(now)


class AtftpWindow(Atftp):
    """The same, asked to have 16 blocks on the way. It says of each block that is out of order what it expects."""

    options: ClassVar[dict[str, str]] = {"blksize": "1428", "windowsize": "16"}


class Busybox(Client):
    """busybox 1.35: says nothing to a copy; its timer of 0.1 s and more begins anew with every packet it gets."""

    tries = 12

    def __init__(self) -> None:
        super().__init__()
        self._pause_s = 0.1

    def expire(self, now: float) -> list[wire.Packet]:
        """Wait half as long again, up to 2 s."""
        self._pause_s = min(1.5 * self._pause_s, 2.0)
        return super().expire(now)

    def _agree(self, options: Mapping[str, str], now: float) -> list[wire.Packet]:
        if self._accepted:
            return self._unexpected(0, now)
        return super()._agree(options, now)

    def _unexpected(self, block: int, now: float) -> list[wire.Packet]:
        self.deadline = now + self._pause_s
        return []

    def _say(self, packet: wire.Packet, now: float) -> list[wire.Packet]:
        self._pause_s = 0.1
        return super()._say(packet, now)

    def _wait_s(self) -> float:
        return self._pause_s


class Grub(Client):
    """GRUB 2.06: asks every 0.4 s until it has an OACK; then it only answers, and confirms copies by their number."""

    options: ClassVar[dict[str, str]] = {"blksize": "1024", "tsize": "0"}
    tries = 40

    def expire(self, now: float) -> list[wire.Packet]:
        """Ask again; or give up, when it is the data that does not come."""
        return self._give_up("timed out") if self._accepted else super().expire(now)

    def _unexpected(self, block: int, now: float) -> list[wire.Packet]:
        return [wire.Ack(block)] if (self.blocks - block) & 0xFFFF < 0x8000 else []

    def _wait_s(self) -> float:
        return 32.0 if self._accepted else 0.4


class Edk2(Client):
    """EDK2 with a window of four: each block out of order draws an ACK of the last good one; its timer has 4 s."""

    options: ClassVar[dict[str, str]] = {"blksize": "1468", "windowsize": "4"}
    timer_s = 4.0
    tries = 6


class TftpHpa(Client):
    """tftp-hpa 5.2: no options, blocks of 512 bytes, a timer of 5 s."""

    options: ClassVar[dict[str, str]] = {}


@dataclass
class Line:
    """What lies between the two: each packet is lost, doubled or late by chance."""

    loss: float = 0.0
    double: float = 0.0
    late: float = 0.0
    """The share of packets that are overtaken: they take `late_s` more."""
    late_s: float = 0.005
    delay_s: float = 0.0001
    """For one way."""


@dataclass
class Fetch:
    """One file, fetched by `client` over `line`; `run` goes on until the client is done or has given up.

    `pauses` are times, in seconds from the start, at which the client stops hearing and answering for the seconds
    given with them; what comes meanwhile waits.
    """

    content: bytes
    client: Client
    line: Line
    seed: int
    pauses: dict[float, float] = field(default_factory=dict)
    transfer: Transfer | None = None
    finished: Finished | None = None
    data_sent: int = 0
    took_s: float = 0.0
    """Until the client had the file, or gave up."""
    now: float = 0.0

    def run(self) -> "Fetch":
        """Go on until both are at rest."""
        self._random = random.Random(self.seed)
        self._on_line: list[tuple[float, int, bool, wire.Packet]] = []  # arrival, order, to the client?
        self._order = 0
        self._began = 0.0
        self._from_client(self.client.start(self.now))
        while True:
            events = [
                at
                for at in (
                    self._on_line[0][0] if self._on_line else None,
                    self.transfer.deadline if self.transfer else None,
                    self.client.deadline,
                )
                if at is not None
            ]
            if not events:
                return self
            self.now = min(events)
            if self._on_line and self._on_line[0][0] == self.now:
                _, _, to_client, packet = heapq.heappop(self._on_line)
                if to_client:
                    self._hear(packet)
                else:
                    self._serve(packet)
            elif self.client.deadline == self.now:
                self._from_client(self.client.expire(self.now))
            else:
                assert self.transfer is not None
                self._obey(self.transfer.expire(self.now))

    @property
    def whole(self) -> bool:
        """Whether the client has the file, byte for byte."""
        return self.client.done and b"".join(self.client.content) == self.content

    def _hear(self, packet: wire.Packet) -> None:
        for begin_s, length_s in self.pauses.items():
            if begin_s <= self.now < begin_s + length_s:
                self._order += 1
                heapq.heappush(self._on_line, (begin_s + length_s, self._order, True, packet))
                return
        self._from_client(self.client.receive(packet, self.now))

    def _serve(self, packet: wire.Packet) -> None:
        """Do with a packet what `tftp.transport` does."""
        if not isinstance(packet, wire.ReadRequest):
            if self.transfer is not None:
                self._obey(self.transfer.receive(packet, self.now))
            return
        running = self.transfer if self.transfer is not None and self.transfer.deadline is not None else None
        if running is not None and (not running.answered or self.now - self._began < REPEAT_S):
            self._obey(running.receive(packet, self.now))
            return
        self._began = self.now
        self.transfer = Transfer(len(self.content), negotiate(packet, len(self.content), MTU))
        self._obey(self.transfer.start(self.now))

    def _obey(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendOptionAck(options):
                    self._send(wire.OptionAck(options), to_client=True)
                case SendBlock(block, offset, length):
                    self.data_sent += 1
                    self._send(wire.Data(block & 0xFFFF, self.content[offset : offset + length]), to_client=True)
                case SendError(code, message):
                    self._send(wire.Error(code, message), to_client=True)
                case Finished():
                    self.finished = action

    def _from_client(self, packets: list[wire.Packet]) -> None:
        for packet in packets:
            self._send(packet, to_client=False)
        if not self.took_s and (self.client.done or self.client.failed):
            self.took_s = self.now

    def _send(self, packet: wire.Packet, *, to_client: bool) -> None:
        for _ in range(1 + self._chance(self.line.double)):
            if not self._chance(self.line.loss):
                delay_s = self.line.delay_s + self.line.late_s * self._chance(self.line.late)
                self._order += 1
                heapq.heappush(self._on_line, (self.now + delay_s, self._order, to_client, packet))

    def _chance(self, share: float) -> bool:
        return bool(share) and self._random.random() < share
