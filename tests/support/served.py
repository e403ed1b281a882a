"""`pxeboot serve` itself in a namespace, for real clients but no machine: the image of its farm boots nothing."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from pxeboot.bootfiles import loader
from tests.support.fake_image import add_image
from tests.support.segment import CommandFailed, Host

SERVER = "10.77.0.1"
MAC = "52:54:00:00:00:0a"
IP = "10.77.0.10"
TOKEN = "abcdef.0123456789abcdef"
JOIN = f"kubeadm join {SERVER}:6443 --token {TOKEN} --discovery-token-ca-cert-hash sha256:{'0' * 64}"
UDHCPC = ("busybox", "udhcpc", "-f", "-n", "-q", "-t", "12", "-T", "2", "-i", "eth0", "-s", "/bin/true")


class Prepared:
    """A folder with everything that a daemon needs: GRUB's images, an image store, lts.conf and the farm's file."""

    def __init__(self, folder: Path, grub: Path | None = None, size_bytes: int = 73_728, **more: Any) -> None:
        """Make them in `folder`. `grub` is a folder with GRUB's images, made once; `more` replaces whole sections."""
        self.folder = folder
        self.image = add_image(folder / "images", size_bytes=size_bytes)
        if grub is not None:
            shutil.copytree(grub, folder / "state/boot")
        self.lts_conf = folder / "lts.conf"
        self.lts_conf.write_text(
            f'[Default]\nRCFILE_07_JOIN_K8S = "{JOIN}"\nJOIN_K8S_EXPIRES = "2999-01-01T00:00:00Z"\n'
        )
        self.control = folder / "control.sock"
        self.configuration = folder / "farm.yaml"
        farm: Mapping[str, Any] = {
            "server": {"interfaces": ["eth1"], "state": str(folder / "state"), "control": str(self.control)},
            "dhcp": {"subnets": [{"subnet": "10.77.0.0/24", "pool": "10.77.0.200-10.77.0.220", "unknown": "workers"}]},
            "images": {"node": {"path": str(folder / "images/node")}, "gone": {"path": str(folder / "images/gone")}},
            "clusters": {"prod": {"lts_conf": str(self.lts_conf)}},
            "pools": [
                {
                    "name": "workers",
                    "image": "node",
                    "cluster": "prod",
                    "nodes": [{"name": "m1", "macs": [MAC], "ip": IP}],
                }
            ],
        }
        self.configuration.write_text(yaml.safe_dump({**farm, **more}, sort_keys=False))


def make_grub(folder: Path) -> Path:
    """Return a folder with GRUB's images."""
    loader.ensure(folder)
    return folder


class Daemon:
    """A `pxeboot serve` that said READY=1."""

    def __init__(
        self,
        host: Host,
        folder: Path,
        *argv: str,
        before: tuple[str, ...] = (),
        program: tuple[str, ...] = (sys.executable, "-m", "pxeboot"),
    ) -> None:
        """Start `pxeboot serve ARGV` on `host`, its log in `folder`; `before` is a command that becomes it.

        `program` is what is run in place of the command `pxeboot`.

        Raises `CommandFailed` if it ends, `TimeoutError` if it is not ready within 90 seconds.
        """
        self.host = host
        self.path = folder / f"serve-{time.monotonic_ns()}.log"
        notify = folder / f"notify-{time.monotonic_ns()}"
        command = [*before, *program, "serve", *argv]
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(notify))
        self.socket.settimeout(0.1)
        self.status = ""
        with self.path.open("w") as log:
            self.process = host.popen(
                *command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "NOTIFY_SOCKET": str(notify)}
            )
        deadline = time.monotonic() + 90
        while not (said := self.said()):
            if self.process.poll() is not None:
                raise CommandFailed(self.process.returncode, command, self.log, "")
            if time.monotonic() > deadline:
                raise TimeoutError(self.log)
        self.first_word = said

    def said(self) -> str:
        """Return the next message to the service manager that asks for something; "" if there is none in a moment."""
        while True:
            try:
                message = self.socket.recv(4096).decode()
            except TimeoutError:
                return ""
            if not message.startswith("STATUS="):
                return message
            self.status = message.removeprefix("STATUS=")

    def _drain(self) -> None:
        """Drop what it has told the service manager: the queue has ten places, and a daemon waits for one."""
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while self.socket.recv(4096):
                continue
        self.socket.settimeout(0.1)

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.path.read_text(errors="replace")

    def stop(self) -> float:
        """SIGTERM; return how long it took to end, in seconds."""
        self._drain()
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(timeout=90)
        return time.monotonic() - began


def serve(host: Host, *argv: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `pxeboot serve ARGV`, which is expected to end by itself, to its end."""
    return host.run(*before, sys.executable, "-m", "pxeboot", "serve", *argv, check=False, timeout=90)


def status(control: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run `pxeboot status`."""
    command = [sys.executable, "-m", "pxeboot", "status", "--control", str(control), *argv]
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=env)


def status_json(control: Path, *argv: str) -> Any:
    """Return what `pxeboot status --json` says."""
    said = status(control, "--json", *argv)
    if said.returncode:
        raise CommandFailed(said.returncode, said.args, said.stdout, said.stderr)
    return json.loads(said.stdout)


def node(control: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run `pxeboot node`."""
    command = [sys.executable, "-m", "pxeboot", "node", "--control", str(control), *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


def get_lease(host: Host) -> str:
    """Let udhcpc get a lease, take its address and return it."""
    done = host.run(*UDHCPC)
    found = re.search(r"lease of ([0-9.]+) obtained", done.stdout + done.stderr)
    if found is None:
        raise CommandFailed(1, UDHCPC, done.stdout, done.stderr)
    host.run("ip", "address", "replace", f"{found[1]}/24", "dev", host.interface)
    return found[1]


def http(host: Host, name: str, *options: str) -> tuple[int, bytes]:
    """Return the status and the body of GET /`name`, by curl."""
    argv = host.argv("curl", "-s", "--path-as-is", "-w", "\\n%{http_code}", *options, f"http://{SERVER}/{name}")
    said = subprocess.run(argv, capture_output=True, check=False, timeout=90).stdout
    body, _, code = said.rpartition(b"\n")
    return int(code), body


def tftp(host: Host, name: str, *options: str) -> bytes | None:
    """Return the file `name` by curl's TFTP client; None if it is refused."""
    argv = host.argv("curl", "-s", "-f", *(options or ("--tftp-blksize", "1428")), f"tftp://{SERVER}/{name}")
    done = subprocess.run(argv, capture_output=True, check=False, timeout=90)
    return None if done.returncode else done.stdout
