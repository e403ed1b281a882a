"""Lines for a machine's /etc/hosts: the addresses of an API server that is known by a name.

A machine that boots may know no DNS server, or not the one that knows the cluster's inner names. The controller does,
or is told the address (`api_address`), and hands both on beside the join command.

A look-up may hang for as long as the resolver likes, and a thread in it cannot be ended. So each is in a thread of its
own, which the process does not wait for when it ends, and a name has one at a time.
"""

import asyncio
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address

log = logging.getLogger("controller")

LOOK_UP_S = 3.0
"""How long an answer is waited for."""
KEPT_S = 30.0
"""How long an answer is good before it is asked for again."""
MOST = 8
"""Lines for one name; a farm's API servers are few, and a wrong DNS server's answer may be long."""

LookUp = Callable[[str], tuple[IPv4Address, ...]]


def name_of(server: str) -> str | None:
    """Return the HOST of a HOST:PORT where it is a name that has to be looked up, else None.

    >>> name_of("api.example.org:6443"), name_of("10.0.0.1:6443"), name_of("[fd00::1]:6443")
    ('api.example.org', None, None)
    """
    host = server.rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host or None
    return None


class HostLines:
    """The lines for one cluster's API server, which remember.

    What a name meant last stays while nobody can be asked, so that a command that is published does not change with
    every stumble of a DNS server.
    """

    def __init__(
        self,
        api_address: IPv4Address | None,
        look_up: LookUp | None = None,
        within_s: float = LOOK_UP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = api_address
        self._look_up = look_up or addresses
        self._within_s = within_s
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[IPv4Address, ...]]] = {}
        self._asking: dict[str, asyncio.Future[tuple[IPv4Address, ...]]] = {}

    async def lines(self, server: str) -> tuple[str, ...] | None:
        """Return the `IP NAME` lines for a HOST:PORT; () if it needs none, None if its name was never found."""
        name = name_of(server)
        if name is None:
            return ()
        if self._address is not None:
            return (f"{self._address} {name}",)
        asked, found = self._known.get(name, (float("-inf"), ()))
        if self._clock() - asked >= KEPT_S:
            found = await self._ask(name) or found
            self._known = {name: (self._clock(), found)}
        return tuple(f"{address} {name}" for address in found) or None

    async def _ask(self, name: str) -> tuple[IPv4Address, ...]:
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = self._begin(name)
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._within_s):
                if found := await asyncio.shield(asking):
                    return found
        log.warning("the address of %r is not known here: set api_address, or see to DNS", name)
        return ()

    def _begin(self, name: str) -> "asyncio.Future[tuple[IPv4Address, ...]]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[IPv4Address, ...]] = loop.create_future()

        def tell(found: tuple[IPv4Address, ...]) -> None:
            if not answer.done():
                answer.set_result(found)

        def work() -> None:
            found = self._look_up(name)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, found)

        threading.Thread(target=work, name=f"look up {name}", daemon=True).start()
        return answer


def addresses(name: str) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses of `name`, sorted, since DNS servers turn them round; () if there are none."""
    try:
        found = socket.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted({IPv4Address(address[0]) for *_, address in found})[:MOST])
