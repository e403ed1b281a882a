"""The boot intents, asked and changed through the control socket.

GET /v1/nodes               every machine of the farm, and others that have an intent of their own
GET /v1/nodes/NAME          one machine
PUT /v1/nodes/NAME          {"boot": "local"}, {"image": "NAME"}, {"image": "NAME@ID", "once": true}, {"image": ""}
PUT /v1/nodes               {"names": ["m1", "m2"], "boot": "local"}: all of them, or none
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from config.model import Farm
from pxeboot.api.control import Route, answer, in_turn
from pxeboot.images_chosen import Refused, allowed, resolved
from pxeboot.intent_store import IntentStore
from pxeboot.intents import Boot, Intent, Origin
from pxeboot.meant import Book, nobody

log = logging.getLogger("pxeboot")


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody says that machines are to do; None: that is to stay as it is."""

    boot: Boot | None
    image: str | None = None
    """NAME or NAME@ID; "": that of their pools."""
    once: bool = False
    """Whether the image is for one boot only."""


def change_of(said: Mapping[str, object]) -> Change:
    """Return what `boot`, `image` and `once` say. Raises `ValueError`."""
    boot, image, once = said.get("boot"), said.get("image"), said.get("once", False)
    if boot is not None and boot not in list(Boot):
        raise ValueError(f"boot must be one of {', '.join(Boot)}")
    if not (image is None or isinstance(image, str)):
        raise ValueError("image must be the name of an image")
    if not isinstance(once, bool) or (once and not image):
        raise ValueError("once must be true or false, and goes with an image; for one boot there is boot=once, too")
    if boot is None and image is None:
        raise ValueError(f"boot must be one of {', '.join(Boot)}, or image the name of an image")
    return Change(None if boot is None else Boot(str(boot)), image, once)


class Unknown(Refused):
    """A word that names no machine."""

    def __init__(self, word: str) -> None:
        super().__init__(404, nobody(word))
        self.word = word

    def as_json(self) -> dict[str, object]:
        """Return what is answered; whoever asked may look for a word that is like `unknown`."""
        return {"error": str(self), "unknown": self.word}


class Nodes:
    """Answers about the machines of a farm."""

    def __init__(
        self, farm: Callable[[], Farm], store: IntentStore, heard_of: Callable[[str], bool], book: Book
    ) -> None:
        """Ask `farm` for the farm as it is now. A machine that it does not list must have been `heard_of`.

        `book` knows who is meant by a MAC or an address.
        """
        self._farm = farm
        self._book = book
        self._store = store
        self._heard_of = heard_of

    @property
    def routes(self) -> Sequence[Route]:
        """What can be asked."""
        return (
            Route("GET", "/v1/nodes", self.every),
            Route("PUT", "/v1/nodes", self.change_many),
            Route("GET", "/v1/nodes/{name}", self.one),
            Route("PUT", "/v1/nodes/{name}", self.change_one),
        )

    def about(self, name: str) -> dict[str, object]:
        """Return what the status of a machine says of its intent."""
        intent = self._store.of(name)
        image = {"image": intent.image, "image_once": intent.image_once} if intent.image else {}
        return {"intent": intent.boot} | image

    def is_listed(self, name: str) -> bool:
        """Return whether the farm's file lists a machine of this name."""
        return self._store.configured(name) is not None

    def intent(self, name: str) -> Intent:
        """Return what a machine is to do."""
        return self._store.of(name)

    def _node(self, name: str, pool: str) -> dict[str, object]:
        intent = self._store.of(name)
        return {
            "name": name,
            "pool": pool,
            "boot": intent.boot,
            "origin": intent.origin,
            "by": intent.by,
            "image": intent.image,
            "image_once": intent.image_once,
            "since_s": intent.since_s,
            "configured": self._store.configured(name),
        }

    def _pools(self) -> dict[str, str]:
        return {node.name: pool.name for pool in self._farm().pools for node in pool.nodes}

    async def every(self, _: web.Request) -> web.Response:
        """Answer GET /v1/nodes."""
        pools = dict.fromkeys(self._store.unlisted, "") | self._pools()
        pool_names = [pool.name for pool in self._farm().pools]
        nodes = [self._node(name, pool) async for name, pool in in_turn(sorted(pools.items()))]
        return await answer({"pools": pool_names, "nodes": nodes})

    def _names(self, said: Sequence[str]) -> list[str]:
        """Return machines' names; each may be called by a MAC or its address. Raises `Refused` if one is nobody."""
        names: dict[str, None] = {}
        for word in said:
            if (name := self._book.find(word, self._is_known)) is None:
                raise Unknown(word)
            names[name] = None
        return list(names)

    async def one(self, request: web.Request) -> web.Response:
        """Answer GET /v1/nodes/NAME."""
        try:
            (name,) = self._names([request.match_info["name"]])
        except Unknown as error:
            return await answer(error.as_json(), error.status)
        return await answer(self._node(name, self._pools().get(name, "")))

    async def change_one(self, request: web.Request) -> web.Response:
        """Answer PUT /v1/nodes/NAME."""
        return await self._change(await _body(request), [request.match_info["name"]])

    async def change_many(self, request: web.Request) -> web.Response:
        """Answer PUT /v1/nodes."""
        body = await _body(request)
        names = body.get("names") if body else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return await answer({"error": "names must be a list of machines' names"}, 400)
        return await self._change(body, names)

    async def _change(self, body: Mapping[str, object] | None, names: list[str]) -> web.Response:
        try:
            change = change_of(body or {})
            said = await self.say(names, change)
        except ValueError as error:
            return await answer({"error": str(error)}, 400)
        except Unknown as error:
            return await answer(error.as_json(), error.status)
        except Refused as error:
            return await answer({"error": str(error)}, error.status)
        pools = self._pools()
        return await answer({"nodes": [self._node(name, pools.get(name, "")) async for name in in_turn(said)]})

    async def say(self, names: Sequence[str], change: Change, by: str = "") -> Sequence[str]:
        """Let these machines do something else from now on, all or none, and return their names; log who said so.

        `by` is the person who said so on the web page; "": it was said through the control socket. Raises `Refused`.
        """
        names = self._names(names)
        image = change.image
        if image:
            farm = self._farm()
            image = await asyncio.to_thread(resolved, farm, image)
            allowed(farm, names, image)
        origin = Origin.PAGE if by else Origin.COMMAND
        try:
            await asyncio.to_thread(
                self._store.say, names, change.boot, image=image, once=change.once, origin=origin, by=by
            )
        except OSError as error:
            log.error("boot intents cannot be kept, so nothing changes: %s", error)
            raise Refused(507, f"nothing changed: it cannot be kept: {error.strerror or error}") from None
        words = [f"boot={change.boot}"] if change.boot is not None else []
        if image is not None:
            words.append(f"image={image or 'its pool'}{' once' if change.once else ''}")
        log.info("%s: %s, says %s", ", ".join(names), " ".join(words), f"{by} ({origin})" if by else origin)
        return names

    def _is_known(self, name: str) -> bool:
        """Return whether somebody has this name."""
        return self.is_listed(name) or self._heard_of(name) or name in self._store.unlisted


async def _body(request: web.Request) -> Mapping[str, object] | None:
    """Return the JSON object that was sent; None if it is none."""
    try:
        value = json.loads(await request.text())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
