"""The short way for ranges: the same answers as the long way, and the same manners."""

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.content import Content, OpenFile
from httpimage import connection, opened, pump
from httpimage.transport import application, open_socket, serve
from tests.support.http_client import PATIENCE_S, Answer, Client
from tests.support.serve_httpimage import Folder, accept, stage_of
from tests.support.stalls import judged

pytestmark = pytest.mark.net

CONTENT = random.Random(3).randbytes(3 << 20)
IMAGE = "/images/0a/root.squashfs"


class Counting:
    """A lookup that says how often it was asked: the short way does not ask. ETags are those of an image's digest."""

    def __init__(self, folder: Path) -> None:
        self.asked = 0
        self._folder = Folder(folder)

    async def __call__(self, name: str, peer: IPv4Address) -> Content | None:
        self.asked += 1
        content = await self._folder(name, peer)
        return replace(content, etag="0a" * 32) if isinstance(content, OpenFile) else content


class Running:
    """A server in the event loop of a test."""

    def __init__(self, folder: Path) -> None:
        self.lookup = Counting(folder)
        self.events: list[object] = []

    def during(self, client: Callable[[int], Any]) -> Any:
        """What `client` returns, called in a thread with the port."""

        async def run() -> Any:
            sock = open_socket("127.0.0.1", 0)
            app = application(self.lookup, self.events.append, stage_of, accept)
            server = asyncio.create_task(serve(sock, app))
            try:
                return await asyncio.to_thread(client, sock.getsockname()[1])
            finally:
                server.cancel()
                await asyncio.wait((server,))

        return asyncio.run(run())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (IMAGE, "/other"):
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Running:
    return Running(folder)


@pytest.fixture
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked up once is not looked up again, however slow the test is."""
    monkeypatch.setattr(opened, "FRESH_S", 1000.0)
    monkeypatch.setattr(opened, "KEPT_S", 1000.0)


class Narrow(Client):
    """A connection that takes little at a time, in packets small enough that none waits for room."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.socket.close()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", port))


def ask(first: int, last: int, path: str = IMAGE) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes={first}-{last}\r\n\r\n".encode()


def dateless(answer: Answer) -> tuple[bytes, bytes]:
    """An answer but for its Date, which has its own length."""
    date = (answer.header("Date") or "").encode()
    assert len(date) == 29
    return answer.head.replace(date, b""), answer.body


@pytest.mark.usefixtures("always_fresh")
def test_the_next_range_needs_no_lookup(server: Running) -> None:
    def client(port: int) -> list[Answer]:
        answers = []
        with Client(port) as one, Client(port) as other:
            for number, asking in enumerate((one, one, other, one)):
                asking.send(ask(number, 300_000 + number))
                answers.append(asking.answer())
        return answers

    answers = server.during(client)
    assert [answer.body for answer in answers] == [CONTENT[n : 300_001 + n] for n in range(4)]
    assert server.lookup.asked == 1


LAST = len(CONTENT) - 1
EDGES = (0, 1, 5, 262143, LAST // 2, LAST - 2, LAST - 1, LAST, LAST + 1, 1 << 20, (1 << 20) - 1, 10**17)
POSITIONS = st.sampled_from(EDGES) | st.integers(0, len(CONTENT))
RANGES = st.builds(lambda first, last: f"Range: bytes={first}-{last}", POSITIONS, POSITIONS) | st.sampled_from(
    ("Range: bytes=5-", "Range: bytes=-5", "Range: bytes=0-1,5-6", "Range: lines=0-1", "X: y", "range: bytes=0-3")
)
FIELDS = st.lists(
    st.sampled_from(
        (
            "User-Agent: curl/8",
            "Accept: */*",
            "Accept-Encoding: gzip",
            "Connection: keep-alive",
            "Connection: close",
            'If-Range: "x"',
            "If-None-Match: *",
            "If-Match: *",
            "X-Other: 1",
            "Cookie: a=b",
        )
    ),
    max_size=3,
)


@pytest.mark.usefixtures("always_fresh")
def test_both_ways_answer_the_same(server: Running) -> None:
    """An empty line before a request changes nothing but the way that it takes."""

    def client(port: int) -> int:
        with Client(port) as warm:
            warm.send(ask(0, 1))
            warm.answer()
        before = server.lookup.asked
        examples = 0

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            RANGES, FIELDS, st.sampled_from(("GET", "GET", "GET", "HEAD")), st.sampled_from((IMAGE, IMAGE, "/other"))
        )
        def compare(spans: str, fields: list[str], method: str, path: str) -> None:
            nonlocal examples
            examples += 1
            lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields, spans, "", ""]
            request = "\r\n".join(lines).encode()
            with Client(port) as short, Client(port) as long:
                short.send(request)
                long.send(b"\r\n" + request)
                ours, theirs = short.answer(method), long.answer(method)
                assert "boundary" in (theirs.header("Content-Type") or "") or dateless(ours) == dateless(theirs)
                assert ours.status == theirs.status

        compare()
        asked = server.lookup.asked - before
        assert examples <= asked < 2 * examples  # the long way each time, the short way sometimes
        return asked

    server.during(client)


