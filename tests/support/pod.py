"""The image of deploy/pod/Containerfile, run by podman in the server's namespace of a segment.

The container is as tight as a cluster may make it: a user of its own, two capabilities that nothing hands on (as in
Kubernetes), a root that is read only.
"""

import os
import subprocess
import time
from pathlib import Path

from tests.support.lab import ROOT
from tests.support.machine import SOON_S
from tests.support.segment import Segment

POD = ROOT / ".build/pod"
STAMP = ROOT / ".build/pod-image"
IMAGE = "localhost/pxeboot"
USER = "8067:0"
BOTH = ("net_bind_service", "net_raw")
NOT_HANDED_ON = ("/usr/bin/setpriv", "--inh-caps=-all", "--ambient-caps=-all")
"""What takes away the capabilities that podman hands on to a user who is not root; containerd and Docker do not."""


def podman(*argv: str) -> list[str]:
    """Return a command of podman that needs no daemon and no systemd, with the storage of tests/support/build-pod."""
    places = ("--storage-driver", "vfs", "--root", str(POD / "storage"), "--runroot", str(POD / "run"))
    return ["podman", *places, "--runtime", "runc", "--cgroup-manager", "cgroupfs", *argv]


class Pod:
    """A container with `arguments` for pxeboot. What it prints is in the file `log`; `mounts` is host → inside."""

    def __init__(
        self,
        segment: Segment,
        log: Path,
        mounts: dict[Path, str],
        *,
        user: str = USER,
        capabilities: tuple[str, ...] = BOTH,
        options: tuple[str, ...] = (),
    ) -> None:
        self._segment = segment
        self.log = log
        self._mounts = mounts
        self._user = user
        self._capabilities = capabilities
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._name = f"pxeboot-{os.getpid()}-{log.stem}"

    def argv(self, *arguments: str) -> list[str]:
        """Return the command that runs pxeboot with `arguments` in it."""
        argv = ["run", "--rm", "--name", self._name, "--network", f"ns:/run/netns/{self._segment.server.namespace}"]
        argv += ["--user", self._user, "--read-only", "--cap-drop", "all"]
        for name in self._capabilities:
            argv += ["--cap-add", name]
        # podman's own limits are higher than what a container of this machine may have
        argv += ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1000:1000"]
        for outside, inside in self._mounts.items():
            argv += ["--volume", f"{outside}:{inside}"]
        argv += [*self._options, "--entrypoint", NOT_HANDED_ON[0], IMAGE]
        return podman(*argv, *NOT_HANDED_ON[1:], "/usr/bin/tini", "--", "/usr/local/bin/pxeboot", *arguments)

    def start(self, *arguments: str) -> None:
        """Start it; the image is copied first, which takes seconds."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv(*arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self._process is None or self._process.poll() is not None

    def wait(self, timeout: float) -> int:
        """Return its exit code, once it has one."""
        assert self._process is not None
        return self._process.wait(timeout)

    def pids(self) -> list[int]:
        """The processes in it, as the host sees them; the first is the container's process 1."""
        listed = subprocess.run(podman("top", self._name, "hpid"), capture_output=True, text=True, check=True).stdout
        return [int(pid) for pid in listed.split()[1:]]

    def run(self, *argv: str) -> str:
        """Run a command in it, as a probe of a cluster does, and return what it prints."""
        return subprocess.run(podman("exec", self._name, *argv), capture_output=True, text=True, check=True).stdout

    def stop(self) -> float:
        """SIGTERM, as who runs the pod sends it; return how many seconds the processes in it took to end."""
        first = self.pids()[0]
        deadline = time.monotonic() + SOON_S
        begin = time.monotonic()
        subprocess.run(podman("kill", "--signal", "TERM", self._name), capture_output=True, check=True)
        while Path(f"/proc/{first}/cmdline").exists() and Path(f"/proc/{first}/cmdline").read_bytes():
            if time.monotonic() > deadline:
                raise TimeoutError(f"it does not end:\n{self.said[-2000:]}")
            time.sleep(0.02)
        took = time.monotonic() - begin
        self.wait(SOON_S)  # podman puts the container away
        return took

    def remove(self) -> None:
        """Leave nothing of it behind, whatever it does."""
        subprocess.run(podman("rm", "--force", "--ignore", "--time", "1", self._name), capture_output=True, check=True)
        if self._process is not None:
            self._process.wait()
