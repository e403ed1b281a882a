"""A running NBD server for tests, and a client that says what no proper client would."""

import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nbd import wire

_PIDFD_GETFD = 438
"""The system call's number, the same on all machines (linux/arch/*/entry/syscalls)."""


class Server:
    """`tests.support.serve_nbd` as a process of its own, on a port of the loopback interface that it keeps.

    With `kinds`, it is `tests.support.serve_nbd_kinds`, or another script of this folder, and these are its further
    arguments.
    """

    def __init__(
        self, folder: Path, kinds: Sequence[str | Path] | None = None, script: str = "serve_nbd_kinds"
    ) -> None:
        self.folder = folder
        self._script = "tests.support." + ("serve_nbd" if kinds is None else script)
        self._more = [*map(str, kinds or ())]
        self.port = 0
        self.output: list[str] = []
        self.start()

    def start(self) -> None:
        """Start it, again on the same port if it had one."""
        self._errors = (self.folder.parent / "server.log").open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._script, "127.0.0.1", str(self.port), str(self.folder), *self._more],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = json.loads(self._process.stdout.readline())["ready"]

    def stop(self, number: int = signal.SIGTERM, within_s: float = 60.0) -> int:
        """Send it a signal; return its exit code. Raises `subprocess.TimeoutExpired`."""
        self._process.send_signal(number)
        code = self._process.wait(within_s)
        assert self._process.stdout is not None
        self.output += self._process.stdout.read().splitlines()
        self._process.stdout.close()
        self._errors.close()
        return code

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self.stop(signal.SIGKILL)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.folder.parent / "server.log").read_text()

    def logged(self, text: str, within_s: float = 60.0) -> bool:
        """Wait until it has logged `text`, which it may do after its client has the answer; false if it does not."""
        deadline = time.monotonic() + within_s
        while text not in self.log:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def uri(self, name: str = "node") -> str:
        """The URI of an export."""
        return f"nbd://127.0.0.1:{self.port}/{name}"

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def sockets(self) -> list[socket.socket]:
        """Its TCP sockets, taken over by us (pidfd_getfd); to be closed."""
        libc, found = ctypes.CDLL(None, use_errno=True), []
        process = os.pidfd_open(self._process.pid)
        try:
            for fd in map(int, os.listdir(f"/proc/{self._process.pid}/fd")):
                if os.readlink(f"/proc/{self._process.pid}/fd/{fd}").startswith("socket:"):
                    taken = libc.syscall(_PIDFD_GETFD, process, fd, 0)
                    assert taken >= 0, os.strerror(ctypes.get_errno())
                    found.append(socket.socket(fileno=taken))
        finally:
            os.close(process)
        for end in found:
            if end.family != socket.AF_INET:
                end.close()
        return [end for end in found if end.fileno() >= 0]

    def peak_mib(self) -> float:
        """The most memory it has used."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextmanager
def running(folder: Path, kinds: Sequence[str | Path] | None = None) -> Iterator[Server]:
    """Start a server for the files of `folder`; end it afterwards."""
    server = Server(folder, kinds)
    try:
        yield server
    finally:
        server.close()


@dataclass(frozen=True, slots=True)
class Port:
    """Where a server is that somebody else runs."""

    port: int


class RawClient:
    """A TCP connection to the server; a context manager."""

    def __init__(self, server: Server | Port, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(60)
        self.sock.connect(("127.0.0.1", server.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, *parts: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(b"".join(parts))

    def receive(self, length: int) -> bytes:
        """Receive exactly `length` bytes. Raises `EOFError` when the server closes before."""
        parts = b""
        while len(parts) < length:
            part = self.sock.recv(length - len(parts))
            if not part:
                raise EOFError(parts)
            parts += part
        return parts

    def closed_by_server(self) -> bool:
        """Wait for the end of the connection, dropping what still comes; false after the socket's timeout."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def greet(self) -> Self:
        """Take the greeting and send the flags that nbd-client sends."""
        wire.Greeting.decode(self.receive(wire.Greeting.SIZE))
        self.send(struct.pack(">I", 3))
        return self

    def option(self, number: int, data: bytes = b"") -> list[wire.OptionReply]:
        """Send an option and return its replies, up to the ACK or the error."""
        self.send(wire.OptionHeader(number, len(data)).encode(), data)
        return self.option_replies()

    def option_replies(self) -> list[wire.OptionReply]:
        """Return the replies up to an ACK or an error."""
        replies: list[wire.OptionReply] = []
        while not replies or replies[-1].type in (wire.Rep.SERVER, wire.Rep.INFO):
            header = self.receive(20)
            replies.append(wire.OptionReply.decode(header + self.receive(int.from_bytes(header[16:20]))))
        return replies

    def go(self, name: str = "node") -> Self:
        """Greet, and choose an export."""
        replies = self.greet().option(wire.Opt.GO, wire.InfoRequest(name).encode())
        assert replies[-1].type == wire.Rep.ACK
        return self

    def request(self, kind: int, cookie: int, offset: int = 0, length: int = 0) -> None:
        """Send a request."""
        self.send(wire.Request(kind, cookie, offset, length).encode())

    def reply(self) -> wire.SimpleReply:
        """Receive a reply, without its data."""
        return wire.SimpleReply.decode(self.receive(wire.SimpleReply.SIZE))
