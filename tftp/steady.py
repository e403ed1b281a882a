"""A transfer of which nothing is to be said: window after window arrives whole and is acknowledged at once. Pure.

This is the short way past `tftp.wire` and `tftp.engine` for the one thing that happens ten thousand times in a
transfer. `engine.Transfer.steady` begins it and `engine.Transfer.resume` ends it; for whatever is not the ACK that is
waited for, the engine is asked. Both ways lead to the same packets and the same state: tests/unit/test_tftp_steady.py;
only a carrier (`reached`) does not time each block, so that it learns of a slower client some blocks later.
"""

import struct
from typing import Self

from tftp import wire

_ACK, _DATA = int(wire.Opcode.ACK), int(wire.Opcode.DATA)
_pack = struct.Struct("!HH").pack
_PACKED = struct.Struct("=QIIIQQ8d")


class Steady:
    """Where such a transfer is. Times, in seconds, and blocks, counted without limit, are those of `engine.Transfer`.

    It is a plain row of numbers, so that another process can carry on from it (`pack`, `unpack`).
    """

    __slots__ = (
        *("size_bytes", "blksize", "windowsize", "rollover", "acked", "sent"),
        *("sent_at", "srtt_s", "rttvar_s", "least_rtt_s", "rto_least_s", "rto_most_s", "ends_at"),
        *("blocks", "_begun"),
    )

    def __init__(
        self,
        size_bytes: int,
        blksize: int,
        windowsize: int,
        rollover: int,
        acked: int,
        sent: int,
        sent_at: float,
        srtt_s: float,
        rttvar_s: float,
        least_rtt_s: float,
        rto_least_s: float,
        rto_most_s: float,
        deadline: float,
        ends_at: float,
    ) -> None:
        self.size_bytes = size_bytes
        self.blksize = blksize
        self.windowsize = windowsize
        self.rollover = rollover
        self.acked = acked
        """The last block that the client has."""
        self.sent = sent
        """The last block that was sent."""
        self.sent_at = sent_at
        self.srtt_s = srtt_s
        self.rttvar_s = rttvar_s
        self.least_rtt_s = least_rtt_s
        self.rto_least_s = rto_least_s
        self.rto_most_s = rto_most_s
        self.ends_at = ends_at
        self._begun = acked, deadline
        self.blocks = size_bytes // blksize + 1

    @property
    def ack(self) -> bytes:
        """The datagram that says that all which was sent has arrived."""
        return _pack(_ACK, wire.number(self.sent, self.rollover))

    @property
    def deadline(self) -> float:
        """When silence is to be acted on."""
        acked, deadline = self._begun
        if acked == self.acked:  # the engine may have been more patient
            return deadline
        rto_s = min(self.srtt_s + max(4 * self.rttvar_s, self.rto_least_s), self.rto_most_s)
        return min(self.sent_at + rto_s, self.ends_at)

    def following(self, least_bytes: int = 0) -> tuple[int, int]:
        """Return the place in the file, offset and length, of the window after the one that was sent; with
        `least_bytes`, of so many windows that they hold as much, or all that there are.
        """
        offset, window = self.sent * self.blksize, self.windowsize * self.blksize
        windows = max(1, -(-least_bytes // window))
        return offset, max(0, min(windows * window, self.size_bytes - offset))

    def coming(self, content: bytes | memoryview) -> tuple[list[bytes], list[bytes]]:
        """Return the ACK of each block from the last one that was sent on, and the DATA of each block that follows.

        `content` is the part of the file at `following`; if it reaches to the end, an empty last block is among what
        follows. Nothing follows once the last window was sent.
        """
        sent, blksize = self.sent, self.blksize
        blocks = len(content) // blksize
        if sent * blksize + len(content) == self.size_bytes:
            blocks = self.blocks - sent  # the last one may be empty
        names = [wire.number(block, self.rollover) for block in range(sent, sent + blocks + 1)]
        offsets = range(0, blocks * blksize, blksize)
        datagrams = [
            _pack(_DATA, name) + content[at : at + blksize] for name, at in zip(names[1:], offsets, strict=True)
        ]
        return [_pack(_ACK, name) for name in names], datagrams

    def exchanges(self, content: bytes | memoryview) -> list[tuple[bytes, list[bytes]]]:
        """Return what is to come: each ACK that is due, and the window of DATA that answers it; see `coming`."""
        acks, datagrams = self.coming(content)
        step = self.windowsize
        return [(acks[at], datagrams[at : at + step]) for at in range(0, len(datagrams), step)]

    def acknowledged(self, now: float) -> bool:
        """Note that all which was sent has arrived, and that the window after it is sent now.

        Returns False, and changes nothing, if that is not all there is to it: the file or its time is over.
        """
        sent = self.sent
        if sent >= self.blocks or now >= self.ends_at:
            return False
        rtt_s, srtt_s, rttvar_s = now - self.sent_at, self.srtt_s, self.rttvar_s
        rttvar_s += (abs(srtt_s - rtt_s) - rttvar_s) / 4
        srtt_s += (rtt_s - srtt_s) / 8
        if rtt_s < self.least_rtt_s:
            self.least_rtt_s = rtt_s
        self.rttvar_s, self.srtt_s = rttvar_s, srtt_s
        self.acked = sent
        sent += self.windowsize
        self.sent = sent if sent < self.blocks else self.blocks
        self.sent_at = now
        return True

    def reached(self, sent: int, sent_at: float) -> None:
        """Note, for windows of one block, that the block `sent` was sent last and that all before it have arrived.

        It is what `acknowledged` would have noted for each, but that their answers were not timed.
        """
        if sent > self.sent:
            self.acked, self.sent, self.sent_at = sent - 1, sent, sent_at

    def pack(self) -> bytes:
        """Return it as bytes, for another process of ours on this machine."""
        return _PACKED.pack(
            *(self.size_bytes, self.blksize, self.windowsize, self.rollover, self.acked, self.sent),
            *(self.sent_at, self.srtt_s, self.rttvar_s, self.least_rtt_s, self.rto_least_s, self.rto_most_s),
            *(self.deadline, self.ends_at),
        )

    @classmethod
    def unpack(cls, data: bytes) -> tuple[Self, bytes]:
        """Return what `pack` made bytes of, and the bytes behind it. Raises `struct.error` if there are too few."""
        return cls(*_PACKED.unpack_from(data)), data[_PACKED.size :]
