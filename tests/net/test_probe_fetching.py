"""What `pxeboot probe boot` says of servers that are odd, on the loopback."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nbd.wire import Opt, Rep
from pxeboot.probe import disk, web
from pxeboot.probe.transfer import Address
from pxeboot.probe.web import Stuck

pytestmark = pytest.mark.net

HELLO = struct.pack(">8sQH", b"NBDMAGIC", 0x49484156454F5054, 3)


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[Address]:
    """Run a server that lets `answer` talk with one client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            peer, _ = listener.accept()
            with peer:
                answer(peer)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()
        thread.join(20)


def says(*parts: bytes) -> Callable[[socket.socket], None]:
    """Answer what comes with these, one after the other."""

    def talk(peer: socket.socket) -> None:
        for part in parts:
            peer.recv(4096)
            peer.sendall(part)

    return talk


def stays(*parts: bytes) -> Callable[[socket.socket], None]:
    """As `says`, and then say nothing more until the client goes."""

    def talk(peer: socket.socket) -> None:
        says(*parts)(peer)
        while peer.recv(4096):
            pass

    return talk


def test_a_file_comes_from_the_address_that_is_named() -> None:
    seen: list[str] = []

    def talk(peer: socket.socket) -> None:
        seen.append(peer.getpeername()[0])
        says(b'HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nETag: "x"\r\n\r\nabcd')(peer)

    with server(talk) as address:
        got = web.fetch(address, "file", "127.0.0.7", headers={"Range": "bytes=0-3"})
    assert (got.stuck, got.status, got.body, got.length, got.headers["etag"]) == (None, 206, b"abcd", 4, '"x"')
    assert seen == ["127.0.0.7"]


@pytest.mark.parametrize(
    ("talk", "stuck", "status"),
    [
        (says(b""), Stuck.BROKEN, 0),
        (says(b"SSH-2.0-OpenSSH\r\n"), Stuck.BROKEN, 0),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), Stuck.BROKEN, 200),
        (stays(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), Stuck.STALLED, 200),
        (stays(b"HTTP/1.1 20"), Stuck.SILENT, 0),
    ],
)
def test_where_an_answer_ends_is_told(talk: Callable[[socket.socket], None], stuck: Stuck | None, status: int) -> None:
    with server(talk) as address:
        got = web.fetch(address, "file", silence_s=0.3)
    assert (got.stuck, got.status) == (stuck, status)


def test_a_port_where_nobody_listens_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    assert web.fetch(address, "file").stuck is Stuck.REFUSED
    assert disk.read(address, "image").stuck is Stuck.REFUSED


def reply(kind: int, data: bytes = b"", option: int = Opt.GO) -> bytes:
    return struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data


def talks_nbd(*replies: bytes, data: bytes = b"", error: int = 0) -> Callable[[socket.socket], None]:
    """Greet, answer NBD_OPT_GO with `replies`, and a read with `data`."""

    def talk(peer: socket.socket) -> None:
        peer.sendall(HELLO)
        peer.recv(4096)
        peer.sendall(b"".join(replies))
        if replies and replies[-1] == reply(Rep.ACK):
            peer.recv(4096)
            peer.sendall(struct.pack(">IIQ", 0x67446698, error, 1) + data)
        peer.shutdown(socket.SHUT_WR)  # what it still sends is read, or it would see a reset and not an end
        while peer.recv(4096):
            pass

    return talk


INFO = reply(Rep.INFO, struct.pack(">HQH", 0, 10_000, 3))


def test_an_export_is_opened_and_read() -> None:
    with server(talks_nbd(INFO, reply(Rep.ACK), data=b"hsqs" * 1024)) as address:
        got = disk.read(address, "image")
    assert (got.stuck, got.refused, got.size_bytes, got.head) == (None, 0, 10_000, b"hsqs" * 1024)


@pytest.mark.parametrize(
    ("talk", "refused", "says"),
    [
        (talks_nbd(reply(Rep.ERR_UNKNOWN, b"no such image")), Rep.ERR_UNKNOWN, "no such image"),
        (talks_nbd(reply(Rep.ERR_TLS_REQD)), Rep.ERR_TLS_REQD, ""),
        (talks_nbd(b"\xff" * 20), 0, "it answers NBD_OPT_GO with what is no answer"),
        (talks_nbd(reply(Rep.INFO, b"", Opt.LIST)), 0, "it answers NBD_OPT_GO with what is no answer"),
        (talks_nbd(INFO, reply(Rep.ACK), error=5), 0, "a read fails with error 5"),
        (talks_nbd(INFO), 0, "it closed the connection"),
        (lambda peer: peer.sendall(b"220 mail.example.org ESMTP, hello there\r\n"), 0, "what answers there is no NBD"),
    ],
)
def test_an_export_that_cannot_be_read_says_why(
    talk: Callable[[socket.socket], None], refused: int, says: str
) -> None:
    with server(talk) as address:
        got = disk.read(address, "image")
    assert got.refused == refused
    assert got.why.startswith(says)
    assert got.needs_tls == (refused == Rep.ERR_TLS_REQD)
    assert (got.stuck is Stuck.BROKEN) == (not refused)


def test_without_an_export_it_only_greets() -> None:
    with server(talks_nbd()) as address:
        got = disk.read(address, None)
    assert (got.stuck, got.size_bytes) == (None, 0)
