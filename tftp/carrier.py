"""A process that carries transfers on, one at a time, for as long as all goes well: see `tftp.carriers`.

It waits in `recv` for the one ACK that is due and sends the next window. A process that does only this is as fast as
a server in C, because the kernel lets it and its client take turns on one processor. Whatever else comes, or does not
come, it hands back; so it knows neither time-outs nor errors, nor who the client is.
"""

import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import count
from time import monotonic, process_time

from tftp import wire
from tftp.kernel import Windows, go_near
from tftp.steady import Steady
from tftp.turns import TURN_S

READ = 32 * 1024
"""How many bytes of a file are read at once, if a window is not longer. With headers, so much is in memory."""
MOST = 1024
"""Pieces of memory that one system call fills (IOV_MAX)."""
NEAR = 8
"""After so many parts it goes to its client's processor again, from which the kernel may have moved it."""
NEARER = 2
"""After so many with windows of more than one block: they are faster on one processor than with one for each side."""
LOOK_S = 0.02
"""How often it looks whether silence has lasted too long."""
ENOUGH = 4096
"""Bytes that hold a transfer's state and a datagram of its client's."""
DATAGRAM = 256
"""An ACK has 4 bytes; of the text of an ERROR the engine wants less than this."""
ASK = struct.Struct("=?d")
"""What a carrier tells its origin: whether it wants a turn now, and for how many seconds it used a processor since it
said so last. It is answered by one byte when the turn comes."""
SEND, SEND_EAGERLY = b"!", b"+"
"""The answer; the second where a processor has nothing better to do than to look for what the client says."""
LOOKS = 64
"""How often a carrier looks for an ACK before it sleeps, when it may: some 50 µs, less than to be woken may take."""
PATIENCE = 3
"""So often it may have looked in vain within a part of the file; then it only sleeps until its turn is over."""

Receive = Callable[[int, int], bytes]

_HEADER = 4  # bytes of DATA before its block
_TIMEVAL = struct.Struct("@ll")


class Turn:
    """This process's right to send, which others may be waiting for (`tftp.turns`)."""

    def __init__(self, origin: socket.socket | None) -> None:
        self._origin = origin
        """None: nobody else sends."""
        self.eager = False
        """Whether to look for the client's answers instead of sleeping, if they come soon enough."""
        self._until = 0.0
        self._used_s = process_time()

    def take(self, steady: Steady) -> None:
        """Wait until it is our turn, if ours is over; `steady` then knows that its client is not to blame for that."""
        began = monotonic()
        if began < self._until:
            return
        self._tell(wanted=True)
        now = monotonic()
        self._until = now + TURN_S
        steady.sent_at += now - began

    def end(self) -> None:
        """Let the next one have it."""
        self._until = 0.0
        self._tell(wanted=False)

    def _tell(self, *, wanted: bool) -> None:
        """Tell the origin, and wait for its answer if we want to go on. Without one, everybody may."""
        self.eager = False
        if self._origin is None:
            return
        before, self._used_s = self._used_s, process_time()
        try:
            self._origin.send(ASK.pack(wanted, self._used_s - before))
            if wanted:
                answer = self._origin.recv(1)
                self.eager = answer == SEND_EAGERLY
                self._origin = self._origin if answer else None
        except ConnectionError:
            self._origin = None


def serve(server: socket.socket, turn: Turn) -> None:
    """Carry on what comes by `server`, until that is closed."""
    try:
        server.send(b"here")
        while True:
            message, descriptors = received(server)
            if not message:
                return
            port, file = descriptors
            steady, _ = Steady.unpack(message)
            try:
                with socket.socket(fileno=port) as sock:
                    datagram = carry(steady, sock, file, turn)
            finally:
                turn.end()
                os.close(file)
            server.send(steady.pack() + datagram)
    except ConnectionError:  # the server is gone
        return


