"""A line to a server that can be cut: a TCP forwarder on another port of the server's own address.

A certificate for that address is good for the line too.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Self


class CutLine:
    """Forwards to `address`:`port`, in a thread of its own, while the line is whole."""

    def __init__(self, address: str, port: int) -> None:
        self._target = (address, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._whole = threading.Event()
        self._silent = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._whole.set()
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, *, silent: bool) -> None:
        """Cut it: `silent`, as by a dead switch, nothing arrives any more; else connections end, and are refused."""
        self._silent = silent
        self._whole.clear()
        if not silent:
            self._do(self._end())

    def mend(self) -> None:
        """Make it whole. What was lost in the silence stays lost: those connections end."""
        self._do(self._end())
        self._whole.set()
        self._do(self._open())

    def _do(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._target[0], self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            their_reader, their_writer = await asyncio.open_connection(*self._target)
            writers.append(their_writer)
            await asyncio.gather(self._pump(reader, their_writer), self._pump(their_reader, writer))
        except OSError:
            pass  # the server is not there: neither are we
        finally:
            for one in writers:
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._whole.is_set():
                writer.write(data)
                await writer.drain()
        writer.close()
