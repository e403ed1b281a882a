"""Bytes of an open file or of memory onto a connection, without waiting for a disk in the event loop."""

import asyncio
import os
from collections.abc import Callable

from aiohttp.abc import AbstractStreamWriter

from config.content import Made, OpenFile
from httpimage.connection import Connection
from httpimage.errands import read
from httpimage.pump import WINDOW_S, Channel
from httpimage.transfer import Source, Transfer, Truncated

__all__ = ["Truncated", "send"]

_SLICE = 1 << 16


async def send(
    content: OpenFile | Made,
    first_pos: int,
    length: int,
    writer: AbstractStreamWriter,
    transport: asyncio.Transport,
    progress: Callable[[int], None],
) -> None:
    """Send `length` bytes of `content` from `first_pos`; `progress` is told how many went.

    Raises `ConnectionError` if the peer goes away, `TimeoutError` if it reads too slowly, `Truncated` if the file
    has become shorter, and `OSError` if it cannot be read.
    """
    match content:
        case OpenFile():
            connection = transport.get_protocol()
            channel = connection.channel() if isinstance(connection, Connection) else None
            if channel is None:
                await _copy(content, first_pos, length, writer, transport, progress)
            else:
                await _by_threads(channel, content, first_pos, length, writer, transport, progress)
        case Made():
            for begin in range(first_pos, first_pos + length, _SLICE):
                piece = content.pread(min(_SLICE, first_pos + length - begin), begin)
                await _write(piece, writer, transport)
                progress(len(piece))


async def _by_threads(
    channel: Channel,
    file: OpenFile,
    first_pos: int,
    length: int,
    writer: AbstractStreamWriter,
    transport: asyncio.Transport,
    progress: Callable[[int], None],
) -> None:
    """Let the pump send. Nothing is read from the peer meanwhile: what it may ask next has to wait anyhow."""
    await _emptied(writer, transport)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finished(transfer: Transfer) -> None:
        if not done.done():
            done.set_result(None)

    reads = transport.is_reading()
    if reads:
        transport.pause_reading()
    try:
        # The caller may close its descriptor while a thread is still at it, so the transfer has one of its own.
        source = Source(file.fd, file.name, file.size_bytes, file.etag, file.device)
        transfer = channel.send(source, first_pos, length, finished)
        try:
            await done
        except asyncio.CancelledError:
            channel.close()
            raise
        finally:
            progress(transfer.sent)
    finally:
        if reads and not transport.is_closing():
            transport.resume_reading()
    if transfer.error is not None:
        raise transfer.error


async def _emptied(writer: AbstractStreamWriter, transport: asyncio.Transport) -> None:
    """Wait until what was written before is in the kernel."""
    transport.set_write_buffer_limits(0)
    try:
        async with asyncio.timeout(WINDOW_S):
            await writer.drain()
    finally:
        transport.set_write_buffer_limits()
    if transport.is_closing():
        raise ConnectionResetError("the peer closed the connection")


async def _copy(
    file: OpenFile,
    first_pos: int,
    length: int,
    writer: AbstractStreamWriter,
    transport: asyncio.Transport,
    progress: Callable[[int], None],
) -> None:
    """Send through memory: what has to be encrypted, or when there is no descriptor left for a channel."""
    position, end = first_pos, first_pos + length
    while position < end:
        count = min(_SLICE, end - position)
        piece = _at_once(file.fd, count, position)
        if piece is None:
            async with asyncio.timeout(WINDOW_S):
                piece = await read(file, count, position)
        if not piece:
            raise Truncated(f"{file.name!r} ended at byte {position}, of {file.size_bytes}")
        await _write(piece, writer, transport)
        progress(len(piece))
        position += len(piece)
        await asyncio.sleep(0)  # a peer that keeps up must not keep the loop


def _at_once(fd: int, count: int, position: int) -> bytes | None:
    """Return what memory holds of a file at `position`, at most `count` bytes; None if only the disk can tell."""
    piece = bytearray(count)
    try:
        there = os.preadv(fd, [piece], position, os.RWF_NOWAIT)
    except OSError:  # nothing is there; or this file system cannot tell
        return None
    return bytes(memoryview(piece)[:there]) or None


async def _write(piece: bytes, writer: AbstractStreamWriter, transport: asyncio.Transport) -> None:
    async with asyncio.timeout(WINDOW_S):
        await writer.write(piece)
        await writer.drain()
    if transport.is_closing():
        raise ConnectionResetError("the peer closed the connection")
