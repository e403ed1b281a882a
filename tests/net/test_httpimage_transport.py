"""The transport in this process: what it asks of the kernel, its deadlines, and how it starts and stops."""

import asyncio
import errno
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from config.content import OpenFile
from config.events import Event
from httpimage import connection, pump, sending
from httpimage.transport import application, open_socket, serve
from tests.support.http_client import Answer, Client, get
from tests.support.serve_httpimage import Folder, accept, stage_of
from tests.support.stalls import judged

pytestmark = pytest.mark.net

CONTENT = os.urandom(5 << 20)
PATIENCE_S = 60.0


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vmlinuz").write_bytes(CONTENT)
    return tmp_path


class Running:
    """A server in the event loop of a test, and what it reported."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self._folder = folder

    def during(self, client: Callable[[int], Any]) -> Any:
        """What `client` returns, called in a thread with the port. Then the server must stop, too."""

        async def run() -> Any:
            sock = open_socket("127.0.0.1", 0)
            app = application(Folder(self._folder), self.events.append, stage_of, accept)
            server = asyncio.create_task(serve(sock, app))
            try:
                return await asyncio.to_thread(client, sock.getsockname()[1])
            finally:
                server.cancel()
                await asyncio.wait((server,), timeout=PATIENCE_S)  # far more than it takes
                assert server.cancelled()

        return asyncio.run(run())


@pytest.fixture
def server(folder: Path) -> Running:
    return Running(folder)


@pytest.fixture
def sendfile_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Counts (offset, bytes sent) of the real sendfile."""
    calls: list[tuple[int, int]] = []
    real = os.sendfile

    def counting(out_fd: int, in_fd: int, offset: int, count: int) -> int:
        sent = real(out_fd, in_fd, offset, count)
        calls.append((offset, sent))
        return sent

    monkeypatch.setattr(os, "sendfile", counting)
    return calls


@pytest.mark.parametrize(
    ("header", "first", "length"),
    [
        ("X: y", 0, len(CONTENT)),
        ("Range: bytes=1234567-", 1234567, len(CONTENT) - 1234567),
        ("Range: bytes=100-299", 100, 200),
    ],
)
def test_every_byte_of_a_file_leaves_by_sendfile(
    server: Running, sendfile_calls: list[tuple[int, int]], header: str, first: int, length: int
) -> None:
    answer: Answer = server.during(lambda port: get(port, "/vmlinuz", header))
    assert answer.body == CONTENT[first : first + length]
    wait_until(lambda: sum(sent for _, sent in sendfile_calls) >= length)  # a thread counts, after what it sent
    assert sum(sent for _, sent in sendfile_calls) == length
    assert sendfile_calls[0][0] == first


def test_parts_leave_by_sendfile_too(server: Running, sendfile_calls: list[tuple[int, int]]) -> None:
    server.during(lambda port: get(port, "/vmlinuz", "Range: bytes=0-9,100-109"))
    wait_until(lambda: len(sendfile_calls) >= 2)
    assert sendfile_calls == [(0, 10), (100, 10)]


