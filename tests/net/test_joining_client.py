"""The daemon's side of the talk with the controller, against one that misbehaves on a real unix socket."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, ParamSpec

import pytest
from aiohttp import web

from config.events import Stage
from pxeboot.joining import client as module
from pxeboot.joining.client import Client, LaterJoin, NoJoin
from pxeboot.joining.once import Boot
from pxeboot.joining.talk import BootBegun, JoinGiven, Refused, Told, dump

pytestmark = pytest.mark.net
P = ParamSpec("P")
GIVEN = JoinGiven("kubeadm join", "abcdef", 2e9)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def boot(number: int = 1) -> Boot:
    digits = f"{number:032x}"
    return Boot(digits[16:], "prod", f"m {number}/x", "", IPv4Address("10.0.0.10"), 1e9, digits, digits, digits * 2)


def awaited(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Controller:
    """Answers with what it is told to, sense or none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.seen: list[tuple[str, str]] = []
        self.events = 0
        self.cuts = False
        """Whether it closes the connection without an answer."""
        self.put: Callable[[], web.Response] = lambda: web.Response(text="{}")
        self.post: Callable[[], web.Response] = lambda: web.Response(text=dump(GIVEN))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/v1/events", self._events)
        app.router.add_route("*", "/{rest:.*}", self._other)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(self.path)).start()
        try:
            yield
        finally:
            self.lines.put_nowait(None)
            await runner.cleanup()
            self.path.unlink(missing_ok=True)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.events += 1
        response = web.StreamResponse()
        await response.prepare(request)
        while (line := await self.lines.get()) is not None:
            await response.write(line)
        return response

    async def _other(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path))
        if self.cuts and request.transport is not None:
            request.transport.abort()
        return self.put() if request.method == "PUT" else self.post()


@asynccontextmanager
async def talking(
    path: Path, waiting: list[Boot] | None = None, heard: list[Told] | None = None
) -> AsyncIterator[Client]:
    """A client that runs."""
    hear = [] if heard is None else heard
    client = Client(path, lambda: waiting or [], lambda one: BootBegun(one.id, one.address, one.began_s), hear.append)
    task = asyncio.create_task(client.run())
    try:
        yield client
        assert not task.done(), "nothing that a controller does ends it"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@awaited
async def test_the_boots_that_wait_are_told_at_each_beginning_and_the_newest_of_a_machine_alone(
    tmp_path: Path,
) -> None:
    controller = Controller(tmp_path / "sock")
    waiting = [boot(1)]
    async with talking(controller.path, waiting) as client:
        for again in (1, 2):
            async with controller.listening():
                await until(lambda: len(controller.seen) >= again)  # noqa: B023
                assert client.connected
            await until(lambda: not client.connected)
        assert controller.seen == [("PUT", "/v1/boots/prod/m%201%2Fx")] * 2
        waiting.clear()
        client.begins(boot(1))
        client.begins(boot(1))
        async with controller.listening():
            await until(lambda: client.connected)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((200, "nonsense"), LaterJoin, "not understood"),
        ((200, dump(Refused("x"))), LaterJoin, "not understood"),
        ((409, dump(Refused("another machine is alive"))), NoJoin, "another machine is alive"),
        ((409, "nonsense"), LaterJoin, "not understood"),
        ((503, dump(Refused("the API is away", 9.0))), LaterJoin, "the API is away"),
        ((500, dump(Refused("a fault"))), LaterJoin, "a fault"),
        ((404, dump(Refused("no such cluster"))), LaterJoin, "no such cluster"),
        ((200, "x" * (2 << 20)), LaterJoin, "does not answer"),
    ],
)
def test_only_a_clear_no_is_for_good(tmp_path: Path, answer: tuple[int, str], error: type[NoJoin], words: str) -> None:
    async def test() -> None:
        controller = Controller(tmp_path / "sock")
        controller.post = lambda: web.Response(status=answer[0], text=answer[1])
        async with talking(controller.path) as client, controller.listening():
            with pytest.raises(NoJoin, match=words) as caught:
                await client.ask(boot())
            assert type(caught.value) is error
            controller.post = lambda: web.Response(text=dump(GIVEN))
            assert await client.ask(boot()) == GIVEN

    asyncio.run(test())


