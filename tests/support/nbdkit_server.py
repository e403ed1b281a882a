"""`tests.support.serve_nbdkit` as a process of its own."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

_serial = itertools.count()


class NbdkitServer:
    """Images of a store through nbdkit, on a port of the loopback interface."""

    def __init__(self, folder: Path, farm: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        """Start it, for a farm of which only what matters is told."""
        self.folder = folder
        self.port = _free_port()
        configuration = folder / "farm.yaml"
        server = {"interfaces": ["lo"], "state": str(folder / "state")}
        configuration.write_text(yaml.safe_dump({"server": server, **farm}))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.serve_nbdkit", str(configuration), str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("a"),
            text=True,
            env=environment,
        )
        self.state: dict[str, Any] = {}
        self.events: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            if "event" in told:
                self.events.append(told["event"])
            else:
                self.state = told

    def wait(self, what: Callable[[dict[str, Any]], bool], within_s: float = 60.0) -> dict[str, Any]:
        """Wait for a state. Raises `AssertionError`, with the log, if it does not come."""
        ends = time.monotonic() + within_s
        while time.monotonic() < ends and self.process.poll() is None:
            state = self.state
            if state and what(state):
                return state
            time.sleep(0.01)
        raise AssertionError(f"not within {within_s} s: {self.state}\n{self.log}")

    def ready(self, within_s: float = 60.0) -> dict[str, Any]:
        """Wait until nbdkit serves; return the state."""
        return self.wait(lambda state: bool(state["serves"]), within_s)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.folder / "log").read_text()

    def logged(self, text: str) -> bool:
        """Wait until it has logged `text`; false if it does not."""
        ends = time.monotonic() + 60
        while text not in self.log:
            if time.monotonic() > ends:
                return False
            time.sleep(0.02)
        return True

    def uri(self, name: str = "node", query: str = "") -> str:
        """The URI of an export."""
        return f"nbd{'s' if query else ''}://127.0.0.1:{self.port}/{name}{query}"

    def stop(self, number: int = signal.SIGTERM, within_s: float = 60.0) -> int:
        """Send it a signal; return its exit code. Raises `subprocess.TimeoutExpired`."""
        self.process.send_signal(number)
        code = self.process.wait(within_s)
        self._reader.join(within_s)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def _free_port() -> int:
    """Return a port of the loopback interface that nobody listens on, and that no client of others is ever given.

    nbdkit takes it only later, and again after each of its ends.
    """
    while True:
        port = 10_900 + (os.getpid() * 16 + next(_serial)) % 20_000
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@contextmanager
def running(
    folder: Path, farm: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Iterator[NbdkitServer]:
    """Start a server; end it afterwards."""
    server = NbdkitServer(folder, farm, environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
