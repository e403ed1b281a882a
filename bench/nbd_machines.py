"""Machines that boot from one NBD export at once, as far as their disk notices: many small reads, some in flight.

    python -m bench.nbd_machines ADDRESS PORT EXPORT [--machines N] [--reads N] [--depth N] [--seed N]

Each has one connection, asks without structured replies, and throws away what it gets. Prints one JSON object.
"""

import argparse
import gc
import json
import random
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from bench.storm_report import Delays
from nbd import wire

SIZES = {1024: 10, 4096: 60, 8192: 10, 16384: 8, 32768: 5, 65536: 4, 131072: 3}
"""Bytes of a read, and how many of 100 have them: 12.6 KiB on average, as in the boot of a Debian (reference nbd.md,
section 2: 1,706 reads, 22.4 MiB, from 1 KiB to 128 KiB)."""
JUDGED_BYTES = 4096
"""The size of the reads whose delays are told apart."""
SHARED = 0.7
"""How much of what a machine reads all others read, too, in the same order: their images are the same."""
STREAK = 6
"""How many reads stand one behind the other, on average, as in a file."""
ALIGNMENT = 1024
"""Where blocks of a squashfs begin, as far as its driver's reads tell."""
WITHIN_S = 1.0
"""Within this time all machines begin."""
PATIENCE_S = 120.0
"""After this time those that have not ended are lost."""
_BUFFER_BYTES = 256 << 10


class Broken(Exception):
    """A server answered what it must not, or hung up."""


@dataclass(frozen=True, slots=True)
class Read:
    """Some bytes of the disk."""

    offset: int
    length: int


