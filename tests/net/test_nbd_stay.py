"""A client that reads without a pause has a thread of its own (`nbd.stay`); all else holds as without it."""

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nbd import wire
from nbd.lines import Plain
from nbd.mappings import Mappings
from nbd.pump import STAYS
from nbd.turns import FEWEST
from tests.support.nbd_server import RawClient, Server, running

pytestmark = pytest.mark.net

CONTENT = random.Random(5).randbytes(8 << 20)
CHUNK = struct.Struct(">IHHQI")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "node").write_bytes(CONTENT)
    with running(folder) as server:
        yield server


def requests(count: int, lengths: tuple[int, ...], seed: int = 1) -> dict[int, wire.Request]:
    """READs at random places, by their cookies; each 20th is something else."""
    chance, made = random.Random(seed), {}
    for cookie in range(count):
        length = chance.choice(lengths)
        kind = chance.choice([wire.Cmd.CACHE, wire.Cmd.FLUSH, 99]) if cookie % 20 == 19 else wire.Cmd.READ
        length = 0 if kind == wire.Cmd.FLUSH else length
        made[cookie] = wire.Request(kind, cookie, chance.randrange(len(CONTENT) - length + 1), length)
    return made


def check(client: RawClient, asked: dict[int, wire.Request]) -> None:
    """Take the answers to all of it, in any order, as simple replies."""
    left = dict(asked)
    while left:
        reply = client.reply()
        request = left.pop(reply.cookie)
        if request.type == 99:
            assert reply.error == wire.Errno.EINVAL
            continue
        assert reply.error == wire.Errno.OK
        if request.type == wire.Cmd.READ:
            end = request.offset + request.length
            assert client.receive(request.length) == CONTENT[request.offset : end]


def send_aside(client: RawClient, asked: dict[int, wire.Request], piece: int) -> threading.Thread:
    """Send it all in pieces of so many bytes, while somebody else takes the answers."""
    data = b"".join(request.encode() for request in asked.values())

    def send() -> None:
        for start in range(0, len(data), piece):
            client.send(data[start : start + piece])

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("piece", [28, 500, 4096])
def test_everything_is_answered_right_with_commands_of_all_kinds_in_between(server: Server, piece: int) -> None:
    asked = requests(3000, (512, 4096, 4096, 65536, 131072, 262144, 300000))
    with RawClient(server) as client:
        sending = send_aside(client.go(), asked, piece)
        check(client, asked)
        sending.join()


def test_structured_replies_are_right_too(server: Server) -> None:
    asked = {n: r for n, r in requests(2000, (4096, 65536, 262144), seed=2).items() if r.type == wire.Cmd.READ}
    with RawClient(server) as client:
        client.greet().option(wire.Opt.STRUCTURED_REPLY)
        client.option(wire.Opt.GO, wire.InfoRequest("node").encode())
        sending = send_aside(client, asked, 4096)
        left = dict(asked)
        while left:
            magic, flags, kind, cookie, length = CHUNK.unpack(client.receive(CHUNK.size))
            assert (magic, flags, kind) == (0x668E33EF, 1, 1)
            request = left.pop(cookie)
            assert int.from_bytes(client.receive(8)) == request.offset
            assert client.receive(length - 8) == CONTENT[request.offset : request.offset + request.length]
        sending.join()


def test_what_is_not_in_memory_is_read(server: Server, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "exports/node", os.O_RDWR)
    os.fsync(fd)
    asked = requests(1500, (1024, 4096, 131072), seed=3)
    with RawClient(server) as client:
        sending = send_aside(client.go(), asked, 280)
        for _ in range(20):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            time.sleep(0.005)
        check(client, asked)
        sending.join()
    os.close(fd)


