"""One cluster's API: requests in, JSON out, and every failure as one `Unavailable`.

Credentials are read anew whenever connections are opened: at first, after a failure, after a 401 and every hour. So
another CA, certificate or token is taken up without a restart. What is sent is limited by a `Gate` for all callers.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
from lightkube.core.exceptions import ConfigError

from pxeboot.controller.join import Discovery
from pxeboot.kube.credentials import Opened, open_client
from pxeboot.kube.errors import AlreadyExists, Conflict, Held, Unavailable, refusal, retry_after
from pxeboot.kube.gate import Gate
from pxeboot.kube.paths import Object
from pxeboot.kube.times import running_clock

__all__ = ["AlreadyExists", "Api", "Conflict", "Unavailable"]

log = logging.getLogger("controller")

REQUEST_S = 5.0
"""How long one request may take, from connecting to the last byte; of a watch, to its beginning."""
CONNECTIONS_AGE_S = 3600.0
"""After so long credentials are read again, and connections opened with them (K-09)."""
FIELD_MANAGER = "pxeboot"
"""Under this name the API notes which fields are ours."""

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_OVERLOADED = frozenset({401, 429, *range(500, 600)})
"""Answers after which nobody sends for a while; other errors concern one request only."""


class _Connections:
    """A client that is closed when it is no longer the current one and its last user is done."""

    def __init__(self, opened: Opened, now: float) -> None:
        self.opened = opened
        self.made_at = now
        self.users = 0
        self.current = True

    async def leave(self) -> None:
        """Close it if nobody needs it any more."""
        if not self.users and not self.current:
            await self.opened.client.aclose()


class Api:
    """One cluster's API server, with the credentials of `kubeconfig`, or those of the pod we run in when it is None.

    `name` is the cluster's in our configuration, `api_server` where machines join if that is not for us to find out.
    """

    def __init__(
        self,
        name: str,
        kubeconfig: Path | None,
        api_server: str | None = None,
        clock: Callable[[], float] = running_clock,
    ) -> None:
        self.name = name
        self._kubeconfig = kubeconfig
        self._api_server = api_server
        self._clock = clock
        self._current: _Connections | None = None
        self._opening = asyncio.Lock()
        self._gate = Gate()
        self._warned = False
        self._server_ahead_s: float | None = None

    @property
    def skew_s(self) -> float:
        """How far the API server's clock is ahead of ours, in seconds; 0.0 before its first answer.

        Known to a second or so, by the Date of its last answer and a clock that nobody sets, so that a jump of our
        wall clock shows even while the API is away.
        """
        if self._server_ahead_s is None:
            return 0.0
        return self._server_ahead_s + self._clock() - time.time()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
    ) -> Object:
        """Send one request and return the object that it is answered with.

        Raises `Unavailable`; `Conflict` and `AlreadyExists`, which are such, for 409.
        """
        async with self._sent(method, path, query, body, content_type) as response:
            with translated(REQUEST_S):
                async with asyncio.timeout(REQUEST_S):
                    answer = json.loads(await response.aread())
        if not isinstance(answer, dict):
            raise Unavailable("the answer is no JSON object")
        return answer

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send a GET whose answer goes on, and give its bytes as they come. The caller bounds how long it waits.

        Raises `Unavailable`, when the bytes are read too.
        """
        async with self._sent("GET", path, query, None, JSON) as response, aclosing(_bytes(response)) as given:
            yield given

    async def own(self) -> Discovery | str:
        """Return the server and CA of our own credentials, or why machines cannot use them. Raises `Unavailable`."""
        async with self._connections() as connections:
            return connections.opened.own

    async def close(self) -> None:
        """Close the connections, those in use when they are done; the next call opens others."""
        await self._drop(self._current)

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, query: Mapping[str, str] | None, body: object, content_type: str
    ) -> AsyncIterator[httpx2.Response]:
        """Send it and give the answer, whose body is still to be read. Raises `Unavailable` if it is an error."""
        wait_s = self._gate.wait_s(self._clock())
        if wait_s > 0:
            raise Held(f"{self._gate.reason}; asked again in {wait_s:.0f} s", None, wait_s)
        self._gate.passed()
        async with AsyncExitStack() as held:
            try:
                connections = await held.enter_async_context(self._connections())
                request = connections.opened.client.build_request(
                    method,
                    path,
                    params=dict(query or {}),
                    content=None if body is None else json.dumps(body).encode(),
                    headers={"Accept": JSON} | ({} if body is None else {"Content-Type": content_type}),
                )
                response = await self._answer(connections, request)
            except BaseException:
                self._gate.gave_up()
                raise
            held.push_async_callback(response.aclose)
            yield response

    async def _answer(self, connections: _Connections, request: httpx2.Request) -> httpx2.Response:
        """Send it and return the answer's head. Raises `Unavailable` for what is none, or an error."""
        try:
            with translated(REQUEST_S):
                async with asyncio.timeout(REQUEST_S):
                    response = await connections.opened.client.send(request, stream=True)
                    self._set_clock(response.headers.get("Date", ""))
                    if not response.is_success:
                        async with aclosing(response):
                            raise await _refused(response)
        except Unavailable as error:
            if error.status is None or error.status in _OVERLOADED:
                self._gate.failed(str(error), self._clock(), random.random(), error.retry_after_s)
            else:
                self._gate.worked()
            if error.status is None or error.status == 401:
                await self._drop(connections)
            raise
        self._gate.worked()
        return response

    def _set_clock(self, date: str) -> None:
        with suppress(ValueError, TypeError, IndexError):
            # It is cut to whole seconds (RFC 9110 section 5.6.7), so half a second is added.
            self._server_ahead_s = parsedate_to_datetime(date).timestamp() + 0.5 - self._clock()

    @asynccontextmanager
    async def _connections(self) -> AsyncIterator[_Connections]:
        """Give the connections, opened with the credentials as they are on disk now if there are none."""
        async with self._opening:
            if self._current is not None and self._clock() - self._current.made_at > CONNECTIONS_AGE_S:
                await self._drop(self._current)
            if self._current is None:
                with translated(REQUEST_S):
                    opened = await asyncio.to_thread(open_client, self._kubeconfig, self._api_server)
                self._current = _Connections(opened, self._clock())
                if opened.unchecked and not self._warned:
                    self._warned = True
                    log.warning("%s: the API server is not authenticated: its kubeconfig switches that off", self.name)
            connections = self._current
            connections.users += 1
        try:
            yield connections
        finally:
            connections.users -= 1
            await connections.leave()

    async def _drop(self, connections: _Connections | None) -> None:
        if connections is not None:
            connections.current = False
            if self._current is connections:
                self._current = None
            await connections.leave()


