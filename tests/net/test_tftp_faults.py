"""A disk that hangs or fails, no descriptors, a network that refuses, a log that nobody reads (F-16 to F-25)."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from config.content import Content
from config.events import Event, Stage
from pxeboot.bootfiles.root import Root
from tests.support.segment import lacking, requires
from tests.support.tftp_server import Peer, Server, running
from tests.support.waiting import until
from tftp import transport, wire
from tftp.kernel import Sender
from tftp.transport import open_socket

pytestmark = pytest.mark.net

FILE = random.Random(7).randbytes(4 << 20)
SMALL = b"one\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tftp"
    (folder / "mnt").mkdir(parents=True)
    (folder / "core.efi").write_bytes(FILE)
    (folder / "grub.cfg").write_bytes(SMALL)
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with running(folder, folder.parent / "log") as server:
        yield server


@contextmanager
def mounted(image: Path, at: Path, *filters: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Show `image` at `at`, a file of a disk of its own, through nbdkit with these filters and their parameters."""
    if not Path("/dev/fuse").exists():
        lacking("no /dev/fuse")
    at.write_bytes(b"")
    names = [f"--filter={word}" for word in filters if "=" not in word]
    parameters = [word for word in filters if "=" in word]
    argv = ["nbdfuse", "-r", str(at), "--command", "nbdkit", "-s", *names, "file", str(image), *parameters]
    process = subprocess.Popen(argv)
    try:
        until(lambda: at.stat().st_size == image.stat().st_size, "the disk is mounted")
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "-l", str(at)], check=False)
        try:
            process.wait(5)  # which it does by itself, unless a request of its kernel is lost
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@requires("nbdfuse", "nbdkit", "umount")
def test_a_disk_that_hangs_stops_its_own_files_and_no_others(folder: Path) -> None:
    """Twenty transfers are within a file on it, twenty more ask for it, and all the others go on (F-17)."""
    with ExitStack() as stack:
        hanging = stack.enter_context(mounted(folder / "core.efi", folder / "mnt" / "core.efi"))
        server = stack.enter_context(
            running(folder, folder.parent / "log", subprocess.Popen, 0, "limits.per_source=99")
        )
        other = stack.enter_context(Peer(server))
        assert other.ask("core.efi", blksize=1024) == wire.OptionAck({"blksize": "1024"})
        stuck = [stack.enter_context(Peer(server)) for _ in range(20)]
        for peer in stuck:
            assert peer.ask("mnt/core.efi", blksize=1024) == wire.OptionAck({"blksize": "1024"})
        hanging.send_signal(signal.SIGSTOP)
        stack.callback(hanging.send_signal, signal.SIGCONT)  # else nothing that reads it could end, whatever fails
        for peer in stuck:
            peer.tell(wire.Ack(0))
        late = [stack.enter_context(Peer(server)) for _ in range(20)]
        for peer in late:
            peer.sock.sendto(wire.ReadRequest(b"mnt/core.efi").encode(), peer.well_known)
        took = []
        for number in range(30):
            begun = time.monotonic()
            assert block_after(other, number) == wire.Data(number + 1, FILE[1024 * number : 1024 * (number + 1)])
            with Peer(server) as peer:
                assert ask(peer, "grub.cfg") == wire.Data(1, SMALL)
                peer.tell(wire.Ack(1))
            with Peer(server) as peer:  # which is converted in a thread
                assert ask(peer, "grub.cfg", "netascii") == wire.Data(1, b"one\r\n")
                peer.tell(wire.Ack(1))
            with Peer(server) as peer:
                assert ask(peer, "missing") == wire.Error(wire.ErrorCode.FILE_NOT_FOUND, "file not found")
            took.append(time.monotonic() - begun)
        assert all(peer.hear(0.01) is None for peer in (*stuck, *late))
        print(f"four answers in {1000 * sorted(took)[15]:.1f} ms, {1000 * max(took):.1f} ms at most")
        hanging.send_signal(signal.SIGCONT)
        for peer in stuck:
            assert next_answer(peer) == wire.Data(1, FILE[:1024])
        assert next_answer(late[0]) == wire.Data(1, FILE[:512])


def next_answer(peer: Peer) -> wire.Packet | None:
    """Return what comes now or soon."""
    return peer.hear()


def ask(peer: Peer, name: str, mode: str = "octet") -> wire.Packet | None:
    """Send a request and return the answer. A loop that waits for the disk would wait for longer."""
    return peer.ask(name, mode) or next_answer(peer)


def block_after(peer: Peer, block: int) -> wire.Packet | None:
    """Acknowledge a block and return the next answer, but for copies of that block."""
    peer.tell(wire.Ack(block))
    answer = peer.hear()
    while isinstance(answer, wire.Data) and answer.block == block:
        answer = peer.hear()
    return answer


@requires("nbdfuse", "nbdkit", "umount")
def test_a_read_error_is_told_to_its_client_and_nobody_else(folder: Path) -> None:
    image = folder / "core.efi"
    broken = mounted(image, folder / "mnt" / "broken", "error", "error-pread=EIO", "error-pread-rate=100%")
    with broken, running(folder, folder.parent / "log") as server, Peer(server) as peer:
        assert peer.ask("mnt/broken", tsize=0) == wire.OptionAck({"tsize": str(len(FILE))})
        assert peer.acknowledge(0) == wire.Error(wire.ErrorCode.NOT_DEFINED, "the file cannot be read")
        assert server.said("ERROR tftp 127.0.0.1: reading its file failed: [Errno 5]")
        with Peer(server) as other:
            assert other.ask("grub.cfg") == wire.Data(1, SMALL)
        assert server.stop()["failed"] == 1


