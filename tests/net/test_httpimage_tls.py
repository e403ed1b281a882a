"""HTTP with TLS: the same as without, to curl and openssl; handshakes are few and short; certificates change."""

import asyncio
import errno
import hashlib
import logging
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from config.delivery import Tls
from httpimage import handshakes, tls
from httpimage.complaints import BURST
from httpimage.handshakes import Door
from httpimage.tls import Credentials
from httpimage.transport import application, open_socket, serve
from tests.support.certificates import Authority
from tests.support.http_client import Client, ServerProcess, get
from tests.support.segment import requires
from tests.support.serve_httpimage import Folder, accept, stage_of

pytestmark = pytest.mark.net

CONTENT = os.urandom(3 << 20)
STOPPED_WITHIN_S = 60.0
"""Far more than it takes: only what hangs exceeds it."""
DRIPPING_S = 30.0
"""Far longer than any deadline, for who sends a byte at a time."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    for name in ("one", "two", "client"):
        authority.sign(name)
    return authority


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key that a test may replace."""
    install("one", authority, tmp_path)
    return tmp_path / "tls.crt", tmp_path / "tls.key"


def install(name: str, authority: Authority, folder: Path) -> None:
    for suffix, target in (("pem", "tls.crt"), ("key", "tls.key")):
        new = folder / f"{target}.new"
        new.write_bytes((authority.folder / f"{name}.{suffix}").read_bytes())
        new.chmod(0o600)
        new.rename(folder / target)


def make_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "root.squashfs").write_bytes(CONTENT)
    (folder / "boot.efi").write_bytes(b"MZ")
    return folder


