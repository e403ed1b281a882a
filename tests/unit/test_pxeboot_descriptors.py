"""pxeboot.descriptors: a process without descriptors says so once, and asyncio's own words are as they were."""

import asyncio
import logging
import os
import resource
import socket
from pathlib import Path

import pytest
from aiohttp import web

from pxeboot.descriptors import say_seldom


def test_a_listener_without_descriptors_says_so_once_and_accepts_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "socket")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def run() -> None:
        say_seldom()
        runner = web.AppRunner(web.Application())
        await runner.setup()
        await web.UnixSite(runner, path).start()
        with socket.socket(socket.AF_UNIX) as client:
            last = os.open("/dev/null", os.O_RDONLY)
            resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, hard))
            try:
                client.connect(path)
                await asyncio.sleep(1.3)  # asyncio tries again each second
            finally:
                os.close(last)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = await asyncio.wait_for(asyncio.to_thread(client.recv, 12), 10)
            assert answer == b"HTTP/1.0 404"
        await runner.cleanup()

    asyncio.run(run())
    said = [record.getMessage() for record in caplog.records]
    assert said == ["no connection can be accepted, they wait: [Errno 24] Too many open files"]


def test_what_else_goes_wrong_in_the_loop_is_told_by_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        say_seldom()
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(0.01)

    asyncio.run(run())
    [record] = caplog.records
    assert (record.name, record.levelno, record.exc_info is not None) == ("asyncio", logging.ERROR, True)
