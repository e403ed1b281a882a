"""Who looks, and who changes something: HTTP Basic authentication (RFC 7617) against the file `web.users`.

Basic, since every browser and curl knows it and there is no session to steal. The price is that the password comes
with each request, so it is only asked for, and only taken, where nobody reads along: over TLS, or on loopback (behind
`ssh -L` or `kubectl port-forward`).
"""

import asyncio
import hmac
import logging
import os
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from threading import Lock

from aiohttp import web

from config.observing import Web
from pxeboot.seldom import Seldom
from pxeboot.web import passwords
from pxeboot.web.attempts import Attempts

log = logging.getLogger("pxeboot")

REMEMBERED_S = 600.0
"""So long a password that was right is known without asking scrypt again: a page is a dozen requests."""
MOST_REMEMBERED = 256
MOST_WAITING = 16
"""Tries that may wait for their turn; each costs 50 ms of a core and 16 MiB."""

OPEN = frozenset({"/metrics", "/healthz", "/readyz"})
"""What anybody may read: it holds no machine's name."""

CHALLENGE = {"WWW-Authenticate": 'Basic realm="pxeboot", charset="UTF-8"', "Cache-Control": "no-store"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who sent a request, as far as it says."""

    authorization: str
    """The header of that name."""
    address: str
    private: bool
    """Whether nobody on a network can read what comes with the request."""

    @classmethod
    def of(cls, request: web.Request) -> "Asker":
        """Return who sent `request`."""
        return cls(request.headers.get("Authorization", ""), request.remote or "", is_private(request))


class Users:
    """The people of one farm. Make one inside a running event loop."""

    def __init__(self, settings: Callable[[], Web], clock: Callable[[], float] = time.monotonic) -> None:
        """Ask `settings` for the settings as they are now."""
        self._settings = settings
        self._clock = clock
        self._key = os.urandom(32)
        self._right: dict[bytes, float] = {}
        """Who was right, as a keyed digest, and until when that holds."""
        self._attempts = Attempts()
        self._file = _File()
        self._one = asyncio.Lock()
        self._waiting = 0
        self._seldom = Seldom()

    @property
    def configured(self) -> bool:
        """Whether anybody may change anything at all."""
        return self._settings().users is not None

    async def may_change(self, request: web.Request) -> str:
        """Return the name of the person who sent `request`. Raises `web.HTTPException`, with words, for anybody else.

        Whoever calls this has made sure that a page of ours sent it, and no other site's (`pxeboot.web.site`).
        """
        if not self.configured:
            raise web.HTTPForbidden(text="This page only shows: the farm's file names no `web.users`.\n")
        return await self.person(Asker.of(request))

    async def name_of(self, request: web.Request) -> str | None:
        """Return who is logged in; None if nobody is, or the password is wrong or not to be taken here."""
        asker = Asker.of(request)
        if not self.configured or not asker.authorization or not asker.private:
            return None
        try:
            return await self.person(asker)
        except web.HTTPException:
            return None

    @web.middleware
    async def readers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """With `read: users`, answer only who is listed; `OPEN` to everybody."""
        if self._settings().read == "users" and request.path not in OPEN:
            await self.person(Asker.of(request))
        return await handler(request)

    async def person(self, asker: Asker) -> str:
        """Return the name of whoever sent a request. Raises `web.HTTPException`, with words, for nobody."""
        path = self._settings().users
        if path is None:
            raise web.HTTPForbidden(text="`web.read` is `users`, and the farm's file names no `web.users`.\n")
        if not asker.private:
            raise web.HTTPForbidden(
                text="Passwords are not taken over plain HTTP, where others can read along: give this page TLS"
                " (`web.tls`), or come to it by the server's loopback (`ssh -L 8067:127.0.0.1:8067 SERVER`).\n"
            )
        name, password = credentials(asker.authorization)
        if not name:
            raise web.HTTPUnauthorized(text="A name and a password are needed.\n", headers=CHALLENGE)
        people = await asyncio.to_thread(self._file.read, path)
        digest = self._digest(name, password, people)
        if self._right.get(digest, 0.0) > self._clock() and name in people:
            return name
        await self._try(asker.address, name, password, people)
        self._remember(digest)
        return name

    async def _try(self, address: str, name: str, password: str, people: dict[str, passwords.Kept]) -> None:
        wait_s = self._attempts.wait_s(address, self._clock())
        if wait_s > 0 or self._waiting >= MOST_WAITING:
            headers = {"Retry-After": str(int(wait_s) + 1), "Cache-Control": "no-store"}
            raise web.HTTPTooManyRequests(text="Too many wrong passwords; try again in a minute.\n", headers=headers)
        self._attempts.begin(address, self._clock())
        self._waiting += 1
        try:
            async with self._one:  # one at a time: guessing must cost us no more than one core
                right = await asyncio.to_thread(passwords.is_listed, people, name, password)
        finally:
            self._waiting -= 1
        if not right:
            if self._seldom("wrong", address):
                log.warning("web: a name or a password from %s was wrong", address)  # neither is told: people mix them
            raise web.HTTPUnauthorized(text="That name or password is wrong.\n", headers=CHALLENGE)
        self._attempts.right(address)

    def _digest(self, name: str, password: str, people: dict[str, passwords.Kept]) -> bytes:
        """Return what one right password is remembered by; it says nothing to whoever has not our key."""
        secret = "\0".join((name, str(people.get(name, "")), password))
        return hmac.new(self._key, secret.encode(), sha256).digest()

    def _remember(self, digest: bytes) -> None:
        self._right.pop(digest, None)
        self._right[digest] = self._clock() + REMEMBERED_S
        while len(self._right) > MOST_REMEMBERED:
            del self._right[next(iter(self._right))]


class _File:
    """The file of users, read again when it has changed. For use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: object = None
        self._people: dict[str, passwords.Kept] = {}

    def read(self, path: Path) -> dict[str, passwords.Kept]:
        """Return who is listed now: nobody, if the file cannot be read."""
        with self._lock:
            try:
                about = path.stat()
                seen = (path, about.st_mtime_ns, about.st_size, about.st_ino)
                if seen != self._seen:
                    people, wrong = passwords.parse_file(path.read_text(encoding="utf-8"))
                    self._people, self._seen = people, seen
                    for what in wrong:
                        log.error("web.users: %s: %s", path, what)
                    if about.st_mode & 0o004:
                        log.warning("web.users: anybody on this host may read %s: chmod o-r", path)
            except (OSError, UnicodeDecodeError) as error:
                if self._seen != (path, str(error)):
                    why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
                    log.error("web.users: %s cannot be read, so nobody may change anything: %s", path, why)
                self._people, self._seen = {}, (path, str(error))
            return self._people


def credentials(header: str) -> tuple[str, str]:
    """Return the name and the password of an Authorization header; two empty ones if it holds none.

    >>> credentials("Basic YW5uYTpnZWhlaW06eA==")
    ('anna', 'geheim:x')
    """
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > 1024:
        return "", ""
    try:
        name, _, password = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:  # also what is no base64 and no UTF-8
        return "", ""
    return name, password


def is_private(request: web.Request) -> bool:
    """Return whether nobody on a network can read what comes with `request`: it came over TLS, or on loopback."""
    if request.secure:
        return True
    at = request.transport.get_extra_info("sockname") if request.transport is not None else None
    try:
        return at is not None and ip_address(at[0]).is_loopback
    except ValueError:
        return False
