"""The TFTP servers that are compared: each serves one folder, as one would start it without tuning."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.serving import ROOT, Server, has_port, serving
from tests.support.segment import Host

_ATFTPD = str(ROOT / ".build/peers/usr/sbin/atftpd")
SERVER = "10.77.0.1"
PATIENCE_S = 15.0
"""How long a server may take to start or to stop."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One server. `command` holds FOLDER where the served folder is to stand."""

    name: str
    command: Sequence[str]
    version: Sequence[str] = ()
    """The command that prints its version; none for ours."""

    def title(self) -> str:
        """Return its name, its version and the options that it runs with."""
        options = " ".join(word for word in self.command[1:] if word != "FOLDER")
        if not self.version:
            return f"{self.name} ({options})"
        said = subprocess.run(self.version, capture_output=True, text=True, check=False).stdout
        return f"{self.name}: {said.partition(chr(10))[0].partition('  ')[0].strip()} ({options})"


OURS = Peer("pxeboot", (sys.executable, "-m", "tests.support.serve_tftp", "FOLDER", SERVER))
DNSMASQ = Peer(
    "dnsmasq",
    (
        *("/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"),
        *("--pid-file=", "--interface=eth1", "--bind-interfaces", "--log-facility=-", "--enable-tftp"),
        *("--tftp-root", "FOLDER"),
    ),
    ("/usr/sbin/dnsmasq", "--version"),
)
TFTPD_HPA = Peer(
    "tftpd-hpa",
    ("/usr/sbin/in.tftpd", "-L", "-u", "root", "-a", SERVER, "-s", "FOLDER"),
    ("/usr/sbin/in.tftpd", "-V"),
)
ATFTPD = Peer(
    "atftpd",
    (_ATFTPD, "--daemon", "--no-fork", "--user", "root.root", "--logfile", "-", "FOLDER"),
    (_ATFTPD, "--version"),
)
PEERS = (OURS, DNSMASQ, TFTPD_HPA, ATFTPD)


@contextmanager
def running(peer: Peer, folder: Path, host: Host, log: Path) -> Iterator[int]:
    """Start a server on `host`, wait until it has its port, yield its pid, and stop it. Raises `NotReady`."""
    command = [str(folder) if word == "FOLDER" else word for word in peer.command]
    server = Server(peer.name, command, [log], lambda pid, _said: has_port(pid, "udp", 69), PATIENCE_S)
    with serving(server, host) as pid:
        yield pid
