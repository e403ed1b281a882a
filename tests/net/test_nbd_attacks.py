"""What a hostile or broken client sends, and how little comes of it (A-40 to A-47 of reference/nbd.md)."""

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from nbd import wire
from tests.support.nbd_server import RawClient, Server, running
from tests.support.waiting import quick, until

pytestmark = pytest.mark.net

SIZE = 64 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("nbd") / "exports"
    folder.mkdir()
    with (folder / "node").open("wb") as file:
        file.truncate(SIZE)
    with running(folder) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    """Whatever a test does, the next client is served, and nothing is left open."""
    before = server.descriptors()
    yield
    with RawClient(server).go() as client:
        client.request(wire.Cmd.READ, 7, 4096, 512)
        assert client.reply() == wire.SimpleReply(7)
        assert client.receive(512) == bytes(512)
    until(lambda: server.descriptors() <= before, "what was opened is closed")


@pytest.mark.parametrize("length", [64 << 20, 2**32 - 1])
@pytest.mark.parametrize("number", [wire.Opt.GO, wire.Opt.EXPORT_NAME, wire.Opt.LIST, 99])
def test_a40_a_huge_option_ends_the_connection(server: Server, number: int, length: int) -> None:
    with RawClient(server).greet() as client:
        client.send(wire.OptionHeader(number, length).encode())
        assert client.closed_by_server()


def test_a40_a_large_option_is_dropped_without_keeping_it(server: Server) -> None:
    before = server.peak_mib()
    with RawClient(server).greet() as client:
        assert client.option(99, bytes(30 << 20))[0].type == wire.Rep.ERR_TOO_BIG
        assert client.option(99)[0].type == wire.Rep.ERR_UNSUP
    assert server.peak_mib() - before < 8


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack(">I", 2**32 - 1) + b"node\0\0", id="name-of-4-gib"),
        pytest.param(struct.pack(">I4sH", 4, b"node", 65535), id="65535-information-requests"),
        pytest.param(struct.pack(">I5sH", 5, b"no\0de", 0), id="nul"),
        pytest.param(struct.pack(">I4096sH", 4096, b"a" * 4096, 0), id="4096-bytes"),
        pytest.param(struct.pack(">I4097sH", 4097, b"a" * 4097, 0), id="4097-bytes"),
        pytest.param(struct.pack(">I12sH", 12, b"../../shadow", 0), id="traversal"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a41_a_lying_name_is_refused_and_the_connection_goes_on(server: Server, data: bytes) -> None:
    with RawClient(server).greet() as client:
        assert client.option(wire.Opt.GO, data)[-1].type in (wire.Rep.ERR_INVALID, wire.Rep.ERR_UNKNOWN)
        assert client.option(wire.Opt.GO, wire.InfoRequest("node").encode())[-1].type == wire.Rep.ACK


def test_a42_silent_connections_disturb_nobody_and_end(server: Server) -> None:
    before = server.descriptors()
    silent = [RawClient(server) for _ in range(600)]

    def served_s() -> float:
        started = time.monotonic()
        with RawClient(server).go() as client:
            client.request(wire.Cmd.READ, 1, 0, 4096)
            assert client.reply() == wire.SimpleReply(1)
        return time.monotonic() - started

    try:
        assert quick(served_s, 1)
        assert server.descriptors() - before <= 130
        assert all(client.closed_by_server() for client in silent)
    finally:
        for client in silent:
            client.sock.close()


def test_a43_clients_that_vanish(server: Server) -> None:
    reads = b"".join(wire.Request(wire.Cmd.READ, n, n << 10, 1 << 20).encode() for n in range(64))
    go = wire.OptionHeader(wire.Opt.GO, 10).encode() + wire.InfoRequest("node").encode()
    whole = struct.pack(">I", 3) + go + reads
    chance = random.Random(43)
    for cut in [0, 4, 20, 30, len(whole), *(chance.randrange(len(whole)) for _ in range(40))]:
        with RawClient(server) as client:
            client.send(whole[:cut])
            if cut % 2:  # with a reset
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def settled(server: Server) -> int:
    """How many descriptors it has, once threads have closed what they were about to."""
    before, now = -1, server.descriptors()
    while before != now:
        time.sleep(0.2)
        before, now = now, server.descriptors()
    return now


def test_a44_a_probe_opens_no_image(server: Server) -> None:
    with RawClient(server).greet() as client:
        before = settled(server)
        client.option(wire.Opt.LIST)
        client.option(wire.Opt.INFO, wire.InfoRequest("node").encode())
        client.option(wire.Opt.STARTTLS)
        assert settled(server) == before
        client.option(wire.Opt.GO, wire.InfoRequest("node").encode())
        assert settled(server) == before + 1


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 2**32 - 1), (SIZE, 1), (SIZE - 1, 2), (2**64 - 512, 1024), (0, (32 << 20) + 1)],
)
def test_a46_a_read_out_of_bounds_is_refused_and_the_connection_goes_on(
    server: Server, offset: int, length: int
) -> None:
    with RawClient(server).go() as client:
        client.request(wire.Cmd.READ, 1, offset, length)
        assert client.reply() == wire.SimpleReply(1, wire.Errno.EINVAL)
        client.request(wire.Cmd.READ, 2, 0, 512)
        assert client.reply() == wire.SimpleReply(2)


