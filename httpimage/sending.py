"""Bytes of an open file or of memory onto a connection: sendfile, in windows, without waiting for a disk."""

import asyncio
import io
import os
from collections.abc import Callable

from aiohttp.abc import AbstractStreamWriter

from config.content import Made, OpenFile

WINDOW = 2 << 20
"""How many bytes are asked of the kernel at once, and checked for being in the page cache beforehand.

600 MB cost 0.15 s of CPU in windows of 1 MiB, 0.09 s of 2 MiB, and 0.08 s of 4 or 16 MiB.
"""

WINDOW_S = 180.0
"""How long a peer may take for one window, in seconds; slower than 12 kB/s is taken for gone."""

_SLICE = 1 << 16
_PROBE_STEP = 1 << 17  # the kernel's usual read-ahead


class Truncated(Exception):
    """The file ended before the promised length: only closing the connection tells the peer."""


async def send(
    content: OpenFile | Made,
    first_pos: int,
    length: int,
    writer: AbstractStreamWriter,
    transport: asyncio.Transport,
    progress: Callable[[int], None],
) -> None:
    """Send `length` bytes of `content` from `first_pos`; `progress` is told how many went, bit by bit.

    Raises `ConnectionError` if the peer goes away, `TimeoutError` if it reads too slowly, `Truncated` if the file
    has become shorter, and `OSError` if it cannot be read.
    """
    match content:
        case OpenFile():
            await _send_file(content, first_pos, length, writer, transport, progress)
        case Made():
            for begin in range(first_pos, first_pos + length, _SLICE):
                piece = content.pread(min(_SLICE, first_pos + length - begin), begin)
                await _write(piece, writer, transport)
                progress(len(piece))


async def _send_file(
    file: OpenFile,
    first_pos: int,
    length: int,
    writer: AbstractStreamWriter,
    transport: asyncio.Transport,
    progress: Callable[[int], None],
) -> None:
    loop = asyncio.get_running_loop()
    encrypted = transport.get_extra_info("sslcontext") is not None  # asyncio's TLS has no sendfile
    with io.FileIO(file.fd, closefd=False) as source:
        position, end = first_pos, first_pos + length
        while position < end:
            count = min(WINDOW, end - position)
            if not in_memory(file.fd, position, count):
                # If we are cancelled here, the descriptor may be closed under the thread. It then reads nothing,
                # or something else, into a buffer that nobody looks at.
                await loop.run_in_executor(None, read_ahead, file.fd, position, count)
            if transport.is_closing():
                raise ConnectionResetError("the peer closed the connection")
            try:
                if encrypted:
                    raise asyncio.SendfileNotAvailableError
                async with asyncio.timeout(WINDOW_S):
                    sent = await loop.sendfile(transport, source, position, count, fallback=False)
            except asyncio.SendfileNotAvailableError:
                # Either the file system has no sendfile, or the very first byte failed. Do it by hand: that works,
                # or meets the same error under its own name.
                sent = await _copy(file, position, count, writer, transport)
            except (OSError, asyncio.CancelledError):
                progress(min(max(source.tell() - position, 0), count))  # asyncio leaves the file where it stopped
                raise
            progress(sent)
            if sent < count:
                raise Truncated(f"{file.name!r} ended at byte {position + sent}, of {file.size_bytes}")
            position += sent
            await asyncio.sleep(0)  # a peer that keeps up must not keep the loop


async def _copy(
    file: OpenFile, position: int, count: int, writer: AbstractStreamWriter, transport: asyncio.Transport
) -> int:
    """Send without sendfile. Returns how many bytes there were."""
    loop = asyncio.get_running_loop()
    sent = 0
    while sent < count:
        piece = await loop.run_in_executor(None, file.pread, min(_SLICE, count - sent), position + sent)
        if not piece:
            break
        await _write(piece, writer, transport)
        sent += len(piece)
    return sent


async def _write(piece: bytes, writer: AbstractStreamWriter, transport: asyncio.Transport) -> None:
    async with asyncio.timeout(WINDOW_S):
        await writer.write(piece)
        await writer.drain()
    if transport.is_closing():
        raise ConnectionResetError("the peer closed the connection")


def in_memory(fd: int, position: int, count: int) -> bool:
    """Tell whether a window is in the page cache, by reading single bytes that the kernel may not wait for."""
    byte = bytearray(1)
    try:
        for probe in (*range(position, position + count, _PROBE_STEP), position + count - 1):
            os.preadv(fd, [byte], probe, os.RWF_NOWAIT)
    except OSError:  # not there yet; or this file system cannot tell
        return False
    return True


def read_ahead(fd: int, position: int, count: int) -> None:
    """Read a window into the page cache and ask for the next one. Runs in a thread: may wait for a disk.

    Errors are left to sendfile, which meets them too and has somebody to tell.
    """
    scratch = bytearray(_PROBE_STEP)
    try:
        os.posix_fadvise(fd, position + count, WINDOW, os.POSIX_FADV_WILLNEED)
        for begin in range(position, position + count, _PROBE_STEP):
            os.preadv(fd, [scratch], begin)
    except OSError:
        return
