"""Shared DHCP leases: the daemon says on our unix socket what it wants, and hears what others have done.

What may be given to whom the daemon decides (`dhcp.shared`); here a write is carried out or refused by the API, as
a whole, because it names the version that it replaces. Nothing is kept here: whoever asks has all there is, from a
watch.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from aiohttp import web

from config.model import Farm
from dhcp.shared_wire import (
    Beat,
    Done,
    Entry,
    Gone,
    Listing,
    News,
    NotUnderstood,
    Outcome,
    Refused,
    Remove,
    Synced,
    Unknown,
    Wish,
    Write,
    dump_news,
    dump_outcomes,
    wishes_of,
)
from pxeboot.controller.lease_object import SELECTOR, entry_of, name_of, object_of
from pxeboot.kube import leases as kube
from pxeboot.kube.api import Api
from pxeboot.kube.cache import Change
from pxeboot.kube.errors import Unavailable
from pxeboot.kube.paths import LEASES, Object
from pxeboot.kube.watching import Watch

log = logging.getLogger("controller")

WRITE_S = 2.5
"""How long one write may take: a client repeats itself after 4 s, and is then to be answered."""
MOST_AT_ONCE = 32
"""Requests under way. More bring no more in a second."""
BEAT_S = 1.0
LEAST_PAUSE_S, MOST_PAUSE_S = 1.0, 8.0
"""Between two looks whether the API answers again."""
MOST_SKEW_S = 25.0
"""So that the clocks of two servers differ by less than `dhcp.shared.SKEW_S`."""
MOST_NEWS = 50_000
"""News that a daemon has not read yet; past this it is told all again."""
_BREATH = 500
"""Entries written before others get their turn."""


@dataclass(slots=True, eq=False)
class _Feed:
    """What one daemon is to be told."""

    news: list[News] = field(default_factory=list)
    wants_list: bool = True
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class LeaseService:
    """The shared leases of one cluster, in `namespace`. `run` keeps the watch; the rest answers the daemons."""

    def __init__(self, name: str, api: Api, namespace: str, farm: Farm) -> None:
        self.name = name
        self._api = api
        self._namespace = namespace
        self._farm = farm
        self._feeds: set[_Feed] = set()
        self._limit = asyncio.Semaphore(MOST_AT_ONCE)
        self._failed = ""
        """Why the last write failed; "" when the API has answered since."""
        self._unsynced = "its leases are not listed yet"
        self._pauses = 0
        self._look = asyncio.Event()
        self._closed = False
        self._watch = Watch(
            *(api, LEASES, _decode, self._changed),
            on_sync=self._on_sync,
            namespace=namespace,
            labels=SELECTOR,
        )

    def follow(self, farm: Farm) -> None:
        """Say of the leases that are written from now on what another farm says of them."""
        self._farm = farm

    @property
    def trouble(self) -> str:
        """Why nothing can be said of the leases now; "" if it can."""
        return self._failed or self._unsynced or self._wrong_clock

    @property
    def _wrong_clock(self) -> str:
        """Why nobody can rely on the times that we would write."""
        skew_s = self._api.skew_s
        return f"this machine's clock is {abs(skew_s):.0f} s off the API server's" if abs(skew_s) > MOST_SKEW_S else ""

    @property
    def count(self) -> int:
        """How many leases are shared."""
        return len(self._watch.values)

    def status(self) -> dict[str, object]:
        """Return a few JSON values for people."""
        return {"shared_leases": len(self._watch.values), "shared_leases_trouble": self.trouble or None}

    async def run(self) -> None:
        """Keep what the API has, and look whether it answers again after it did not, until cancelled."""
        self._closed = False
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch.run())
                tasks.create_task(self._look_again())
        finally:
            self.close()

    def close(self) -> None:
        """End what daemons listen to."""
        self._closed = True
        self._wake()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/dhcp/leases/CLUSTER/events."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        feed = _Feed()
        self._feeds.add(feed)
        try:
            while not self._closed:
                await self._feed(feed, response)
        except ConnectionError:
            pass
        finally:
            self._feeds.discard(feed)
        return response

    async def writes(self, request: web.Request) -> web.Response:
        """POST /v1/dhcp/leases/CLUSTER."""
        try:
            wishes = wishes_of(await request.read())
        except NotUnderstood as error:
            return web.json_response({"error": str(error)}, status=400)
        if not wishes and self.trouble:
            return web.json_response({"error": self.trouble}, status=503)
        outcomes = await asyncio.gather(*map(self._carry_out, wishes))
        return web.Response(text=dump_outcomes(outcomes), content_type="application/json")

    async def _feed(self, feed: _Feed, response: web.StreamResponse) -> None:
        """Tell one daemon what there is to tell; a beat if there is nothing for a while."""
        feed.wake.clear()
        if self.trouble:
            feed.wants_list, feed.news = True, []
        elif feed.wants_list:
            feed.wants_list, feed.news = False, []
            entries = iter(self._watch.values.values())
            await response.write(_lines([Listing()]))
            while some := [*islice(entries, _BREATH)]:
                await response.write(_lines(some))
                await asyncio.sleep(0)
            await response.write(_lines([Synced()]))
        news, feed.news = feed.news, []
        await response.write(_lines([*news, Beat(self.trouble or None)]))
        try:
            async with asyncio.timeout(BEAT_S):
                await feed.wake.wait()
        except TimeoutError:
            pass

    async def _carry_out(self, wish: Wish) -> Outcome:
        if self._wrong_clock:
            return Unknown(self._wrong_clock)
        try:
            async with self._limit, asyncio.timeout(WRITE_S):
                outcome = await self._ask(wish)
        except Unavailable as error:
            return self._fail(str(error))
        except TimeoutError:
            return self._fail(f"it has not answered a write for {WRITE_S:g} s")
        self._pauses = 0
        return outcome

    async def _ask(self, wish: Wish) -> Outcome:
        """Have the API do it. Raises `Unavailable`."""
        namespace = self._namespace
        match wish:
            case Write(entry, replaces):
                asked = object_of(entry, time.time(), replaces, self._farm)
                change = kube.replace_lease if replaces else kube.create_lease
                made = await change(self._api, namespace, asked)
                if made is not None:
                    return Done(entry_of(made))
            case Remove(address, version):
                number, _, uid = version.partition(".")
                known = kube.Lease(name_of(address), resource_version=number, uid=uid)
                if await kube.delete_lease(self._api, namespace, known):
                    return Done(None)
        found = await kube.get_lease(self._api, namespace, name_of(wish.address))
        return Refused(entry_of(found) if found is not None else None)

    def _fail(self, why: str) -> Unknown:
        if not self.trouble:
            log.warning("%s: DHCP leases cannot be shared: %s", self.name, why)
        self._failed = why
        self._look.set()
        self._wake()
        return Unknown(why)

    async def _look_again(self) -> None:
        """After a write that failed: find out when the API answers again."""
        while True:
            await self._look.wait()
            self._look.clear()
            while self._failed:
                await asyncio.sleep(min(MOST_PAUSE_S, LEAST_PAUSE_S * 2.0 ** min(self._pauses, 10)))
                try:
                    await kube.get_lease(self._api, self._namespace, "dhcp")
                except Unavailable as error:
                    self._failed = str(error)
                    continue
                self._pauses += 1
                self._failed = ""
                log.info("%s: DHCP leases can be shared again", self.name)
                self._wake()

    def _on_sync(self, in_sync: bool, why: str) -> None:
        self._unsynced = "" if in_sync else why or "its leases are not listed"
        for feed in self._feeds:
            feed.wants_list = True
        self._wake()

    def _changed(self, change: Change[Entry]) -> None:
        for feed in self._feeds:
            if feed.wants_list:
                continue
            if change.new is not None:
                feed.news.append(change.new)
            elif change.old is not None:
                feed.news.append(Gone(change.old.lease.address, change.old.version))
            feed.wake.set()
            if len(feed.news) > MOST_NEWS:
                feed.wants_list = True

    def _wake(self) -> None:
        for feed in self._feeds:
            feed.wake.set()


def _decode(raw: Object) -> Entry | None:
    return entry_of(kube.decode_lease(raw))


def _lines(news: Sequence[News]) -> bytes:
    return "".join(f"{dump_news(each)}\n" for each in news).encode()
