"""What the storm and the cold disk share: images, the farm, the real daemon on a segment, who measures delays."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import shake_128
from pathlib import Path

from bench import dhcp_profiled
from bench.start import memory_mb
from bench.storm_probe import KNOWN, known_address, known_mac
from bench.storm_report import Delays
from pxeboot.image import store
from pxeboot.image.store import ImageError, StoredImage
from tests.support.segment import CommandFailed, Host, Segment
from tests.support.served import Daemon

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".build/bench-http"
PREFIX = 14
SERVER = "10.28.0.1"
PROBE = "10.28.0.9"
LOAD_NICE = 10
"""Of those who play machines: in a farm they have processors of their own, and take none from the server."""
PROBE_NICE = -10
"""Of who measures: it needs little, and at once."""


def image(folder: Path, name: str, kernel_bytes: int, initrd_bytes: int, squashfs_bytes: int) -> StoredImage:
    """Return an image of files that only look like ones, from the store `folder`; it is made if it is not there."""
    sizes = {store.KERNEL: kernel_bytes, store.INITRD: initrd_bytes, store.SQUASHFS: squashfs_bytes}
    try:
        there = store.open_image(folder / name)
        if all((there.folder / file).stat().st_size == size for file, size in sizes.items()):
            return there
    except ImageError:
        pass
    staged = store.staging(folder)
    for file, size in sizes.items():
        with (staged / file).open("wb") as out:
            noise = shake_128(f"{name} {file}".encode()).digest(min(size, 1 << 20))
            while (
                at := out.tell()
            ) < size:  # the digest of each megabyte is another one: its first bytes are its number
                out.write((at.to_bytes(8, "big") + noise[8:])[: size - at])
    (staged / store.MODULES).mkdir()
    for number, module in enumerate(("squashfs", "overlay")):
        (staged / store.MODULES / f"{number:02}-{module}.ko").write_bytes(shake_128(module.encode()).digest(60_000))
    return store.publish(folder, name, staged)


def farm(folder: Path, images: Sequence[str], machines: Mapping[str, tuple[str, str]]) -> Path:
    """Write the farm's file into `folder` and return it. `machines`: name → (MAC, address).

    The first image is theirs. The machines that ask for the probe are listed, too. What is in `folder/state` stays,
    but for the leases.
    """
    for old in (folder / "state").glob("leases*"):
        old.unlink()
    listed = {
        "probe": ("52:54:09:ff:ff:ff", PROBE),
        **{f"probe{n}": (known_mac(n).hex(":"), str(known_address(n))) for n in range(KNOWN)},
        **machines,
    }
    settings = {
        "server": {"interfaces": ["eth1"], "state": f"{folder}/state", "control": f"{folder}/control.sock"},
        "dhcp": {
            "probe": False,  # or a stranger's first offer waits for somebody to say that he has the address
            "subnets": [{"subnet": f"10.28.0.0/{PREFIX}", "routers": [SERVER], "pool": "10.29.0.0-10.30.255.255"}],
        },
        "images": {name: {"path": f"{folder.parent}/images/{name}"} for name in images},
        "pools": [
            {
                "name": "workers",
                "image": images[0],
                "nodes": [{"name": name, "macs": [mac], "ip": ip} for name, (mac, ip) in listed.items()],
            }
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "farm.yaml"
    file.write_text(json.dumps(settings))
    return file


class Served(Daemon):
    """The daemon, and what it uses."""

    @property
    def pids(self) -> list[int]:
        """Its processes, the first one first."""
        return sorted(self.host.pids(), key=lambda pid: pid != self.process.pid)

    @property
    def peak_mb(self) -> float:
        """The largest memory that each has had (VmHWM), together, in MB."""
        return sum(memory_mb(pid, "VmHWM") for pid in self.pids)

    @property
    def memory_mb(self) -> float:
        """The memory that they have now, in MB."""
        return sum(memory_mb(pid, "VmRSS") for pid in self.pids)

    @property
    def descriptors(self) -> int:
        """How many descriptors they hold."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids)


@contextmanager
def served(segment: Segment, folder: Path, file: Path, profile: Path | None = None) -> Iterator[Served]:
    """Run `pxeboot serve`; its log is `folder`/serve-*.log, of which the last one is kept.

    `profile` is a file for what `dhcp_profiled` finds out about its main thread.
    """
    for old in (*folder.glob("serve-*.log"), *folder.glob("notify-*")):
        old.unlink()
    (folder / "control.sock").unlink(missing_ok=True)
    program = (sys.executable, *(("-m", "pxeboot") if profile is None else (dhcp_profiled.__file__, str(profile))))
    daemon = Served(segment.server, folder, "--config", str(file), program=program)
    try:
        yield daemon
    finally:
        daemon.stop()


class Measuring:
    """Who measures delays: begins at once, ends when told to."""

    def __init__(self, host: Host, *options: str) -> None:
        self._process = host.popen(
            *nice(PROBE_NICE),
            *(sys.executable, "-m", "bench.storm_probe", host.interface, PROBE, *options),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip

    def end(self) -> tuple[dict[str, Delays], float]:
        """Return the delays by what was asked for, and how long it had no processor, at the longest, in seconds."""
        said, _ = self._process.communicate("", timeout=30)
        if self._process.returncode:
            raise CommandFailed(self._process.returncode, self._process.args, said, "")
        told = json.loads(said)
        delays = {name: Delays.of(found["delays_ms"], found["lost"]) for name, found in told["delays"].items()}
        return delays, told["stood_still_s"]


def nice(priority: int) -> tuple[str, ...]:
    """Return what is put in front of a command to give it another priority."""
    return ("nice", "-n", str(priority))


def be_nice(priority: int) -> None:
    """Give us and all that we start another priority, among the processes of our session and among sessions."""
    os.setpriority(os.PRIO_PROCESS, 0, priority)
    autogroup = Path("/proc/self/autogroup")  # sched(7); absent if the kernel does not group by session
    if priority and autogroup.exists():
        autogroup.write_text(str(priority))


def stop_at_sigterm() -> None:
    """End as after an error when told to, so that namespaces and servers go away."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
