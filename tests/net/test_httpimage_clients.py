"""curl and busybox wget download, resume, and are never given two versions in one file."""

import hashlib
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.http_client import Client, ServerProcess, get
from tests.support.segment import requires

pytestmark = pytest.mark.net

MEGABYTES = 24
OLD = os.urandom(MEGABYTES << 20)
NEW = os.urandom(MEGABYTES << 20)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    folder = tmp_path / "served"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "root.squashfs").write_bytes(OLD)
    with ServerProcess(folder) as running:
        yield running


def curl(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["curl", "-sS", *arguments], cwd=cwd, capture_output=True, timeout=180, check=True)
    return done.stdout.decode("latin-1")


def replace(server: ServerProcess, content: bytes) -> None:
    (server.folder / "new").write_bytes(content)
    (server.folder / "new").rename(server.folder / "images" / "root.squashfs")


@requires("curl")
def test_curl_gets_a_file_and_the_timeline_hears_of_it(server: ServerProcess, tmp_path: Path) -> None:
    curl("-o", "root", f"{server.url}/images/root.squashfs", cwd=tmp_path)
    assert (tmp_path / "root").read_bytes() == OLD
    assert server.told() == ["127.0.0.1", "fetch", "fetching 'images/root.squashfs', 25 MB", 0]
    peer, stage, detail, sent = server.told()
    assert (peer, stage, sent) == ("127.0.0.1", "fetch", len(OLD))
    assert detail.startswith(f"'images/root.squashfs': {len(OLD)} bytes in ")
    assert f"INFO http 127.0.0.1 got 'images/root.squashfs': {len(OLD)} bytes in " in server.log()


@requires("curl")
@pytest.mark.parametrize("ranges", ["0-99", "1000000-1000000", "-5", f"{len(OLD) - 7}-"])
def test_curl_gets_a_range(server: ServerProcess, tmp_path: Path, ranges: str) -> None:
    curl("-r", ranges, "-o", "part", f"{server.url}/images/root.squashfs", cwd=tmp_path)
    first, _, last = ranges.partition("-")
    expected = OLD[-int(last) :] if not first else OLD[int(first) : int(last) + 1] if last else OLD[int(first) :]
    assert (tmp_path / "part").read_bytes() == expected


@requires("curl")
def test_curl_resumes(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(OLD[:7654321])
    curl("-C", "-", "-o", "root", f"{server.url}/images/root.squashfs", cwd=tmp_path)
    assert (tmp_path / "root").read_bytes() == OLD
    assert server.told()[2] == "fetching 'images/root.squashfs' from byte 7654321, 18 MB"


@requires("curl")
def test_a_resumed_download_never_mixes_two_versions(server: ServerProcess, tmp_path: Path) -> None:
    etag = get(server.port, "/images/root.squashfs", method="HEAD").header("ETag")
    replace(server, NEW)
    head = ("-H", f"If-Range: {etag}", "-r", "7654321-", "-w", "%{http_code}", "-o", "root")
    assert curl(*head, f"{server.url}/images/root.squashfs", cwd=tmp_path) == "200"
    assert (tmp_path / "root").read_bytes() == NEW


def test_a_file_replaced_in_mid_download_is_sent_to_its_end(server: ServerProcess) -> None:
    with Client(server.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(b"GET /images/root.squashfs HTTP/1.1\r\nHost: a\r\n\r\n")
        client.sip()  # it has begun
        replace(server, NEW)
        assert client.answer().body == OLD
        client.send(b"GET /images/root.squashfs HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer().body == NEW


@requires("busybox")
def test_busybox_wget_gets_and_resumes(server: ServerProcess, tmp_path: Path) -> None:
    wget = ["busybox", "wget", "-q", "-O", "root", f"{server.url}/images/root.squashfs"]
    subprocess.run(wget, cwd=tmp_path, timeout=180, check=True)
    assert (tmp_path / "root").read_bytes() == OLD
    (tmp_path / "root").write_bytes(OLD[:1000003])
    subprocess.run([*wget[:2], "-c", *wget[2:]], cwd=tmp_path, timeout=180, check=True)
    assert (tmp_path / "root").read_bytes() == OLD


@requires("busybox")
def test_busybox_wget_gets_over_a_server_killed_in_between(server: ServerProcess, tmp_path: Path) -> None:
    """The initramfs of a machine does this when the daemon is restarted: what it has is kept and continued."""
    with Client(server.port) as client:
        client.send(b"GET /images/root.squashfs HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        part = client.socket.recv(3000000).partition(b"\r\n\r\n")[2]
    (tmp_path / "root").write_bytes(part)
    wget = ["busybox", "wget", "-q", "-c", "-O", "root", f"{server.url}/images/root.squashfs"]
    subprocess.run(wget, cwd=tmp_path, timeout=180, check=True)
    assert (tmp_path / "root").read_bytes() == OLD
    assert server.logged("stopped after ")


@pytest.mark.parametrize("border", [2**32, 2**33])
def test_ranges_past_four_gigabytes_are_exact(server: ServerProcess, border: int) -> None:  # H-26
    with (server.folder / "sparse").open("wb") as file:
        file.seek(border - 4)
        file.write(b"ABCDEFGH")
    answer = get(server.port, "/sparse", f"Range: bytes={border - 2}-{border + 1}")
    assert (answer.status, answer.body) == (206, b"CDEF")
    assert answer.header("Content-Range") == f"bytes {border - 2}-{border + 1}/{border + 4}"
    assert get(server.port, "/sparse", f"Range: bytes={border}-").body == b"EFGH"
    assert get(server.port, "/sparse", "Range: bytes=-3").body == b"FGH"
    assert get(server.port, "/sparse", method="HEAD").header("Content-Length") == str(border + 4)


def test_two_hundred_readers_of_ranges_get_their_bytes(server: ServerProcess) -> None:
    digest = hashlib.sha256(OLD).hexdigest()
    piece = -(-len(OLD) // 200)

    def fetch(number: int) -> bytes:
        first = number * piece
        return get(server.port, "/images/root.squashfs", f"Range: bytes={first}-{first + piece - 1}").body

    with ThreadPoolExecutor(200) as pool:
        assert hashlib.sha256(b"".join(pool.map(fetch, range(200)))).hexdigest() == digest


def test_a_thousand_silent_or_dripping_clients_take_little_memory(server: ServerProcess) -> None:
    before = server.resident_bytes()
    clients = [Client(server.port) for _ in range(1000)]
    for number, client in enumerate(clients):
        with suppress(ConnectionError):  # all but 256 of one address are refused
            client.send(b"GET /images/root.squashfs HTTP/1.1\r\nHost: a\r\nX: " + b"y" * (number % 3 * 1500))
    with Client(server.port, source="127.0.0.2") as honest:
        honest.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        assert honest.answer().status == 404
    assert server.resident_bytes() - before < 20 << 20
    for client in clients:
        client.socket.close()
    assert server.logged("http 127.0.0.1 has too many connections: one refused")


def test_a_slow_reader_holds_up_nobody(server: ServerProcess) -> None:
    with Client(server.port) as slow:
        slow.send(b"GET /images/root.squashfs HTTP/1.1\r\nHost: a\r\n\r\n" * 30)
        with ThreadPoolExecutor(4) as pool:
            for answer in pool.map(get, [server.port] * 4, ["/images/root.squashfs"] * 4):
                assert answer.body == OLD
        assert slow.answer().body == OLD
