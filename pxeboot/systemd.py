"""What systemd and we tell each other: sd_notify(3) and the watchdog."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger("pxeboot")

PINGS = 4
"""So often we say that we live within the time that systemd waits for it."""

PATIENCE_S = 2.0
"""So long a manager that does not read may hold us up, with what it has to know: that we begin, reload or stop."""

OFTEN = ("WATCHDOG=1", "STATUS=")
"""What is said again within seconds, so that nobody needs to know when it could not be."""

STATUS_EVERY_S = 5.0
"""How old what `systemctl status` shows may be, where nobody waits for our pings."""


AGAIN_S = 0.2
"""When a word that found its queue full is said again."""


def notify(message: str, *, wait: bool = True) -> bool:
    """Send `message` (such as STOPPING=1) to the service manager, if one started us and wants to hear it.

    Its queue may be full: `PATIENCE_S` is waited then, and without `wait` False returned at once. A manager that
    cannot be told, because it is being replaced or its socket is not in our container, stops nobody who serves
    machines.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return True
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(PATIENCE_S if wait else 0.0)
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.sendall(message.encode())
    except BlockingIOError:
        return False
    except OSError as error:
        level = logging.DEBUG if message.startswith(OFTEN) else logging.WARNING
        log.log(level, "the service manager cannot be told %s: %s", message.split("\n")[0], error.strerror or error)
    return True


async def insist(message: str) -> None:
    """Send `message`, on which it depends whether we are killed, as soon as the manager has room for it."""
    while not notify(message, wait=False):  # noqa: ASYNC110  nothing tells us when there is room
        await asyncio.sleep(AGAIN_S)


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return the seconds after which systemd takes us for dead if it hears nothing; None: it does not."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or int(microseconds) == 0 or pid != str(os.getpid()):
        return None
    return int(microseconds) / 1e6


def status_line(served: Sequence[str], waits: Mapping[str, str], machines: int, refused: Sequence[str] | None) -> str:
    """Return what `systemctl status` shows of a daemon: where it serves, and what a person should look at.

    >>> status_line(["eth1"], {"eth2": "it is down"}, 12, None)
    'serves eth1; waits for eth2: it is down; 12 machines seen'
    """
    parts = [f"serves {', '.join(served)}"] if served else ["serves no interface"]
    parts += [f"waits for {name}: {lacks}" for name, lacks in sorted(waits.items())]
    if refused:
        parts.append(f"the farm's file is refused: {refused[0]}")
    parts.append(f"{machines} machine{'' if machines == 1 else 's'} seen")
    return "; ".join(parts)


async def keep_alive(status: Callable[[], str], ready: asyncio.Event) -> None:
    """Say that we are `ready`, and then that we live, from the event loop, so that one that hangs is started again.

    And what `status` says, until cancelled; at once over if nobody wants to hear of it.
    """
    if "NOTIFY_SOCKET" not in os.environ:
        return
    await ready.wait()
    await insist("READY=1")
    patience_s = watchdog_s()
    said = ""
    while True:
        parts = [] if patience_s is None else ["WATCHDOG=1"]
        if (line := status()) != said:
            said = line
            parts.append(f"STATUS={' '.join(line.split())}")
        if parts:
            notify("\n".join(parts), wait=False)
        await asyncio.sleep(STATUS_EVERY_S if patience_s is None else min(STATUS_EVERY_S, patience_s / PINGS))
