"""What asyncio says when no connection can be accepted: a hundred tracebacks a second, unless it is said otherwise."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from pxeboot.seldom import Seldom

log = logging.getLogger("pxeboot")

_NONE_LEFT = "socket.accept() out of system resource"
"""Its words for it."""


def say_seldom(seldom: Callable[..., bool] | None = None) -> None:
    """From now on, say once a minute that the running loop cannot accept connections; all else as before."""
    say = seldom or Seldom()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") != _NONE_LEFT:
            loop.default_exception_handler(context)
        elif say("accept"):
            log.error("no connection can be accepted, they wait: %s", context.get("exception"))

    asyncio.get_running_loop().set_exception_handler(handle)
