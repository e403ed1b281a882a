"""The gate in this process: who gives a slot back, and what a connection is after a download."""

import asyncio
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.delivery import Http
from config.events import Event, Stage
from httpimage import crawling, pacing
from httpimage.gate import BULK_BYTES, Gate
from httpimage.transport import application, open_socket, serve
from tests.support.http_client import Answer, Client, get
from tests.support.segment import requires
from tests.support.serve_httpimage import Folder, accept, stage_of

pytestmark = pytest.mark.net

SIZE = BULK_BYTES + 12345
PATIENCE_S = 90.0
SMALL_BUFFER = 1 << 16
"""Else the kernel takes the whole image for a program that does not read it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "root.squashfs").write_bytes(os.urandom(SIZE))
    (tmp_path / "vmlinuz").write_bytes(os.urandom(SIZE))
    return tmp_path


class Running:
    """A server in the event loop of a test, its gate, and what it reported."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.events: list[Event] = []
        self.gate = Gate(Http.model_validate(settings))
        self._folder = folder

    def during(self, client: Callable[[int], Any]) -> Any:
        """What `client` returns, called in a thread with the port."""

        async def run() -> Any:
            sock = open_socket("127.0.0.1", 0)
            app = application(Folder(self._folder), self.events.append, stage_of, accept, self.gate)
            server = asyncio.create_task(serve(sock, app))
            try:
                return await asyncio.to_thread(client, sock.getsockname()[1])
            finally:
                server.cancel()
                await asyncio.wait((server,))

        return asyncio.run(run())

    def wait_for(self, running: int) -> None:
        """Wait until so many images are being sent."""
        wait_until(lambda: self.gate.running == running, f"{running} images are sent")


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def begin(port: int) -> socket.socket:
    """Ask for the image, and read nothing of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"GET /root.squashfs HTTP/1.1\r\nHost: x\r\n\r\n")
    return sock


def test_a_slot_is_free_again_however_a_download_ends(folder: Path) -> None:
    server = Running(folder, downloads=1)

    def client(port: int) -> None:
        with begin(port):
            server.wait_for(1)
            assert get(port, "/root.squashfs").status == 503
        server.wait_for(0)  # it was broken off
        assert get(port, "/root.squashfs").status == 200
        server.wait_for(0)
        (folder / "root.squashfs").write_bytes(os.urandom(SIZE))
        with begin(port):
            server.wait_for(1)
            os.truncate(folder / "root.squashfs", SIZE // 2)
        server.wait_for(0)

    server.during(client)
    assert server.gate.waiting == 0


def test_a_machine_that_must_wait_is_reported(folder: Path) -> None:
    server = Running(folder, downloads=1)

    def client(port: int) -> Answer:
        with begin(port):
            server.wait_for(1)
            return get(port, "/root.squashfs")

    refusal = server.during(client)
    told = refusal.header("Retry-After")
    assert refusal.head.startswith(f"HTTP/1.1 503 Service Unavailable, Retry-After: {told}\r\n".encode())
    assert refusal.body == f"503 Service Unavailable: 0 before you; ask again in {told} s\n".encode()
    waiting = [event for event in server.events if event.stage is Stage.WAITING]
    assert [event.detail for event in waiting] == [f"waits for its turn: 0 before it, asks again in {told} s"]


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        pytest.param("vmlinuz", [], id="a-kernel-as-large"),
        pytest.param("root.squashfs", ["Range: bytes=0-16777214"], id="a-byte-less-than-16-MiB"),
        pytest.param("root.squashfs", ["Range: bytes=99999999-"], id="no-such-range"),
        pytest.param("root.squashfs", ["If-Match: \"other\""], id="a-condition-that-fails"),
    ],
)  # fmt: skip
def test_what_is_no_download_of_a_root_image_never_waits(folder: Path, name: str, headers: list[str]) -> None:
    server = Running(folder, downloads=1)

    def client(port: int) -> int:
        with begin(port):
            server.wait_for(1)
            return get(port, f"/{name}", *headers).status

    assert server.during(client) in (200, 206, 412, 416)


@pytest.mark.parametrize(
    "header", ["Range: bytes=0-16777215", "Range: bytes=1-16777216", "Range: bytes=0-9,20-16777300"]
)
def test_a_large_range_of_a_root_image_waits(folder: Path, header: str) -> None:
    server = Running(folder, downloads=1)

    def client(port: int) -> int:
        with begin(port):
            server.wait_for(1)
            return get(port, "/root.squashfs", header).status

    assert server.during(client) == 503


def test_a_download_that_nobody_takes_gives_its_slot_to_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LOOK_S", 0.1)
    server = Running(folder, downloads=1)

    def client(port: int) -> None:
        with begin(port):
            server.wait_for(1)
            assert get(port, "/root.squashfs").status == 503
            monkeypatch.setattr(crawling, "CRAWL_S", 0.5)
            deadline = time.monotonic() + PATIENCE_S
            while get(port, "/root.squashfs").status != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            server.wait_for(0)
            wait_until(lambda: server.gate.crawling == 1, "the first goes on, and the second has ended")

    server.during(client)


def test_no_more_than_a_share_of_the_slots_is_given_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LOOK_S", 0.1)
    monkeypatch.setattr(crawling, "CRAWL_S", 0.5)
    server = Running(folder, downloads=1)

    def client(port: int) -> None:
        with begin(port):
            server.wait_for(1)
            server.wait_for(0)
            with begin(port):
                server.wait_for(1)
                time.sleep(1.0)
                assert (server.gate.running, server.gate.crawling) == (1, 1)  # one slot, of which one is given away
                assert get(port, "/root.squashfs").status == 503

    server.during(client)


def most(port: int) -> list[str]:
    """What the kernel sends to a client at most, in bit/s."""
    argv = ["ss", "-tinHO", "state", "established", "sport", "=", str(port)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return re.findall(r"pacing_rate \d+bps/(\d+)bps", said)


@requires("ss")
@pytest.mark.parametrize("rates", [{"rate_mbit_s": 1000}, {"subnet_rates_mbit_s": {"127.0.0.0/8": 1000}}])
def test_a_range_that_needs_no_slot_is_paced_too(folder: Path, rates: dict[str, Any]) -> None:
    server = Running(folder, **rates)

    def client(port: int) -> None:
        with Client(port) as one:
            one.send(b"GET /root.squashfs HTTP/1.1\r\nHost: x\r\nRange: bytes=1-16000000\r\n\r\n")
            wait_until(lambda: most(port) != [], "it is paced")
            assert server.gate.running == 0
            assert len(one.answer().body) == 16_000_000
            wait_until(lambda: most(port) == [], "it is paced no more")

    server.during(client)


@requires("ss")
def test_after_a_paced_download_a_connection_is_paced_no_more(folder: Path) -> None:
    server = Running(folder, rate_mbit_s=100)

    def client(port: int) -> None:
        with Client(port) as one:
            one.send(b"GET /root.squashfs HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for(1)
            wait_until(lambda: most(port) == ["100000000"], "it is paced")
            assert len(one.answer().body) == SIZE
            server.wait_for(0)
            wait_until(lambda: most(port) == [], "it is paced no more")
            one.send(b"GET /vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert len(one.answer().body) == SIZE

    server.during(client)
