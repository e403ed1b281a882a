"""Starts `tests.support.serve_tftp` for a test, and speaks TFTP to it packet by packet."""

import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.waiting import until
from tftp import wire

REPOSITORY = Path(__file__).parents[2]
Start = Callable[..., subprocess.Popen[str]]
PATIENCE_S = 30.0
"""So long a busy machine may take to answer."""


@dataclass
class Server:
    """A running server: its port, and what it has printed."""

    port: int
    log: Path
    process: subprocess.Popen[str]

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def said(self, text: str, within_s: float = 60.0) -> bool:
        """Whether a line holds `text`, now or soon."""
        deadline = time.monotonic() + within_s
        while not any(text in line for line in self.lines()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def finished(self, transfers: int) -> None:
        """Wait until so many have arrived whole: the last ACK of one may still be on its way when its client ends."""
        until(lambda: sum(" got '" in line for line in self.lines()) >= transfers, f"{transfers} have arrived")

    def stop(self) -> dict[str, int]:
        """End it and return its counters, with the descriptors that its transfers held as `descriptors`."""
        self.process.terminate()
        assert self.process.wait(60) == 0, self.log.read_text()
        text = self.log.read_text()
        assert "Traceback" not in text, text
        counters = re.search(r"^counters(.*)$", text, re.M)
        descriptors = re.search(r"^descriptors (\d+)$", text, re.M)
        assert counters, text
        assert descriptors, text
        pairs = (pair.split("=") for pair in counters[1].split())
        return {name: int(count) for name, count in pairs} | {"descriptors": int(descriptors[1])}


@contextmanager
def running(
    folder: Path, log: Path, start: Start = subprocess.Popen, port: int = 0, *settings: str
) -> Iterator[Server]:
    """Serve `folder`; `start` is `Popen` or a namespace's, `settings` are those of `serve_tftp`.

    Ends the server, if the test has not.
    """
    with log.open("w") as output:
        argv = [sys.executable, "-m", "tests.support.serve_tftp", str(folder), "0.0.0.0", str(port), *settings]
        # A namespace's `popen` takes the arguments one by one, Popen takes them as a list.
        if start is subprocess.Popen:
            process = subprocess.Popen(argv, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT, text=True)
        else:
            process = start(*argv, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    try:
        server = Server(0, log, process)
        assert server.said("ready"), log.read_text()
        server.port = int(server.lines()[0].split()[1])
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


class Peer:
    """A client's socket, for one packet at a time."""

    def __init__(self, server: Server, address: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.sock.bind(("127.0.0.1", 0))
        self.well_known = (address, server.port)
        self.tid: tuple[str, int] | None = None
        self._last: tuple[bytes, tuple[str, int]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, name: bytes | str, mode: str = "octet", **options: int) -> wire.Packet | None:
        """Send a read request and return the first answer."""
        filename = name if isinstance(name, bytes) else name.encode()
        request = wire.ReadRequest(filename, mode, {option: str(value) for option, value in options.items()})
        return self.say(request.encode())

    def say(self, datagram: bytes, within_s: float = PATIENCE_S) -> wire.Packet | None:
        """Send something to the well-known port and return the answer; its sender is the transfer's."""
        self.tid = None
        self.sock.sendto(datagram, self.well_known)
        return self.hear(within_s)

    def hear(self, within_s: float = PATIENCE_S, *, copies: bool = False) -> wire.Packet | None:
        """Return the next packet; None if there is none in time.

        Copies of the one before are left out unless asked for: a server sends them when this process was away.
        """
        deadline = time.monotonic() + within_s
        while select.select([self.sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
            datagram, sender = heard = self.sock.recvfrom(70000)
            if heard == self._last and not copies:
                continue
            self._last = heard
            if self.tid is None:
                self.tid = sender
            assert sender == self.tid
            return wire.decode(datagram)
        return None

    def tell(self, packet: wire.Packet) -> None:
        assert self.tid is not None
        self.sock.sendto(packet.encode(), self.tid)

    def acknowledge(self, block: int, within_s: float = PATIENCE_S) -> wire.Packet | None:
        self.tell(wire.Ack(block & 0xFFFF))
        return self.hear(within_s)

    def fetch(self, name: str, **options: int) -> bytes:
        """Fetch a whole file, a window of one block at a time."""
        answer, content, block = self.ask(name, "octet", **options), b"", 0
        blksize = 512
        if isinstance(answer, wire.OptionAck):
            blksize = int(answer.options.get("blksize", "512"))
            answer = self.acknowledge(0)
        while True:
            assert isinstance(answer, wire.Data), answer
            block += 1
            assert answer.block == block & 0xFFFF
            content += answer.data
            if len(answer.data) < blksize:
                self.tell(wire.Ack(block & 0xFFFF))
                return content
            answer = self.acknowledge(block)
