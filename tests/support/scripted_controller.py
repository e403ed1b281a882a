"""A controller that does as a test says, on its unix socket, in a thread: what `pxeboot.joining.talk` promises."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from config.events import Stage
from pxeboot.joining import talk
from pxeboot.joining.talk import BootBegun, JoinGiven, Refused, TokenAsked, Told

ID = "abcdef"
SECRET = "0123456789abcdef"
COMMAND = f"kubeadm join api.example:6443 --token {ID}.{SECRET} --discovery-token-ca-cert-hash sha256:{'0' * 64}"

Answer = Callable[[str, TokenAsked], JoinGiven | Refused]
"""(node, what is asked) → what it says."""


def given(_: str = "", __: TokenAsked | None = None) -> JoinGiven:
    """Return a join command that is good for ten minutes."""
    return JoinGiven(COMMAND, ID, time.time() + 600, ("10.77.0.1 api.example",))


class ScriptedController:
    """Answers at `path` while it is entered. `answer` may be replaced meanwhile, and so may `slow_s`."""

    def __init__(self, path: Path, answer: Answer = given) -> None:
        """Say what `answer` says to whoever asks for a token."""
        self.path = path
        self.answer = answer
        self.slow_s = 0.0
        self.begun: list[tuple[str, str, BootBegun]] = []
        """Cluster, node and boot, in the order in which they were told."""
        self.ended: list[tuple[str, str, str]] = []
        """Cluster, node and the boot's id."""
        self.asked: list[tuple[str, TokenAsked]] = []
        self._listeners: list[asyncio.Queue[str]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def start(self) -> None:
        """Listen."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)

    def stop(self) -> None:
        """Cut every connection, and listen no more."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)

    def tell(self, node: str, boot: str, stage: Stage, detail: str, at_s: float, cluster: str = "prod") -> None:
        """Tell whoever follows that something happened."""
        line = talk.dump(Told(cluster, node, boot, stage, at_s, detail)) + "\n"
        for queue in self._listeners:
            self._loop.call_soon_threadsafe(queue.put_nowait, line)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_put("/v1/boots/{cluster}/{node}", self._put)
        app.router.add_delete("/v1/boots/{cluster}/{node}/{boot}", self._delete)
        app.router.add_post("/v1/boots/{cluster}/{node}/token", self._post)
        app.router.add_get("/v1/events", self._events)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self.path.unlink(missing_ok=True)
        await web.UnixSite(self._runner, os.fspath(self.path)).start()

    async def _stop(self) -> None:
        if self._runner is not None:
            for queue in self._listeners:
                queue.put_nowait("")
            await self._runner.cleanup()
        self.path.unlink(missing_ok=True)

    async def _put(self, request: web.Request) -> web.Response:
        boot = talk.boot_begun(await request.read())
        self.begun.append((request.match_info["cluster"], request.match_info["node"], boot))
        return web.json_response({})

    async def _delete(self, request: web.Request) -> web.Response:
        told = request.match_info
        self.ended.append((told["cluster"], told["node"], told["boot"]))
        return web.json_response({})

    async def _post(self, request: web.Request) -> web.Response:
        asked = talk.token_asked(await request.read())
        node = request.match_info["node"]
        self.asked.append((node, asked))
        begun = time.monotonic()
        while time.monotonic() < begun + self.slow_s:  # noqa: ASYNC110 - a test of another thread may end it
            await asyncio.sleep(0.02)
        said = self.answer(node, asked)
        if isinstance(said, JoinGiven):
            return web.Response(text=talk.dump(said))
        return web.Response(text=talk.dump(said), status=409 if said.retry_after_s is None else 503)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                try:
                    line = await asyncio.wait_for(queue.get(), 10)
                except TimeoutError:
                    line = "\n"
                if not line:
                    break
                await response.write(line.encode())
        finally:
            self._listeners.remove(queue)
        return response
