"""A light load of HTTP, in a process of its own that prints what came out as JSON.

    python -m bench.http_load bulk ADDRESS PORT PATH --connections 8
    python -m bench.http_load ranges ADDRESS PORT PATH --connections 64 --seconds 5 --span 262144 --seed 1

`bulk`: each connection gets the whole file once. `ranges`: each asks for a random range, reads it, and asks for the
next. Bodies are counted and thrown away in the kernel (MSG_TRUNC, tcp(7)), so that the clients, which share the
processors with the server, cost little; the head of every answer is read, and anything but the answer that was asked
for ends the run.
"""

import argparse
import json
import random
import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST = 1 << 20
"""Bytes that are thrown away at once."""
_SCRATCH = bytearray(MOST)
_HEAD = 2048
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)\r\n")
_RANGE = re.compile(rb"\r\nContent-Range: (bytes [0-9]+-[0-9]+)/[0-9]+\r\n")
SILENCE_S = 30.0
"""How long nothing at all may come."""


class WrongAnswer(Exception):
    """A server answered something else than it was asked for."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One request, and what its answer is to be."""

    request: bytes
    status: bytes
    length: int
    content_range: bytes | None = None


def wish(host: str, path: str, length: int, first: int | None = None) -> Wish:
    """Return a GET of a file of `length` bytes, or of `length` bytes of it from `first`."""
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n"
    if first is None:
        return Wish(f"{head}\r\n".encode(), b"HTTP/1.1 200 ", length)
    span = f"{first}-{first + length - 1}"
    return Wish(f"{head}Range: bytes={span}\r\n\r\n".encode(), b"HTTP/1.1 206 ", length, f"bytes {span}".encode())


class Asker:
    """One connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = 0
        """Bytes of all bodies so far."""
        self._wish = Wish(b"", b"", 0)
        self._left: int | None = None
        self._began = 0.0
        self.took_s: list[float] = []

    def ask(self, what: Wish) -> None:
        """Send a request."""
        self._wish, self._left = what, None
        self._began = time.perf_counter()
        self.socket.sendall(what.request)

    def read(self) -> bool:
        """Read what is there, once; tell whether the answer is complete."""
        if self._left is None:
            data = self.socket.recv(_HEAD)
            head, end, body = data.partition(b"\r\n\r\n")
            length, span = _LENGTH.search(head + end), _RANGE.search(head + end)
            wanted = self._wish
            if (
                not (end and head.startswith(wanted.status) and length and int(length[1]) == wanted.length)
                or (span[1] if span else None) != wanted.content_range
            ):
                raise WrongAnswer(f"{wanted.request!r} was answered {data[:500]!r}")
            count, self._left = len(body), wanted.length
        else:
            count = self.socket.recv_into(_SCRATCH, min(MOST, self._left), socket.MSG_TRUNC)
            if not count:
                raise WrongAnswer(f"{self._wish.request!r}: {self._left} bytes are missing")
        self.received += count
        self._left -= count
        if self._left:
            return False
        self.took_s.append(time.perf_counter() - self._began)
        return True


def carry_on(askers: list[Asker], again: Callable[[Asker], bool]) -> None:
    """Read until no connection has anything to ask for. `again` asks what comes next, and says whether it did."""
    poll = select.epoll()
    by_fd = {asker.socket.fileno(): asker for asker in askers}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    running = len(askers)
    while running:
        ready = poll.poll(SILENCE_S)
        if not ready:
            raise WrongAnswer(f"nothing came for {SILENCE_S:g} s")
        for fd, _ in ready:
            asker = by_fd[fd]
            if asker.read() and not again(asker):
                poll.unregister(fd)
                running -= 1


def main() -> None:
    """Read the arguments and run one load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("bulk", "ranges"))
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--span", type=int, default=262144)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    askers = [Asker((arguments.address, arguments.port)) for _ in range(arguments.connections)]

    def next_wish() -> Wish:
        if arguments.kind == "bulk":
            return wish(arguments.address, arguments.path, arguments.size)
        first = chance.randrange(arguments.size - arguments.span)
        return wish(arguments.address, arguments.path, arguments.span, first)

    began = time.perf_counter()
    until = began + (0 if arguments.kind == "bulk" else arguments.seconds)

    def again(asker: Asker) -> bool:
        if time.perf_counter() >= until:
            return False
        asker.ask(next_wish())
        return True

    for asker in askers:
        asker.ask(next_wish())
    carry_on(askers, again)
    took = sorted(second for asker in askers for second in asker.took_s)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began,
                "received": sum(asker.received for asker in askers),
                "answers": len(took),
                "median_ms": took[len(took) // 2] * 1e3,
                "p99_ms": took[len(took) * 99 // 100] * 1e3,
                "cpu_s": time.process_time(),
            }
        )
    )


if __name__ == "__main__":
    main()