@pytest.mark.usefixtures("always_fresh")
def test_what_is_asked_early_is_answered_in_turn(server: Running) -> None:
    spans = [(0, 900_000), (5, 10), (7, 900_007), (0, LAST), (9, 9)]

    def client(port: int) -> list[Answer]:
        with Narrow(port) as eager:
            eager.send(ask(0, 0))
            assert eager.answer().body == CONTENT[:1]
            for first, last in spans:
                eager.send(ask(first, last))
                time.sleep(0.05)
            return [eager.answer() for _ in spans]

    answers = server.during(client)
    assert [answer.body for answer in answers] == [CONTENT[first : last + 1] for first, last in spans]


@pytest.mark.usefixtures("always_fresh")
def test_a_pipeline_in_one_piece_is_answered_in_turn(server: Running) -> None:
    def client(port: int) -> list[bytes]:
        with Client(port) as eager:
            eager.send(ask(0, 0))
            eager.answer()
            eager.send(ask(1, 2) + ask(3, 4) + ask(5, 6)[:-1])
            bodies = [eager.answer().body for _ in range(2)]
            eager.send(b"\n")
            bodies.append(eager.answer().body)
            eager.send(ask(7, 8))
            return [*bodies, eager.answer().body]

    assert server.during(client) == [CONTENT[n : n + 2] for n in (1, 3, 5, 7)]


@pytest.mark.usefixtures("always_fresh")
def test_a_client_that_says_it_has_no_more_to_ask_gets_its_range(server: Running) -> None:
    def client(port: int) -> tuple[Answer, bool]:
        with Narrow(port) as leaving:
            leaving.send(ask(0, 0))
            leaving.answer()
            leaving.send(ask(0, 999_999))
            leaving.socket.shutdown(socket.SHUT_WR)
            time.sleep(0.2)
            return leaving.answer(), leaving.is_closed()

    answer, closed = server.during(client)
    assert answer.body == CONTENT[:1_000_000]
    assert closed


@pytest.mark.usefixtures("always_fresh")
def test_an_idle_connection_is_closed_after_a_while(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 1.0)
    monkeypatch.setattr(connection, "HEADER_S", 0.5)

    def client(port: int) -> None:
        with Client(port) as first:
            first.send(ask(0, 0))
            first.answer()

        def dawdle() -> None:
            with Client(port) as idle:
                for _ in range(4):  # each time sooner than that, in all longer
                    idle.send(ask(0, 9))
                    assert len(idle.answer().body) == 10
                    time.sleep(0.4)
                assert idle.is_closed()

        judged(dawdle)

    server.during(client)
    assert server.lookup.asked == 1


@pytest.mark.usefixtures("always_fresh")
def test_a_connection_is_not_idle_while_it_is_read_from_slowly(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 0.5)

    def client(port: int) -> None:
        with Narrow(port) as slow:
            slow.send(ask(0, 0))
            slow.answer()
            slow.send(ask(0, (1 << 20) - 1))
            time.sleep(1.5)
            assert slow.answer().body == CONTENT[: 1 << 20]
            assert slow.is_closed()

    server.during(lambda port: judged(lambda: client(port)))


@pytest.mark.usefixtures("always_fresh")
def test_a_reader_that_stops_is_dropped(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pump, "WINDOW_S", 0.3)

    def client(port: int) -> None:
        with Narrow(port) as reader:
            reader.send(ask(0, 0))
            reader.answer()
            for number in range(20):
                reader.send(ask(number, number + (1 << 20) - 1))
            deadline = time.monotonic() + PATIENCE_S
            while not any("stopped after" in text and "reads too slowly" in text for text in caplog.messages):
                assert time.monotonic() < deadline, caplog.messages
                time.sleep(0.02)

    with caplog.at_level(logging.INFO, "httpimage"):
        server.during(client)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.usefixtures("always_fresh")
