"""The control socket: what `pxeboot status` asks, answered as JSON over HTTP on a unix socket.

GET /v1/status              every machine with its newest boot, and of that the newest step
GET /v1/machines/NAME       one machine: all boots that are kept, every step, its own report

NAME may be a MAC or an address, too (`pxeboot.meant`).

Other parts bring routes of their own, which the daemon assembles.
"""

import asyncio
import errno
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from config.events import Stage
from pxeboot.meant import nobody
from pxeboot.timeline import Boot, Machine, Timeline

T = TypeVar("T")

AT_ONCE = 100
"""Machines that are told of in one go."""


@dataclass(frozen=True, slots=True)
class Route:
    """One more thing that can be asked: `method` and `path` (as aiohttp writes them) lead to `handler`."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]


def boot_json(boot: Boot, *, whole: bool = True) -> dict[str, object]:
    """Return one boot as JSON values, with all its steps or the newest; times are seconds since 1970."""
    return {
        "started_s": boot.started_s,
        "stage": boot.stage.value if boot.stage else None,
        "refused": next((s.detail for s in reversed(boot.steps) if s.stage is Stage.REFUSED), None),
        "steps": [
            {
                "stage": step.stage.value,
                "first_s": step.first_s,
                "last_s": step.last_s,
                "detail": step.detail,
                "bytes_sent": step.bytes_sent,
                "took_s": round(step.took_s, 3),
                "resent": step.resent,
            }
            for step in (boot.steps if whole else [boot.newest] if boot.newest else [])
        ],
        "notes": [{"at_s": note.at_s, "text": note.text} for note in boot.notes],
    }


def machine_json(machine: Machine, *, whole: bool) -> dict[str, object]:
    """Return one machine as JSON values: where it is now, or all its boots, every step, and its report."""
    out: dict[str, object] = {
        "name": machine.name,
        "mac": machine.mac,
        "ip": machine.ip,
        "pool": machine.pool,
        "boot": boot_json(machine.boots[-1], whole=whole) if machine.boots else None,
    }
    if whole:
        out["boots"] = [boot_json(boot) for boot in machine.boots]
        out["report"] = machine.boots[-1].report if machine.boots else ""
    return out


About = Callable[[str], dict[str, object]]
"""What more there is to say of a machine, by its name."""


More = Callable[[], dict[str, object]]
"""What more there is to say of all."""


Find = Callable[[str], Machine | dict[str, object]]
"""The machine that a word means; or, of one that we have not heard of, the answer that says so."""


def by_name(timeline: Timeline) -> Find:
    """Return what finds those machines whose very name is said."""
    return lambda word: timeline.get(word) or unheard(word)


def unheard(word: str, name: str | None = None) -> dict[str, object]:
    """Return what is answered of a machine that has not been heard of; `name` is its name if the farm lists it."""
    if name is None:
        return {"error": nobody(word), "unknown": word}
    why = "is in the farm's file, and was not heard of since the daemon began"
    return {"error": f"{name} {why}; `pxeboot explain {name}` shows what it would get", "listed": name}


def application(
    timeline: Timeline,
    routes: Sequence[Route] = (),
    about: About = lambda _: {},
    more: More = dict,
    find: Find | None = None,
) -> web.Application:
    """Return the application that answers from `timeline`, `about` and `more`, and has `routes` besides.

    `find` knows machines by more than their names.
    """
    find = find or by_name(timeline)

    async def status(_: web.Request) -> web.Response:
        machines = [machine_json(machine, whole=False) | about(machine.name) async for machine in in_turn(timeline)]
        return await answer({"machines": machines} | more())

    async def one(request: web.Request) -> web.Response:
        machine = find(request.match_info["name"])
        if not isinstance(machine, Machine):
            return await answer(machine, 404)
        return await answer(machine_json(machine, whole=True) | about(machine.name))

    app = web.Application()
    app.router.add_get("/v1/status", status)
    app.router.add_get("/v1/machines/{name}", one)
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler)
    return app


async def in_turn(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield what is there now, and let others have the event loop after each hundred: of each machine of a farm there
    is to be told what takes some 20 µs."""
    for number, item in enumerate(list(items)):
        if number and number % AT_ONCE == 0:
            await asyncio.sleep(0)
        yield item


async def answer(value: object, status: int = 200) -> web.Response:
    """Return a JSON response, written in a thread: a farm's is megabytes, and others are served meanwhile."""
    text = await asyncio.to_thread(json.dumps, value)
    return web.Response(text=text + "\n", status=status, content_type="application/json")


class ControlSocket:
    """The unix socket, there while the daemon runs."""

    def __init__(
        self,
        path: Path,
        timeline: Timeline,
        routes: Sequence[Route] = (),
        about: About = lambda _: {},
        more: More = dict,
        find: Find | None = None,
    ) -> None:
        """Serve `timeline`, with what `about` adds of each machine and `more` of all, and `routes` at `path`.

        `find` knows machines by more than their names.
        """
        self._path = path
        app = application(timeline, routes, about, more, find)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)

    async def __aenter__(self) -> "ControlSocket":
        await asyncio.to_thread(self._clear)
        await self._runner.setup()
        old = os.umask(0o117)  # the socket is made with mode 0660
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        finally:
            os.umask(old)
        return self

    def _clear(self) -> None:
        """Remove the socket of a daemon that was killed. Raises `OSError` if one still answers there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self._path))
            except FileNotFoundError:
                return
            except ConnectionRefusedError:
                self._path.unlink(missing_ok=True)
                return
        raise OSError(errno.EADDRINUSE, f"another pxeboot serve answers at {self._path}")

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        with suppress(FileNotFoundError):
            self._path.unlink()