@awaited
async def test_nonsense_among_what_happened_is_left_out(tmp_path: Path) -> None:
    heard: list[Told] = []
    controller = Controller(tmp_path / "sock")
    told = Told("prod", "m1", "ab" * 8, Stage.READY, 1e9, "so")
    async with talking(controller.path, heard=heard), controller.listening():
        for line in (b"\n", b"nonsense\n", b"[]\n", b'{"stage": "none"}\n', b"\xff\n", dump(told).encode() + b"\n"):
            controller.lines.put_nowait(line)
        await until(lambda: heard)
        assert heard == [told]
        assert controller.events == 1
        controller.lines.put_nowait(b"x" * (4 << 20))  # a line that has no end
        await until(lambda: controller.events == 2)


@awaited
async def test_a_controller_that_has_fallen_silent_is_sought_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_S", 0.2)
    controller = Controller(tmp_path / "sock")
    async with talking(controller.path), controller.listening():
        await until(lambda: controller.events >= 3)


@awaited
async def test_a_boot_that_could_not_be_told_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_AGAIN_S", 0.01)
    controller = Controller(tmp_path / "sock")
    controller.cuts = True
    async with talking(controller.path) as client, controller.listening():
        await until(lambda: client.connected)
        client.begins(boot(1))
        await until(lambda: len(controller.seen) > 2)
        controller.cuts = False
        tried = len(controller.seen)
        await until(lambda: len(controller.seen) > tried)
        client.begins(boot(2))
        await until(lambda: controller.seen[-1] == ("PUT", "/v1/boots/prod/m%202%2Fx"))
    assert controller.seen[:-1] == [("PUT", "/v1/boots/prod/m%201%2Fx")] * (len(controller.seen) - 1)


@awaited
async def test_the_end_of_a_boot_is_told_until_it_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_AGAIN_S", 0.01)
    controller = Controller(tmp_path / "sock")
    told = ("DELETE", f"/v1/boots/prod/m%201%2Fx/{boot(1).id}")
    async with talking(controller.path) as client:
        client.ended(boot(1))
        controller.cuts = True
        async with controller.listening():
            await until(lambda: len(controller.seen) > 2)
            controller.cuts, controller.post = False, lambda: web.Response(status=500)
            tried = len(controller.seen)
            await until(lambda: len(controller.seen) > tried + 2)
            controller.post = lambda: web.Response(status=404)
            tried = len(controller.seen)
            await until(lambda: len(controller.seen) > tried)
            client.ended(boot(2))
            await until(lambda: controller.seen[-1] != told)
    assert controller.seen == [told] * (len(controller.seen) - 1) + [
        ("DELETE", f"/v1/boots/prod/m%202%2Fx/{boot(2).id}")
    ]


@awaited
async def test_a_cluster_that_the_controller_does_not_keep_is_a_trouble_that_people_see(tmp_path: Path) -> None:
    controller = Controller(tmp_path / "sock")
    controller.put = lambda: web.Response(status=404, text=dump(Refused("no such cluster")))
    async with talking(controller.path, [boot()]) as client, controller.listening():
        await until(lambda: client.trouble == "it keeps no cluster prod")


@awaited
async def test_a_whole_farm_of_machines_that_ask_at_once_are_all_answered(tmp_path: Path) -> None:
    controller = Controller(tmp_path / "sock")
    async with talking(controller.path) as client, controller.listening():
        given = await asyncio.gather(*(client.ask(boot(number)) for number in range(300)))
        assert given == [GIVEN] * 300


@awaited
async def test_no_controller_is_one_line_and_no_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pxeboot")
    one = boot(7)
    async with talking(tmp_path / "nowhere", [one]) as client:
        for _ in range(3):
            with pytest.raises(LaterJoin, match="there is no such socket"):
                await client.ask(one)
        await asyncio.sleep(1.0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert one.seed not in caplog.text
