"""Transfers that a process of their own carries on: their bytes, who may speak in them, and when it dies."""

import errno
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.tftp_children import carriers, carrying, children
from tests.support.tftp_server import Peer, Server, running
from tftp import wire
from tftp.carrier import READ, Turn, carry
from tftp.carriers import Origin
from tftp.kernel import UDP_SEGMENT, Windows
from tftp.steady import Steady

pytestmark = pytest.mark.net

CONTENT = os.urandom(3 * 1024 * 1024 + 5)
BLKSIZE = 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    served = tmp_path / "tftp"
    served.mkdir()
    (served / "image").write_bytes(CONTENT)
    return served


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    with running(folder, tmp_path / "log") as server:
        yield server


def alive(pid: int) -> bool:
    """Whether it runs: who has no parent left may never be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def within(check: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Reading(Peer):
    """A client in the midst of the file."""

    def __init__(self, server: Server, **options: int) -> None:
        super().__init__(server)
        self.server = server
        self.content = b""
        self.block = 0
        self.window = options.get("windowsize", 1)
        assert isinstance(self.ask("image", "octet", blksize=BLKSIZE, tsize=0, **options), wire.OptionAck)

    def go_on(self, windows: int) -> None:
        """Acknowledge, and take what follows; so many times, or to the end of the file."""
        for _ in range(windows):
            self.tell(wire.Ack(self.block & 0xFFFF))
            if len(self.content) == len(CONTENT):
                return
            for _ in range(self.window):
                if len(self.take()) < BLKSIZE:
                    break

    def take(self) -> bytes:
        """Take the next block. Copies come when this process was away for longer than the server waits."""
        while True:
            data = self.hear()
            assert isinstance(data, wire.Data), data
            if data.block == (self.block + 1) & 0xFFFF:
                self.block += 1
                self.content += data.data
                return data.data

    def until_carried(self) -> None:
        """Go on until another process has the transfer."""
        before = set(carrying(self.server.process.pid))
        self.until(lambda: bool(set(carrying(self.server.process.pid)) - before))

    def until(self, check: Callable[[], bool]) -> None:
        """Go on until it holds."""
        for _ in range(30):
            self.go_on(20)
            if check():
                return
            time.sleep(0.01)
        raise AssertionError("that never was so")

    def whole(self) -> bool:
        self.go_on(10_000)
        return self.content == CONTENT


PARTS = 2 * READ // BLKSIZE
"""Blocks that are read with two calls."""


@pytest.mark.parametrize("windowsize", [1, 2, 16])
@pytest.mark.parametrize("last", [b"\0\4\xff\xff", b"\0\5\0\0enough\0", b"junk", b""])
@pytest.mark.parametrize("windows", [0, 1, 2, READ // BLKSIZE - 1, READ // BLKSIZE, READ // BLKSIZE + 1, PARTS])
def test_wherever_a_client_stops_its_carrier_says_how_far_it_came(
    folder: Path, windows: int, last: bytes, windowsize: int
) -> None:
    if last:
        stop_after(folder, windows, last, windowsize, 60.0)
        return
    for rto_s in (0.05, 0.5, 5.0):  # silence is its end: with more patience when this process was away meanwhile
        with suppress(TimeoutError):
            stop_after(folder, windows, last, windowsize, rto_s)
            return
    raise AssertionError("it took this process for silent each time")


def stop_after(folder: Path, windows: int, last: bytes, windowsize: int, rto_s: float) -> None:
    """Take some windows, then say `last`, or nothing. Raises `TimeoutError` if silence was its end before."""
    began = time.monotonic()
    times_s = 0.001, 0.0, 0.0005, rto_s, 60.0  # srtt, rttvar, least rtt, least and longest rto
    ends_s = began + rto_s, began + 300  # when it is silence, and when the time of the transfer is over
    steady = Steady(len(CONTENT), BLKSIZE, windowsize, 0, 6, 6 + windowsize, began, *times_s, *ends_s)
    with ExitStack() as stack:
        ours, client = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        for sock in (ours, client):
            sock.bind(("127.0.0.1", 0))
        ours.connect(client.getsockname())
        client.connect(ours.getsockname())
        client.settimeout(0.1)
        file = os.open(folder / "image", os.O_RDONLY)
        stack.callback(os.close, file)
        carrying = stack.enter_context(ThreadPoolExecutor(1)).submit(carry, steady, ours, file, Turn(None))
        said_at, sent = began, 6 + windowsize
        for _ in range(windows):
            said_at = time.monotonic()
            client.send(wire.Ack(sent).encode())
            for block in range(sent + 1, sent + windowsize + 1):
                while not select.select([client], [], [], 0.05)[0]:
                    if carrying.done():
                        raise TimeoutError
                assert client.recv(2000) == wire.Data(block, CONTENT[(block - 1) * BLKSIZE : block * BLKSIZE]).encode()
            sent += windowsize
        if last:
            client.send(last)
        assert carrying.result(60.0) == last  # or silence, until the deadline
        assert ours.getsockopt(socket.SOL_UDP, UDP_SEGMENT) == 0
    assert (steady.acked, steady.sent) == (sent - windowsize, sent)
    assert said_at - 0.001 <= steady.sent_at <= time.monotonic()
    assert last or time.monotonic() >= said_at + steady.rto_least_s


class Broken(Turn):
    """Which fails once the socket is prepared."""

    def take(self, steady: Steady) -> None:
        raise RuntimeError


def test_a_carrier_that_fails_leaves_the_socket_as_it_was(folder: Path) -> None:
    with pair(socket.IPPROTO_UDP) as (ours, _), (folder / "image").open("rb") as file:
        times_s = 0.0, 0.001, 0.0, 0.0005, 60.0, 60.0, 60.0, 60.0
        with pytest.raises(RuntimeError):
            carry(Steady(len(CONTENT), BLKSIZE, 4, 0, 0, 4, *times_s), ours, file.fileno(), Broken(None))
        assert ours.getsockopt(socket.SOL_UDP, UDP_SEGMENT) == 0


@contextmanager
def pair(protocol: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets that are connected to each other; the second gets all that is sent."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, protocol) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, protocol) as client,
    ):
        for sock in (ours, client):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
            sock.bind(("127.0.0.1", 0))
        ours.connect(client.getsockname())
        client.connect(ours.getsockname())
        client.settimeout(60.0)
        yield ours, client


def datagrams(blksize: int, count: int, last: int) -> list[bytes]:
    lengths = [blksize] * (count - 1) + [last]
    return [wire.data_header(65530 + number) + bytes((number,)) * length for number, length in enumerate(lengths)]


def arrived(client: socket.socket) -> list[bytes]:
    """All that was sent to it."""
    found = []
    client.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            found.append(client.recv(70_000))
    return found


@pytest.mark.parametrize(
    ("blksize", "count", "last", "calls"),
    [
        *[(1428, 1, 9, 1), (1428, 2, 1428, 1), (1428, 16, 1428, 1), (1428, 16, 0, 1)],
        *[(8, 64, 3, 1), (8, 65, 3, 2), (1468, 45, 0, 2), (40_000, 3, 5, 3)],
    ],
)
def test_a_window_leaves_with_as_few_calls_as_can_be(
    blksize: int, count: int, last: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lengths = os.write, []

    def write(descriptor: int, some: bytes) -> int:
        lengths.append(len(some))
        return real(descriptor, some)

    window = datagrams(blksize, count, last)
    with pair(socket.IPPROTO_UDP) as (ours, client):
        windows = Windows(ours, 4 + blksize)
        monkeypatch.setattr(os, "write", write)
        windows.send(b"".join(window))
        monkeypatch.undo()
        assert arrived(client) == window
    assert len(lengths) == calls


@pytest.mark.parametrize("why", [errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP])
def test_a_window_that_may_not_be_segmented_leaves_once_and_the_next_is_not_tried(
    why: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = os.write, []

    def write(descriptor: int, some: bytes) -> int:
        if len(some) > 516:
            refused.append(len(some))
            raise OSError(why, "no")
        assert len(some) == 516 or not ours.getsockopt(socket.SOL_UDP, UDP_SEGMENT)
        return real(descriptor, some)

    window = datagrams(512, 5, 10)
    with pair(socket.IPPROTO_UDP) as (ours, client):
        windows = Windows(ours, 516)
        monkeypatch.setattr(os, "write", write)
        for _ in range(2):
            windows.send(b"".join(window))
        monkeypatch.undo()
        assert arrived(client) == 2 * window
    assert len(refused) == 1


def test_where_the_kernel_cannot_segment_a_window_leaves_one_by_one() -> None:
    window = datagrams(512, 5, 10)
    with pair(socket.IPPROTO_UDPLITE) as (ours, client):  # which it never segments
        Windows(ours, 516).send(b"".join(window))
        assert arrived(client) == window


def test_another_error_ends_a_window_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def write(_: int, some: bytes) -> int:
        asked.append(len(some))
        raise OSError(errno.ENOBUFS, "full")

    with pair(socket.IPPROTO_UDP) as (ours, _):
        windows = Windows(ours, 516)
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(OSError, match="full"):
            windows.send(b"".join(datagrams(512, 5, 10)))
        monkeypatch.undo()
        assert ours.getsockopt(socket.SOL_UDP, UDP_SEGMENT) == 516
    assert len(asked) == 1


ONE_AT_A_TIME = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.sched_getaffinity = lambda _: {0}
from tftp import origin, turns
turns.Turns.limit = property(lambda _: 1, lambda _, limit: None)
origin.main(int(sys.argv[2]))
"""


