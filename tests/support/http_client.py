"""A server under test and a client that sends bytes as they are, for the tests of httpimage."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE_S = 60.0
"""How long a test waits for an answer, on a machine that is busy."""


class ServerProcess:
    """`serve_httpimage` in a process of its own, on a port of its own choice."""

    def __init__(self, folder: Path, *arguments: str, parser: str = "C") -> None:
        """Serve `folder`; `arguments` are further ones of `serve_httpimage`."""
        self.folder = folder
        self._arguments = arguments
        self._parser = parser

    def __enter__(self) -> Self:
        environment = dict(os.environ)
        if self._parser == "Python":
            environment["AIOHTTP_NO_EXTENSIONS"] = "1"
        with (self.folder / "server.out").open("w") as out, (self.folder / "server.log").open("w") as log:
            command = [sys.executable, "-m", "tests.support.serve_httpimage", str(self.folder), *self._arguments]
            self._process = subprocess.Popen(command, stdout=out, stderr=log, env=environment)
        self._heard = 0
        self.tls_port = int(self._next_line().removeprefix("tls ")) if "--tls" in self._arguments else 0
        self.port = int(self._next_line().removeprefix("port "))
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=PATIENCE_S)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def resident_bytes(self) -> int:
        """Return the memory of the server now."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def log(self) -> str:
        """Return what the server has logged so far."""
        return (self.folder / "server.log").read_text()

    def logged(self, text: str) -> bool:
        """Wait until the server has logged `text`; false if it does not within the patience of a test."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.log():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def told(self) -> list[Any]:
        """Return the next event or report; waits for it."""
        line: list[Any] = json.loads(self._next_line())
        return line

    def _next_line(self) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            lines = (self.folder / "server.out").read_text().splitlines(keepends=True)
            if len(lines) > self._heard and lines[self._heard].endswith("\n"):
                self._heard += 1
                return lines[self._heard - 1]
            time.sleep(0.02)
        raise AssertionError(f"the server said nothing: {self.log()}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, head as it was on the wire."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of the header spelled exactly so."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key == name:
                return value
        return None


class Client:
    """A TCP connection, or one with TLS where there is a context for it."""

    def __init__(self, port: int, *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S, (source, 0))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def answer(self, method: str = "GET") -> Answer:
        """Read one answer of known length. Raises `http.client.IncompleteRead` if it ends early."""
        while b"\r\n\r\n" not in self._unread:
            self._fill()
        head, _, rest = self._unread.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        answer = Answer(status, head, b"")
        if method == "HEAD" or status in (100, 204, 304):
            self._unread = rest
            return answer
        length = int(answer.header("Content-Length") or 0)
        body = bytearray(rest)  # which grows in place: with TLS it comes in pieces of 16 KiB
        while len(body) < length:
            data = self.socket.recv(1 << 20)
            if not data:
                raise http.client.IncompleteRead(bytes(body), length)
            body += data
        self._unread = bytes(body[length:])
        return Answer(status, head, bytes(body[:length]))

    def sip(self) -> None:
        """Read a little of what there is: who reads nothing for 15 s is taken for gone."""
        self._unread += self.socket.recv(1000)

    def is_closed(self) -> bool:
        """Wait for the server to close; false if it does not within the patience of a test."""
        try:
            return not self._unread and not self.socket.recv(1)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def _fill(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise http.client.IncompleteRead(self._unread)
        self._unread += data


def exchange(port: int, request: bytes, tls: ssl.SSLContext | None = None) -> Answer:
    """Send one request on a new connection and return its answer."""
    with Client(port, tls=tls) as client:
        client.send(request)
        return client.answer("HEAD" if request.startswith(b"HEAD ") else "GET")


def get(port: int, path: str, *headers: str, method: str = "GET", tls: ssl.SSLContext | None = None) -> Answer:
    """GET a path with some header lines."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
    return exchange(port, "\r\n".join(lines).encode("utf-8"), tls)