def test_a_file_system_without_sendfile_is_copied(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(out_fd: int, in_fd: int, offset: int, count: int) -> int:
        raise OSError(errno.EINVAL, "no sendfile here")

    monkeypatch.setattr(os, "sendfile", refuse)
    assert server.during(lambda port: get(port, "/vmlinuz")).body == CONTENT


def test_a_download_is_told_when_it_reaches_the_end(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    def client(port: int) -> None:
        get(port, "/vmlinuz", "Range: bytes=0-9")
        get(port, "/vmlinuz", "Range: bytes=5242870-")
        get(port, "/vmlinuz", method="HEAD")
        get(port, "/secret/lts.conf")
        wait_until(lambda: len(caplog.messages) >= 2)

    def timeless(texts: Iterable[str]) -> list[str]:
        return [re.sub(r" in \d+\.\d s", " in N s", text) for text in texts]

    with caplog.at_level(logging.INFO, "httpimage"):
        server.during(client)
    told = ["'vmlinuz' from byte 5242870: 10 bytes in N s over HTTP"]
    assert timeless(event.detail for event in server.events) == told
    assert timeless(caplog.messages) == [
        "http 127.0.0.1 got 'vmlinuz' from byte 5242870: 10 bytes in N s",
        "http 127.0.0.1 got 'secret/lts.conf': 1500 bytes in N s",
    ]


def test_a_file_truncated_in_mid_send_ends_short(
    server: Running, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:  # F-16
    with (folder / "big").open("wb") as file:
        file.truncate(1 << 28)

    def client(port: int) -> None:
        with Client(port) as reader:
            reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            reader.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            reader.sip()  # it has begun
            os.truncate(folder / "big", 0)
            with pytest.raises((IncompleteRead, ConnectionResetError)):
                reader.answer()
        wait_until(lambda: any("stopped after" in text and "'big' ended at byte" in text for text in caplog.messages))

    with caplog.at_level(logging.INFO, "httpimage"):
        server.during(client)


def test_a_reader_that_stops_is_dropped(
    server: Running, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (pump, sending):
        monkeypatch.setattr(module, "WINDOW_S", 0.3)
    with (folder / "big").open("wb") as file:
        file.truncate(1 << 28)

    def client(port: int) -> None:
        for path in ("/big", "/made/" + "x" * 4000):
            with Client(port) as reader:
                reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                reader.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 30)
                deadline = time.monotonic() + PATIENCE_S
                while "stopped after" not in caplog.text.partition(path[1:5])[2] and time.monotonic() < deadline:
                    time.sleep(0.1)

    with caplog.at_level(logging.INFO, "httpimage"):
        server.during(client)
    assert any("'big': stopped after" in message for message in caplog.messages)
    assert any("'made/" in message and "stopped after" in message for message in caplog.messages)


@pytest.mark.parametrize(
    "sent", [b"", b"GET /vmlinuz HTTP/1.1\r\nHost: a\r\n", b"GET /no HTTP/1.1\r\nHost: a\r\n\r\nGET /vmlin"]
)
def test_a_head_that_does_not_come_is_not_waited_for(
    server: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection, "HEADER_S", 0.3)
    monkeypatch.setattr(connection, "IDLE_S", 1.0)

    def silence(port: int) -> None:
        with Client(port) as silent:
            silent.send(sent)
            if b"\r\n\r\n" in sent:
                assert silent.answer().status == 404
            assert silent.is_closed()

    server.during(lambda port: judged(lambda: silence(port)))


def test_a_second_head_that_does_not_come_whole_is_not_waited_for_longer(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEADER_S", 1.0)  # and not the 60 s of a connection that is idle
    request = b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"

    def silence(port: int) -> None:
        with Client(port) as silent:
            silent.send(request + request[:20])
            assert silent.answer().status == 404
            silent.send(request[20:] + b"\r\n")  # and an empty line is no head
            assert silent.answer().status == 404
            silent.send(request + request + b"GET /vm")
            assert [silent.answer().status for _ in range(2)] == [404, 404]
            assert silent.is_closed()

    server.during(lambda port: judged(lambda: silence(port)))


@pytest.mark.parametrize(
    ("request_head", "answers"),
    [
        (b"GET /vmlinuz HTTP/1.0\r\n\r\n", [(200, CONTENT)]),
        (b"GET /vmlinuz HTTP/1.1\r\nHost: a\r\n\r\n", [(200, CONTENT)]),
        (b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n", [(404, b"404 Not Found\n")]),
        (
            b"GET /none HTTP/1.1\r\nHost: a\r\n\r\nGET /vmlinuz HTTP/1.1\r\nHost: a\r\n\r\n",
            [(404, b"404 Not Found\n"), (200, CONTENT)],
        ),
        (b"POST /report/system HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf", []),
        (b"", []),
        (b"GET /vmlinuz HT", []),
    ],
)
def test_a_peer_that_says_it_will_ask_no_more_gets_its_answers(
    server: Running, request_head: bytes, answers: list[tuple[int, bytes]]
) -> None:
    def client(port: int) -> list[tuple[int, bytes]]:
        with Client(port) as leaving:
            leaving.send(request_head)
            leaving.socket.shutdown(socket.SHUT_WR)
            got = [leaving.answer() for _ in answers]
            assert leaving.is_closed()
            return [(answer.status, answer.body) for answer in got]

    assert server.during(client) == answers


def test_a_dripping_head_has_one_deadline(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_S", 0.5)

    def client(port: int) -> float:
        began = time.monotonic()
        with Client(port) as dripping, suppress(ConnectionError):
            dripping.send(b"GET / HTTP/1.1\r\nX: ")
            while time.monotonic() - began < 30:
                dripping.send(b"y")
                time.sleep(0.05)
        return time.monotonic() - began

    assert server.during(client) < 30


def test_an_idle_connection_is_kept_for_a_while(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_S", 0.2)
    monkeypatch.setattr(connection, "IDLE_S", 1.0)

    def dawdle(port: int) -> None:
        with Client(port) as idle:
            for _ in range(2):
                idle.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
                assert idle.answer().status == 404
                idle.send(b"\r\n")  # what GRUB 2.06 leaves behind begins no request
                time.sleep(0.5)
            assert idle.is_closed()

    server.during(lambda port: judged(lambda: dawdle(port)))


def test_a_machine_that_is_switched_off_in_mid_download_is_one_line_and_no_error(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /vmlinuz HTTP/1.0\r\n\r\n")
            client.recv(1000)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
        time.sleep(0.3)

    with caplog.at_level(logging.INFO):
        server.during(leave)
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


def test_a_machine_that_fell_silent_is_forgotten_before_it_can_boot_again() -> None:
    with open_socket("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5


def test_it_stops_within_a_second_in_the_middle_of_downloads(server: Running, folder: Path) -> None:
    with (folder / "big").open("wb") as file:
        file.truncate(1 << 30)

    def client(port: int) -> list[Client]:
        readers = [Client(port) for _ in range(20)]
        for reader in readers[:10]:
            reader.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            reader.socket.recv(1000)
        return readers

    for reader in server.during(client):
        reader.socket.close()


def test_no_descriptor_is_left_open(server: Running, folder: Path) -> None:
    def descriptors() -> int:
        return sum(1 for link in Path("/proc/self/fd").iterdir() if str(folder) in os.path.realpath(link))

    def client(port: int) -> None:
        for headers in ((), ("Range: bytes=99999999-",), ("If-None-Match: *",), ('If-Match: "x"',)):
            get(port, "/vmlinuz", *headers)
            get(port, "/vmlinuz", *headers, method="HEAD")
        with Client(port) as gone:
            gone.send(b"GET /vmlinuz HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.3)  # it may still be opened
        wait_until(lambda: descriptors() == 0)

    server.during(client)


def test_a_peer_that_leaves_during_a_lookup_leaves_no_file_open(folder: Path) -> None:
    opened: list[OpenFile] = []
    asked, left = threading.Event(), threading.Event()

    def is_open() -> bool:
        return any(os.path.realpath(link) == str(folder / "vmlinuz") for link in Path("/proc/self/fd").iterdir())

    def slowly() -> OpenFile:
        asked.set()
        left.wait(PATIENCE_S)
        opened.append(OpenFile("vmlinuz", os.open(folder / "vmlinuz", os.O_RDONLY), len(CONTENT), "v1", None))
        return opened[0]

    async def lookup(name: str, peer: object) -> OpenFile:
        return await asyncio.to_thread(slowly)

    async def run() -> None:
        sock = open_socket("127.0.0.1", 0)
        server = asyncio.create_task(serve(sock, application(lookup, lambda event: None, stage_of, accept)))
        with Client(sock.getsockname()[1]) as client:
            client.send(b"GET /vmlinuz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await asyncio.to_thread(asked.wait, PATIENCE_S)
        await asyncio.sleep(0.2)  # so that the server knows; if it does not yet, it closes the file all the same
        left.set()
        await asyncio.to_thread(wait_until, lambda: bool(opened) and not is_open())
        server.cancel()
        await asyncio.wait((server,))

    asyncio.run(run())


def test_routes_can_be_added(folder: Path) -> None:
    async def hello(request: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere") if "go" in request.query else web.HTTPConflict(text="hello")

    async def run() -> tuple[Answer, Answer, Answer]:
        sock = open_socket("127.0.0.1", 0)
        app = application(Folder(folder), lambda event: None, stage_of, accept)
        app.router.add_get("/api/hello", hello)
        server = asyncio.create_task(serve(sock, app))
        port = sock.getsockname()[1]
        try:
            paths = ("/api/hello", "/api/hello?go=1", "/vmlinuz")
            first, second, third = [await asyncio.to_thread(get, port, path) for path in paths]
            return first, second, third
        finally:
            server.cancel()
            await asyncio.wait((server,))

    conflict, found, file = asyncio.run(run())
    assert (conflict.status, conflict.body) == (409, b"hello")
    assert (found.status, found.header("Location")) == (302, "/elsewhere")
    assert file.body == CONTENT


def test_a_failing_lookup_is_told_to_the_peer_and_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def lookup(name: str, peer: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files") if name == "full" else ZeroDivisionError("a bug")

    async def run() -> tuple[Answer, Answer]:
        sock = open_socket("127.0.0.1", 0)
        server = asyncio.create_task(serve(sock, application(lookup, lambda event: None, stage_of, accept)))
        port = sock.getsockname()[1]
        try:
            return await asyncio.to_thread(get, port, "/full"), await asyncio.to_thread(get, port, "/bug")
        finally:
            server.cancel()
            await asyncio.wait((server,))

    full, bug = asyncio.run(run())
    assert (full.status, bug.status) == (503, 500)
    assert "ZeroDivisionError" in caplog.text


def test_a_taken_port_is_named() -> None:
    with open_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"HTTP cannot listen on 127.0.0.1:{port}: the port is taken") as caught:
            open_socket("127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE


def test_an_address_or_interface_we_do_not_have_is_named() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:0: this machine does not have that address"):
        open_socket("192.0.2.1", 0)
    with pytest.raises(OSError, match="on nosuch0: there is no such interface"):
        open_socket("127.0.0.1", 0, "nosuch0")


def test_one_interface_alone_can_be_served() -> None:
    with open_socket("0.0.0.0", 0, "lo") as sock, Client(sock.getsockname()[1]):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
