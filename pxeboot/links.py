"""Which interfaces there are: looked at again whenever the kernel says that one changed (netlink), or every second.

The kernel's message is only the signal; what is true is read afterwards (`config.interfaces.links`, some 50 µs). So
no order of events, and no event that was lost, leaves us with a wrong picture. Where netlink is forbidden, the clock
is the signal. pyroute2 takes 0.15 s and 13 MB to import, so it is imported in a thread once we serve.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address

from config import interfaces
from config.interfaces import Link

log = logging.getLogger("pxeboot")

POLL_S = 1.0
"""How often to look without netlink."""
LOOK_ANYWAY_S = 15.0
"""How often to look with netlink, should the kernel have had no room for a message."""
PAUSE_S = 0.05
"""Changes come in bursts: the least time from one look to the next."""
_AGAIN_S = 5.0
_RTMGRP_LINK = 0x1  # <linux/rtnetlink.h>
_RTMGRP_IPV4_IFADDR = 0x10

Links = Mapping[str, Link]
Changed = Callable[[Links, frozenset[IPv4Address]], None]
"""Called with the interfaces that we serve or wait for, and with all addresses of this machine."""


class Watch:
    """Tells `changed` what the interfaces of `patterns` are, at first and whenever that changed."""

    def __init__(self, patterns: Sequence[str], changed: Changed) -> None:
        """`patterns` as for `config.interfaces.links`."""
        self._patterns = patterns
        self._changed = changed
        self._links: Links = {}
        self._own: frozenset[IPv4Address] = frozenset()
        self._signal = asyncio.Event()
        self._poll_s = POLL_S

    def look(self) -> None:
        """Look, and tell what changed. Raises only what `changed` raises."""
        try:
            links, own = interfaces.links(self._patterns), interfaces.own_addresses()
        except OSError as error:  # no descriptor left: what we knew is as good as anything
            log.warning("cannot look at the interfaces: %s", error)
            return
        if (links, own) != (self._links, self._own):
            self._links, self._own = links, own
            self._changed(links, own)

    def follow(self, patterns: Sequence[str]) -> None:
        """Watch other interfaces from now on, and tell of them at once."""
        self._patterns = patterns
        self.look()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="netlink")
            while True:
                self._signal.clear()
                self.look()
                await asyncio.sleep(PAUSE_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):  # wait_for of Python 3.11 may lose a cancellation
                        await self._signal.wait()

    async def _listen(self) -> None:
        """Set the signal at each message of the kernel about links and addresses."""
        said = False
        while True:
            try:
                await self._messages()
            except Exception as error:  # whatever pyroute2 meets: its sockets, its parser, a module it needs
                self._poll_s = POLL_S
                if not said:
                    log.warning("no netlink, so interfaces are looked at every second: %s", error or repr(error))
                said = True
            self._signal.set()
            await asyncio.sleep(_AGAIN_S)

    async def _messages(self) -> None:
        """Raises anything: pyroute2 does not say what it raises."""
        pyroute2 = await asyncio.to_thread(importlib.import_module, "pyroute2")
        logging.getLogger("pyroute2").setLevel(logging.WARNING)  # it otherwise tells every message in full
        async with pyroute2.AsyncIPRoute() as kernel:
            await kernel.bind(groups=_RTMGRP_LINK | _RTMGRP_IPV4_IFADDR)
            self._poll_s = LOOK_ANYWAY_S
            self._signal.set()  # what happened before we listened
            while True:
                async for _ in kernel.get():  # ends after each batch
                    self._signal.set()
