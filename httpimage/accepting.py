"""Connections as they come in. asyncio's own servers say a thousand times a second that no descriptor is left."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from httpimage.complaints import Complaints

AT_ONCE = 64
"""Connections that are taken before others get the event loop."""
AGAIN_S = 1.0
"""When to try once more after the kernel refused one."""

Take = Callable[[socket.socket, str], Coroutine[Any, Any, None] | None]
"""(connection, address of the peer) → what is done with it, or None: it was refused, and closed."""


async def accept(listener: socket.socket, take: Take, complain: Complaints) -> None:
    """Hand connections to `take`, until cancelled; then cancel what it has not done yet. Closes the listener."""
    loop = asyncio.get_running_loop()
    with listener:
        async with asyncio.TaskGroup() as tasks:
            taken = 0
            while True:
                try:
                    sock, (peer, _) = await loop.sock_accept(listener)
                except OSError as error:  # no descriptor left, most likely: those who wait are still there later
                    complain(logging.ERROR, "http cannot accept a connection: %s", error)
                    await asyncio.sleep(AGAIN_S)
                    continue
                work = take(sock, peer)
                if work is not None:
                    tasks.create_task(work)
                taken += 1
                if taken % AT_ONCE == 0:
                    await asyncio.sleep(0)


def hand_on(protocol: Callable[[], asyncio.Protocol]) -> Take:
    """Return what gives each connection a protocol at once."""
    loop = asyncio.get_running_loop()

    async def take(sock: socket.socket, peer: str) -> None:
        with suppress(OSError):  # it went away before we looked
            await loop.connect_accepted_socket(protocol, sock)

    return take