@pytest.fixture
def server(pair: tuple[Path, Path], tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(make_folder(tmp_path), "--tls", *map(str, pair)) as running:
        yield running


@pytest.fixture
def mutual(pair: tuple[Path, Path], authority: Authority, tmp_path: Path) -> Iterator[ServerProcess]:
    arguments = ("--tls", *map(str, pair), "--client-ca", str(authority.certificate))
    with ServerProcess(make_folder(tmp_path), *arguments) as running:
        yield running


class Running:
    """A server in the event loop of a test."""

    def __init__(self, folder: Path, pair: tuple[Path, Path]) -> None:
        self._folder = folder
        self._settings = Tls(certificate=pair[0], key=pair[1])

    def during(self, client: Callable[[int], Any]) -> Any:
        """What `client` returns, called in a thread with the port. Then the server must stop, too."""

        async def run() -> Any:
            sock = open_socket("127.0.0.1", 0)
            door = Door(open_socket("127.0.0.1", 0), Credentials(self._settings))
            app = application(Folder(self._folder), lambda _: None, stage_of, accept)
            server = asyncio.create_task(serve(sock, app, door))
            try:
                result = await asyncio.to_thread(client, door.sock.getsockname()[1])
            finally:
                server.cancel()
                await asyncio.wait((server,), timeout=STOPPED_WITHIN_S)
            assert server.cancelled()
            return result

        return asyncio.run(run())


@pytest.fixture
def inside(pair: tuple[Path, Path], tmp_path: Path) -> Running:
    return Running(make_folder(tmp_path), pair)


def curl(server: ServerProcess, authority: Authority, path: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = ["curl", "-sS", "--cacert", str(authority.certificate), *options]
    return subprocess.run(
        [*command, f"https://127.0.0.1:{server.tls_port}{path}"], capture_output=True, timeout=180, check=False
    )


@requires("curl")
def test_curl_gets_the_same_by_tls_as_without(server: ServerProcess, authority: Authority) -> None:
    assert curl(server, authority, "/images/root.squashfs").stdout == CONTENT
    assert curl(server, authority, "/images/root.squashfs", "-r", "1000000-2000000").stdout == CONTENT[1000000:2000001]
    assert curl(server, authority, "/made/grub.cfg").stdout == b"made/grub.cfg" * 100
    for request in ((), ("Range: bytes=5-8",), ("Range: bytes=0-0,7-9",), ("If-None-Match: *",), ("If-Match: x",)):
        for path in ("/images/root.squashfs", "/boot.efi", "/nothing", "/../x", "/made/x"):
            plain, secure = (
                get(port, path, *request, method="HEAD", tls=context)
                for port, context in ((server.port, None), (server.tls_port, authority.client()))
            )
            kept = [[line for line in answer.head.split(b"\r\n") if b"Date" not in line] for answer in (plain, secure)]
            assert kept[0] == kept[1]
    assert get(server.tls_port, "/boot.efi", "Range: bytes=1-", tls=authority.client()).body == b"Z"


def test_head_then_get_then_another_on_one_connection(server: ServerProcess, authority: Authority) -> None:  # HQ1
    with Client(server.tls_port, tls=authority.client()) as client:
        client.send(b"HEAD /boot.efi HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer("HEAD").header("Content-Length") == "2"
        client.send(b"GET /boot.efi HTTP/1.1\r\nHost: a\r\n\r\nGET /images/root.squashfs HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer().body == b"MZ"
        assert client.answer().body == CONTENT


@requires("openssl")
@pytest.mark.parametrize(("version", "spoken"), [("tls1_2", "TLSv1.2"), ("tls1_3", "TLSv1.3")])
def test_openssl_speaks_tls_of_today(server: ServerProcess, authority: Authority, version: str, spoken: str) -> None:
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{server.tls_port}",
        f"-{version}",
        "-verify_return_error",
    ]
    command += ["-CAfile", str(authority.certificate), "-alpn", "h2,http/1.1", "-ign_eof"]
    request = b"GET /boot.efi HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    said = subprocess.run(command, input=request, capture_output=True, timeout=120, check=True).stdout
    assert f"New, {spoken}, Cipher is ".encode() in said
    assert b"Verify return code: 0 (ok)" in said
    assert b"ALPN protocol: http/1.1" in said
    assert b"HTTP/1.1 200 OK\r\n" in said


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_versions_are_refused(server: ServerProcess, authority: Authority, version: ssl.TLSVersion) -> None:
    old = authority.client()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = version
    with pytest.raises(OSError, match=r"."):
        get(server.tls_port, "/boot.efi", tls=old)
    assert server.logged("INFO https 127.0.0.1: no handshake: it speaks no TLS 1.2 or later")


def test_plain_http_to_the_port_of_tls_is_closed_and_said(server: ServerProcess) -> None:
    with Client(server.tls_port) as client:
        client.send(b"GET /boot.efi HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.is_closed()
    assert server.logged("INFO https 127.0.0.1: no handshake: it speaks HTTP without TLS")
    assert get(server.port, "/boot.efi").body == b"MZ"


@requires("curl")
def test_a_client_shows_a_certificate_of_the_authority(mutual: ServerProcess, authority: Authority) -> None:
    mine = ("--cert", str(authority.folder / "client.pem"), "--key", str(authority.folder / "client.key"))
    for version in ("1.2", "1.3"):
        assert curl(mutual, authority, "/boot.efi", *mine, "--tls-max", version).stdout == b"MZ"
    assert get(mutual.port, "/boot.efi").body == b"MZ"  # the plain listener asks nobody


@requires("curl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_without_one_or_with_a_foreign_one_gets_nothing(
    mutual: ServerProcess, authority: Authority, tmp_path: Path, version: str
) -> None:
    foreign = Authority(tmp_path, "foreign").sign("stranger")
    for options in ((), ("--cert", str(foreign[0]), "--key", str(foreign[1]))):
        done = curl(mutual, authority, "/boot.efi", *options, "--tls-max", version)
        assert (done.returncode != 0, done.stdout) == (True, b"")
    assert mutual.logged("INFO https 127.0.0.1: no handshake: it showed no certificate\n")
    assert mutual.logged("INFO https 127.0.0.1: no handshake: its certificate is not accepted: unable to get local")
    assert mutual.log().count("no handshake") == 2


def test_failed_handshakes_are_a_few_lines(mutual: ServerProcess) -> None:
    began = time.monotonic()
    for _ in range(200):
        with Client(mutual.tls_port) as client:
            client.send(b"\x16\x03\x01\0\x05hello")
            assert client.is_closed()
    took_s = time.monotonic() - began
    assert mutual.log().count("no handshake") <= BURST * (2 + took_s)
    assert "Traceback" not in mutual.log()


def test_a_new_certificate_is_shown_while_downloads_go_on(
    server: ServerProcess, authority: Authority, pair: tuple[Path, Path]
) -> None:
    (server.folder / "long").write_bytes(CONTENT * 4)
    wrong: list[object] = []
    shown: list[str] = []
    over = threading.Event()

    def name_of(client: Client) -> str:
        assert isinstance(client.socket, ssl.SSLSocket)
        subject: Any = (client.socket.getpeercert() or {})["subject"]
        return str(subject[0][0][1])

    def load() -> None:
        while not over.is_set():
            try:
                with Client(server.tls_port, tls=authority.client()) as client:
                    shown.append(name_of(client))
                    client.send(b"GET /images/root.squashfs HTTP/1.1\r\nHost: a\r\nRange: bytes=-40000\r\n\r\n")
                    if client.answer().body != CONTENT[-40000:]:
                        wrong.append("other bytes")
            except Exception as error:  # the test tells of it
                wrong.append(error)
            time.sleep(0.2)

    workers = [threading.Thread(target=load) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        with Client(server.tls_port, tls=authority.client()) as slow:
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            slow.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            assert name_of(slow) == "one"
            broken = pair[1].with_name("broken")
            broken.write_text("half of a key")
            broken.chmod(0o600)
            broken.rename(pair[1])
            deadline = time.monotonic() + STOPPED_WITHIN_S
            while "goes on with the certificate that it has" not in server.log() and time.monotonic() < deadline:
                slow.sip()
                time.sleep(0.1)
            until = time.monotonic() + tls.LOOK_S
            while time.monotonic() < until:
                slow.sip()
                time.sleep(0.1)
            assert set(shown) == {"one"}
            install("two", authority, pair[0].parent)
            deadline = time.monotonic() + STOPPED_WITHIN_S
            while "two" not in shown and time.monotonic() < deadline:
                slow.sip()
                time.sleep(0.1)
            assert "two" in shown
            assert slow.answer().body == CONTENT * 4
            slow.send(b"GET /boot.efi HTTP/1.1\r\nHost: a\r\n\r\n")
            assert slow.answer().body == b"MZ"
    finally:
        over.set()
        for worker in workers:
            worker.join()
    assert not wrong
    log = server.log()
    assert log.count("WARNING https goes on with the certificate that it has: http.tls.key:") == 1
    assert "half of a key" not in log
    assert f"INFO https has read {str(pair[0])!r} again" in log


# What attacks it


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_a_handshake_that_does_not_come_is_not_waited_for(
    inside: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKE_S", 0.3)

    def client(port: int) -> None:
        with Client(port) as silent:
            silent.send(sent)
            assert silent.is_closed()

    with caplog.at_level(logging.INFO, "httpimage"):
        inside.during(client)
    assert caplog.messages == ["https 127.0.0.1: no handshake within 0 s"]


def test_a_dripping_handshake_has_one_deadline(inside: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKE_S", 0.5)

    def client(port: int) -> float:
        began = time.monotonic()
        with Client(port) as dripping, suppress(ConnectionError):
            dripping.send(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc")
            while time.monotonic() - began < DRIPPING_S:
                dripping.send(b"\3")
                time.sleep(0.05)
        return time.monotonic() - began

    assert inside.during(client) < DRIPPING_S


def test_one_address_has_few_handshakes_at_once_and_leaves_room(
    server: ServerProcess, authority: Authority
) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(Client(server.tls_port)) for _ in range(handshakes.MAX_HANDSHAKES_PER_PEER + 9)]
        assert silent[-1].is_closed()
        context = authority.client()
        honest = stack.enter_context(Client(server.tls_port, source="127.0.0.2", tls=context))
        honest.send(b"GET /boot.efi HTTP/1.1\r\nHost: a\r\n\r\n")
        assert honest.answer().body == b"MZ"
        assert server.logged("WARNING https 127.0.0.1: too many handshakes at once: one refused")
    assert server.logged("no handshake: it went away")
    assert get(server.tls_port, "/boot.efi", tls=authority.client()).body == b"MZ"  # the room is given back


def test_handshakes_and_slow_readers_take_little_memory(server: ServerProcess, authority: Authority) -> None:
    before = server.resident_bytes()
    context = authority.client()
    with ExitStack() as stack:
        for number in range(480):  # they say how long a hello they have, and no more
            client = stack.enter_context(Client(server.tls_port, source=f"127.0.1.{number // 30 + 1}"))
            client.send(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc")
        for number in range(200):
            reader = Client(server.tls_port, source=f"127.0.2.{number // 20 + 1}", tls=context)
            stack.enter_context(reader)
            reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.send(b"GET /images/root.squashfs HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1)
        taken = server.resident_bytes() - before
    assert taken < 100 << 20, f"{taken >> 20} MiB"


def test_clients_that_break_off_are_no_error(inside: Running, caplog: pytest.LogCaptureFixture) -> None:
    authority_unknown = ssl.create_default_context()

    def client(port: int) -> None:
        with suppress(ssl.SSLError), Client(port, tls=authority_unknown):
            pass
        for sent in (b"", b"\x16\x03", b"\x16\x03\x01\x40\x00"):
            with Client(port) as gone:
                gone.send(sent)
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for path in ("/boot.efi", "/images/root.squashfs"):
            with Client(port, tls=context) as gone:  # the TCP connection ends, and TLS does not
                gone.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                gone.socket.recv(100)
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
        deadline = time.monotonic() + STOPPED_WITHIN_S
        while not told <= set(caplog.messages) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)  # for what is not to be told

    told = {
        "https 127.0.0.1: no handshake: it does not accept us: tlsv1 alert unknown ca",
        "https 127.0.0.1: no handshake: it went away",
    }
    with caplog.at_level(logging.INFO):
        inside.during(client)
    assert told <= set(caplog.messages)
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]


def test_a_file_truncated_in_mid_send_ends_short(
    inside: Running, tmp_path: Path, authority: Authority
) -> None:  # F-16
    big = tmp_path / "served" / "big"
    with big.open("wb") as file:
        file.truncate(1 << 28)

    def client(port: int) -> None:
        with Client(port, tls=authority.client()) as reader:
            reader.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            reader.sip()  # it has begun
            os.truncate(big, 0)
            with pytest.raises((IncompleteRead, ConnectionResetError, ssl.SSLError)):
                reader.answer()

    inside.during(client)


def test_it_stops_within_a_second_in_the_middle_of_everything(inside: Running, authority: Authority) -> None:  # F-28
    def client(port: int) -> list[Client]:
        context = authority.client()
        readers = [Client(port, tls=context) for _ in range(8)]
        for reader in readers:
            reader.send(b"GET /images/root.squashfs HTTP/1.1\r\nHost: a\r\n\r\n")
            reader.socket.recv(1000)
        half = [Client(port) for _ in range(8)]
        for number, one in enumerate(half):
            one.send(b"\x16\x03"[: number % 3])
        return readers + half

    for one in inside.during(client):
        one.socket.close()


def test_no_descriptor_is_left_open(inside: Running, monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def client(port: int) -> tuple[int, int]:
        get(port, "/boot.efi", tls=authority.client())
        before = descriptors()
        with ExitStack() as stack, monkeypatch.context() as impatient:
            impatient.setattr(handshakes, "HANDSHAKE_S", 0.5)
            for sent in (b"", b"\x16", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc"):
                silent = stack.enter_context(Client(port))
                silent.send(sent)
                assert silent.is_closed()
        get(port, "/images/root.squashfs", tls=authority.client())
        deadline = time.monotonic() + STOPPED_WITHIN_S
        while descriptors() > before and time.monotonic() < deadline:
            time.sleep(0.02)  # a thread closes the file
        return before, descriptors()

    before, after = inside.during(client)
    assert after <= before


@pytest.mark.parametrize("memory", ["all", "half", "none", "cannot tell"])
def test_what_is_not_in_memory_is_read_in_a_thread(
    inside: Running, monkeypatch: pytest.MonkeyPatch, authority: Authority, memory: str
) -> None:  # F-17: asyncio's TLS cannot sendfile, and its loop must not wait for a disk
    readers: set[str] = set()
    real = os.pread

    def recording(fd: int, length: int, offset: int) -> bytes:
        readers.add(threading.current_thread().name)
        return real(fd, length, offset)

    def remembering(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        assert flags & os.RWF_NOWAIT
        if memory == "cannot tell":
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if memory == "none" or (memory == "half" and offset % 3):
            raise BlockingIOError
        piece = real(fd, 10_001 if memory == "half" else len(buffers[0]), offset)
        buffers[0][: len(piece)] = piece
        return len(piece)

    monkeypatch.setattr(os, "pread", recording)
    monkeypatch.setattr(os, "preadv", remembering)
    body = inside.during(lambda port: get(port, "/images/root.squashfs", tls=authority.client())).body
    assert hashlib.sha256(body).digest() == hashlib.sha256(CONTENT).digest()
    assert bool(readers) == (memory != "all")
    assert readers <= {"http-read"}


def test_it_stops_while_a_disk_hangs(
    inside: Running, monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:  # F-17
    goes_on, reading = threading.Event(), threading.Event()
    went_on: list[bool] = []

    def hanging(fd: int, length: int, offset: int) -> bytes:
        reading.set()
        went_on.append(goes_on.wait(STOPPED_WITHIN_S))
        return b""

    def cold(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "pread", hanging)
    monkeypatch.setattr(os, "preadv", cold)

    def client(port: int) -> None:
        with Client(port, tls=authority.client()) as reader:
            reader.send(b"GET /images/root.squashfs HTTP/1.1\r\nHost: a\r\n\r\n")
            assert reading.wait(STOPPED_WITHIN_S)

    inside.during(client)
    goes_on.set()
    deadline = time.monotonic() + STOPPED_WITHIN_S
    while not went_on and time.monotonic() < deadline:
        time.sleep(0.02)
    assert went_on == [True]
