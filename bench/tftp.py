"""Our TFTP server, dnsmasq, tftpd-hpa and atftpd, alternately, sending the same file to the same clients.

    python -m bench.tftp [--rounds N] [--only SCENARIO ...] [--server NAME ...] [--size MIB]

Needs root: everything is in network namespaces. Each measurement starts its server afresh. The file is in the page
cache; clients write to /dev/null and the size of what they got is checked each time, its bytes once for each server
and scenario. Prints a line for each measurement, then a table of the medians; the exit code is 1 if a target of the
table was not reached.
"""

import argparse
import filecmp
import os
import platform
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bench import tftp_report
from bench.dhcp_cpu import Used
from bench.serving import ROOT, NotReady
from bench.sides import family_s
from bench.tftp_peers import PEERS, SERVER, Peer, running
from bench.tftp_report import TARGETS, Run, Scenario
from tests.support.segment import Host, Segment

CLIENT = "10.77.0.2"
BLKSIZE = 1428
WINDOWSIZE = 16
CLIENTS = 8
WARM_UP = 4 * 1024 * 1024
"""Bytes of the file that each client fetches before the measurement: servers run for weeks."""
PATIENCE_S = 120.0
"""How long a measurement may take."""


class NotWhole(Exception):
    """A client did not get the file as it is."""


def commands(scenario: Scenario, outputs: list[str], name: str = "image") -> list[list[str]]:
    """Return the clients of a scenario, one for each output, each fetching the file `name`."""
    match scenario:
        case Scenario.ONE | Scenario.EIGHT:
            curl = ["curl", "--silent", "--show-error", "--tftp-blksize", str(BLKSIZE)]
            curl += ["--write-out", "%{size_download}", f"tftp://{SERVER}/{name}", "--output"]
            return [[*curl, output] for output in outputs]
        case Scenario.WINDOW:
            atftp = ["atftp", "--option", f"blksize {BLKSIZE}", "--option", f"windowsize {WINDOWSIZE}"]
            return [[*atftp, "--get", "-r", name, "-l", output, SERVER] for output in outputs]


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share."""

    segment: Segment
    folder: Path
    size_bytes: int

    def measure(self, scenario: Scenario, peer: Peer, *, check: bool) -> Run:
        """Have the clients of `scenario` fetch the file from `peer` and return how that went; `check` every byte too.

        Raises `NotWhole` and `NotReady`.
        """
        with running(peer, self.folder / "served", self.segment.server, self.folder / f"{peer.name}.log") as pid:
            if check:
                self._check(scenario, peer)
            count = CLIENTS if scenario is Scenario.EIGHT else 1
            _run(self.segment.client, commands(scenario, ["/dev/null"] * count, "small"))  # whatever it starts late
            before, used = Used.now(pid), family_s(pid)
            said = _run(self.segment.client, commands(scenario, ["/dev/null"] * count))
            after, used = Used.now(pid), family_s(pid) - used
        if scenario is not Scenario.WINDOW and said != [str(self.size_bytes)] * count:
            raise NotWhole(f"{peer.name}, {scenario}: {said}, expected {self.size_bytes} bytes each")
        clients, took = after.ours_s - before.ours_s, after.at_s - before.at_s
        others = max(0.0, (after.machine_s - before.machine_s - clients - used) / took)
        return Run(count * self.size_bytes, took, used, clients, others)

    def _check(self, scenario: Scenario, peer: Peer) -> None:
        """Fetch the file once for real; the eight at once get a copy each."""
        count = CLIENTS if scenario is Scenario.EIGHT else 1
        outputs = [self.folder / f"got-{number}" for number in range(count)]
        try:
            _run(self.segment.client, commands(scenario, [str(output) for output in outputs]))
            for output in outputs:
                if not filecmp.cmp(output, self.folder / "served/image", shallow=False):
                    raise NotWhole(
                        f"{peer.name}, {scenario}: a client got {output.stat().st_size} bytes, not the same"
                    )
        finally:
            for output in outputs:
                output.unlink(missing_ok=True)


def _run(host: Host, argvs: list[list[str]]) -> list[str]:
    """Run commands at once, and return what each said. Raises `NotWhole` if one fails."""
    processes = [host.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for argv in argvs]
    deadline = time.monotonic() + PATIENCE_S
    said = []
    for process in processes:
        try:
            out, errors = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise NotWhole(f"{argvs[0][0]} had not got the file after {PATIENCE_S:.0f} s") from None
        if process.returncode:
            raise NotWhole(f"{argvs[0][0]} ended with code {process.returncode}: {out}{errors}")
        said.append(out.strip())
    return said


def main() -> int:
    """Measure, print, and judge."""
    signal.signal(signal.SIGTERM, _stop)
    options = _options()
    peers = [peer for peer in PEERS if peer.name in options.server]
    size_bytes = options.size * 1024 * 1024
    folder: Path = options.folder
    (folder / "served").mkdir(parents=True, exist_ok=True)
    (folder / "served/image").write_bytes(os.urandom(size_bytes))
    (folder / "served/small").write_bytes(os.urandom(WARM_UP))
    folder.chmod(0o755)
    print(
        f"{options.size} MiB, blksize {BLKSIZE}; {os.cpu_count()} processors, shared with the clients; "
        f"Linux {platform.release()}"
    )
    for peer in peers:
        print(f"  {peer.title()}")
    results: dict[tuple[Scenario, str], list[Run]] = defaultdict(list)
    try:
        with Segment(f"{SERVER}/24", f"{CLIENT}/24") as segment:
            bench = Bench(segment, folder, size_bytes)
            for number in range(1, options.rounds + 1):
                for scenario in (scenario for scenario in Scenario if scenario in options.only):
                    wanted = {tftp_report.OURS, *TARGETS[scenario].peers}
                    for peer in peers if number % 2 else reversed(peers):
                        if peer.name in wanted:
                            run = bench.measure(scenario, peer, check=number == 1 and not options.unchecked)
                            results[scenario, peer.name].append(run)
                            print(
                                f"  round {number}, {scenario:<6} {peer.name:<10} {run.mb_per_s:7.1f} MB/s, "
                                f"processor for each GB: server {run.cpu_per_gb:5.2f} s, "
                                f"clients {run.clients_s * 1e9 / run.size_bytes:5.2f} s; others used {run.others:.2f}",
                                flush=True,
                            )
    except (NotReady, NotWhole) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        for name in ("image", "small"):
            (folder / "served" / name).unlink(missing_ok=True)
    table = tftp_report.rows(results)
    print(f"\nmedians of {options.rounds} rounds\n")
    print(tftp_report.render(table, [peer.name for peer in peers]))
    return 1 if tftp_report.missed(table) else 0


def _stop(*_: object) -> NoReturn:
    """End as after an error, so that namespaces and servers go away."""
    sys.exit("stopped")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="TFTP: pxeboot, dnsmasq, tftpd-hpa, atftpd.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="of the file, in MiB")
    parser.add_argument("--only", nargs="+", choices=list(Scenario), default=list(Scenario))
    parser.add_argument("--server", nargs="+", choices=[p.name for p in PEERS], default=[p.name for p in PEERS])
    parser.add_argument("--unchecked", action="store_true", help="compare no bytes: saves half of the first round")
    parser.add_argument("--folder", type=Path, default=ROOT / ".build/bench-tftp")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
