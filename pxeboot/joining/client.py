"""What the daemon asks of the controller, and hears from it, over the controller's unix socket.

The daemon needs no controller to run. It tells it of boots when it is there, and of all that still wait whenever it is
there again; whoever asks for a join command meanwhile hears that it is not.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from pxeboot.joining import talk
from pxeboot.joining.once import MOST, Boot
from pxeboot.joining.talk import BootBegun, JoinGiven, TokenAsked, Told

log = logging.getLogger("pxeboot")

CONNECT_S = 2.0
TELL_S = 5.0
"""So long the controller may take to hear of a boot."""
ASK_S = 60.0
"""So long it may take to make a token. Who waits for it asks again meanwhile."""
AGAIN_S = 5.0
"""When a machine asks again that was told to, unless the controller says."""
TELL_AGAIN_S = 1.0
SILENT_S = 30.0
"""A controller that says nothing for so long has gone; it says an empty line every 15 s."""
ASKING = 32
"""So many tokens are asked for at once; a farm that boots at once has more machines than a socket has room for."""
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.2, 5.0
MOST_BYTES = 1 << 20
"""Of an answer, and of a line of what happened."""


class NoJoin(Exception):
    """There is no join command; the text says why."""


class LaterJoin(NoJoin):
    """There is none now. `retry_after_s` says when to ask again."""

    def __init__(self, why: str, retry_after_s: float = AGAIN_S) -> None:
        """Say `why`."""
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Client:
    """Talks to one controller."""

    def __init__(
        self,
        path: Path,
        waiting: Callable[[], Sequence[Boot]],
        begun: Callable[[Boot], BootBegun | None],
        hear: Callable[[Told], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Talk at the unix socket `path`.

        `waiting` are the boots that the controller has to know of, `begun` what it is told of one, None if that is
        over or a newer one of its machine has begun; `hear` takes in what it tells. `clock` gives seconds since 1970.
        """
        self._path = path
        self._waiting = waiting
        self._begun = begun
        self._hear = hear
        self._clock = clock
        self.connected = False
        """Whether it answers."""
        self.since_s = clock()
        """Since when it does, or does not; seconds since 1970."""
        self.trouble = "it was not asked yet"
        """Why it does not answer, or what it said to a boot that it would not take; "" if all is well."""
        self._said = False
        self._untold: dict[str, Boot] = {}  # by machine: only the newest counts
        self._ended: dict[str, Boot] = {}  # likewise
        self._new = asyncio.Event()
        self._asking = asyncio.Semaphore(ASKING)
        self._session: aiohttp.ClientSession | None = None

    def begins(self, boot: Boot) -> None:
        """Tell the controller of a boot as soon as it answers. Never blocks; call it in the event loop."""
        self._untold[boot.machine] = boot
        self._new.set()

    def ended(self, boot: Boot) -> None:
        """Tell that a boot is over, though no other of its cluster begins. As `begins`.

        A controller that was restarted meanwhile grants it nothing either: it was told of it no more.
        """
        self._ended[boot.machine] = boot
        if len(self._ended) > MOST:
            del self._ended[next(iter(self._ended))]
        self._new.set()

    async def ask(self, boot: Boot) -> JoinGiven:
        """Return the join command of a boot. Raises `LaterJoin`, or `NoJoin` when there will be none."""
        asked = talk.dump(TokenAsked(boot.id, boot.seed))
        try:
            async with self._asking:
                # It may have been restarted since it was told of this boot.
                await self._tell(boot)
                status, text = await self._request("POST", boot, "/token", ASK_S, asked)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:  # a TimeoutError is one
            raise LaterJoin(f"the controller does not answer ({_why(error)})") from None
        try:
            if status == 200:
                return talk.join_given(text)
            refused = talk.refused(text)
        except talk.NotUnderstood as error:
            raise LaterJoin(f"the controller's answer is not understood: {error}") from None
        if status == 409:
            raise NoJoin(refused.error)
        raise LaterJoin(refused.error, AGAIN_S if refused.retry_after_s is None else refused.retry_after_s)

    async def run(self) -> None:
        """Follow what happens, and tell of boots, until cancelled."""
        back_off_s = FIRST_BACK_OFF_S
        while True:
            try:
                async with self._connected() as events:
                    back_off_s = FIRST_BACK_OFF_S
                    await self._follow(events)
                why = "it closed the connection"
            except (
                aiohttp.ClientError,
                HttpProcessingError,
                OSError,
            ) as error:  # a line that has no end is the second
                why = _why(error)
            except Exception as error:
                log.exception("what the controller told failed")
                why = type(error).__name__
            self._is(False, why)
            await asyncio.sleep(back_off_s * random.uniform(0.5, 1.0))
            back_off_s = min(back_off_s * 2, LONGEST_BACK_OFF_S)

    async def close(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=None)
        async with asyncio.timeout(TELL_S):
            events = await self._http().get("http://controller/v1/events", timeout=timeout)
        async with events:
            if events.status != 200:
                raise aiohttp.ClientError(f"status {events.status} for its events")
            yield events

    async def _follow(self, events: aiohttp.ClientResponse) -> None:
        """Tell of all boots that wait, then of each that begins, while what happens is heard."""
        self._untold = {boot.machine: boot for boot in self._waiting()}
        self._new.set()
        telling = asyncio.create_task(self._tell_all())
        try:
            while line := await _line(events):
                try:
                    if line.strip():  # it says nothing now and then, to say that it is there
                        self._hear(talk.told(line))
                except talk.NotUnderstood as error:
                    log.debug("the controller told something that is not understood: %s", error)
        finally:
            telling.cancel()

    async def _tell_all(self) -> None:
        self._is(True, "")
        while True:
            self._new.clear()
            while news := self._untold or self._ended:
                machine, boot = next(iter(news.items()))
                try:
                    await (self._tell(boot) if news is self._untold else self._tell_end(boot))
                except (aiohttp.ClientError, HttpProcessingError, OSError):
                    await asyncio.sleep(TELL_AGAIN_S)
                    if machine in news:  # else too many have ended meanwhile
                        news[machine] = news.pop(machine)  # the newest; others are told first
                    continue
                if news.get(machine) is boot:
                    del news[machine]
            await self._new.wait()

    async def _tell(self, boot: Boot) -> None:
        """Tell of one boot, if it is its machine's newest: whichever a controller hears of last ends the one before.

        Raises `aiohttp.ClientError`, `OSError`.
        """
        begun = self._begun(boot)
        if begun is None:
            return
        status, _ = await self._request("PUT", boot, "", TELL_S, talk.dump(begun))
        if self.connected:
            self.trouble = f"it keeps no cluster {boot.cluster}" if status == 404 else ""

    async def _tell_end(self, boot: Boot) -> None:
        """Tell that one boot is over. Raises `aiohttp.ClientError`, `OSError`."""
        status, _ = await self._request("DELETE", boot, f"/{boot.id}", TELL_S, "")
        if status >= 500:
            raise aiohttp.ClientError(f"status {status} for a boot that is over")

    async def _request(self, method: str, boot: Boot, more: str, total_s: float, body: str) -> tuple[int, bytes]:
        """Return the status and the body of an answer. Raises `aiohttp.ClientError`, `OSError`."""
        path = f"http://controller/v1/boots/{quote(boot.cluster, safe='')}/{quote(boot.machine, safe='')}{more}"
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S)
        url = URL(path, encoded=True)
        async with self._http().request(method, url, data=body.encode(), timeout=timeout) as answer:
            text = bytearray()
            async for some in answer.content.iter_any():
                text += some
                if len(text) > MOST_BYTES:
                    raise aiohttp.ClientError("an answer without an end")
            return answer.status, bytes(text)

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.UnixConnector(str(self._path), limit=64, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    def _is(self, connected: bool, trouble: str) -> None:
        """Note whether it answers; say so when that changes, and once at the start."""
        changed = connected != self.connected
        if changed:
            self.connected, self.since_s = connected, self._clock()
        if connected and changed:
            log.info("the controller answers at %s", self._path)
        elif not connected and (changed or not self._said):
            log.warning("the controller does not answer at %s: %s. Machines boot, and join once it is there",
                        self._path, trouble)  # fmt: skip
        self._said = True
        self.trouble = trouble


async def _line(events: aiohttp.ClientResponse) -> bytes:
    """Return the next line, b"" at the end. Raises `TimeoutError` when none comes.

    (asyncio.wait_for of Python 3.11 loses a cancellation that comes together with the line.)
    """
    async with asyncio.timeout(SILENT_S):
        return await events.content.readline()


def _why(error: Exception) -> str:
    """Return why there was no answer, in words."""
    match error:
        case aiohttp.ClientConnectorError(os_error=FileNotFoundError()):
            return "there is no such socket"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "nobody listens there"
        case aiohttp.ClientConnectorError(os_error=PermissionError()):
            return "we may not connect to it"
        case TimeoutError():
            return "it takes too long"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | ConnectionResetError():
            return "it closed the connection"
        case _:
            return type(error).__name__