def test_a_file_that_became_shorter_is_cut_off_and_told(
    server: Running, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:  # F-16
    def client(port: int) -> bool:
        with Client(port) as reader:
            reader.send(ask(0, 0))
            reader.answer()
            os.truncate(folder / IMAGE.lstrip("/"), 1000)
            reader.send(ask(500, 9999))
            received = b""
            while piece := reader.socket.recv(65536):
                received += piece
            return received.endswith(CONTENT[500:1000]) and b"Content-Length: 9500" in received

    with caplog.at_level(logging.INFO, "httpimage"):
        assert server.during(client)
    assert any("ended at byte 1000" in message for message in caplog.messages)


def test_a_file_that_is_gone_is_forgotten(server: Running, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "FRESH_S", 0.1)
    monkeypatch.setattr(opened, "KEPT_S", 0.2)

    def held() -> bool:
        return any(str(folder) in os.path.realpath(link) for link in Path("/proc/self/fd").iterdir())

    def client(port: int) -> list[int]:
        with Client(port) as reader:
            statuses = []
            for _ in range(2):
                reader.send(ask(0, 9))
                statuses.append(reader.answer().status)
            (folder / IMAGE.lstrip("/")).unlink()
            time.sleep(0.3)
            reader.send(ask(0, 9))
            statuses.append(reader.answer().status)
            deadline = time.monotonic() + PATIENCE_S
            while held():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            return statuses

    assert server.during(client) == [206, 206, 404]


@pytest.mark.usefixtures("always_fresh")
def test_files_that_may_change_are_looked_up_each_time(server: Running) -> None:
    def client(port: int) -> None:
        with Client(port) as reader:
            for _ in range(3):
                reader.send(ask(0, 9, "/other"))
                assert reader.answer().status == 206

    server.during(client)
    assert server.lookup.asked == 3


@pytest.mark.usefixtures("always_fresh")
@pytest.mark.parametrize("span", [(0, 1 << 20), (5, LAST), (LAST, LAST)])
def test_what_is_large_or_reaches_the_end_goes_the_long_way(server: Running, span: tuple[int, int]) -> None:
    """It may have to wait for its turn, or is told to people."""

    def client(port: int) -> None:
        with Client(port) as reader:
            reader.send(ask(0, 0))
            reader.answer()
            reader.send(ask(*span))
            assert reader.answer().body == CONTENT[span[0] : span[1] + 1]

    server.during(client)
    assert server.lookup.asked == 2


def assert_descriptors(most: int) -> None:
    """Wait until this process has so few: threads close the files that it served."""
    deadline = time.monotonic() + PATIENCE_S
    while len(os.listdir("/proc/self/fd")) > most and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(os.listdir("/proc/self/fd")) <= most


@pytest.mark.usefixtures("always_fresh")
def test_no_descriptor_is_left_open(server: Running, folder: Path) -> None:
    def client(port: int) -> None:
        readers = [Client(port) for _ in range(20)]
        for number, reader in enumerate(readers):
            reader.send(ask(number, 900_000))
            if number % 2:
                reader.answer()
            reader.socket.close()

    before = len(os.listdir("/proc/self/fd"))
    server.during(client)
    assert_descriptors(before)


def test_a_file_that_was_looked_up_again_is_kept_for_as_long_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    async def run() -> list[bool]:
        nonlocal now
        loop = asyncio.get_running_loop()
        cache = opened.Opened(loop)
        content = OpenFile("x", os.open(tmp_path, os.O_RDONLY), 9, "etag", 5.0, immutable=True)
        fields = [("Content-Range", "bytes 0-0/9"), ("Content-Length", "1")]
        found: list[bool] = []
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda: now)
            for _ in range(4):
                cache.learn("/x", content, fields, 10.0)
                found.append(cache.find("/x") is not None)
                now += opened.FRESH_S
                found += [cache.find("/x") is not None for _ in range(2)]  # one looks again, the others need not
            cache.close()
        content.close()
        return found

    assert asyncio.run(run()) == [True, False, True] * 4


@pytest.mark.usefixtures("always_fresh")
def test_a_client_that_asks_the_long_way_for_one_more_thing_and_no_more_gets_both(server: Running) -> None:
    def client(port: int) -> tuple[bytes, bytes, bool]:
        with Narrow(port) as leaving:
            leaving.send(ask(0, 0))
            leaving.answer()
            leaving.send(ask(0, 999_999))
            time.sleep(0.2)
            leaving.send(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
            leaving.socket.shutdown(socket.SHUT_WR)
            time.sleep(0.2)
            return leaving.answer().body, leaving.answer().body, leaving.is_closed()

    first, second, closed = server.during(client)
    assert (first, second) == (CONTENT[:1_000_000], CONTENT)
    assert closed


def test_the_files_that_are_kept_are_few(tmp_path: Path) -> None:
    async def run() -> list[bool]:
        cache = opened.Opened(asyncio.get_running_loop())
        fields = [("Content-Range", "bytes 0-0/9"), ("Content-Length", "1")]
        fd = os.open(tmp_path, os.O_RDONLY)
        for number in range(opened.MOST + 1):
            cache.learn(f"/{number}", OpenFile("x", fd, 9, "etag", 5.0, immutable=True), fields, 10.0)
        cache.learn("/future", OpenFile("x", fd, 9, "etag", 11.0, immutable=True), fields, 10.0)
        os.close(fd)
        found = [cache.find(target) is not None for target in ("/0", "/1", f"/{opened.MOST}", "/future")]
        cache.close()
        return found

    before = len(os.listdir("/proc/self/fd"))
    assert asyncio.run(run()) == [False, True, True, False]
    assert_descriptors(before)
