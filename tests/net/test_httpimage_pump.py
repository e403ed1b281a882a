"""The threads that send files: every byte, no thread for who waits, and disks that hang."""

import asyncio
import os
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from httpimage import pump
from httpimage.pump import Pump
from httpimage.transfer import Source, Transfer, Truncated

pytestmark = pytest.mark.net

CONTENT = random.Random(7).randbytes(11 << 20)
PATIENCE_S = 90.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    return path


def source_of(path: Path, device: int = 0) -> Source:
    with path.open("rb") as opened:
        return Source(opened.fileno(), path.name, path.stat().st_size, f"{path}", device)


class Pair:
    """A TCP connection: our side as a channel, and the peer's socket."""

    def __init__(self, sending: Pump, *, receive_buffer: int | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.socket()
            if receive_buffer is not None:
                self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.peer.connect(listening.getsockname())
            self._ours, _ = listening.accept()
        self._ours.setblocking(False)
        self.channel = sending.channel(self._ours.fileno())

    async def send(self, source: Source, position: int, length: int, head: bytes = b"") -> Transfer:
        """Send and wait for the end."""
        done: asyncio.Future[Transfer] = asyncio.get_running_loop().create_future()
        self.channel.send(source, position, length, done.set_result, head)
        return await asyncio.wait_for(done, PATIENCE_S)

    async def receive(self, length: int) -> bytes:
        """Read so many bytes, or up to the end."""

        def read() -> bytes:
            data = bytearray()
            while len(data) < length and (piece := self.peer.recv(length - len(data))):
                data += piece
            return bytes(data)

        self.peer.settimeout(PATIENCE_S)
        return await asyncio.to_thread(read)

    def close(self) -> None:
        self.channel.close()
        self._ours.close()
        self.peer.close()


@asynccontextmanager
async def running() -> AsyncIterator[Pump]:
    """A pump, which has to leave no thread and no descriptor."""
    before = set(threading.enumerate())
    sending = Pump(asyncio.get_running_loop())
    try:
        yield sending
    finally:
        sending.close()
        await until(lambda: not pumping(before))


def pumping(before: set[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "http-pump" and thread not in before]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():  # what is waited for happens in threads
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("position", "length", "head"),
    [(0, len(CONTENT), b""), (12345, 300_000, b"HTTP/1.1 206 x\r\n\r\n"), (len(CONTENT) - 1, 1, b"head")],
)
def test_every_byte_arrives_behind_its_head(file: Path, position: int, length: int, head: bytes) -> None:
    async def run() -> tuple[Transfer, bytes]:
        async with running() as sending:
            pair = Pair(sending)
            reading = asyncio.create_task(pair.receive(len(head) + length))
            transfer = await pair.send(source_of(file), position, length, head)
            received = await reading
            pair.close()
            return transfer, received

    transfer, received = asyncio.run(run())
    assert received == head + CONTENT[position : position + length]
    assert (transfer.sent, transfer.error) == (length, None)


def test_a_connection_sends_one_thing_after_the_other(file: Path) -> None:
    async def run() -> bytes:
        async with running() as sending:
            pair = Pair(sending)
            source = source_of(file)
            reading = asyncio.create_task(pair.receive(50 * 1000))
            for number in range(50):
                await pair.send(source.share(), number * 1000, 1000)
            source.drop()
            received = await reading
            pair.close()
            return received

    assert asyncio.run(run()) == CONTENT[: 50 * 1000]


def test_readers_that_wait_take_no_thread(file: Path) -> None:
    async def run() -> int:
        async with running() as sending:
            lazy = [Pair(sending, receive_buffer=4096) for _ in range(60)]
            source = source_of(file)
            for pair in lazy:
                pair.channel.send(source.share(), 0, len(CONTENT), lambda transfer: None)
            eager = Pair(sending)
            reading = asyncio.create_task(eager.receive(len(CONTENT)))
            await eager.send(source, 0, len(CONTENT))
            assert await reading == CONTENT
            for pair in (*lazy, eager):
                pair.close()
            return sending.threads

    assert asyncio.run(run()) == pump.THREADS


class Disk:
    """A disk that hangs for some files, under the real sendfile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
        self.goes_on = threading.Event()
        self._asked: list[int] = []
        bad, real = {path.stat().st_ino for path in paths}, os.sendfile

        def sendfile(out_fd: int, in_fd: int, offset: int, count: int) -> int:
            if os.fstat(in_fd).st_ino in bad and not self.goes_on.is_set():
                self._asked.append(in_fd)
                self.goes_on.wait(PATIENCE_S)
            return real(out_fd, in_fd, offset, count)

        monkeypatch.setattr(os, "sendfile", sendfile)

    @property
    def waiting(self) -> int:
        """How many threads wait for it, or did."""
        return len(self._asked)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "bad").write_bytes(CONTENT)
    disk = Disk(monkeypatch, tmp_path / "bad")
    yield disk
    disk.goes_on.set()


def test_a_disk_that_hangs_holds_up_nobody_else(file: Path, disk: Disk) -> None:  # F-17
    async def run() -> None:
        async with running() as sending:
            stuck = [Pair(sending) for _ in range(20)]
            waiting = [
                asyncio.create_task(pair.send(source_of(file.parent / "bad"), 0, len(CONTENT))) for pair in stuck
            ]
            await until(lambda: disk.waiting == pump.MOST_PER_FILE)
            good = Pair(sending)
            reading = asyncio.create_task(good.receive(len(CONTENT)))
            transfer = await good.send(source_of(file), 0, len(CONTENT))
            assert transfer.error is None
            assert await reading == CONTENT
            assert disk.waiting == pump.MOST_PER_FILE
            assert sending.threads <= 2 * pump.THREADS
            disk.goes_on.set()
            received = await asyncio.gather(*(pair.receive(len(CONTENT)) for pair in stuck))
            await asyncio.gather(*waiting)
            assert received == [CONTENT] * len(stuck)
            for pair in (*stuck, good):
                pair.close()

    asyncio.run(run())


def test_many_files_of_a_disk_that_hangs_hold_up_no_other_disk(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # F-17
    bad = [file.parent / f"bad{number}" for number in range(33)]
    for path in bad:
        path.write_bytes(CONTENT[:1000])
    disk = Disk(monkeypatch, *bad)

    async def run() -> None:
        async with running() as sending:
            stuck = [(Pair(sending), path) for path in (*bad, *bad)]
            waiting = [asyncio.create_task(pair.send(source_of(path, 7), 0, 1000)) for pair, path in stuck]
            await until(lambda: disk.waiting == pump.MOST_PER_DISK)
            good = Pair(sending)
            reading = asyncio.create_task(good.receive(len(CONTENT)))
            assert (await good.send(source_of(file, 8), 0, len(CONTENT))).error is None
            assert await reading == CONTENT
            assert disk.waiting == pump.MOST_PER_DISK
            disk.goes_on.set()
            assert {transfer.error for transfer in await asyncio.gather(*waiting)} == {None}
            for pair in (*(pair for pair, _ in stuck), good):
                pair.close()

    try:
        asyncio.run(run())
    finally:
        disk.goes_on.set()


def test_a_thread_that_cannot_be_started_is_started_later(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing = 5
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        nonlocal missing
        if thread.name == "http-pump" and missing:
            missing -= 1
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)

    async def run() -> int:
        async with running() as sending:
            pair = Pair(sending)
            transfer = await pair.send(source_of(file), 0, 1000)
            assert transfer.error is None
            pair.close()
            return sending.threads

    assert asyncio.run(run()) == pump.THREADS
    assert missing == 0
    assert caplog.messages == ["http sends files with 0 threads: can't start new thread"]


def test_a_transfer_that_cannot_begin_holds_no_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(self: Pump, channel: pump.Channel) -> None:
        raise OSError(28, "No space left on device")

    async def run() -> None:
        async with running() as sending:
            pair = Pair(sending)
            before = descriptors()
            with monkeypatch.context() as patch:
                patch.setattr(Pump, "_arm", no_room)
                with pytest.raises(OSError, match="No space left"):
                    await pair.send(source_of(file), 0, 1000)
            await until(lambda: descriptors() <= before)
            assert (await pair.send(source_of(file), 0, 1000)).error is None
            pair.close()

    asyncio.run(run())


def test_who_fails_to_hear_of_an_end_keeps_it_from_nobody(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    def deaf(transfer: Transfer) -> None:
        raise ValueError("deaf")

    async def run() -> None:
        async with running() as sending:
            pairs = [Pair(sending) for _ in range(8)]
            heard: list[Transfer] = []
            for number, pair in enumerate(pairs):
                pair.channel.send(source_of(file), 0, 1000, heard.append if number % 2 else deaf)
            time.sleep(0.1)  # noqa: ASYNC251 - so that the loop is told of several at once
            await until(lambda: len(heard) == len(pairs) // 2)
            for pair in pairs:
                pair.close()

    asyncio.run(run())
    assert "the end of 'image' could not be told" in caplog.text


def test_who_leaves_while_a_disk_hangs_is_gone_at_once(file: Path, disk: Disk) -> None:
    async def run() -> None:
        before = descriptors()
        async with running() as sending:
            pairs = [Pair(sending) for _ in range(pump.MOST_PER_FILE + 2)]
            ends: list[Transfer] = []
            for pair in pairs:
                pair.channel.send(source_of(file.parent / "bad"), 0, 1000, ends.append)
            await until(lambda: disk.waiting == pump.MOST_PER_FILE)
            for pair in pairs:
                pair.channel.close()
            await until(lambda: len(ends) == len(pairs))
            assert all(isinstance(transfer.error, ConnectionResetError) for transfer in ends)
            assert [await pair.receive(1) for pair in pairs] == [b""] * len(pairs)
            disk.goes_on.set()
            for pair in pairs:
                pair.close()
        await until(lambda: descriptors() <= before)

    asyncio.run(run())


def test_an_end_does_not_wait_for_a_disk(file: Path, disk: Disk) -> None:
    async def run() -> None:
        async with running() as sending:
            pair = Pair(sending)
            end = asyncio.create_task(pair.send(source_of(file.parent / "bad"), 0, 1000))
            await until(lambda: disk.waiting == 1)
            sending.close()
            assert isinstance((await end).error, ConnectionResetError)
            disk.goes_on.set()
            pair.close()

    asyncio.run(run())


def test_a_file_that_became_shorter_is_told(file: Path) -> None:  # F-16
    async def run() -> Transfer:
        async with running() as sending:
            pair = Pair(sending)
            source = source_of(file)
            os.truncate(file, 1000)
            transfer = await pair.send(source, 500, 1000)
            pair.close()
            return transfer

    transfer = asyncio.run(run())
    assert isinstance(transfer.error, Truncated)
    assert transfer.sent == 500


def test_a_disk_error_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # F-17
    def broken(out_fd: int, in_fd: int, offset: int, count: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "sendfile", broken)

    async def run() -> Transfer:
        async with running() as sending:
            pair = Pair(sending)
            transfer = await pair.send(source_of(file), 0, 1000)
            pair.close()
            return transfer

    assert str(asyncio.run(run()).error) == "[Errno 5] Input/output error"


def test_a_peer_that_leaves_is_told(file: Path) -> None:
    async def run() -> Transfer:
        async with running() as sending:
            pair = Pair(sending)
            pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
            asyncio.get_running_loop().call_later(0.1, pair.peer.close)
            transfer = await pair.send(source_of(file), 0, len(CONTENT))
            pair.close()
            return transfer

    assert isinstance(asyncio.run(run()).error, ConnectionError)


def test_a_reader_that_stops_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "WINDOW_S", 0.2)

    async def run() -> Transfer:
        async with running() as sending:
            pair = Pair(sending, receive_buffer=4096)
            transfer = await pair.send(source_of(file), 0, len(CONTENT))
            pair.close()
            return transfer

    assert isinstance(asyncio.run(run()).error, TimeoutError)


def test_a_closed_channel_sends_nothing(file: Path) -> None:
    async def run() -> Transfer:
        async with running() as sending:
            pair = Pair(sending)
            pair.channel.close()
            before = descriptors()
            transfer = await pair.send(source_of(file), 0, 1000)
            await until(lambda: descriptors() <= before)
            pair.close()
            return transfer

    transfer = asyncio.run(run())
    assert transfer.sent == 0
    assert isinstance(transfer.error, ConnectionResetError)


def test_connections_come_and_go_at_any_moment(file: Path) -> None:
    """Channels that are closed in the middle give their descriptor's number to others, which get their own bytes."""

    async def one(sending: Pump, chance: random.Random) -> None:
        for _ in range(15):
            pair = Pair(sending)
            position, length = chance.randrange(1 << 20), chance.randrange(1, 4 << 20)
            ended: list[Transfer] = []
            pair.channel.send(source_of(file), position, length, ended.append)
            if chance.random() < 0.5:
                data = await pair.receive(length)
                assert data == CONTENT[position : position + length]
            else:
                data = await pair.receive(chance.randrange(1000))
                assert CONTENT[position : position + length].startswith(data)
            pair.channel.close()
            await until(lambda ended=ended: len(ended) == 1)  # type: ignore[misc] # mypy cannot tell its type
            pair.close()

    async def run() -> None:
        before = descriptors()
        async with running() as sending:
            await asyncio.gather(*(one(sending, random.Random(seed)) for seed in range(12)))
        await until(lambda: descriptors() <= before)

    asyncio.run(run())