@pytest.mark.parametrize("clients", [FEWEST + 6, STAYS + 12])
def test_many_who_read_what_is_not_in_memory_get_it_all_though_some_take_nothing(
    server: Server, tmp_path: Path, clients: int
) -> None:
    fd = os.open(tmp_path / "exports/node", os.O_RDWR)
    os.fsync(fd)
    over = threading.Event()

    def drop() -> None:
        while not over.wait(0.005):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def read(number: int) -> None:
        asked = requests(300, (1024, 4096, 131072), seed=number)
        with RawClient(server) as client:
            sending = send_aside(client.go(), asked, 280)
            check(client, asked)
            sending.join()
        done.append(number)

    done: list[int] = []
    with ExitStack() as stack:
        for number in range(FEWEST):
            deaf = stack.enter_context(RawClient(server).go())
            for cookie in range(200):
                deaf.request(wire.Cmd.READ, cookie, number << 18, 131072)
        dropping = threading.Thread(target=drop)
        readers = [threading.Thread(target=read, args=(number,)) for number in range(clients)]
        for thread in (dropping, *readers):
            thread.start()
        for thread in readers:
            thread.join(300)
        over.set()
        dropping.join()
    os.close(fd)
    assert sorted(done) == list(range(clients))
    assert "Traceback" not in server.log


def test_who_takes_no_answers_holds_up_nobody_and_loses_nothing(server: Server) -> None:
    asked = requests(400, (131072, 262144), seed=4)
    with RawClient(server, receive_buffer=1 << 16) as slow, RawClient(server) as other:
        sending = send_aside(slow.go(), asked, 4096)
        other.go()
        for seed in range(5):
            more = requests(60, (4096, 65536), seed)
            other.send(*(request.encode() for request in more.values()))
            check(other, more)
            time.sleep(0.1)
        check(slow, asked)
        sending.join()


def test_an_image_cut_off_under_who_reads_on_is_an_error_and_no_end(server: Server, tmp_path: Path) -> None:
    (tmp_path / "exports/other").write_bytes(CONTENT)
    errors = 0
    with RawClient(server) as client:
        client.go()
        for cookie in range(2000):
            if cookie == 500:
                os.truncate(tmp_path / "exports/node", 4 << 20)
            client.request(wire.Cmd.READ, cookie, cookie % 32 << 18, 1 << 18)
            try:
                reply = client.reply()
            except (EOFError, ConnectionError):
                errors += 1
                break
            if reply.error:
                assert reply.error == wire.Errno.EIO
                errors += 1
                continue
            start = cookie % 32 << 18
            assert client.receive(1 << 18) == CONTENT[start : start + (1 << 18)]
    assert errors
    with RawClient(server) as client:
        asked = {0: wire.Request(wire.Cmd.READ, 0, 6 << 20, 4096)}
        client.go("other").send(asked[0].encode())
        check(client, asked)


def test_the_server_stops_though_a_client_reads_on(server: Server) -> None:
    with RawClient(server) as client:
        client.go()
        stopped = threading.Event()

        def read_on() -> None:
            try:
                while not stopped.is_set():
                    client.request(wire.Cmd.READ, 1, 0, 4096)
                    assert client.reply().error == wire.Errno.OK
                    client.receive(4096)
            except (EOFError, ConnectionError):
                pass

        reader = threading.Thread(target=read_on)
        reader.start()
        time.sleep(0.5)
        assert server.stop() == 0
        stopped.set()
        reader.join()


def test_what_was_cut_off_after_it_was_looked_at_ends_the_sending_and_not_the_process(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(CONTENT[: 1 << 20])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    fd = os.open(path, os.O_RDONLY)
    mapping = Mappings(time.monotonic).take(fd)
    assert mapping is not None
    os.truncate(path, 4096)
    line = Plain(ours)
    assert line.send_parts([mapping.view[8192:16384]]) == 0
    sent = line.send_parts([b"head", mapping.view[:4096], mapping.view[8192:16384]])
    assert sent <= 4 + 4096  # the kernel may also give up all that it would have sent with what is missing
    line.close()
    with theirs:
        assert theirs.recv(1 << 16) == (b"head" + CONTENT[:4096])[:sent]
    os.close(fd)
