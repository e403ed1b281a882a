"""Which names the page goes by, and whose changes it takes."""

import asyncio
import doctest
from types import ModuleType

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from pxeboot.web import guard, rows, words
from pxeboot.web.guard import is_known, is_ours


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("10.77.0.1", True),
        ("10.77.0.1:8067", True),
        ("[::1]:8067", True),
        ("[fe80::1%25eth0]", True),
        ("localhost:8067", True),
        ("boot", True),
        ("BOOT.lan", True),
        ("boot.farm.internal:80", True),
        ("server.example.org", True),
        ("server.example.org.", True),
        ("boot.example.org", False),
        ("named.example.org", True),
        ("evil.example", False),
        ("evil.example:8067", False),
        ("10.77.0.1.evil.example", False),
        ("xlan", True),
        ("evil.xlan", False),
        ("[", True),
        ("", True),
    ],
)
def test_a_name_that_a_stranger_could_have_made_is_not_ours(host: str, known: bool) -> None:
    assert is_known(host, ("named.example.org",), "server.example.org") is known


def test_any_name_is_ours_if_the_farm_says_so() -> None:
    assert is_known("evil.example", ("*",), "server")


@pytest.mark.parametrize("module", [guard, rows, words], ids=lambda module: str(module.__name__))
def test_the_examples_in_the_docstrings_hold(module: ModuleType) -> None:
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),  # curl
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://boot:8067"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "http://boot:8067"}, True),
        ({"Origin": "https://BOOT:8067"}, True),
        ({"Origin": "http://boot"}, False),
        ({"Origin": "http://boot:8067.evil.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_only_a_page_of_ours_or_no_page_changes_something(headers: dict[str, str], ours: bool) -> None:
    assert is_ours(make_mocked_request("POST", "/", headers={"Host": "boot:8067", **headers})) is ours


def test_who_is_gone_before_the_answer_begins_leaves_no_traceback_in_the_log() -> None:
    """An exception would be aiohttp's to log, thirty lines for each connection that somebody resets."""

    async def gone(_: web.Request) -> web.StreamResponse:
        raise ConnectionResetError("Cannot write to closing transport")

    request = make_mocked_request("GET", "/events", headers={"Host": "boot"})
    guarded = guard.guard(lambda: (), "boot", tls=False)

    async def ask() -> web.StreamResponse:
        return await guarded(request, gone)

    assert not asyncio.run(ask()).prepared
