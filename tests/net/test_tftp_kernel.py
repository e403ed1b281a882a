"""Sending a window with one system call yields the same datagrams as sending it one by one; where a thread goes on."""

import json
import os
import socket
import sys
import threading

import pytest

from tests.support.segment import Segment, requires
from tests.support.tftp_server import REPOSITORY
from tftp import kernel, wire
from tftp.kernel import Port, Sender

pytestmark = pytest.mark.net


def window(blksize: int, count: int, last: int) -> list[bytes]:
    lengths = [blksize] * (count - 1) + [last]
    return [wire.data_header(65530 + number) + bytes((number,)) * length for number, length in enumerate(lengths)]


def received(datagrams: list[bytes], *, segmentation: bool) -> tuple[list[bytes], bool]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        client.bind(("127.0.0.1", 0))
        client.settimeout(60)
        sender = Sender(segmentation=segmentation)
        assert sender.send(Port(server), client.getsockname(), datagrams) == len(datagrams)
        return [client.recv(70000) for _ in datagrams], sender.segmentation


@pytest.mark.parametrize(
    ("blksize", "count", "last"),
    [(1428, 1, 1428), (1428, 4, 1428), (1468, 64, 10), (512, 64, 0), (8, 64, 3), (1468, 45, 0)],
)
def test_a_window_arrives_as_the_same_datagrams_either_way(blksize: int, count: int, last: int) -> None:
    datagrams = window(blksize, count, last)
    assert received(datagrams, segmentation=False) == (datagrams, False)
    assert received(datagrams, segmentation=True)[0] == datagrams


NARROW = """
import json, socket
from tftp.kernel import Port, Sender
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, 10, 0)
sender = Sender()
sent = [sender.send(Port(sock), ("10.77.0.2", 9), [bytes(blksize)] * 70) for blksize in (1428, 512)]
print(json.dumps([sent, sender.segmentation]))
"""


@requires("ip")
def test_blocks_longer_than_the_path_allows_go_one_by_one_and_others_as_before() -> None:
    with Segment(client_address="10.77.0.2/24") as segment:
        segment.server.run("ip", "link", "set", "dev", segment.server.interface, "mtu", "1000")
        path = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        done = segment.server.run(sys.executable, "-c", path + NARROW)
    assert json.loads(done.stdout) == [[70, 70], True]


def test_where_the_kernel_cannot_segment_blocks_go_one_by_one() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE) as server,  # which it never segments
    ):
        client.bind(("127.0.0.1", 0))
        client.settimeout(60)
        sender = Sender()
        datagrams = window(512, 4, 10)
        assert sender.send(Port(server), client.getsockname(), datagrams) == 4
        assert [client.recv(2000) for _ in datagrams] == datagrams
        assert not sender.segmentation


def test_an_error_of_the_network_counts_as_loss() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        # Without SO_BROADCAST the kernel refuses this address.
        assert Sender().send(Port(sock), ("255.255.255.255", 9), window(512, 4, 512)) == 0
        assert Sender(segmentation=False).send(Port(sock), ("255.255.255.255", 9), window(512, 4, 512)) == 0


def test_a_thread_goes_where_its_clients_datagrams_come_in_and_is_not_held_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, moves = os.sched_setaffinity, []

    def move(pid: int, processors: set[int]) -> None:
        moves.append(set(processors))
        real(pid, processors)

    def send(processor: int) -> None:
        real(0, {processor})
        client.sendto(b"ack", server.getsockname())

    everywhere = os.sched_getaffinity(0)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        client.bind(("127.0.0.1", 0))
        server.connect(client.getsockname())  # of others the kernel does not keep it
        for processor in everywhere:
            thread = threading.Thread(target=send, args=(processor,))
            thread.start()
            thread.join()
            assert server.recv(10) == b"ack"
            moves.clear()
            with monkeypatch.context() as patched:
                patched.setattr(os, "sched_setaffinity", move)
                kernel.go_near(server)
            assert moves == [{processor}, everywhere]
    assert os.sched_getaffinity(0) == everywhere


def test_where_a_thread_may_not_be_moved_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, processors: set[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        kernel.go_near(sock)
