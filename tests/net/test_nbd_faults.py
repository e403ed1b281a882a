"""Slow, failing and odd storage: told to the client it concerns, and to nobody else (F-16, F-17)."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from nbd import wire
from tests.support.nbd_server import Port, RawClient, running
from tests.support.segment import lacking, requires
from tests.support.waiting import quick, until

pytestmark = pytest.mark.net

SIZE = 4 << 20


@pytest.fixture(autouse=True)
def fuse() -> None:
    if not Path("/dev/fuse").exists():
        lacking("no /dev/fuse")


@contextmanager
def mounted(image: Path, at: Path, *filters: str) -> Iterator[subprocess.Popen[bytes]]:
    """Show `image` at `at` through nbdkit with these filters and their parameters."""
    at.write_bytes(b"")
    names = [f"--filter={word}" for word in filters if "=" not in word]
    parameters = [word for word in filters if "=" in word]
    process = subprocess.Popen(
        ["nbdfuse", "-r", str(at), "--command", "nbdkit", "-s", *names, "file", str(image), *parameters]
    )
    try:
        until(lambda: at.stat().st_size == SIZE, "the disk is mounted")
        yield process
    finally:
        subprocess.run(["umount", "-l", str(at)], check=False)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # reads that hang are still under way
            kill(process)


def kill(disk: subprocess.Popen[bytes]) -> None:
    """Kill what `mounted` started: all reads of the file fail."""
    children = Path(f"/proc/{disk.pid}/task/{disk.pid}/children").read_text().split()
    disk.kill()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    disk.wait(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "node").write_bytes(random.Random(3).randbytes(SIZE))
    return folder


@requires("nbdfuse", "nbdkit", "umount")
def test_a_slow_disk_delays_only_its_own_readers(folder: Path) -> None:
    slow_disk = mounted(folder / "node", folder / "slow", "delay", "delay-read=2")
    expected = (folder / "node").read_bytes()
    with slow_disk, running(folder) as server, RawClient(server).go("slow") as slow, RawClient(server).go() as other:

        def others_s() -> float:
            begun = time.monotonic()
            for cookie in range(4):  # as many as there are threads
                slow.request(wire.Cmd.READ, cookie, cookie << 20, 4096)
            started = time.monotonic()
            for cookie in range(50):
                other.request(wire.Cmd.READ, cookie, cookie << 12, 4096)
                assert other.reply() == wire.SimpleReply(cookie)
                other.receive(4096)
            took_s = time.monotonic() - started
            for _ in range(4):
                reply = slow.reply()
                assert reply.error == wire.Errno.OK
                assert slow.receive(4096) == expected[reply.cookie << 20 :][:4096]
            assert time.monotonic() - begun > 1
            return took_s

        assert quick(others_s, 0.5)


@requires("nbdfuse", "nbdkit", "umount")
@pytest.mark.parametrize("count", [100, 10])
def test_a_disk_that_hangs_holds_up_nobody_else(folder: Path, count: int) -> None:
    """100 are more than there are threads; 10 have threads of their own, and take turns."""
    slow_disk = mounted(folder / "node", folder / "slow", "delay", "delay-read=600")
    with slow_disk as disk, running(folder) as server, ExitStack() as clients:
        many = [clients.enter_context(RawClient(server).go("slow")) for _ in range(count)]
        for hanging in many:
            for cookie in range(4):
                hanging.request(wire.Cmd.READ, cookie, cookie << 20, 4096)
        os.posix_fadvise(fd := os.open(folder / "node", os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        with RawClient(server).go() as other:  # cold and warm
            for cookie in range(64):
                other.request(wire.Cmd.READ, cookie, cookie << 16, 4096)
                assert other.reply() == wire.SimpleReply(cookie)
                other.receive(4096)
        kill(disk)  # the kernel ends no process whose read has reached such a disk
        assert server.stop() == 0


@requires("nbdfuse", "nbdkit", "umount")
def test_a_read_error_is_told_and_the_connection_goes_on(folder: Path) -> None:
    broken_disk = mounted(folder / "node", folder / "broken", "error", "error-pread=EIO", "error-pread-rate=100%")
    with broken_disk, running(folder) as server, RawClient(server).go("broken") as client:
        for length in (4096, 1 << 20):
            client.request(wire.Cmd.READ, 1, 0, length)
            assert client.reply() == wire.SimpleReply(1, wire.Errno.EIO)
        client.request(wire.Cmd.FLUSH, 2)
        assert client.reply() == wire.SimpleReply(2)
        assert server.logged("reads 'broken'")


@requires("nbdcopy")
def test_a_file_system_without_nowait_serves_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    memory = Path(tempfile.mkdtemp(dir="/dev/shm"))  # tmpfs, which does not know RWF_NOWAIT
    try:
        shutil.copy(folder / "node", memory / "node")
        with running(folder) as server:
            os.symlink(memory / "node", folder / "memory")
            for options in (["--connections=4"], ["--request-size=4096"], ["--request-size=2097152"]):
                copy = tmp_path / "copy"
                subprocess.run(["nbdcopy", *options, server.uri("memory"), str(copy)], check=True, timeout=60)
                assert copy.read_bytes() == (folder / "node").read_bytes()
    finally:
        shutil.rmtree(memory)


def test_the_event_loop_answers_while_clients_keep_the_threads_busy(folder: Path) -> None:
    assert quick(lambda: lateness_s(folder), 0.05, tries=4)


def lateness_s(folder: Path) -> float:
    """How late the event loop was at half of its turns, at the least."""
    reads = b"".join(wire.Request(wire.Cmd.READ, n, n << 12, 4096).encode() for n in range(16))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.nbd_lateness", folder], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        where = Port(json.loads(server.stdout.readline()))
        with ExitStack() as clients:
            busy = [clients.enter_context(RawClient(where).go()) for _ in range(6)]
            threads = [
                threading.Thread(target=read_until_closed, args=(client, reads), daemon=True) for client in busy
            ]
            for thread in threads:
                thread.start()
            late = json.loads(server.stdout.readline())
            for thread in threads:
                thread.join(60)
    return float(late[len(late) // 2])


def read_until_closed(client: RawClient, reads: bytes) -> None:
    """Ask 16 blocks at once, again and again, until the server ends."""
    with suppress(OSError, EOFError):
        while True:
            client.send(reads)
            client.receive(16 * (16 + 4096))
