"""Starts a server that is measured, waits until it answers, and stops it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.segment import Host

ROOT = Path(__file__).parent.parent
"""The checkout, in which servers of ours are found."""
_LOOK_S = 0.02


class NotReady(Exception):
    """A server ended by itself, or was not ready in time; the text ends with what it said."""


@dataclass(frozen=True, slots=True)
class Server:
    """How one is started."""

    name: str
    command: Sequence[str]
    """It stays in the foreground."""
    logs: Sequence[Path]
    """What it says; the first one gets its output."""
    ready: Callable[[int, str], bool]
    """Tells from its process and all that it has said so far whether it answers."""
    patience_s: float
    """How long it may take to start, or to stop."""
    environment: tuple[tuple[str, str], ...] = ()
    """What it needs there besides ours."""
    checkout: Path = ROOT
    """Where it is started."""

    def said(self) -> str:
        """Return what it has said so far."""
        return "".join(log.read_text(errors="replace") for log in self.logs if log.exists())


@contextmanager
def serving(server: Server, host: Host) -> Iterator[int]:
    """Start a server on `host`, wait until it is ready, yield its process, and stop it. Raises `NotReady`."""
    with server.logs[0].open("w") as out:
        process = host.popen(
            *server.command,
            env={**os.environ, **dict(server.environment)},
            cwd=server.checkout,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + server.patience_s
            while not server.ready(process.pid, server.said()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotReady(f"{server.name}: code {process.returncode}: {server.said()[-2000:]}")
                time.sleep(_LOOK_S)
            yield process.pid
            if process.poll() is not None:
                raise NotReady(f"{server.name} ended by itself: {process.returncode}: {server.said()[-2000:]}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(server.patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def has_port(pid: int, protocol: Literal["tcp", "udp"], port: int) -> bool:
    """Return whether a socket of the network namespace of process `pid` has this port; a TCP one listens on it.

    False while the process has not yet moved into a namespace other than ours, where somebody else may have the port.
    """
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return False
        table = Path(f"/proc/{pid}/net/{protocol}").read_text()
    except OSError:
        return False
    lines = (line.split() for line in table.splitlines()[1:])
    return any(line[1].endswith(f":{port:04X}") and (protocol == "udp" or line[3] == "0A") for line in lines)
