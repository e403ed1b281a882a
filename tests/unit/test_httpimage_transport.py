"""What is logged of names that are given once."""

import asyncio
import logging
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from config.content import Made, Once
from httpimage.transport import application

SECRET = "0123456789abcdef" * 2


@pytest.mark.parametrize("error", [TimeoutError("the disk hangs"), ValueError("a fault of ours")])
def test_a_name_that_is_good_once_is_in_no_log_when_giving_it_fails(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def take(_: Callable[[], bool]) -> Made:
        raise error

    async def lookup(_: str, __: IPv4Address) -> Once:
        return Once("node.cpio", take)

    async def fetch() -> int:
        app = application(lookup, lambda _: None, lambda _: None, lambda *_: False)
        path = f"/images/1/01-52-54-00-00-00-01/{SECRET}/node.cpio"
        request = make_mocked_request("GET", path, {"Host": "s"}).clone(remote="10.0.0.10")
        request.writer.output_size = 0
        found = await app.router.resolve(request)
        (guard,) = app.middlewares
        answer: web.StreamResponse = await guard(request, found.handler)
        return answer.status

    with caplog.at_level(logging.INFO):
        assert asyncio.run(fetch()) in (500, 503)
    assert "node.cpio" in caplog.text
    assert SECRET not in caplog.text
