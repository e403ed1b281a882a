"""How long `pxeboot serve` takes until it serves a farm of 1,000 nodes, and how much memory.

    python -m bench.start [--nodes N] [--rounds N] [--serve COMMAND ...]

Needs root: each round runs in a network namespace of its own. Ready is READY=1 of sd_notify(3), counted from just
before the process is started. A first start, which makes GRUB's network images, is shown and not judged. The exit
code is 1 when the median is over 1 s or the peak over 100 MB.
"""

import argparse
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.segment import Host, Segment

MAX_READY_S = 1.0
MAX_PEAK_MB = 100.0
PATIENCE_S = 60.0
"""How long a start may take before we give up."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds to ready, seconds to stop, memory in MB (10^6 bytes) when ready and at its peak."""

    ready_s: float
    stop_s: float
    rss_mb: float
    peak_mb: float


class NotReady(Exception):
    """The process ended, or said nothing in time; the text is what it printed."""


def farm(nodes: int, state: Path) -> str:
    """Return a farm's file as a large site would write it: two cards a machine, eight pools, tags, labels."""
    lines = [
        f"server: {{interfaces: [eth1], state: {state}, control: {state}/control.sock}}",
        "dhcp:",
        "  subnets:",
        "    - subnet: 10.28.0.0/16",
        "      routers: [10.28.0.1]",
        "      domain_name_servers: [10.28.0.1, 10.28.0.2]",
        "      pool: 10.28.200.1-10.28.215.254",
        f"images: {{node: {{path: {state}/images/node}}}}",
        "tags:",
        "  all:",
        '    lts: {FSTAB_KUBELET: "tmpfs /var/lib/kubelet tmpfs x-systemd.wanted-by=kubelet.service 0 0"}',
        "  gpu:",
        "    dhcp: {mtu: 9000}",
        "    labels: {accelerator: nvidia}",
        '    taints: [{key: gpu, value: "true", effect: NoSchedule}]',
        "pools:",
    ]
    pools = 8
    for pool in range(pools):
        lines += [f"  - name: rack{pool}", "    image: node", f"    tags: [{'gpu' if pool % 4 == 0 else ''}]"]
        lines.append("    nodes:")
        for number in range(pool, nodes, pools):
            macs = ", ".join(f"52:54:{card:02x}:00:{number >> 8:02x}:{number & 255:02x}" for card in (0, 1))
            lines.append(
                f"      - {{name: m{number}, macs: [{macs}], ip: 10.28.{number // 250 + 1}.{number % 250 + 1}}}"
            )
    return "\n".join([*lines, ""])


def memory_mb(pid: int, field: str) -> float:
    """Return a field of /proc/PID/status, such as VmHWM, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024 / 1e6


def start_once(server: Host, command: list[str], folder: Path) -> Start:
    """Start `command`, wait until it is ready, stop it. Raises `NotReady`."""
    notify = folder / "notify"
    notify.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, (folder / "log").open("w+") as log:
        sock.bind(str(notify))
        began = time.monotonic()
        process = server.popen(
            *command, env={**os.environ, "NOTIFY_SOCKET": str(notify)}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            while True:
                heard, _, _ = select.select([sock], [], [], 0.2)
                if heard and b"READY=1" in sock.recv(4096):
                    break
                if process.poll() is not None or time.monotonic() - began > PATIENCE_S:
                    log.seek(0)
                    raise NotReady(f"code {process.returncode}: {log.read()[-2000:]}")
            ready_s = time.monotonic() - began
            rss_mb = memory_mb(process.pid, "VmRSS")
            time.sleep(0.3)  # what is put off until after the start counts, too
            peak_mb = memory_mb(process.pid, "VmHWM")
        finally:
            stopping = time.monotonic()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return Start(ready_s, time.monotonic() - stopping, rss_mb, peak_mb)


def main() -> int:
    """Run the rounds, print them, and judge."""
    parser = argparse.ArgumentParser(description="How long pxeboot serve takes to be ready, and how much memory.")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", nargs="+", default=[str(Path(sys.executable).with_name("pxeboot")), "serve"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pxeboot-bench-") as name:
        folder = Path(name)
        file = folder / "farm.yaml"
        file.write_text(farm(options.nodes, folder / "state"))
        command = [*options.serve, "--config", str(file)]
        starts: list[Start] = []
        for number in range(options.rounds + 1):
            with Segment(server_address="10.28.0.1/16") as segment:
                try:
                    start = start_once(segment.server, command, folder)
                except NotReady as error:
                    print(f"not ready: {error}", file=sys.stderr)
                    return 1
            print(
                f"{f'round {number}' if number else 'first  '}  ready in {start.ready_s:.3f} s  "
                f"memory {start.rss_mb:.1f} MB, peak {start.peak_mb:.1f} MB  stopped in {start.stop_s:.3f} s",
                flush=True,
            )
            if number:
                starts.append(start)
    ready_s = statistics.median(start.ready_s for start in starts)
    peak_mb = max(start.peak_mb for start in starts)
    good = ready_s <= MAX_READY_S and peak_mb <= MAX_PEAK_MB
    print(
        f"{options.nodes} nodes: ready in {ready_s:.3f} s (median of {len(starts)}; at most {MAX_READY_S:.0f}), "
        f"peak {peak_mb:.1f} MB (at most {MAX_PEAK_MB:.0f}): {'good' if good else 'TOO MUCH'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
