"""The TFTP servers that are compared: each serves one folder, as one would start it without tuning."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.segment import Host

ROOT = Path(__file__).parent.parent
_ATFTPD = str(ROOT / ".build/peers/usr/sbin/atftpd")
SERVER = "10.77.0.1"
PATIENCE_S = 15.0
"""How long a server may take to start or to stop."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class NotReady(Exception):
    """A server ended while it started, or was not ready in time; the text ends with what it said."""


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
    with log.open("w") as out:
        process = host.popen(*command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not listening(process.pid):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotReady(
                        f"{peer.name}: code {process.returncode}: {log.read_text(errors='replace')[-2000:]}"
                    )
                time.sleep(0.02)
            yield process.pid
            if process.poll() is not None:
                raise NotReady(f"{peer.name} ended by itself: {log.read_text(errors='replace')[-2000:]}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listening(pid: int) -> bool:
    """Return whether a socket of the network namespace of process `pid` has UDP port 69."""
    try:
        table = Path(f"/proc/{pid}/net/udp").read_text()
    except OSError:
        return False
    return any(line.split()[1].endswith(":0045") for line in table.splitlines()[1:])


def family_s(pid: int) -> float:
    """Return the processor time of a server and all below it until now, in seconds, from /proc/PID/stat (proc(5)).

    A child that ended is counted once it is waited for, which `Used` leaves out; one that runs counts by itself.
    """
    total = 0
    for process in (pid, *_below(pid)):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended since it was listed
            continue
        total += sum(map(int, fields[11:15]))
    return total * _TICK_S


def _below(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    children = [int(child) for task in tasks.glob("*/children") for child in task.read_text().split()]
    return [process for child in children for process in (child, *_below(child))]