class Carried:
    """A transfer of the whole file by a carrier of `origin`, and its client."""

    def __init__(self, origin: Origin, file: int, stack: ExitStack) -> None:
        self.control = stack.enter_context(origin.copy())
        self.control.setblocking(True)
        assert self.control.recv(100) == b"here"
        self.client, ours = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        for sock in (self.client, ours):
            sock.bind(("127.0.0.1", 0))
        ours.connect(self.client.getsockname())
        self.client.connect(ours.getsockname())
        self.client.settimeout(60.0)
        began = time.monotonic()
        steady = Steady(
            len(CONTENT), BLKSIZE, 1, 0, 0, 1, began, 0.001, 0.0, 0.0005, 60.0, 60.0, began + 60, began + 99
        )
        socket.send_fds(self.control, [steady.pack()], [ours.fileno(), file])

    def fetch(self, after: int = 1, last: int = len(CONTENT) // BLKSIZE) -> bytes:
        """Take all blocks behind `after`. The last of the file, which is short, is for the engine to see to."""
        content = []
        for block in range(after, last):
            self.client.send(wire.Ack(block).encode())
            data = wire.decode(self.client.recv(2000))
            assert isinstance(data, wire.Data)
            assert data.block == block + 1
            content.append(data.data)
        return b"".join(content)


def test_carriers_take_turns_and_a_silent_client_ends_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tftp.carriers._PROGRAM", ONE_AT_A_TIME)
    with ExitStack() as stack:
        file = os.open(folder / "image", os.O_RDONLY)
        stack.callback(os.close, file)
        origin = Origin()
        stack.callback(origin.end)
        silent = Carried(origin, file, stack)
        silent.fetch(last=10)  # it has the only turn, and its client says no more
        others = [Carried(origin, file, stack) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            fetched = list(pool.map(Carried.fetch, others))
        whole = len(CONTENT) // BLKSIZE * BLKSIZE
        assert all(content == CONTENT[BLKSIZE:whole] for content in fetched)
        os.kill(origin.process.pid, signal.SIGKILL)  # then nobody waits for a turn any more
        assert silent.fetch(after=10) == CONTENT[10 * BLKSIZE : whole]


@pytest.mark.parametrize("windowsize", [1, 4])
def test_a_file_that_is_carried_arrives_whole_and_is_told_as_any_other(server: Server, windowsize: int) -> None:
    with Reading(server, windowsize=windowsize) as peer:
        peer.until_carried()
        assert peer.whole()
    assert server.said(f"got 'image': {len(CONTENT)} bytes")
    assert server.stop()["complete"] == 1


def test_a_small_file_troubles_no_other_process(server: Server, folder: Path) -> None:
    (folder / "small").write_bytes(CONTENT[:500_000])
    with Peer(server) as peer:
        assert peer.fetch("small", blksize=BLKSIZE) == CONTENT[:500_000]
    assert not carriers(server.process.pid)


def test_a_stranger_is_told_so_and_the_transfer_goes_on(server: Server) -> None:
    with Reading(server) as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        peer.until_carried()
        assert peer.tid is not None
        stranger.settimeout(60.0)
        for guess in (wire.Ack(peer.block & 0xFFFF), wire.ReadRequest(b"image"), wire.Ack(0)):
            stranger.sendto(guess.encode(), peer.tid)
            datagram, sender = stranger.recvfrom(1000)
            answer = wire.decode(datagram)
            assert isinstance(answer, wire.Error)
            assert answer.code == wire.ErrorCode.UNKNOWN_TRANSFER_ID
            assert sender == peer.tid
        stranger.sendto(wire.Error(0, "be gone").encode(), peer.tid)
        assert peer.whole()


def test_silence_is_answered_by_the_block_once_more_and_the_transfer_is_carried_again(server: Server) -> None:
    with Reading(server) as peer:
        peer.until_carried()
        peer.tell(wire.Ack(peer.block & 0xFFFF))
        lost = peer.take()
        assert peer.hear(copies=True) == wire.Data(peer.block & 0xFFFF, lost)
        assert not carrying(server.process.pid)
        peer.until_carried()
        assert peer.whole()
    assert server.said("sent again")


def test_a_repeated_ack_draws_no_second_block(server: Server) -> None:
    with Reading(server) as peer:
        peer.until_carried()
        for _ in range(21):
            peer.tell(wire.Ack(peer.block & 0xFFFF))
        peer.take()
        copies = 0
        while (copy := peer.hear(0.1, copies=True)) is not None:
            # By the timer: the second 0.15 s after the first, or later.
            assert copy == wire.Data(peer.block & 0xFFFF, peer.content[-BLKSIZE:])
            copies += 1
        assert copies < 10  # of twenty that would be the answers
        assert peer.whole()


def test_an_error_of_the_client_ends_it_at_once(server: Server) -> None:
    with Reading(server) as peer:
        peer.until_carried()
        peer.tell(wire.Error(0, "enough"))
        assert server.said("stopped within 'image'")
        assert within(lambda: not carrying(server.process.pid))
    counters = server.stop()
    assert counters["aborted"] == 1
    assert counters["descriptors"] == 2  # of the process that waits for more, and of its origin


def test_a_client_that_asks_anew_from_the_same_port_gets_a_new_transfer(server: Server) -> None:
    with Reading(server) as peer:
        peer.until_carried()
        old = peer.tid
        while peer.hear(0.01) is not None:
            continue
        assert isinstance(peer.ask("image", blksize=512, tsize=0), wire.OptionAck)
        assert peer.tid != old
        assert within(lambda: not carrying(server.process.pid))


def test_when_its_process_dies_the_client_is_told_and_others_are_served(server: Server) -> None:
    with Reading(server) as peer, Reading(server) as other:
        peer.until_carried()
        for pid in carrying(server.process.pid):
            os.kill(pid, signal.SIGKILL)
        while isinstance(answer := peer.hear(), wire.Data):  # a copy, when this process was away
            continue
        assert answer == wire.Error(wire.ErrorCode.NOT_DEFINED, "server error")
        assert other.whole()
        server.finished(1)
    counters = server.stop()
    assert (counters["failed"], counters["complete"]) == (1, 1)


def test_a_file_that_is_truncated_meanwhile_is_an_error_to_the_client(server: Server, folder: Path) -> None:
    with Reading(server) as peer:
        peer.until_carried()
        os.truncate(folder / "image", 1000)
        answer: wire.Packet | None = None
        for _ in range(300):
            answer = peer.acknowledge(peer.block)
            if isinstance(answer, wire.Error):
                break
            if isinstance(answer, wire.Data) and answer.block == (peer.block + 1) & 0xFFFF:
                peer.block += 1
        assert answer == wire.Error(wire.ErrorCode.NOT_DEFINED, "the file cannot be read")


def test_a_server_that_stops_leaves_no_process(server: Server) -> None:
    with Reading(server) as peer:
        peer.until_carried()
        started = carriers(server.process.pid) + children(server.process.pid)
        assert len(started) == 2
        assert server.stop()["descriptors"]
        assert within(lambda: not any(alive(pid) for pid in started))


def test_a_server_that_is_killed_leaves_no_process(server: Server) -> None:
    with Reading(server) as peer, Reading(server) as other:
        other.until_carried()
        peer.until_carried()
        started = carriers(server.process.pid) + children(server.process.pid)
        assert len(started) == 3
        server.process.kill()
        server.process.wait()
        assert within(lambda: not any(alive(pid) for pid in started))


def test_without_the_origin_of_its_processes_a_server_goes_on_and_starts_another(server: Server) -> None:
    with Reading(server) as peer, Reading(server) as other:
        peer.until_carried()
        [origin] = children(server.process.pid)
        os.kill(origin, signal.SIGKILL)
        other.until(lambda: server.said("cannot be started", 0.0))
        other.until(lambda: bool(carriers(server.process.pid)))
        assert other.whole()
        assert peer.whole()
        server.finished(2)
    assert server.stop()["complete"] == 2


def test_where_no_process_may_be_started_the_loop_does_it_all(folder: Path, tmp_path: Path) -> None:
    with running(folder, tmp_path / "log", subprocess.Popen, 0, "limits.carriers=0") as server:
        with Reading(server) as peer:
            assert peer.whole()
        assert not children(server.process.pid)


def test_more_transfers_than_processes_are_all_served(folder: Path, tmp_path: Path) -> None:
    with running(folder, tmp_path / "log", subprocess.Popen, 0, "limits.carriers=2") as server:
        with ExitStack() as stack:
            peers = [stack.enter_context(Reading(server)) for _ in range(6)]
            for _ in range(100):
                for peer in peers:
                    peer.go_on(10)
            assert len(carriers(server.process.pid)) == 2
            while any(len(peer.content) < len(CONTENT) for peer in peers):  # in turn: who is silent for long is left
                for peer in peers:
                    peer.go_on(100)
            assert all(peer.whole() for peer in peers)
        server.finished(6)
        assert server.stop()["complete"] == 6