def test_a46_a_write_of_32_mib_is_refused_after_it_and_a_longer_one_ends_the_connection(server: Server) -> None:
    before = server.peak_mib()
    with RawClient(server).go() as client:
        client.request(wire.Cmd.WRITE, 1, 0, 32 << 20)
        client.send(bytes(32 << 20))
        assert client.reply() == wire.SimpleReply(1, wire.Errno.EPERM)
        client.request(wire.Cmd.WRITE, 2, 0, 2**32 - 1)
        assert client.closed_by_server()
    assert server.peak_mib() - before < 8


def test_a46_a_read_of_32_mib_arrives_and_takes_no_memory(server: Server) -> None:
    before = server.peak_mib()
    with RawClient(server).go() as client:
        client.request(wire.Cmd.READ, 1, 0, 32 << 20)
        assert client.reply() == wire.SimpleReply(1)
        assert not any(client.receive(1 << 20).strip(b"\0") for _ in range(32))
    assert server.peak_mib() - before < 8


def test_a47_clients_that_never_read_cost_little_and_delay_nobody(server: Server) -> None:
    before = server.peak_mib()
    deaf = [RawClient(server, receive_buffer=4096).go() for _ in range(20)]
    reads = b"".join(wire.Request(wire.Cmd.READ, n, 0, 1 << 20).encode() for n in range(5000))
    try:
        for client in deaf:
            client.sock.setblocking(False)
            with suppress(BlockingIOError):
                client.sock.send(reads)
        time.sleep(0.3)

        def served_s() -> float:
            with RawClient(server).go() as client:
                started = time.monotonic()
                for cookie in range(100):
                    client.request(wire.Cmd.READ, cookie, cookie << 12, 4096)
                    client.reply()
                    client.receive(4096)
                return time.monotonic() - started

        assert quick(served_s, 1)
        assert server.peak_mib() - before < 20
    finally:
        for client in deaf:
            client.sock.close()


def test_a48_a_file_of_a_million_holes_is_told_in_bounded_answers(server: Server) -> None:
    with (server.folder / "holes").open("wb") as file:
        file.truncate(1 << 30)
        for offset in range(0, 1 << 28, 8192):  # 32,768 blocks with a hole behind each
            os.pwrite(file.fileno(), b"x", offset)
    before = server.peak_mib()
    with RawClient(server).greet() as client:
        assert client.option(wire.Opt.STRUCTURED_REPLY)[0].type == wire.Rep.ACK
        query = struct.pack(">I5sII15s", 5, b"holes", 1, 15, b"base:allocation")
        client.send(wire.OptionHeader(wire.Opt.SET_META_CONTEXT, len(query)).encode(), query)
        context = client.receive(20)
        client.receive(int.from_bytes(context[16:]) + 20)  # and the ACK
        assert client.option(wire.Opt.GO, wire.InfoRequest("holes").encode())[-1].type == wire.Rep.ACK
        for cookie in range(40):
            client.request(wire.Cmd.BLOCK_STATUS, cookie, 0, 1 << 30)
        for _ in range(40):
            _, _, kind, _, length = struct.unpack(">IHHQI", client.receive(20))
            assert kind == wire.Chunk.BLOCK_STATUS
            assert 8 < length <= 4 + 8 * (1 << 14)
            client.receive(length)
    assert server.peak_mib() - before < 30


def test_pipelined_requests_are_all_answered(server: Server) -> None:
    with RawClient(server).go() as client:
        client.send(b"".join(wire.Request(wire.Cmd.READ, n, n * 512, 512).encode() for n in range(3000)))
        cookies = set()
        for _ in range(3000):
            cookies.add(client.reply().cookie)
            client.receive(512)
        assert cookies == set(range(3000))


def test_garbage_ends_the_connection(server: Server) -> None:
    chance = random.Random(1)
    for _ in range(50):
        with RawClient(server) as client:
            client.send(chance.randbytes(400))
            assert client.closed_by_server()
    assert server.log.count("WARNING") < 60
