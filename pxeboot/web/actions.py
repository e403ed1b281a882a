"""What people may change on the page: what machines boot, from their next boot on.

POST /machines/NAME/boot      boot=local
POST /machines/NAME/image     image=NAME[@ID]|"" and once=yes
GET  /pools/NAME              the machines of a pool, to choose some of
POST /pools/NAME              machine=m1&machine=m2&boot=local

All of it is done by forms, and nothing by GET. Whoever sends one is a person of `web.users`; that a page of ours sent
it, and no other site's, is seen to before (`pxeboot.web.guard`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from pxeboot.api.control import Route, in_turn
from pxeboot.api.nodes import Change, change_of
from pxeboot.hub import Hub
from pxeboot.images_chosen import Refused
from pxeboot.intents import Boot, Intent
from pxeboot.stuck import STORY
from pxeboot.web.machine import Machines
from pxeboot.web.rows import natural
from pxeboot.web.templates import Templates
from pxeboot.web.users import Users, is_private

AT_A_TIME = 2
"""Pages of pools that are made at once: a pool of 2,000 takes a while, and the threads are for others, too."""
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Choice:
    """One machine of a pool, to be chosen."""

    name: str
    address: str
    stage: str
    intent: Intent


class Actions:
    """Does what people say on the page."""

    def __init__(self, hub: Hub, machines: Machines, templates: Templates, users: Users) -> None:
        """Show what came of it by `machines`."""
        self._hub = hub
        self._machines = machines
        self._templates = templates
        self._users = users
        self._making = asyncio.Semaphore(AT_A_TIME)

    @property
    def routes(self) -> Sequence[Route]:
        """What can be done, and asked."""
        return (
            Route("POST", "/machines/{name}/boot", self.boot),
            Route("POST", "/machines/{name}/image", self.image),
            Route("GET", "/pools/{name}", self.pool),
            Route("POST", "/pools/{name}", self.boot_many),
        )

    async def boot(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /machines/NAME/boot."""
        return await self._change_one(request, ("boot",))

    async def image(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /machines/NAME/image."""
        return await self._change_one(request, ("image", "once"))

    async def _change_one(self, request: web.Request, keys: Sequence[str]) -> web.StreamResponse:
        name = request.match_info["name"]
        person = await self._person(request)
        if isinstance(person, web.StreamResponse):
            return person
        try:
            await self._hub.nodes.say([name], _change(await _form(request), keys), by=person)
        except Refused as error:
            return await self._machines.show(request, name, person, trouble=str(error), status=error.status)
        raise web.HTTPSeeOther(f"../{quote(name, safe='')}#change")

    async def boot_many(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /pools/NAME."""
        person = await self._person(request)
        if isinstance(person, web.StreamResponse):
            return person
        try:
            form = await _form(request)
            names = form.get("machine", [])
            if not names:
                raise Refused(400, "No machine was chosen.")
            await self._hub.nodes.say(names, _change(form, ("boot",)), by=person)
        except Refused as error:
            return await self._show_pool(request, person, trouble=str(error), status=error.status)
        raise web.HTTPSeeOther(quote(request.match_info["name"], safe=""))

    async def pool(self, request: web.Request) -> web.StreamResponse:
        """Answer GET /pools/NAME."""
        return await self._show_pool(request, await self._users.name_of(request))

    async def _show_pool(
        self, request: web.Request, person: str | None, *, trouble: str = "", status: int = 200
    ) -> web.StreamResponse:
        hub, name = self._hub, request.match_info["name"]
        pool = next((pool for pool in hub.farm.pools if pool.name == name), None)
        if pool is None:
            text = f"The farm's file has no pool {name[:80]!r}."
            return await self._machines.say(404, "No such pool", text, person)
        nodes = await asyncio.to_thread(sorted, pool.nodes, key=lambda node: natural(node.name))
        choices = [self._choice(node.name, str(node.ip)) async for node in in_turn(nodes)]
        async with self._making:
            html = await asyncio.to_thread(
                self._templates.render,
                "pool.html",
                root="../",
                pool=pool,
                choices=choices,
                chosen=frozenset(request.query.getall("machine", [])),
                boots=list(Boot),
                trouble=trouble,
                configured=self._users.configured,
                private=is_private(request),
                person=person or "",
            )
        return web.Response(text=html, content_type="text/html", status=status)

    def _choice(self, name: str, address: str) -> Choice:
        machine = self._hub.timeline.get(name)
        stage = machine.boots[-1].stage if machine is not None and machine.boots else None
        return Choice(name, address, STORY[stage].said if stage else "", self._hub.nodes.intent(name))

    async def _person(self, request: web.Request) -> str | web.StreamResponse:
        """Return who sent a change, or what whoever sent it is told."""
        try:
            return await self._users.may_change(request)
        except web.HTTPException as refused:
            text = (refused.text or "").strip()
            page = await self._machines.say(refused.status, "Nothing was changed", text)
            for header in ("WWW-Authenticate", "Retry-After"):
                if header in refused.headers:
                    page.headers[header] = refused.headers[header]
            return page


async def _form(request: web.Request) -> Mapping[str, list[str]]:
    """Return the values of a form. Raises `Refused`."""
    if request.content_type != FORM:
        raise Refused(415, "That is no form of this page.")
    form = await request.post()
    return {key: [str(value) for value in form.getall(key)] for key in form}


def _change(form: Mapping[str, list[str]], keys: Sequence[str]) -> Change:
    """Return what a form says. Raises `Refused`."""
    said: dict[str, object] = {key: " ".join(form[key]) for key in keys if key in form}
    if "once" in keys:
        said["once"] = bool(said.get("once")) and bool(said.get("image"))
    try:
        return change_of(said)
    except ValueError as error:
        raise Refused(400, str(error)) from None
