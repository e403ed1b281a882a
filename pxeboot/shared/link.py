"""The daemon's side of shared leases: asks its controller, which asks the API, and does what the book says.

Nothing waits here but those whose lease is on its way: a controller that is slow, stopped or gone costs them one
repetition of theirs, and then they are answered from what is known.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

import aiohttp

from dhcp.engine import Server
from dhcp.leases import Lease
from dhcp.shared import Book
from dhcp.shared_acts import Act, Ask, Deny, Go, Keep, Lost, Why
from dhcp.shared_wire import (
    Beat,
    Entry,
    Gone,
    Listing,
    News,
    NotUnderstood,
    Outcome,
    Synced,
    Unknown,
    Wish,
    dump_wishes,
    news_of,
    outcomes_of,
)
from dhcp.store import Away, LeaseStore, StoreBusy, Taken, Then

log = logging.getLogger("dhcp")

ANSWER_S = 4.0
"""How long the controller may take for one batch; it gives the API less."""
SILENCE_S = 4.0
"""A controller that has said nothing for so long has stopped: it says that it is alive every second."""
AGAIN_S = 0.5
"""Between two attempts to reach it: it is on this machine."""
PATIENCE_S = 5.0
"""After so long without the API people are told, at the start too."""
_TICK_S, _BUSY_S = 1.0, 0.002
_BATCH = 32
_BATCHES = 4
"""Under way at once."""
_LONGEST_LINE = 1 << 20
_JUMP_S = 10.0


@dataclass(slots=True)
class _Waiting:
    """Who waits for a lease to be kept."""

    go: Callable[[], None]
    then: Then


class Link:
    """Shares the leases of `server`, which `store` keeps, with the other servers of `cluster`.

    `socket` is the controller's. From when this is made on, no lease of a pool is stored without the API's word, or
    within what it said before.
    """

    def __init__(self, socket: Path, cluster: str, server: Server, store: LeaseStore) -> None:
        self.cluster = cluster
        self._socket = socket
        self._store = store
        self._server = server
        self.book = Book(server.leases, self._pooled)
        server.leases.others = self.book
        store.before = self._before
        self._waiting: dict[int, _Waiting] = {}
        self._tickets = count()
        self._asks: deque[Wish] = deque()
        self._asked = asyncio.Event()
        self._again = asyncio.Event()
        self._trouble = "it was not asked yet"
        self._told_trouble = False
        self._copies = True
        self._since = store.clock()

    @property
    def trouble(self) -> str | None:
        """Why the API cannot be asked now; None: it can."""
        return (self._trouble or "its list is being read") if self.book.away else None

    def status(self) -> Mapping[str, object]:
        """Return how it is, as JSON values."""
        return {
            "cluster": self.cluster,
            "trouble": self.trouble,
            "since_s": self._since,
            "addresses": len(self.book),
            "not_written_up": self.book.untold,
            "taken_by_others": self.book.taken,
            "conflicts": self.book.lost,
        }

    async def run(self) -> None:
        """Stay in touch until cancelled."""
        connector = aiohttp.UnixConnector(str(self._socket), limit=_BATCHES + 2)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(session), name="shared leases: news")
            tasks.create_task(self._tick(), name="shared leases: tick")
            for number in range(_BATCHES):
                tasks.create_task(self._ask(session), name=f"shared leases: {number}")

    def _pooled(self, address: IPv4Address) -> bool:
        return any(address in pool for network in self._server.plan.networks for pool in network.pools)

    def _before(self, lease: Lease, go: Callable[[], None], then: Then) -> None:
        ticket = next(self._tickets)
        self._waiting[ticket] = _Waiting(go, then)
        self._do(self.book.put(lease, ticket, self._store.clock()))

    def _do(self, acts: Sequence[Act]) -> None:
        for act in acts:
            match act:
                case Ask(wish):
                    self._asks.append(wish)
                    self._asked.set()
                case Go(ticket, lease):
                    self._go(self._waiting.pop(ticket), lease)
                case Deny(ticket, why):
                    self._waiting.pop(ticket).then(self._error(why))
                case Keep(lease):
                    self._store.keep(lease, _kept)
                case Lost(lease, now_of):
                    log.warning(
                        "dhcp: %s was told that it may keep %s, which another server gave to %s meanwhile",
                        *(lease.mac, lease.address, now_of.mac),
                    )

    def _go(self, waiting: _Waiting, lease: Lease) -> None:
        """Store it and let its answer leave. What the API has needs our copy only while the API is away."""
        if self.book.away or not self._pooled(lease.address):
            waiting.go()
        else:
            self._store.keep(lease, partial(self._copied, waiting.then))

    def _copied(self, then: Then, error: BaseException | None) -> None:
        """It is on our disk too, or this is full, or broken: then its client has it all the same."""
        if error is not None and self._copies:
            log.error(
                "dhcp: leases of cluster %s cannot be stored here; those that the API has are given all the same: %s",
                *(self.cluster, error),
            )
            self._copies = False
        elif error is None and self._store.degraded is None:  # what is on a disk that fails was there before
            self._copies = True
        then(None)

    def _error(self, why: Why) -> OSError:
        match why:
            case Why.TAKEN:
                return Taken("another server gave it to somebody else")
            case Why.AWAY:
                return Away(f"the API of cluster {self.cluster} cannot be asked: {self._trouble}")
            case Why.CHANGED:
                return Away("it has asked for something else meanwhile")
            case Why.BUSY:
                return StoreBusy("too many requests wait for the API already")

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        """Send what the book wants to know, what has come together in one batch."""
        while True:
            while not self._asks:
                self._asked.clear()
                await self._asked.wait()
            wishes = [self._asks.popleft() for _ in range(min(_BATCH, len(self._asks)))]
            outcomes = await self._outcomes(session, wishes)
            now = self._store.clock()
            for wish, outcome in zip(wishes, outcomes, strict=True):
                if isinstance(outcome, Unknown):
                    self._lose(outcome.why)
                try:
                    self._do(self.book.answered(wish, outcome, now))
                except Exception:
                    log.exception("dhcp failed after %s was asked for", wish.address)

    async def _outcomes(self, session: aiohttp.ClientSession, wishes: list[Wish]) -> Sequence[Outcome]:
        try:
            if self.book.away:
                return [Unknown(self._trouble)] * len(wishes)
            timeout = aiohttp.ClientTimeout(total=ANSWER_S)
            async with session.post(self._url(), data=dump_wishes(wishes), timeout=timeout) as response:
                text = await response.read()
                if response.status != 200:
                    return [Unknown(f"the controller answers {response.status}")] * len(wishes)
                outcomes = outcomes_of(text)
                if len(outcomes) == len(wishes):
                    return outcomes
                return [Unknown("the controller answers something else")] * len(wishes)
        except (aiohttp.ClientError, OSError, TimeoutError, NotUnderstood) as error:
            return [Unknown(_reason(error))] * len(wishes)
        except Exception:  # nothing that a controller says ends the daemon
            log.exception("dhcp failed on what the controller answers")
            return [Unknown("a fault of our own")] * len(wishes)

    def _url(self, part: str = "") -> str:
        return f"http://controller/v1/dhcp/leases/{self.cluster}{part}"

    def _lose(self, why: str) -> None:
        """What we know is not to be relied on until it was listed again."""
        self.book.away_now()
        self._trouble = why
        self._again.set()

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        """Take the news as they come, and connect again whenever that ends."""
        while True:
            self._again.clear()
            news = asyncio.create_task(self._news(session))
            again = asyncio.create_task(self._again.wait())
            try:
                await asyncio.wait((news, again), return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
                again.cancel()
                await asyncio.wait((news, again))  # to await one would swallow what cancels us meanwhile
            self.book.away_now()
            await asyncio.sleep(AGAIN_S)

    async def _news(self, session: aiohttp.ClientSession) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
        try:
            async with session.get(self._url("/events"), timeout=timeout, read_bufsize=_LONGEST_LINE) as response:
                if response.status != 200:
                    self._trouble = f"the controller answers {response.status}"
                    return
                async for line in response.content:
                    self._hear(news_of(line))
            self._trouble = "the controller ended the connection"
        except (aiohttp.ClientError, OSError, TimeoutError, NotUnderstood, ValueError) as error:
            self._trouble = _reason(error)
        except Exception:  # a bug of ours must not stop the machines of others
            log.exception("dhcp failed on news of shared leases")
            self._trouble = "a fault of our own"

    def _hear(self, news: News | None) -> None:
        now = self._store.clock()
        match news:
            case Listing():
                self.book.begin_list()
            case Entry():
                self._do(self.book.changed(news, now))
            case Gone(address, version):
                self._do(self.book.gone(address, version, now))
            case Synced():
                self._trouble = ""
                self.book.list_over()
            case Beat(trouble) if trouble is not None:
                self._trouble = trouble
                self.book.away_now()
            case Beat() | None:
                pass

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        before = self._store.clock() - loop.time()
        while True:
            now = self._store.clock()
            if abs(now - loop.time() - before) > _JUMP_S:  # the clock was set, and our leases moved with it
                before = now - loop.time()
                self._lose("the clock was set")
            was_busy = self.book.busy
            self._do(self.book.expire(now))
            self._tell(now)
            if self.book.away and not self.book.busy:
                await asyncio.sleep(_TICK_S / 20)
            else:
                await asyncio.sleep(_BUSY_S if was_busy else _TICK_S)

    def _tell(self, now: float) -> None:
        """Say once that the API is away, and once that it is back."""
        away = self.book.away
        if not away:
            if self._told_trouble:
                log.info("dhcp: the leases of cluster %s can be shared again", self.cluster)
                self._since = now
            self._told_trouble = False
        elif not self._told_trouble and (self._trouble != "it was not asked yet" or now > self._since + PATIENCE_S):
            log.warning(
                "dhcp: the leases of cluster %s cannot be shared: %s; machines that have one keep it, and others wait",
                *(self.cluster, self.trouble),
            )
            self._told_trouble, self._since = True, now


def _kept(error: BaseException | None) -> None:
    """Nobody waits; the store itself tells of a disk that fails."""


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the controller does not answer"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no controller is there"
    return f"{type(error).__name__}: {error}"
