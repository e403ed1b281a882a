"""The page of one machine, at /machines/NAME, and what it asks to follow a boot.

GET /machines/NAME                       the page; ?level= and ?source= choose lines of its log
GET /machines/NAME/changed?since=STAMP   answered when something changed, or after a while: 200, or 204 if nothing did
GET /login?back=PATH                     asks for a name and a password, and leads back
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import quote

from aiohttp import web

from config.events import Stage
from pxeboot import images_chosen
from pxeboot.api.control import Route
from pxeboot.bootfiles.masked import mask
from pxeboot.hub import Hub
from pxeboot.image import store
from pxeboot.intents import Boot as Intended
from pxeboot.stuck import STORY, State
from pxeboot.timeline import Boot
from pxeboot.web import about, drawing
from pxeboot.web.ground import Lines, Subject, stamp, subject
from pxeboot.web.places import Places, is_gone
from pxeboot.web.templates import Templates
from pxeboot.web.users import Users, is_private

FOLLOWS_S = 20.0
"""So long a page that follows a machine waits for news."""
LOOK_S = 0.5
MOST_FOLLOWING = 64
"""Pages that follow a machine at once; others are told to come again."""
FORGET_S = 120.0
"""So long after the last page the lines of the farm's file are known."""
MOST_VERSIONS = 20
"""Versions of one image that can be chosen from; all can be named by `pxeboot node`."""


class Machines:
    """Answers about single machines."""

    def __init__(self, hub: Hub, templates: Templates, users: Users) -> None:
        """Make the pages with `templates`; `users` are those who may change something."""
        self._hub = hub
        self._templates = templates
        self._users = users
        self._lines = Lines()
        self._places = Places(MOST_FOLLOWING)
        self._forget: asyncio.TimerHandle | None = None

    @property
    def routes(self) -> Sequence[Route]:
        """What can be asked."""
        return (
            Route("GET", "/machines/{name}", self.page),
            Route("GET", "/machines/{name}/changed", self.changed),
            Route("GET", "/login", self.login),
        )

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Answer GET /machines/NAME."""
        return await self.show(request, request.match_info["name"], await self._users.name_of(request))

    async def show(
        self, request: web.Request, name: str, person: str | None, *, trouble: str = "", status: int = 200
    ) -> web.Response:
        """Return the page of a machine, with what could not be done as its first word."""
        found = subject(self._hub, name, time.time())
        if found is None:
            text = f"The farm's file lists no machine {name[:80]!r}, and none of that name was heard of."
            return await self.say(404, "No such machine", text, person)
        chosen = {"level": request.query.get("level", "all"), "source": request.query.get("source", "all")}
        may = {
            "configured": self._users.configured,
            "private": is_private(request),
            "person": person or "",
        }
        try:
            html = await self._hub.roots.looked_up(partial(self._html, found, chosen, may, trouble))
        except OSError as error:
            text = f"What it boots cannot be looked at: {error.strerror or error or 'a disk does not answer'}."
            return await self.say(503, name, text, person)
        loop = asyncio.get_running_loop()
        if self._forget is not None:
            self._forget.cancel()
        self._forget = loop.call_later(FORGET_S, self._lines.forget)
        return web.Response(text=html, content_type="text/html", status=status)

    async def say(self, status: int, title: str, text: str, person: str | None = None) -> web.Response:
        """Return a page that only says something."""
        html = await asyncio.to_thread(
            self._templates.render, "said.html", root="../", title=title, text=text, person=person or ""
        )
        return web.Response(text=html, content_type="text/html", status=status)

    async def changed(self, request: web.Request) -> web.StreamResponse:
        """Answer GET /machines/NAME/changed."""
        if not self._places.take(request):
            raise web.HTTPServiceUnavailable(text="Too many pages are open.\n", headers={"Retry-After": "10"})
        since, until_s = request.query.get("since", ""), time.monotonic() + FOLLOWS_S
        try:
            while time.monotonic() < until_s:
                if (now := stamp(self._hub, request.match_info["name"])) != since:
                    return web.Response(text=now)
                if is_gone(request):
                    break  # who asked looks at another page by now; the place is for somebody else
                await asyncio.sleep(LOOK_S)
        finally:
            self._places.leave(request)
        return web.Response(status=204)

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Answer GET /login: who has no name yet is asked for it by the browser."""
        await self._users.may_change(request)
        back = request.query.get("back", "./")
        if not back.startswith("machines/") or ".." in back or "\\" in back:
            back = "./"
        raise web.HTTPSeeOther(quote(back, safe="/"))

    def _html(self, found: Subject, chosen: dict[str, str], may: dict[str, object], trouble: str) -> str:
        """Return the page; in a thread: it opens images, and runs the DHCP engine. Raises `OSError`."""
        from pxeboot.web import reply  # what it needs would make the daemon's start longer by a twentieth

        now_s = found.known.now_s
        boot = found.boots[-1] if found.boots else None
        hash_ = found.farm.node.root_password_hash or ""
        lines, sources = about.log_of(found.lines, [one.started_s for one in found.boots], **chosen)
        return self._templates.render(
            "machine.html",
            root="../",
            it=found,
            now_s=now_s,
            trouble=trouble,
            state=found.verdict.state.value,
            stage=STORY[boot.stage].said if boot is not None and boot.stage is not None else "",
            words=mask(found.verdict.words),
            stuck=found.verdict.state is State.STUCK,
            refused=_refused(boot) if boot is not None else [],
            drawn=drawing.draw(boot, found.verdict, now_s) if boot is not None else None,
            boot=boot,
            noted=[(note.at_s, mask(note.text)) for note in boot.notes] if boot is not None else [],
            compared=drawing.compare(found.boots[::-1]) if len(found.boots) > 1 else [],
            earlier=found.boots[-2::-1] if len(found.boots) > 1 else (),
            reply=reply.explain(replace(found.known, marks=self._lines.of(self._hub)), found.answer, found.mac),
            preview=self._hub.tree.preview(found.booting) if found.booting is not None else None,
            runs=about.image_of(boot.report) if boot is not None else "",
            report=about.report_of(boot.report, [hash_]) if boot is not None else [],
            lines=lines,
            sources=sources,
            levels=list(about.LEVELS),
            chosen=chosen,
            boots=list(Intended),
            images=_choices(found),
            **may,
        )


def _refused(boot: Boot) -> list[str]:
    """Return who was refused what is this machine's alone."""
    return [mask(step.detail) for step in boot.steps if step.stage is Stage.REFUSED]


def _choices(found: Subject) -> list[tuple[str, str, bool]]:
    """Return the images that the machine can be told to boot: what is sent, what is shown, whether it is the one now.

    Blocks on the disk.
    """
    own = found.pool.image if found.pool is not None else ""
    now = found.intent.image
    out = [("", f"its pool's: {own}", now == "")]
    for name, image in found.farm.images.items():
        try:
            current = store.open_image(image.path).image_id
        except store.ImageError:
            continue
        if name != own:
            out.append((name, f"{name}, whatever version it is", now == name))
        for one in images_chosen.versions(found.farm, name)[:MOST_VERSIONS]:
            value = f"{name}@{one}"
            words = f"{name} {one[:12]}" + (", its current version" if one == current else "")
            out.append((value, words, now == value))
    if now and now not in [value for value, _, _ in out]:
        out.append((now, f"{now[:40]} (not there)", True))
    return out
