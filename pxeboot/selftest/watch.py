"""The self-test of a daemon: at its start, each minute, and when its farm changes. What is new is logged, once."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence

from aiohttp import web

from config.model import Farm
from pxeboot.api.control import Route, answer
from pxeboot.selftest import run
from pxeboot.selftest.findings import Finding, as_json

log = logging.getLogger("pxeboot")

AGAIN_S = 60.0
"""How often to look, in seconds."""
START_WAITS_S = 2.0
"""So long the start waits for the first look, which takes 30 ms; a disk or a program that hangs is not waited for."""
_NUMBERS = re.compile("[0-9]+")
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "note": logging.DEBUG}


class Watch:
    """Keeps what was found."""

    def __init__(self, farm: Callable[[], Farm], look: Callable[[Farm], list[Finding]] = run.look) -> None:
        """Look at what `farm` returns at the time, with `look`, in a thread."""
        self._farm = farm
        self._look = look
        self._task: asyncio.Task[None] | None = None
        self._again = asyncio.Event()
        self._failed = ""
        self.found: Sequence[Finding] = ()
        """The newest list, the worst first."""

    async def begin(self) -> None:
        """Look for the first time. Returns when that is done, or takes too long."""
        self._task = asyncio.create_task(self._once(), name="self-test")
        await asyncio.wait([self._task], timeout=START_WAITS_S)

    def again(self) -> None:
        """Look soon: something changed."""
        self._again.set()

    async def run(self) -> None:
        """Look each minute until cancelled."""
        if self._task is not None:
            await self._task
        while True:
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._again.wait()
            except TimeoutError:
                pass
            self._again.clear()
            await self._once()

    async def _once(self) -> None:
        try:
            found = await asyncio.to_thread(self._look, self._farm())
        except OSError as error:  # no descriptor left; the servers say so themselves
            log.debug("the self-test could not look: %s", error)
            return
        except Exception as error:  # whatever it is, it ends no server
            if repr(error) != self._failed:
                log.exception("the self-test failed, and is tried again: a fault of pxeboot")
            self._failed = repr(error)
            return
        known = set(map(_same, self.found))
        for finding in found:
            if _same(finding) not in known:
                log.log(_LEVELS[finding.level], "%s", finding)
        self.found, self._failed = found, ""

    def routes(self) -> Sequence[Route]:
        """Return GET /v1/findings: what was found, the worst first."""

        async def all_of_them(_: web.Request) -> web.Response:
            return await answer({"findings": as_json(self.found)})

        return [Route("GET", "/v1/findings", all_of_them)]


def _same(finding: Finding) -> tuple[str, str, str]:
    """Return what tells a finding from others: one in which a number has changed, of free bytes, is no new one."""
    return finding.level, finding.about, _NUMBERS.sub("", finding.what)
