"""Streams of requests against the real server: whatever they are and however they are cut, each is answered right."""

import random
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import nbd_checks, nbd_talk
from tests.support.nbd_checks import Said
from tests.support.nbd_commands import has_libnbd, libnbd
from tests.support.nbd_driver import HAGGLED, Disk
from tests.support.nbd_server import RawClient, Server, running
from tests.support.nbd_talk import Headers
from tests.support.segment import lacking

pytestmark = pytest.mark.net

SIZE = 4 << 20
CONTENT = random.Random(8).randbytes(1 << 20) + bytes(2 << 20) + random.Random(9).randbytes(1 << 20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("nbd") / "exports"
    folder.mkdir()
    (folder / "node").write_bytes(CONTENT)
    with (folder / "disk").open("wb") as file:
        file.truncate(48 << 20)
    with running(folder, []) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


def requests(chance: random.Random, headers: Headers) -> list[Said]:
    """Mostly plain READs; anything else between them; and a DISC."""
    found = []
    extended = headers is Headers.EXTENDED
    for cookie in range(400):
        command, flags = nbd_talk.READ, 0
        length = chance.choice((512, 4096, 4096, 4096, 65536, 131072, 300_000, 1 << 20))
        offset = chance.randrange(0, SIZE - length + 1, 512)
        if chance.random() < 0.2:
            command = chance.choice((0, 0, 1, 3, 4, 5, 6, 7, 9))
            flags = chance.choice((0, 0, nbd_talk.DF, nbd_talk.FUA, 0x8000))
            offset += chance.choice((0, 0, 1, SIZE, 2**63))
            length = chance.choice((0, 1, 100, length))
        payload = b"w" * length if command == nbd_talk.WRITE else b""
        if payload and extended:
            flags |= nbd_talk.PAYLOAD_LEN
        data = nbd_talk.request(command, cookie, offset, length, flags, payload, extended=extended)
        found.append(Said(data, command, cookie, offset, length, flags))
    return [*found, Said(nbd_talk.request(nbd_talk.DISC, 400, extended=extended))]


@pytest.mark.parametrize("headers", Headers)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("longest_piece", [1 << 20, 1000, 40])
def test_a_stream_of_requests(server: Server, headers: Headers, seed: int, longest_piece: int) -> None:
    chance = random.Random(seed)
    said = requests(chance, headers)
    stream = b"".join(one.data for one in said)
    with RawClient(server).greet() as client:
        client.send(HAGGLED[headers], nbd_talk.choose("node"))
        for _ in range(2 if HAGGLED[headers] else 1):
            client.option_replies()

        def send() -> None:
            at = 0
            while at < len(stream):
                piece = chance.randint(1, longest_piece)
                client.send(stream[at : at + piece])
                at += piece
                if chance.random() < 0.02:
                    time.sleep(0.001)

        sender = threading.Thread(target=send)
        sender.start()
        answer = bytearray()
        while received := client.sock.recv(1 << 20):
            answer += received
        sender.join()
    reads = {one.cookie: one.length for one in said if one.command == nbd_talk.READ}
    chunks: dict[int, list[nbd_talk.Chunk]] = {}
    for chunk in nbd_talk.chunks(bytes(answer), headers, reads):
        chunks.setdefault(chunk.cookie, []).append(chunk)
    assert sorted(chunks) == list(range(400))
    disk = Disk(bytearray(CONTENT))
    for one in said[:-1]:
        (error,) = {chunk.error for chunk in chunks[one.cookie]}
        assert error in nbd_checks.expected(one, disk, headers), one
        if one.command == nbd_talk.READ and not error and one.length:
            found = nbd_talk.content(chunks[one.cookie], one.offset, one.length)
            assert found == CONTENT[one.offset : one.offset + one.length]


def test_the_replies_to_a_client_that_half_closes_all_arrive(server: Server) -> None:
    with RawClient(server).go("node") as client:
        client.send(*(nbd_talk.request(nbd_talk.READ, n, n << 12, 4096) for n in range(200)))
        client.sock.shutdown(1)
        for n in range(200):
            assert client.receive(16) == struct.pack(">IIQ", 0x67446698, 0, n)
            assert client.receive(4096) == CONTENT[n << 12 : (n + 1) << 12]
        assert client.closed_by_server()


WRITING = """
def connected(structured=True):
    other = nbd.NBD()
    other.set_strict_mode(0)
    other.set_request_structured_replies(structured)
    other.add_meta_context("base:allocation")
    other.connect_uri(f"nbd://{args[0]}:{args[1]}/disk")
    return other
h = connected()
def refused(number, command, *args, **kwargs):
    try:
        command(*args, **kwargs)
    except nbd.Error as error:
        assert error.errnum == number, error
        return
    raise AssertionError("was not refused")
SIZE = h.get_size()
"""


def on_disk(server: Server, script: str) -> None:
    if not has_libnbd():
        lacking("needs python3-libnbd")
    libnbd(WRITING + script, "127.0.0.1", str(server.port))


def test_what_one_connection_has_flushed_the_others_read(server: Server) -> None:
    on_disk(
        server,
        """
assert h.can_multi_conn() and h.can_fua() and h.can_trim() and h.can_zero() and h.can_flush() and not h.is_read_only()
others = [connected(structured) for structured in (True, False, True)]
for turn in range(60):
    writer, data = others[turn % 3], bytes([turn + 1]) * (4096 + 512 * turn)
    writer.pwrite(data, turn << 16, nbd.CMD_FLAG_FUA if turn % 2 else 0)
    if not turn % 2:
        writer.flush()
    for reader in (h, *others):
        assert reader.pread(len(data), turn << 16) == data
h.zero(1 << 20, 0)
others[1].flush()
assert others[0].pread(1 << 20, 0) == bytes(1 << 20)
others[2].trim(1 << 20, 1 << 20, nbd.CMD_FLAG_FUA)
assert h.pread(4096, 1 << 20) in (bytes(4096), bytes([17]) * 4096)
""",
    )


def test_the_longest_write_is_taken_and_what_is_past_the_end_has_no_space(server: Server) -> None:
    on_disk(
        server,
        """
data = bytes(range(256)) * (32 << 12)
h.pwrite(data, 4097)
assert h.pread(32 << 20, 4097) == data
refused(errno.ENOSPC, h.pwrite, b"x" * 1024, SIZE - 512)
refused(errno.ENOSPC, h.pwrite, b"x" * 1024, SIZE)
refused(errno.ENOSPC, h.zero, 1024, SIZE)
refused(errno.EINVAL, h.trim, 1024, SIZE)
refused(errno.EINVAL, h.pwrite, b"x" * 512, 0, 0x4000)
assert h.pread(512, SIZE - 512) == bytes(512)
h.zero(32 << 20, 4096, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(1 << 20, 4096) == bytes(1 << 20)
h.zero(40 << 20, 0)
h.flush()
""",
    )
    before = server.peak_mib()
    on_disk(server, "for turn in range(4):\n    h.pwrite(b'y' * (32 << 20), turn << 20)\n")
    assert server.peak_mib() - before < 80  # the overlay itself is in this server's memory


def test_writes_in_flight_on_four_connections_are_all_there(server: Server) -> None:
    on_disk(
        server,
        """
handles = [connected() for _ in range(4)]
waiting = []
for n in range(400):
    data = nbd.Buffer.from_bytearray(bytearray(n.to_bytes(2, "big") * 2048))
    waiting.append((handles[n % 4], handles[n % 4].aio_pwrite(data, n << 12), data))
while waiting:
    waiting = [item for item in waiting if not item[0].aio_command_completed(item[1])]
    if waiting:
        waiting[0][0].poll(-1)
h.flush()
for n in range(400):
    assert h.pread(4096, n << 12) == n.to_bytes(2, "big") * 2048, n
""",
    )