def streaks(size_bytes: int, numbers: random.Random) -> Iterator[list[Read]]:
    """Yield reads that stand one behind the other, from a random place on; for ever. Each is inside the disk."""
    sizes, weights = list(SIZES), list(SIZES.values())
    while True:
        offset = numbers.randrange(size_bytes // ALIGNMENT) * ALIGNMENT
        streak: list[Read] = []
        while not streak or numbers.random() > 1 / STREAK:
            length = numbers.choices(sizes, weights)[0]
            if offset + length > size_bytes:
                break
            streak.append(Read(offset, length))
            offset += length
        if streak:
            yield streak


def plan(size_bytes: int, count: int, seed: int, machine: int) -> list[Read]:
    """Return what a machine reads, in order: much of it is what the others of the same `seed` read."""
    numbers = random.Random(f"{seed} {machine}")
    shared, own = streaks(size_bytes, random.Random(seed)), streaks(size_bytes, numbers)

    def reads() -> Iterator[Read]:
        while True:
            yield from next(shared if numbers.random() < SHARED else own)

    return list(islice(reads(), count))


def open_export(address: str, port: int, export: str) -> tuple[socket.socket, int]:
    """Return a connection at the beginning of its transmission phase, and the export's size; blocks.

    Raises `Broken`, `OSError` and `MalformedPacket`.
    """
    sock = socket.create_connection((address, port), timeout=PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.Greeting.decode(_exactly(sock, wire.Greeting.SIZE))
    flags = wire.ClientFlag.C_FIXED_NEWSTYLE | wire.ClientFlag.C_NO_ZEROES
    data = wire.InfoRequest(export).encode()
    sock.sendall(struct.pack(">I", flags) + wire.OptionHeader(wire.Opt.GO, len(data)).encode() + data)
    size_bytes = 0
    while True:
        head = _exactly(sock, 20)
        reply = wire.OptionReply.decode(head + _exactly(sock, int.from_bytes(head[16:])))
        match reply.type:
            case wire.Rep.INFO:
                kind, size = struct.unpack_from(">HQ", reply.data.ljust(10, b"\0"))
                size_bytes = size if kind == wire.Info.EXPORT else size_bytes
            case wire.Rep.ACK:
                return sock, size_bytes
            case _:
                raise Broken(f"GO was answered with {reply.type:#x} {reply.data!r}")


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            raise Broken("hung up before the export was open")
        data += part
    return data


class Machine:
    """What one has read, and has still to read; its connection is somebody else's. Pure.

    `delays_ms` are those of the reads of `JUDGED_BYTES`, `others_ms` of all the others.
    """

    def __init__(self, reads: Sequence[Read], depth: int) -> None:
        """`depth` reads are in flight at a time."""
        self.delays_ms: list[float] = []
        self.others_ms: list[float] = []
        self.bytes_read = 0
        self._todo = deque(reads)
        self._depth = depth
        self._asked: dict[int, tuple[Read, float]] = {}
        self._cookie = 0
        self._head = b""
        self._reading = 0  # the request whose bytes come
        self._missing = 0  # how many of them have not come

    @property
    def outstanding(self) -> int:
        """How many reads have not been answered."""
        return len(self._asked) + len(self._todo)

    def ask(self, now: float) -> bytes:
        """Return the requests that may be sent now; none: b""."""
        requests = []
        while self._todo and len(self._asked) < self._depth:
            read = self._todo.popleft()
            self._cookie += 1
            self._asked[self._cookie] = read, now
            requests.append(wire.Request(wire.Cmd.READ, self._cookie, read.offset, read.length).encode())
        return b"".join(requests)

    def receive(self, data: memoryview, now: float) -> None:
        """Take what came. Raises `Broken`, `MalformedPacket`."""
        at = 0
        while at < len(data):
            if self._missing:
                step = min(self._missing, len(data) - at)
                self._missing -= step
                if not self._missing:
                    self._end(now)
            else:
                step = min(wire.SimpleReply.SIZE - len(self._head), len(data) - at)
                self._head += data[at : at + step]
                if len(self._head) == wire.SimpleReply.SIZE:
                    self._begin(wire.SimpleReply.decode(self._head))
                    self._head = b""
            at += step

    def _begin(self, reply: wire.SimpleReply) -> None:
        if reply.error or reply.cookie not in self._asked:
            raise Broken(f"error {reply.error} for request {reply.cookie}")
        self._reading = reply.cookie
        self._missing = self._asked[reply.cookie][0].length

    def _end(self, now: float) -> None:
        read, asked = self._asked.pop(self._reading)
        self.bytes_read += read.length
        (self.delays_ms if read.length == JUDGED_BYTES else self.others_ms).append((now - asked) * 1000)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the boots went."""

    judged: Delays
    """Of the reads of `JUDGED_BYTES`."""
    others: Delays
    took_s: tuple[float, ...]
    """From its own beginning to its last byte, for each machine that has all; the fastest first."""
    all_s: float
    """From the first one's beginning to the last one's last byte."""
    bytes_read: int
    broken: tuple[str, ...]
    """Why machines did not get to the end."""
    cpu_s: float
    """What the machines used of the processors."""


def boot(machines: Sequence[tuple[socket.socket, Machine]], within_s: float, patience_s: float) -> Outcome:
    """Have all of them read what they have to."""
    selector = selectors.DefaultSelector()
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    cpu_s, began = time.process_time(), time.perf_counter()
    starts = deque((began + within_s * number / len(machines), *both) for number, both in enumerate(machines))
    at = {machine: begin for begin, _sock, machine in starts}
    took_s: list[float] = []
    broken: list[str] = []
    left = len(machines)
    while left and (now := time.perf_counter()) < began + patience_s:
        while starts and starts[0][0] <= now:
            _begin, sock, machine = starts.popleft()
            selector.register(sock, selectors.EVENT_READ, (sock, machine))
            sock.sendall(machine.ask(now))
        until = starts[0][0] if starts else began + patience_s
        for key, _events in selector.select(max(0.0, until - now)):
            sock, machine = key.data
            try:
                count = sock.recv_into(buffer)
                if not count:
                    raise Broken("hung up")
                now = time.perf_counter()
                machine.receive(buffer[:count], now)
                if requests := machine.ask(now):
                    sock.sendall(requests)
                if machine.outstanding:
                    continue
                took_s.append(now - at[machine])
                sock.sendall(wire.Request(wire.Cmd.DISC, 0).encode())
            except (Broken, wire.MalformedPacket, OSError) as error:
                broken.append(repr(error))
            selector.unregister(sock)
            sock.close()
            left -= 1
    broken += [f"not ready after {patience_s:g} s"] * left
    lost = sum(machine.outstanding for _sock, machine in machines)
    return Outcome(
        Delays.of([delay for _sock, machine in machines for delay in machine.delays_ms], lost),
        Delays.of([delay for _sock, machine in machines for delay in machine.others_ms]),
        tuple(sorted(took_s)),
        time.perf_counter() - began,
        sum(machine.bytes_read for _sock, machine in machines),
        tuple(broken),
        time.process_time() - cpu_s,
    )


def main() -> int:
    """Let them boot, and print how it went."""
    parser = argparse.ArgumentParser(description="Machines that boot from one NBD export at once.")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("export")
    parser.add_argument("--machines", type=int, default=60)
    parser.add_argument("--reads", type=int, default=1706)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    machines = []
    for number in range(options.machines):
        sock, size_bytes = open_export(options.address, options.port, options.export)
        machines.append((sock, Machine(plan(size_bytes, options.reads, options.seed, number), options.depth)))
    gc.freeze()
    print(json.dumps(asdict(boot(machines, WITHIN_S, PATIENCE_S))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
