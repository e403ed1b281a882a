"""A disk that hangs, and one that fails, under the server: a file that nbdkit makes, mounted by nbdfuse."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import IncompleteRead
from pathlib import Path

import pytest

from tests.support.http_client import PATIENCE_S, Client, ServerProcess, get
from tests.support.segment import requires

pytestmark = pytest.mark.net

SIZE = 64 << 20


def pattern(first: int, length: int) -> bytes:
    """What nbdkit's plugin `pattern` holds: every eight bytes are their own offset."""
    begin = first & ~7
    data = b"".join(at.to_bytes(8, "big") for at in range(begin, first + length, 8))
    return data[first - begin :][:length]


class Disk:
    """The process behind a mounted file."""

    def __init__(self, folder: Path) -> None:
        self.fails = folder / "fails"
        """While it exists, every read is an error."""
        self._socket = folder / "disk.sock"
        self._mount = folder / "tree/images"
        self._mount.mkdir(parents=True)
        (folder / "tree/small").write_bytes(b"small")

    @contextmanager
    def running(self) -> Iterator["Disk"]:
        """Mount it as tree/images/big."""
        plugin = ["pattern", f"size={SIZE}", "error-pread=EIO", "error-pread-rate=100%", f"error-file={self.fails}"]
        with subprocess.Popen(
            ["nbdkit", "--foreground", "--unix", self._socket, "--readonly", "--filter=error", *plugin],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as self._nbdkit:
            self._wait(self._socket)
            with subprocess.Popen(
                ["nbdfuse", "--readonly", self._mount / "big", f"nbd+unix:///?socket={self._socket}"],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as self._nbdfuse:
                try:
                    self._wait(self._mount / "big")
                    yield self
                finally:
                    self.go_on()
                    subprocess.run(["umount", "--lazy", self._mount], check=False, capture_output=True)
                    self._nbdfuse.terminate()
                    self._nbdkit.terminate()

    def hang(self) -> None:
        """Answer no read from now on."""
        self._nbdkit.send_signal(signal.SIGSTOP)

    def hang_wholly(self) -> None:
        """Answer nothing from now on, not even that a file is closed."""
        self._nbdfuse.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer all."""
        self._nbdfuse.send_signal(signal.SIGCONT)
        self._nbdkit.send_signal(signal.SIGCONT)

    def _wait(self, path: Path) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not path.exists():
            assert time.monotonic() < deadline, f"{path} does not appear"
            time.sleep(0.02)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path).running() as disk:
        yield disk


@pytest.fixture
def server(disk: Disk, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "tree") as server:
        yield server


def ask(client: Client, first: int, length: int) -> None:
    line = f"Range: bytes={first}-{first + length - 1}"
    client.send(f"GET /images/big HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n".encode())


@requires("nbdkit", "nbdfuse")
def test_a_disk_that_hangs_holds_up_nobody_else(disk: Disk, server: ServerProcess) -> None:  # F-17
    assert get(server.port, "/images/big", "Range: bytes=5-20").body == pattern(5, 16)
    waiting = [Client(server.port) for _ in range(12)]
    places = [(number + 1) << 22 for number in range(len(waiting))]
    disk.hang()
    for client, place in zip(waiting, places, strict=True):
        ask(client, place, 300_000)  # small enough for the short way
        time.sleep(0.05)  # several short ways and several long ones
    for _ in range(5):
        assert get(server.port, "/small").body == b"small"
    waiting[0].socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        waiting[0].answer()
    waiting.pop(0).socket.close()
    disk.go_on()
    for client, place in zip(waiting, places[1:], strict=True):
        assert client.answer().body == pattern(place, 300_000)
        client.socket.close()


@requires("nbdkit", "nbdfuse")
def test_a_file_that_cannot_be_closed_holds_up_nobody_else(disk: Disk, server: ServerProcess) -> None:
    with Client(server.port) as client:  # no file was closed before: nbdfuse is told of the first one only
        ask(client, 0, SIZE)
        client.sip()
        disk.hang_wholly()
    try:
        for _ in range(30):  # the reader leaves, and later nobody has asked for the file for long enough
            assert get(server.port, "/small").body == b"small"
            time.sleep(0.1)
    finally:
        disk.go_on()


@requires("nbdkit", "nbdfuse")
def test_it_stops_while_a_disk_hangs(disk: Disk, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "tree") as server:
        assert get(server.port, "/images/big", "Range: bytes=5-20").status == 206
        disk.hang()
        with Client(server.port) as client:
            ask(client, 1 << 24, 300_000)
            time.sleep(0.2)
            os.kill(server.pid, signal.SIGINT)
            with pytest.raises((IncompleteRead, ConnectionError)):
                client.answer()
        disk.go_on()


@requires("nbdkit", "nbdfuse")
def test_a_disk_that_fails_ends_a_download_and_is_told(disk: Disk, server: ServerProcess) -> None:  # F-17
    assert get(server.port, "/images/big", "Range: bytes=5-20").status == 206
    disk.fails.touch()
    with pytest.raises((IncompleteRead, ConnectionError)):
        get(server.port, "/images/big", f"Range: bytes={1 << 24}-{(1 << 24) + 99999}")
    assert get(server.port, "/small").body == b"small"
    disk.fails.unlink()
    assert get(server.port, "/images/big", f"Range: bytes={1 << 25}-{(1 << 25) + 9}").body == pattern(1 << 25, 10)
    assert server.logged("Input/output error")
    assert "Traceback" not in server.log()