async def _bytes(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    with translated(REQUEST_S):
        async for chunk in response.aiter_bytes():
            yield chunk


async def _refused(response: httpx2.Response) -> Unavailable:
    """The exception for an answer that is an error, with what its Status object says."""
    status: object = None
    with suppress(ValueError, RecursionError):
        status = json.loads(await response.aread())
    said = status if isinstance(status, dict) else {}
    reason, message = (text if isinstance(text := said.get(key), str) else "" for key in ("reason", "message"))
    after_s = retry_after(response.headers.get("Retry-After", ""))
    return refusal(response.status_code, reason, message, after_s, secret="/secrets" in response.request.url.path)


@contextmanager
def translated(within_s: float) -> Iterator[None]:
    """Turn what goes wrong inside into `Unavailable`; `within_s` is what a time-out there says of itself."""
    try:
        yield
    except (Unavailable, asyncio.CancelledError, GeneratorExit):
        raise
    except (TimeoutError, httpx2.TimeoutException):
        raise Unavailable(f"no answer within {within_s:g} s") from None
    except ConfigError as error:
        raise Unavailable(f"the credentials cannot be used: {error}") from None
    except httpx2.LocalProtocolError:
        # Its text quotes the header that may not be sent: the one with our token.
        raise Unavailable("the credentials cannot be used: they hold what no header may") from None
    except httpx2.HTTPError as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from None
    except OSError as error:
        raise Unavailable(f"the credentials cannot be read: {error}") from None
    except Exception as error:
        # A JSON decoder's and a TLS library's text may quote what they were given, so only its kind is told.
        raise Unavailable(f"the answer could not be understood ({type(error).__name__})") from None