def received(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors that came with it; neither if the other side is gone."""
    try:
        return socket.recv_fds(sock, ENOUGH, 2)[:2]
    except ConnectionResetError:  # it did not hear what we said last
        return b"", []


def carry(steady: Steady, sock: socket.socket, file: int, turn: Turn) -> bytes:
    """Send window after window of `file` from `sock`, which is connected to the client, and keep `steady` up to date.

    Returns the first datagram that is not the ACK of the whole window or cannot be answered here; none if nothing
    came until the deadline, or the server has shut the socket down.
    """
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(0, int(LOOK_S * 1e6)))
    descriptor = sock.fileno()
    try:
        if steady.windowsize == 1:
            for part in _parts(steady, sock, file, turn, NEAR):
                datagram = _blocks(steady, part, descriptor, _receiver(sock, turn))
                if datagram is not None:
                    return datagram
            return _patiently(steady, descriptor)
        with closing(Windows(sock, _HEADER + steady.blksize)) as windows:
            for part in _parts(steady, sock, file, turn, NEARER):
                for expected, window in zip(part.acks, part.windows, strict=True):
                    datagram = _patiently(steady, descriptor)
                    if datagram != expected or not steady.acknowledged(monotonic()):
                        return datagram
                    windows.send(window)
            return _patiently(steady, descriptor)
    except OSError:  # it is lost on the way, or the client's machine says that nobody listens: the engine will see
        return b""


def _parts(steady: Steady, sock: socket.socket, file: int, turn: Turn, near: int) -> Iterator["_Part"]:
    """Yield what follows, part after part, each in our turn; go to the client's processor every `near` parts."""
    part = _Part(steady.blksize, steady.windowsize)
    for number in count():
        if not part.read(steady, file):
            return
        turn.take(steady)
        if not number % near:
            go_near(sock)
        yield part


class _Part:
    """Some windows of a file as datagrams, all in one piece of memory that is used again for the next.

    Eight carriers and their clients then leave more of the processors' caches to each other: with new memory for each
    part, and copies to put the headers before the blocks, all of them together needed some 7 % more processor.
    """

    def __init__(self, blksize: int, windowsize: int = 1) -> None:
        windows = min(max(1, READ // (blksize * windowsize)), MOST // windowsize)
        self._blocks = blocks = windows * windowsize
        size = _HEADER + blksize
        self._memory = memory = memoryview(bytearray(blocks * size))
        self._windows = [memory[at : at + windowsize * size] for at in range(0, blocks * size, windowsize * size)]
        self._headers = struct.Struct(">" + f"I{blksize}x" * blocks)
        self._acks = struct.Struct(f">{windows}I")
        self._each_ack = struct.Struct(f"{_HEADER}s" * windows)
        self._contents = [memory[at + _HEADER : at + size] for at in range(0, blocks * size, size)]
        self.acks: Sequence[bytes] = ()
        """Each ACK that is due."""
        self.windows: Sequence[bytes | memoryview] = ()
        """The window of DATA that answers it."""

    def read(self, steady: Steady, file: int) -> bool:
        """Get what follows; return False at the end of the file, or if it cannot be read."""
        blocks, sent = self._blocks, wire.number(steady.sent, steady.rollover)
        if not blocks or steady.sent + blocks >= steady.blocks or sent + blocks > 0xFFFF:
            # The last block is shorter than the others, or their numbers begin again; or the windows are too long.
            exchanges = steady.exchanges(_following(steady, file))
            self.acks = [ack for ack, _ in exchanges]
            self.windows = [b"".join(window) for _, window in exchanges]
            return bool(exchanges)
        offset, length = steady.sent * steady.blksize, blocks * steady.blksize
        # All headers at once, each with the two fields that it has; the zeros between them make room for the file.
        ack, data = wire.Opcode.ACK << 16 | sent, wire.Opcode.DATA << 16 | sent
        self._headers.pack_into(self._memory, 0, *range(data + 1, data + blocks + 1))
        try:
            if os.preadv(file, self._contents, offset) != length:  # it was truncated
                return False
        except OSError:
            return False
        self.acks = self._each_ack.unpack(self._acks.pack(*range(ack, ack + blocks, steady.windowsize)))
        self.windows = self._windows
        return True


def _blocks(steady: Steady, part: _Part, descriptor: int, receive: Receive) -> bytes | None:
    """Do as `carry` does for a part of the file, block by block. Returns None when all of it is sent.

    What is done for each block is as little as can be, because it happens 47,000 times in 64 MiB. Only the first
    answer, and those that come late, are timed. All the same `steady` knows what was sent, and never takes it for
    sent earlier than it was.
    """
    before, acks, blocks = steady.sent, part.acks, part.windows
    coming = zip(acks, blocks, strict=True)  # the ACK of the last one is waited for with the next part
    send = os.write  # it and `os.read` have the shortest way through the interpreter
    datagram = _patiently(steady, descriptor)
    expected, block = next(coming)
    if datagram != expected or not steady.acknowledged(monotonic()):
        return datagram
    send(descriptor, block)
    try:
        for expected, block in coming:
            try:
                datagram = receive(descriptor, DATAGRAM)
            except BlockingIOError:
                steady.reached(before + acks.index(expected), monotonic() - LOOK_S)
                datagram = _patiently(steady, descriptor)
                if datagram != expected or not steady.acknowledged(monotonic()):
                    return datagram
            if datagram != expected:
                steady.reached(before + acks.index(expected), monotonic() - steady.least_rtt_s)
                return datagram
            send(descriptor, block)
    except OSError:
        steady.reached(before + acks.index(expected) + (datagram == expected), monotonic())
        raise
    steady.reached(before + len(blocks), monotonic())
    return None


def _receiver(sock: socket.socket, turn: Turn) -> Receive:
    """Return what waits for the next datagram.

    To sleep until it comes, and be woken from another processor, can take several times as long as all else that is
    done for a block, on either side. So where a processor is idle, the socket is looked at `LOOKS` times before; not
    in the rest of a turn once a client has been too slow for that.
    """
    if not turn.eager:
        return os.read
    look, slept = sock.recv, 0

    def receive(descriptor: int, size: int) -> bytes:
        nonlocal slept
        if slept < PATIENCE:
            for _ in range(LOOKS):
                try:
                    return look(size, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    continue
            slept += 1
            turn.eager = slept < PATIENCE
        return os.read(descriptor, size)

    return receive


def _patiently(steady: Steady, descriptor: int) -> bytes:
    """Return the next datagram; none if there is none before the deadline. Raises `OSError`."""
    while True:
        try:
            return os.read(descriptor, DATAGRAM)
        except BlockingIOError:
            if monotonic() >= steady.deadline:
                return b""


def _following(steady: Steady, file: int) -> bytes:
    """Return the part of the file that is sent next; nothing at its end, or if it cannot be read."""
    offset, length = steady.following(READ)
    try:
        content = os.pread(file, length, offset)
    except OSError:
        return b""
    return content if len(content) == length else b""  # otherwise it was truncated