@requires("prlimit")
@pytest.mark.parametrize("settings", [(), ("single_port=1",)], ids=["ports", "single-port"])
def test_without_descriptors_it_says_so_and_goes_on_once_there_are_some(
    folder: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    """The limit is what the process has open already, so that it cannot open anything (F-19)."""
    with running(folder, tmp_path / "log", subprocess.Popen, 0, *settings) as server:
        with Peer(server) as peer:
            assert peer.fetch("grub.cfg") == SMALL
        pid = server.process.pid
        with Peer(server) as running_one:
            assert running_one.ask("core.efi") == wire.Data(1, FILE[:512])
            opened = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
            subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={opened}:"], check=True)
            for _ in range(5):
                with Peer(server) as peer:
                    answer = peer.ask("core.efi")
                    assert answer == wire.Error(wire.ErrorCode.NOT_DEFINED, "server error")
                    assert peer.tid == ("127.0.0.1", server.port)  # a port of its own would take a descriptor
            until(lambda: all(sleeps(pid) for _ in range(10)), "it sleeps")  # who spins is never seen asleep
            assert block_after(running_one, 1) == wire.Data(2, FILE[512:1024])
            subprocess.run(["prlimit", f"--pid={pid}", "--nofile=1024:"], check=True)
            with Peer(server) as peer:
                assert peer.fetch("grub.cfg") == SMALL
        assert server.said("ERROR tftp 127.0.0.1: cannot send 'core.efi': [Errno 24]")
        assert server.stop()["failed"] == 5


def sleeps(pid: int) -> bool:
    """Return whether a process waits for something, a moment from now."""
    time.sleep(0.01)
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@requires("strace")
@pytest.mark.parametrize("settings", [(), ("single_port=1",)], ids=["ports", "single-port"])
@pytest.mark.parametrize("error", ["ENOBUFS", "EAGAIN", "ENETUNREACH", "EPERM"])
def test_what_the_kernel_refuses_to_send_is_as_if_lost(
    folder: Path, tmp_path: Path, error: str, settings: tuple[str, ...]
) -> None:
    (folder / "some").write_bytes(FILE[:20_000])
    with running(folder, tmp_path / "log", subprocess.Popen, 0, *settings) as server:
        # Every fifth, from the third on: a refusal, an OACK and blocks are among them.
        inject = f"inject=sendto,sendmsg:error={error}:when=3+5"
        argv = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "trace=sendto,sendmsg", "-e", inject]
        tracing = subprocess.Popen([*argv, "-p", str(server.process.pid)], stdin=subprocess.DEVNULL)
        try:
            status = Path(f"/proc/{server.process.pid}/status")
            until(lambda: "TracerPid:\t0" not in status.read_text(), "it is traced")
            for number in range(3):
                argv = ["curl", "-sS", "-m", "120", "--tftp-blksize", "1024", f"tftp://127.0.0.1:{server.port}/some"]
                done = subprocess.run(argv, capture_output=True, check=False)
                assert done.stdout == FILE[:20_000], (number, done.stderr)
        finally:
            tracing.terminate()
            tracing.wait(60)
        server.finished(3)
        assert "INJECTED" in (tmp_path / "trace").read_text()
        assert server.stop()["complete"] == 3


def test_what_never_left_this_machine_is_neither_got_nor_too_large(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client took our options, and our firewall takes all blocks."""
    monkeypatch.setattr("tftp.engine.LAST_WINDOW_S", 1.1)
    monkeypatch.setattr("tftp.engine.LAST_WINDOW_PACKETS", 2)
    monkeypatch.setattr(Sender, "send", lambda *_: 0)
    events: list[Event] = []

    async def scenario() -> None:
        root = Root(folder)

        async def lookup(name: str, peer: IPv4Address) -> Content | None:
            return root.open(name)

        with open_socket("127.0.0.1", port=0) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            server = transport.Server(sock, lookup, events.append, lambda _: Stage.MENU)
            client.setblocking(False)
            request = wire.ReadRequest(b"grub.cfg", "octet", {"blksize": "1468"})
            client.sendto(request.encode(), sock.getsockname())
            answer, tid = await asyncio.get_running_loop().sock_recvfrom(client, 600)
            assert wire.decode(answer) == wire.OptionAck({"blksize": "1468"})
            client.sendto(wire.Ack(0).encode(), tid)
            for _ in range(3000):
                await asyncio.sleep(0.02)
                if server.counters["silent"]:
                    break
            ended = {name: count for name, count in server.counters.items() if name not in ("bytes", "resent")}
            assert ended == {"requests": 1, "silent": 1}
            assert server.counters["bytes"] == 0
            server.close()

    with caplog.at_level("INFO"):
        asyncio.run(asyncio.wait_for(scenario(), 90))
    assert events == []
    assert caplog.messages == ["tftp 127.0.0.1 did not get 'grub.cfg': not all of it was sent"]
