"""The HTTP servers that are compared: nginx, and `pxeboot serve` as it is installed. Both serve one image's file."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.serving import ROOT, Server, has_port, serving
from bench.sides import OURS, family
from pxeboot.image import store
from tests.support.segment import Host

SERVER = "10.77.0.1"
CLIENT = "10.77.0.2"
LENGTH = 24
PORT = 80
PATIENCE_S = 60.0
"""How long a server may take to start or to stop. Our very first start makes GRUB's network images."""
FOLDER = ROOT / ".build/bench-http"
"""Where the image and the state of the servers are kept: a real disk, used again by the next run."""


@dataclass(frozen=True, slots=True)
class Image:
    """What is downloaded."""

    folder: Path
    path: str
    """Below the server."""
    size_bytes: int


class Peer(Protocol):
    """One kind of server."""

    @property
    def name(self) -> str:
        """The head of its column."""

    @property
    def says_ready(self) -> str:
        """What stands in its log once it answers; "" if only its port tells."""

    def title(self) -> str:
        """Return its name, version and how it runs."""

    def prepare(self, folder: Path, image: Image) -> list[str]:
        """Write its configuration into the folder, and return the command that serves it in the foreground."""


class Pxeboot:
    """Ours: the whole daemon, with all its servers and the lookup of a farm."""

    name = OURS
    says_ready = "ready in"

    def title(self) -> str:
        """Return its name."""
        return "pxeboot serve (DHCP, TFTP, HTTP and NBD in one process, INFO log)"

    def prepare(self, folder: Path, image: Image) -> list[str]:
        """Write a farm."""
        farm = {
            "server": {"interfaces": ["eth1"], "state": f"{folder}/state", "control": f"{folder}/control.sock"},
            "dhcp": {
                "subnets": [{"subnet": f"10.77.0.0/{LENGTH}", "pool": "10.77.0.128-10.77.0.250", "unknown": "all"}]
            },
            "images": {"node": {"path": str(image.folder)}},
            "pools": [{"name": "all", "image": "node"}],
        }
        file = folder / "farm.yaml"
        file.write_text(json.dumps(farm))
        return [sys.executable, "-m", "pxeboot", "serve", "--config", str(file)]


class Nginx:
    """nginx as Debian configures it: sendfile, tcp_nopush, a worker for each processor; without its access log.

    Nor does it end connections after 1,000 requests, which a fast machine makes in the time of a measurement.
    """

    name = "nginx"
    says_ready = ""

    def title(self) -> str:
        """Return its name and version."""
        said = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr
        return f"{said.strip().rpartition(' ')[2]} (sendfile on, tcp_nopush on, worker_processes auto, no access log)"

    def prepare(self, folder: Path, image: Image) -> list[str]:
        """Write its configuration, and a tree in which the image has the same path."""
        root = folder / "root"
        tree = root / Path(image.path.lstrip("/")).parent
        shutil.rmtree(root, ignore_errors=True)
        tree.parent.mkdir(parents=True)
        tree.symlink_to(image.folder)
        temporary = " ".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = folder / "nginx.conf"
        file.write_text(f"""\
user root;
worker_processes auto;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    access_log off;
    gzip on;
    {temporary}
    server {{ listen {SERVER}:{PORT}; root {root}; }}
}}
""")
        return ["/usr/sbin/nginx", "-c", str(file), "-e", f"{folder}/error.log"]


def make_image(size_bytes: int) -> Image:
    """Return an image whose squashfs has this size, of random bytes; the one of an earlier run if it is there."""
    images = FOLDER / f"images-{size_bytes}"
    if not (images / "node").exists():
        staged = store.staging(images)
        for file, size in ((store.KERNEL, 8 << 20), (store.INITRD, 30 << 20), (store.SQUASHFS, size_bytes)):
            with (staged / file).open("wb") as out:
                for begin in range(0, size, 1 << 20):
                    out.write(os.urandom(min(1 << 20, size - begin)))
        (staged / store.MODULES).mkdir()
        store.publish(images, "node", staged)
    image = store.open_image(images / "node")
    return Image(image.folder, f"/images/{image.image_id}/{store.SQUASHFS}", image.size_bytes)


@contextmanager
def running(peer: Peer, image: Image, host: Host) -> Iterator[list[int]]:
    """Start a server on `host`, wait until it answers, yield its processes, and stop it. Raises `NotReady`."""
    folder = FOLDER / peer.name
    folder.mkdir(parents=True, exist_ok=True)

    def ready(pid: int, said: str) -> bool:
        return peer.says_ready in said and has_port(pid, "tcp", PORT)

    server = Server(peer.name, peer.prepare(folder, image), [folder / "out"], ready, PATIENCE_S)
    with serving(server, host) as pid:
        yield family(pid)
