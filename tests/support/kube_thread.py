"""The stand-in Kubernetes API in a thread of the test, and the real controller as a process beside it."""

import asyncio
import json
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.support.kube_api import Fault, KubeApi
from tests.support.waiting import until as until

T = TypeVar("T")
ROOT = Path(__file__).parent.parent.parent


class ThreadedApi:
    """A `KubeApi` with a thread and a loop of its own, so that a test may block."""

    def __init__(self, folder: Path) -> None:
        self.api = KubeApi(folder)
        self.joined: list[str] = []
        self.api.on_node = self.joined.append
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.do(self.api.start())

    def stop(self) -> None:
        self.do(self.api.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def inject(self, fault: Fault) -> None:
        self.do(self.api.inject(fault))

    def forget(self, token_id: str) -> None:
        """Delete a token behind the controller's back."""
        self.do(self.api.delete(f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{token_id}"))

    def create(self, path: str, body: dict[str, Any]) -> None:
        """POST as the administrator. Raises `urllib.error.HTTPError`."""
        self._send("POST", path, body)

    def replace(self, path: str, body: dict[str, Any]) -> None:
        """PUT as the administrator. Raises `urllib.error.HTTPError`."""
        self._send("PUT", path, body)

    def _send(self, method: str, path: str, body: dict[str, Any]) -> None:
        user = json.loads(self.api.kubeconfig.read_text())["users"][0]["user"]
        headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.api.url + path, json.dumps(body).encode(), headers, method=method)
        context = ssl.create_default_context(cafile=str(self.api.ca))
        urllib.request.urlopen(request, timeout=60, context=context).close()

    @property
    def token_ids(self) -> list[str]:
        return sorted(
            name.removeprefix("bootstrap-token-") for name in self.api.secrets if name.startswith("bootstrap-token-")
        )


@contextmanager
def running_api(folder: Path) -> Iterator[ThreadedApi]:
    folder.mkdir(parents=True, exist_ok=True)
    api = ThreadedApi(folder)
    api.start()
    try:
        yield api
    finally:
        api.stop()


class Controller:
    """`pxeboot controller` as a process; what it says is in `log`."""

    def __init__(self, folder: Path, clusters: Mapping[str, Mapping[str, object]], *arguments: str) -> None:
        configuration = folder / "farm.yaml"
        server = {"controller": str(folder / "controller.sock")}
        farm = {"server": server, "clusters": {name: dict(cluster) for name, cluster in clusters.items()}}
        configuration.write_text(yaml.safe_dump(farm))
        self._log = folder / "controller.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from pxeboot.cli.controller import command; command()",
                    "-c",
                    str(configuration),
                    *arguments,
                ],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait(self, timeout_s: float = 90) -> int:
        return self.process.wait(timeout_s)

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; return the exit code and how long that took, in seconds."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60), time.monotonic() - begin

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running_controller(
    folder: Path, clusters: Mapping[str, Mapping[str, object]], *arguments: str
) -> Iterator[Controller]:
    controller = Controller(folder, clusters, *arguments)
    try:
        yield controller
    finally:
        controller.kill()


def join_command(lts_conf: Path) -> str:
    """The command in lts.conf, as a shell that sources the file would see it; "" without one."""
    found = re.search(r'^\s*RCFILE_07_JOIN_K8S\s*=\s*"([^"]*)"', lts_conf.read_text(), re.MULTILINE)
    return found[1] if found else ""
