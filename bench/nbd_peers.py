"""The NBD servers that are compared: each serves one file, read-only, as one would start it without tuning."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.serving import ROOT, NotReady, Server, has_port, serving
from bench.sides import OURS
from tests.support.segment import Host

SERVER = "10.77.0.1"
CLIENT = "10.77.0.2"
LENGTH = 24
PORT = 10809
EXPORT = "node"
URI = f"nbd://{SERVER}:{PORT}/{EXPORT}"
FOLDER = ROOT / ".build/bench-nbd"
PATIENCE_S = 15.0
"""How long a server may take to start or to stop."""
_NBD_SERVER = str(ROOT / ".build/peers/bin/nbd-server")


@dataclass(frozen=True, slots=True)
class Peer:
    """One server."""

    name: str
    command: tuple[str, ...]
    """In it {folder} is the served folder, {file} the served file, {config} its configuration."""
    version: tuple[str, ...] = ()
    """The command that prints its version; none for ours."""
    config: str = ""
    """What stands in its configuration, with {file}."""

    def title(self) -> str:
        """Return its name, its version and the options that it runs with. Raises `NotReady` if it is not there."""
        options = " ".join(word for word in self.command[1:] if "{" not in word and not word.startswith("/"))
        if not self.version:
            return f"{self.name} ({options})"
        try:
            said = subprocess.run(self.version, capture_output=True, text=True, check=False)
        except OSError as error:
            raise NotReady(f"{self.name}: {error}") from None
        version = (said.stdout + said.stderr).partition("\n")[0].strip()
        return f"{self.name}: {version.removeprefix('This is ')} ({options})"

    def server(self, served: Path) -> Server:
        """Return how it is started to serve the file `EXPORT` of a folder; write its configuration beside that."""
        file, config = served / EXPORT, served.parent / f"{self.name}.conf"
        if self.config:
            config.write_text(self.config.format(file=file))
        command = [word.format(folder=served, file=file, config=config) for word in self.command]
        log = served.parent / f"{self.name}.log"
        return Server(self.name, command, [log], lambda pid, _said: has_port(pid, "tcp", PORT), PATIENCE_S)


PXEBOOT = Peer(OURS, (sys.executable, "-m", "tests.support.serve_nbd", SERVER, str(PORT), "{folder}"))
NBDKIT = Peer(
    "nbdkit",
    ("nbdkit", "--foreground", "--readonly", f"--ipaddr={SERVER}", f"--port={PORT}", "file", "{file}"),
    ("nbdkit", "--version"),
)
QEMU_NBD = Peer(
    "qemu-nbd",
    ("qemu-nbd", "-t", "-e", "16", "-r", "-f", "raw", "-b", SERVER, "-p", str(PORT), "-x", EXPORT, "{file}"),
    ("qemu-nbd", "--version"),
)
FORKING = Peer(  # as Debian builds it, it has no option to stay in the foreground
    "nbd-server",
    (sys.executable, "-m", "bench.foreground", _NBD_SERVER, "-C", "{config}"),
    (_NBD_SERVER, "-V"),
    f"""\
[generic]
user = root
group = root
listenaddr = {SERVER}
port = {PORT}
[{EXPORT}]
exportname = {{file}}
readonly = true
""",
)
PEERS = (PXEBOOT, NBDKIT, QEMU_NBD, FORKING)


@contextmanager
def running(peer: Peer, served: Path, host: Host) -> Iterator[int]:
    """Start a server on `host`, wait until it has its port, yield its process, and stop it. Raises `NotReady`."""
    with serving(peer.server(served), host) as pid:
        yield pid
