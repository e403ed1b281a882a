"""An lts.conf under a key of a ConfigMap or Secret, with the join command in it.

Only our key of the object is ever sent, and in it only our keys of our section change. A write is taken only while
the object is as it was read (its resourceVersion), so nobody's edit is lost: we read again, and write into what they
wrote.
"""

import asyncio
from collections.abc import Callable

from config.clusters import Push
from pxeboot.controller.engine import Followed, Published
from pxeboot.controller.join import JoinCommand
from pxeboot.controller.lts_text import Place
from pxeboot.kube.api import Api
from pxeboot.kube.errors import Conflict
from pxeboot.kube.objects import Text, read_text, write_text

_TRIES = 5


class LtsObject:
    """One join command's place: an object of the API, its key, a section in that text and a key in that.

    All raise `Unavailable`, which a `Conflict` is, and `ValueError` for a text that is no lts.conf; it is then not
    touched.
    """

    def __init__(self, api: Api, push: Push, place: Place, first: Callable[[], str] = str) -> None:
        """`first` gives the text that is written into where there is none yet; it may wait for the disk."""
        self._api = api
        self._push = push
        self._place = place
        self._first = first
        self._held: Text | None = None

    def __str__(self) -> str:
        return f"{self._push.kind} {self._push.namespace}/{self._push.name}"

    async def read(self) -> Published | None:
        """Return what is published now; None also when there is no such object."""
        self._held = await read_text(self._api, self._push)
        return self._published()

    async def publish(
        self, join: JoinCommand, expires: float, hosts: tuple[str, ...] = (), followed: tuple[Followed, ...] = ()
    ) -> None:
        """Write the join command and what goes with it.

        An object that is not there is made, if we may: the roles we ship do not allow it, since who may make any
        Secret in a namespace can have a token of its service accounts.
        Raises `Conflict` when somebody else published another command since the last `read`, and `OSError`.
        """
        before = self._published()
        for _ in range(_TRIES):
            text = self._held.text if self._held is not None else None
            if text is None:
                text = await asyncio.to_thread(self._first)
            if await self._written(self._place.publish(text, join, expires, hosts, followed)):
                return
            if await self.read() != before:
                raise Conflict(f"{self} was given another join command meanwhile", 409)
        raise Conflict(f"{self} changes all the time", 409)

    async def retract(self) -> None:
        """Take the join command and what goes with it out."""
        before = self._published()
        for _ in range(_TRIES):
            if self._held is None or await self._written(self._place.retract(self._held.text or "")):
                return
            if await self.read() != before:
                return  # it is not what had expired any more
        raise Conflict(f"{self} changes all the time", 409)

    def _published(self) -> Published | None:
        return None if self._held is None or self._held.text is None else self._place.read(self._held.text)

    async def _written(self, text: str) -> bool:
        """Write our key while the object is as we last read it; False: it is not."""
        version = None if self._held is None else self._held.resource_version
        try:
            self._held = await write_text(self._api, self._push, text, version)
        except Conflict:
            return False
        return True
