"""Reading without waiting, and giving a file back exactly once."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.content import Made, OpenFile
from tftp.netascii import Netascii
from tftp.reader import Reader, Truncated

CONTENT = bytes(range(256)) * 1000


def opened(path: Path, content: bytes = CONTENT) -> OpenFile:
    path.write_bytes(content)
    return OpenFile("f", os.open(path, os.O_RDONLY), len(content), "etag", None)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def now(reader: Reader, offset: int, length: int) -> bytes | None:
    piece = reader.read_now(offset, length)
    return None if piece is None else bytes(piece)


def run(step: Callable[[ThreadPoolExecutor], Awaitable[None]]) -> None:
    async def inside() -> None:
        with ThreadPoolExecutor(1) as executor:
            await step(executor)

    asyncio.run(inside())


def test_a_file_is_read_at_once_or_after_loading(tmp_path: Path) -> None:
    async def step(executor: ThreadPoolExecutor) -> None:
        reader = Reader(opened(tmp_path / "f"), executor)
        for offset in range(0, len(CONTENT) - 999, 77_777):
            piece = now(reader, offset, 999)
            if piece is None:  # this file system cannot tell what is in memory
                await reader.load(asyncio.get_running_loop(), offset, 999)
                piece = now(reader, offset, 999)
            assert piece == CONTENT[offset : offset + 999]
        reader.close()

    run(step)


def test_made_bytes_never_wait() -> None:
    async def step(executor: ThreadPoolExecutor) -> None:
        reader = Reader(Made("f", CONTENT, "etag"), executor)
        assert now(reader, 5, 10) == CONTENT[5:15]
        reader.close()

    run(step)


def test_netascii_is_loaded_by_a_thread_and_then_at_hand(tmp_path: Path) -> None:
    async def step(executor: ThreadPoolExecutor) -> None:
        reader = Reader(Netascii(opened(tmp_path / "f", b"a\n" * 50_000)), executor)
        assert now(reader, 0, 3) is None
        await reader.load(asyncio.get_running_loop(), 0, 3)
        assert now(reader, 0, 3) == b"a\r\n"
        assert now(reader, 60_000, 3) == b"a\r\n"
        assert now(reader, 140_000, 3) is None
        reader.close()

    run(step)


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    async def step(executor: ThreadPoolExecutor) -> None:
        reader = Reader(opened(tmp_path / "f"), executor)
        os.truncate(tmp_path / "f", 100)
        assert now(reader, 50, 100) is None
        with pytest.raises(Truncated):
            await reader.load(asyncio.get_running_loop(), 50, 100)
        reader.close()

    run(step)


class Slow:
    """A file on a disk that hangs until it is let go."""

    def __init__(self) -> None:
        self.reading = threading.Event()
        self.go_on = threading.Event()
        self.closed = 0
        self.size_bytes = 10

    def pread(self, length: int, offset: int) -> bytes:
        if not self.reading.is_set():
            self.reading.set()
            self.go_on.wait(10)
        assert not self.closed, "read after it was closed"
        return bytes(10)

    def close(self) -> None:
        self.closed += 1


def test_a_file_is_closed_once_and_not_while_a_thread_reads_it() -> None:
    async def step(executor: ThreadPoolExecutor) -> None:
        slow = Slow()
        slow.reading.set()
        content = Netascii(slow)
        slow.reading.clear()
        reader = Reader(content, executor)
        loaded = reader.load(asyncio.get_running_loop(), 0, 10)
        await asyncio.to_thread(slow.reading.wait)
        reader.close()
        reader.close()
        assert slow.closed < 1
        slow.go_on.set()
        await loaded
        assert slow.closed == 1

    run(step)


def test_closing_gives_the_descriptor_back(tmp_path: Path) -> None:
    async def step(executor: ThreadPoolExecutor) -> None:
        file = opened(tmp_path / "f")
        reader = Reader(file, executor)
        reader.close()
        assert not is_open(file.fd)
        await reader.load(asyncio.get_running_loop(), 0, 10)  # too late, and harmless

    run(step)


def test_a_file_system_that_cannot_tell_is_read_by_a_thread() -> None:
    version = Path("/proc/version").read_bytes()

    async def step(executor: ThreadPoolExecutor) -> None:
        file = OpenFile("version", os.open("/proc/version", os.O_RDONLY), len(version), "etag", None)
        reader = Reader(file, executor)
        assert now(reader, 0, len(version)) is None
        await reader.load(asyncio.get_running_loop(), 0, len(version))
        assert now(reader, 3, 5) == version[3:8]
        reader.close()
        assert not is_open(file.fd)

    run(step)
