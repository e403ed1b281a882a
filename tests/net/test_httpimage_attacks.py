"""What strangers send, whole and byte by byte, to either parser of aiohttp (reference H-20 to H-24, A-30 to A-37)."""

import os
import re
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.http_client import Answer, Client, ServerProcess, exchange, get
from tests.support.segment import requires

pytestmark = pytest.mark.net

TEN = b"0123456789"
HOST = b"Host: a\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED = {400, 501, 505}


@pytest.fixture(scope="module", params=["C", "Python"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("httpimage")
    (folder / "ten").write_bytes(TEN)
    (folder / "second").write_bytes(b"SECOND")
    (folder / ".hidden").write_bytes(b"secret")
    (folder / "root.squashfs.part").write_bytes(b"half")
    (folder / "outside").symlink_to("/etc/passwd")
    (folder / "etc").symlink_to("/etc")
    os.mkfifo(folder / "fifo")
    with (folder / "big").open("wb") as file:
        file.truncate(8 << 30)
    with ServerProcess(folder, parser=request.param) as running:
        yield running


def get_ten(*headers: bytes, line: bytes = b"GET /ten HTTP/1.1", host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"".join(header + b"\r\n" for header in headers) + b"\r\n"


def report(*headers: bytes, body: bytes) -> bytes:
    return get_ten(*headers, line=b"POST /report/system HTTP/1.1") + body


CHUNKED = b"Transfer-Encoding: chunked"
AMBIGUOUS = [
    # How long is it? (RFC 9112 section 6.3)
    pytest.param(get_ten(b"Content-Length: 5", CHUNKED) + b"0\r\n\r\n", id="length-and-chunked"),
    pytest.param(report(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"), id="report-length-and-chunked"),
    pytest.param(report(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n"), id="report-chunked-and-length"),
    pytest.param(get_ten(b"Content-Length: 0", b"Content-Length: 0"), id="length-twice"),
    pytest.param(get_ten(b"Content-Length: 0", b"Content-Length: 33"), id="two-lengths"),
    pytest.param(get_ten(b"Content-Length: 0, 33"), id="length-list"),
    pytest.param(get_ten(b"Content-Length:"), id="no-length"),
    pytest.param(get_ten(b"Content-Length: +5") + b"abcde", id="plus"),
    pytest.param(get_ten(b"Content-Length: -1") + b"abcde", id="minus"),
    pytest.param(get_ten(b"Content-Length: 0x5") + b"abcde", id="hex"),
    pytest.param(get_ten(b"Content-Length: 0_5") + b"abcde", id="underscore"),
    pytest.param(get_ten("Content-Length: \u0665".encode()) + b"abcde", id="arabic"),
    pytest.param(report(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), id="chunked-chunked"),
    pytest.param(report(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), id="chunked-twice"),
    pytest.param(report(b"Transfer-Encoding: identity", body=b"0\r\n\r\n"), id="identity"),
    pytest.param(report(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), id="xchunked"),
    pytest.param(report(b"Transfer-Encoding:", body=b"0\r\n\r\n"), id="empty-encoding"),
    pytest.param(report(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n"), id="vertical-tab"),
    pytest.param(report(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), id="quoted"),
    pytest.param(report(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n"), id="parameter"),
    pytest.param(report(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), id="blank-before-colon"),
    pytest.param(report(b"X: y\r\n Transfer-Encoding: chunked", body=b"0\r\n\r\n"), id="folded"),
    pytest.param(report(CHUNKED, body=b"2\nok\n0\n\n"), id="chunk-bare-lf"),
    pytest.param(report(CHUNKED, body=b"0x2\r\nok\r\n0\r\n\r\n"), id="chunk-hex-prefix"),
    pytest.param(report(CHUNKED, body=b"+2\r\nok\r\n0\r\n\r\n"), id="chunk-plus"),
    pytest.param(report(CHUNKED, body=b"2 \r\nok\r\n0\r\n\r\n"), id="chunk-blank"),
    pytest.param(report(CHUNKED, body=b"2\r\nokX\r\n0\r\n\r\n"), id="chunk-longer"),
    pytest.param(report(CHUNKED, body=b"2;\nxx\r\nok\r\n0\r\n\r\n"), id="chunk-extension-lf"),
    pytest.param(report(CHUNKED, body=b"2\r\nok\r\n0\r\nX : y\r\n\r\n"), id="bad-trailer"),
    # Where does it end, and what is in it? (sections 2.2, 3 and 5)
    pytest.param(b" " + get_ten(), id="leading-blank"),
    pytest.param(b"GET /ten HTTP/1.1\r\n Host: a\r\n\r\n", id="folded-first"),
    pytest.param(get_ten(line=b"GET\t/ten\tHTTP/1.1"), id="tabs"),
    pytest.param(get_ten(line=b"GET /ten HTTP/1.1 "), id="trailing-blank"),
    pytest.param(get_ten(line=b"GET /ten HTTP/1.10"), id="1.10"),
    pytest.param(get_ten(line=b"GET /ten HTTP/01.1"), id="01.1"),
    pytest.param(get_ten(line=b"GET /ten HTTP/1.2"), id="1.2"),
    pytest.param(get_ten(line=b"GET /ten HTTP/2.0"), id="2.0"),
    pytest.param(get_ten(line=b"GET /ten http/1.1"), id="lower-case"),
    pytest.param(get_ten(line=b"GET /ten HTTP/1"), id="1"),
    pytest.param(get_ten(line=b"GET /ten HTTQ/1.1"), id="HTTQ"),
    pytest.param(b"GET /ten\r\n\r\n", id="0.9"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP-2-preface"),
    pytest.param(b"GET /ten HTTP/1.1\nHost: a\n\n", id="bare-lf"),
    pytest.param(b"GET /ten HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", id="one-bare-lf"),
    pytest.param(b"GET /ten HTTP/1.1\r\nHost: a\r\n\n", id="last-bare-lf"),
    pytest.param(b"GET /ten HTTP/1.1\r\r\nHost: a\r\n\r\n", id="cr-cr-lf"),
    pytest.param(get_ten(b"X: y\rz"), id="bare-cr"),
    pytest.param(get_ten(b"X: y\0z"), id="nul"),
    pytest.param(get_ten(b"X: \x1b[31m"), id="escape"),
    pytest.param(get_ten(b"X(y): z"), id="parentheses"),
    pytest.param(get_ten(b": z"), id="no-name"),
    pytest.param(get_ten(b"Xyz"), id="no-colon"),
    pytest.param(get_ten(b"X\0: z"), id="nul-in-name"),
    pytest.param(get_ten(b"X\xff: z"), id="high-name"),
    pytest.param(get_ten(line=b"GET /t\0en HTTP/1.1"), id="nul-in-target"),
    pytest.param(get_ten(line=b"GET /t en HTTP/1.1"), id="blank-in-target"),
    pytest.param(get_ten(line=b"GET * HTTP/1.1"), id="star"),
    # Whom is it for? (section 3.2)
    pytest.param(get_ten(host=b""), id="no-host"),
    pytest.param(get_ten(b"Host: a"), id="two-hosts"),
    pytest.param(get_ten(b"hOST: b"), id="two-hosts-spelled-otherwise"),
    pytest.param(get_ten(host=b"Host: a:b\r\n"), id="bad-port"),
    pytest.param(get_ten(host=b"Host: u@a\r\n"), id="user"),
    pytest.param(get_ten(host=b"Host: a/b\r\n"), id="slash"),
]


def send_and_leave(client: Client, data: bytes, step: int) -> None:
    """Send in pieces of `step` bytes, as long as the server takes them; 0 bytes mean the head, then the rest."""
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if step == 0:
        head, end, data = data.partition(b"\r\n\r\n")
        client.send(head + end)
        time.sleep(0.02)
        step = len(data) + 1
    with suppress(ConnectionError):
        for begin in range(0, len(data), step):
            client.send(data[begin : begin + step])


@pytest.mark.parametrize("step", [1, 0, 1 << 20], ids=["bytewise", "head-first", "whole"])
@pytest.mark.parametrize("request_bytes", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_answered(
    server: ServerProcess, request_bytes: bytes, step: int
) -> None:  # H-20, H-21, H-22, A-34
    with Client(server.port) as client:
        send_and_leave(client, request_bytes + SECOND, step)
        answer = client.answer()
        assert answer.status in REFUSED
        assert answer.header("Connection") == "close"
        assert client.is_closed()


PLAIN = [
    pytest.param(get_ten(), id="plain"),
    pytest.param(get_ten(b"X:"), id="empty-value"),
    pytest.param(get_ten(b"X: \xff"), id="high-value"),
    pytest.param(get_ten(b"Content-Length: 0"), id="length-0"),
    pytest.param(get_ten(host=b"Host:\r\n"), id="empty-host"),
    pytest.param(get_ten(host=b"Host: a:99\r\n"), id="port"),
    pytest.param(get_ten(host=b"Host: [2001:db8::1]:8\r\n"), id="v6"),
    pytest.param(get_ten(host=b"HOST:a\r\n"), id="host-spelled-otherwise"),
    pytest.param(get_ten(b"Accept-Encoding: gzip, br"), id="H-27-accept-encoding"),
    pytest.param(get_ten(line=b"GET http://b/ten HTTP/1.1"), id="absolute"),
    pytest.param(get_ten(line=b"GET /ten?a=b&c HTTP/1.1"), id="query"),
    pytest.param(b"\r\n" + get_ten(), id="stray-line-before"),
    pytest.param(b"GET /ten HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", id="1.0-without-host"),
]


@pytest.mark.parametrize("step", [1, 1 << 20], ids=["bytewise", "whole"])
@pytest.mark.parametrize("request_bytes", PLAIN)
def test_what_is_plain_is_answered_and_so_is_what_follows(
    server: ServerProcess, request_bytes: bytes, step: int
) -> None:  # H-23, H-27
    with Client(server.port) as client:
        send_and_leave(client, request_bytes + SECOND, step)
        first = client.answer()
        assert (first.status, first.body) == (200, TEN)
        assert first.header("Content-Encoding") is None
        assert client.answer().body == b"SECOND"


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "tcp", "TLS/1.0"])
def test_no_other_protocol_is_spoken(server: ServerProcess, protocol: str) -> None:
    """aiohttp's parser stops at such a header, and would leave what follows unanswered."""
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}".encode(), b"HTTP2-Settings: AA")
    with Client(server.port) as client:
        client.send(get_ten(*upgrade) + SECOND)
        answer = client.answer()
        assert (answer.status, answer.body, answer.header("Connection")) == (200, TEN, "close")
        assert client.is_closed()


@pytest.mark.parametrize(
    "target",
    [
        *("/.hidden", "/root.squashfs.part", "/outside", "/etc/passwd", "/etc/hostname", "/fifo", "/etc", "/nothing"),
        *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%252e%252e/etc/passwd", "/..%2f..%2fetc%2fpasswd"),
        *("/%c0%ae%c0%ae/etc/passwd", "/%e0%80%ae%e0%80%ae/etc/passwd", "/..\\..\\etc\\passwd", "/ten%00.efi"),
        *("//etc/passwd", "/./ten", "/ten/.", "/ten/", "/ten//", "/%2fetc%2fpasswd", "/ten%0d%0aX:%20y", "/..;/ten"),
    ],
)
def test_what_is_not_served_is_404_and_nothing_tells_why(server: ServerProcess, target: str) -> None:
    """A-30, A-31, A-37, HQ4: outside, hidden, linked, no file, or not there at all: all the same to a stranger."""
    answer, absent = get(server.port, target), get(server.port, "/absent")
    assert (answer.status, answer.body) == (404, absent.body)
    kept = [[line for line in it.head.split(b"\r\n") if not line.startswith(b"Date")] for it in (answer, absent)]
    assert kept[0] == kept[1]


def test_the_answer_to_what_is_too_long_reaches_who_goes_on_sending(server: ServerProcess) -> None:  # H-23
    """A reset would overtake it (RFC 9112 section 9.6)."""
    for head, *statuses in (
        (b"POST /report/system HTTP/1.1\r\n" + HOST + b"Content-Length: 9000000\r\n\r\n", 413),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST, 414),
        (
            b"GET /ten HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 5000,
            431,
            414,
        ),  # of a line without an end, aiohttp's Python cannot tell
        (b"GET /ten HTTP/1.1\r\n" + HOST + (b"X: " + b"y" * 3000 + b"\r\n") * 9, 431),
    ):
        with Client(server.port) as client:
            client.send(head)
            with suppress(ConnectionError):
                for _ in range(10):
                    client.send(b"z" * 1000)
                    time.sleep(0.01)
            assert client.answer().status in statuses


@pytest.mark.parametrize(
    ("before", "again"),
    [
        (b"GET /ten HTTP/1.1\r\n", b"X: " + b"y" * 1000 + b"\r\n"),
        (b"GET /ten HTTP/1.1\r\n", b"X:y\r\n"),
        (b"GET /ten HTTP/1.1\r\nX: ", b"y" * 1000),
        (b"GET /", b"a" * 1000),
        (b"", b"a" * 1000),
        (report(CHUNKED, body=b""), b"1\r\nx\r\n"),
        (report(CHUNKED, body=b"1;"), b"a" * 1000),
        (report(CHUNKED, body=b"1\r\nx\r\n0\r\n"), b"X: " + b"y" * 1000 + b"\r\n"),
        (report(CHUNKED, body=b"1\r\nx\r\n0\r\n"), b"X:y\r\n"),
        (report(CHUNKED, body=b"1\r\nx\r\n0\r\nX: "), b"y" * 1000),
    ],
    ids=["headers", "short-headers", "header", "target", "method", "chunks", "extension", "trailers",
         "short-trailers", "trailer"],
)  # fmt: skip
def test_what_has_no_end_is_cut_off(server: ServerProcess, before: bytes, again: bytes) -> None:
    memory = server.resident_bytes()
    with Client(server.port) as client:
        with suppress(ConnectionError):
            client.send(before)
            for _ in range(80):
                client.send(again * (50_000 // len(again)))
        assert server.resident_bytes() - memory < 8 << 20
        with suppress(ConnectionError):
            assert client.answer().status in (400, 408, 413, 414, 431)
    assert get(server.port, "/ten").body == TEN


def test_what_a_peer_sends_never_breaks_the_log(server: ServerProcess) -> None:
    time.sleep(1.1)  # the log takes a few such lines a second
    get(server.port, "/the-first")  # before it, the log says how many lines of earlier tests were left out
    assert server.logged("the-first")
    seen = len(server.log())
    for sent in (
        get_ten(b"X\x1b[31m: \r\nERROR forged"),
        get_ten(line=b"GET /\x1b[31mforged HTTP/1.1"),
        get_ten(line=b"GET /%0aforged%1b[31m" + b"x" * 7000 + b" HTTP/1.1"),
        get_ten(line=b"FORGED\x07 /ten HTTP/1.1"),
        get_ten(line="GET /\u202eforged\u2028 HTTP/1.1".encode()),
        report(b"Content-Length: 3", body=b"abc").replace(b"/system", b"/%0aforged\x9b"),
    ):
        exchange(server.port, sent)
    get(server.port, "/the-last")
    assert server.logged("the-last")
    for line in server.log()[seen:].splitlines():
        assert re.match("(INFO|WARNING) http 127.0.0.1 ", line), line
        assert line.isascii() and line.isprintable(), line  # noqa: PT018
        assert len(line) < 500


def test_a_thousand_slow_readers_take_little_memory_and_hold_up_nobody(server: ServerProcess) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = server.resident_bytes()
    try:
        with ExitStack() as stack:
            for number in range(1000):
                client = stack.enter_context(Client(server.port, source=f"127.0.0.{number // 200 + 2}"))
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.send(b"GET /big HTTP/1.1\r\n" + HOST + b"\r\n")
            for _ in range(10):
                assert get(server.port, "/ten").body == TEN
            taken = server.resident_bytes() - before
            assert taken < 100 << 20, f"{taken >> 20} MiB"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_asks_and_never_reads_is_not_answered_without_end(server: ServerProcess) -> None:
    before = server.resident_bytes()
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(Client(server.port))
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.socket.settimeout(0.5)
            with suppress(TimeoutError, ConnectionError):
                for _ in range(100):
                    client.send(b"GET /made/x HTTP/1.1\r\n" + HOST + b"\r\n" * 1000)
                    client.send((b"GET /made/x HTTP/1.1\r\n" + HOST + b"\r\n") * 1000)
        assert get(server.port, "/ten").body == TEN
        taken = server.resident_bytes() - before
        assert taken < 40 << 20, f"{taken >> 20} MiB"


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors_at_rest(server: ServerProcess) -> int:
    """How many descriptors the server has when what earlier tests left behind is closed."""
    seen: list[int] = []
    deadline = time.monotonic() + 120
    while len(seen) < 10 or len(set(seen[-10:])) > 1:
        assert time.monotonic() < deadline, seen[-10:]
        seen.append(len(list(Path(f"/proc/{server.pid}/fd").iterdir())))
        time.sleep(0.1)
    return seen[-1]


def await_tracer(pid: int) -> None:
    """Wait until every thread of a process is traced."""
    deadline = time.monotonic() + 60
    while any("TracerPid:\t0\n" in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_descriptors_it_waits_and_recovers(server: ServerProcess) -> None:  # F-19
    used = descriptors_at_rest(server)
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 8, before[1]))
    try:
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(server.port)) for _ in range(100)]
            began = cpu_s(server.pid)
            time.sleep(2)
            assert cpu_s(server.pid) - began < 1  # it does not spin
            for client in clients:
                client.socket.close()
            answers: list[Answer] = []
            deadline = time.monotonic() + 120
            while not answers and time.monotonic() < deadline:
                with suppress(OSError):
                    answer = get(server.port, "/ten")
                    answers += [answer] if answer.status == 200 else []
            assert answers[0].body == TEN
            assert server.logged("ERROR http cannot accept a connection: [Errno 24] Too many open files")
            assert server.log().count("Too many open files") < 30
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


@requires("strace")
@pytest.mark.parametrize("fault", ["sendto:error=ENOBUFS", "sendto:error=ENETUNREACH", "sendfile:error=EIO"])
def test_a_failing_system_call_ends_one_answer_at_most(server: ServerProcess, fault: str) -> None:  # F-20
    call = fault.partition(":")[0]
    command = ["strace", "-f", "-qq", "-e", f"trace={call}", "-e", f"inject={fault}:when=2+3", "-p", str(server.pid)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tracer:
        try:
            await_tracer(server.pid)
            for _ in range(12):
                with suppress(OSError, Exception):
                    assert get(server.port, "/ten").body in (TEN, b"")
        finally:
            tracer.terminate()
    for _ in range(3):
        assert get(server.port, "/ten").body == TEN
    assert "Traceback" not in server.log()
