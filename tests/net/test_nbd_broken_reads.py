"""A disk of which the second half cannot be read: what is told in the middle of a reply (N-64, N-66), and how."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import nbd_talk
from tests.support.nbd_driver import HAGGLED
from tests.support.nbd_server import RawClient, Server, running
from tests.support.nbd_talk import Headers
from tests.support.segment import lacking, requires
from tests.support.waiting import until

pytestmark = pytest.mark.net

SIZE, GOOD = 4 << 20, 2 << 20
PREAD = f'if [ $(($4 + $3)) -gt {GOOD} ]; then echo "EIO broken" >&2; exit 1; fi; yes good | head -c $3'
"""For nbdkit's plugin of shell commands: $3 bytes from $4."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not Path("/dev/fuse").exists():
        lacking("no /dev/fuse")
    folder = tmp_path_factory.mktemp("nbd") / "exports"
    folder.mkdir()
    disk = folder / "node"
    disk.write_bytes(b"")
    commands = ("nbdkit", "-s", "eval", f"get_size=echo {SIZE}", f"pread={PREAD}")
    process = subprocess.Popen(["nbdfuse", "-r", str(disk), "--command", *commands], stdin=subprocess.DEVNULL)
    try:
        until(lambda: disk.stat().st_size == SIZE, "the disk is mounted")
        with running(folder) as server:
            yield server
            assert server.stop() == 0
            assert "Traceback" not in server.log
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
        try:
            process.wait(10)  # which it does by itself, unless a request of its kernel is lost
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def connected(server: Server, headers: Headers) -> RawClient:
    client = RawClient(server).greet()
    client.send(HAGGLED[headers], nbd_talk.choose("node"))
    for _ in range(2 if HAGGLED[headers] else 1):
        client.option_replies()
    return client


def ask(client: RawClient, headers: Headers, *requests: tuple[int, int, int]) -> list[nbd_talk.Chunk]:
    """The replies to READs of (offset, length, flags), and a DISC."""
    extended = headers is Headers.EXTENDED
    reads = {}
    for cookie, (offset, length, flags) in enumerate(requests):
        client.send(nbd_talk.request(nbd_talk.READ, cookie, offset, length, flags, extended=extended))
        reads[cookie] = length
    client.send(nbd_talk.request(nbd_talk.DISC, 99, extended=extended))
    answer = b""
    while received := client.sock.recv(1 << 20):
        answer += received
    return nbd_talk.chunks(answer, headers, reads)


@requires("nbdfuse", "nbdkit", "umount")
@pytest.mark.parametrize("headers", Headers)
@pytest.mark.parametrize("length", [512, 1 << 18])
def test_a_short_read_that_fails_is_an_error_and_the_connection_goes_on(
    server: Server, headers: Headers, length: int
) -> None:
    with connected(server, headers) as client:
        found = {chunk.cookie: chunk for chunk in ask(client, headers, (GOOD + 4096, length, 0), (0, 4096, 0))}
    assert found[0].error == nbd_talk.EIO
    assert nbd_talk.content([found[1]], 0, 4096)[:5] == b"good\n"


@requires("nbdfuse", "nbdkit", "umount")
@pytest.mark.parametrize("headers", [Headers.STRUCTURED, Headers.EXTENDED])
def test_n_64_a_long_read_that_fails_in_the_middle_ends_with_an_error(server: Server, headers: Headers) -> None:
    with connected(server, headers) as client:
        found = ask(client, headers, (0, SIZE, 0), (4096, 512, 0))
    long = [chunk for chunk in found if chunk.cookie == 0]
    assert [chunk.done for chunk in long] == [False] * (len(long) - 1) + [True]
    assert [chunk.error for chunk in long] == [0] * (len(long) - 1) + [nbd_talk.EIO]
    read = sorted(chunk.content for chunk in long[:-1])
    assert sum(len(data) for _, data in read) <= GOOD
    assert all(b"good" in data for _, data in read)
    assert [chunk.error for chunk in found if chunk.cookie == 1] == [0]


@requires("nbdfuse", "nbdkit", "umount")
@pytest.mark.parametrize("headers", [Headers.STRUCTURED, Headers.EXTENDED])
def test_n_64_a_chunk_that_has_begun_is_filled_with_zeros_and_then_is_an_error(
    server: Server, headers: Headers
) -> None:
    with connected(server, headers) as client:
        found = ask(client, headers, (0, SIZE, nbd_talk.DF), (4096, 512, 0))
    data, error = [chunk for chunk in found if chunk.cookie == 0]
    assert (data.kind, data.done, error.done, error.error) == (nbd_talk.OFFSET_DATA, False, True, nbd_talk.EIO)
    offset, content = data.content
    assert (offset, len(content)) == (0, SIZE)
    assert content[GOOD:] == bytes(SIZE - GOOD)
    assert [chunk.error for chunk in found if chunk.cookie == 1] == [0]


@requires("nbdfuse", "nbdkit", "umount")
def test_n_66_a_simple_reply_that_cannot_be_finished_is_the_end_of_the_connection(server: Server) -> None:
    with connected(server, Headers.SIMPLE) as client:
        client.send(nbd_talk.request(nbd_talk.READ, 0, 0, SIZE), nbd_talk.request(nbd_talk.READ, 1, 0, 512))
        answer = b""
        while received := client.sock.recv(1 << 20):
            answer += received
    other = bytes.fromhex("67446698 00000000 0000000000000001")
    if answer.startswith(other):  # answers may come in any order
        answer = answer[16 + 512 :]
    assert answer[:16] == bytes.fromhex("67446698 00000000 0000000000000000")
    assert len(answer) <= 16 + GOOD
    with connected(server, Headers.SIMPLE) as client:
        assert [chunk.error for chunk in ask(client, Headers.SIMPLE, (0, 512, 0))] == [0]
