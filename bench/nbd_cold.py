"""Sixty machines that boot at once from one cold file of some gigabytes: our NBD server and nbd-server, alternately.

    python -m bench.nbd_cold [--rounds N] [--gib N] [--machines N] [--only DISK ...]

Needs root. What users complain about (NetworkBlockDevice/nbd#150): sixty clients of one large squashfs stand still
for minutes. Each machine (bench/nbd_machines.py) has some reads in flight, most of them of 4 KiB, and much of what
one reads the others read, too. Before each measurement the file is dropped from the page cache, and we look whether
it is gone. Once from the disk as it is, and once from one that does only so many reads a second, where this machine
has control groups for that. The exit code is 1 if the 99th percentile of a 4 KiB read is worse than nbd-server's, or
a machine does not get all it asks for.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from hashlib import shake_128
from pathlib import Path
from statistics import median

from bench.nbd_machines import JUDGED_BYTES, PATIENCE_S
from bench.nbd_peers import CLIENT, EXPORT, FOLDER, FORKING, LENGTH, PORT, PXEBOOT, SERVER, Peer, running
from bench.serving import ROOT, NotReady
from bench.sides import OURS, Row, family, family_s, reached, render
from bench.slow_disk import slow_disk
from bench.storm_lab import stop_at_sigterm
from bench.storm_report import Delays
from tests.support.segment import CommandFailed, Segment

READS_PER_S = 1000
"""Of the slow disk: a third of what a small cloud volume does."""
MOST_CACHED = 0.02
"""How much of the file may be in memory before a measurement."""


class Disk(StrEnum):
    """What the file is read from."""

    REAL = "real"
    SLOW = "slow"


TIMES = {Disk.REAL: 1.0, Disk.SLOW: 0.9}
"""How many times our 99th percentile nbd-server's is to be. The kernel lets reads of the slow disk through every
100 ms, so that both wait for the same two or three of these, and nothing tells them apart but chance."""


class NotMeasured(Exception):
    """The machines did not run, or the file could not be made cold."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How one lot of machines fared."""

    judged: Delays
    others: Delays
    all_s: float
    """Until the last machine had its last byte."""
    slowest_times: float
    """How many times as long as the median machine's the boot of the slowest took."""
    bytes_read: int
    """By the machines."""
    disk_mb: float
    """What was read from the disk for that."""
    cpu_s: float
    """Of the server."""
    machines_cpu_s: float
    broken: tuple[str, ...]


def cold_file(folder: Path, gib: int) -> None:
    """Make the file `EXPORT` of bytes that look random in a folder; that of an earlier run will do."""
    folder.mkdir(parents=True, exist_ok=True)
    file, size = folder / EXPORT, gib << 30
    if not file.exists() or file.stat().st_size != size:
        noise = shake_128(b"cold").digest(1 << 20)
        with file.open("wb") as out:
            for number in range(size >> 20):
                out.write(number.to_bytes(8) + noise[8:])
            out.flush()
            os.fsync(out.fileno())


def cached_bytes(file: Path) -> int:
    """Return how much of a file is in the page cache. Raises `CalledProcessError`."""
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(file)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def make_cold(file: Path) -> None:
    """Drop a file from the page cache. Raises `NotMeasured` if it stays there."""
    fd = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    share = cached_bytes(file) / file.stat().st_size
    if share > MOST_CACHED:
        raise NotMeasured(f"{100 * share:.0f} % of {file} stay in the page cache")


def measure(
    segment: Segment,
    peer: Peer,
    served: Path,
    options: argparse.Namespace,
    seed: int,
    limit: Callable[[Iterable[int]], None] | None,
) -> Measured:
    """Start a server, inside the `limit` of its disk if there is one, and let the machines boot.

    Raises `NotMeasured` and `NotReady`.
    """
    file = served / EXPORT
    with running(peer, served, segment.server) as pid:
        inside: list[int] = []
        while limit is not None and (pids := family(pid)) != inside:  # one may just be going into the background
            limit(pids)
            inside = pids
        make_cold(file)
        before, cached = family_s(pid), cached_bytes(file)
        asked = [sys.executable, "-m", "bench.nbd_machines", SERVER, str(PORT), EXPORT, "--seed", str(seed)]
        asked += ["--machines", str(options.machines), "--reads", str(options.reads), "--depth", str(options.depth)]
        machines = segment.client.popen(*asked, stdout=subprocess.PIPE, cwd=ROOT)
        said, _ = machines.communicate(timeout=2 * PATIENCE_S)
        if machines.returncode:
            raise NotMeasured(f"the machines ended with code {machines.returncode}")
        told = json.loads(said)
        time.sleep(0.1)  # for a server to wait for its children, whose time is counted then
        took_s = told["took_s"] or [float("inf")]
        return Measured(
            Delays(**told["judged"]),
            Delays(**told["others"]),
            float("inf") if told["broken"] else told["all_s"],
            max(took_s) / median(took_s) if told["took_s"] else float("inf"),
            told["bytes_read"],
            (cached_bytes(file) - cached) / 1e6,
            family_s(pid) - before,
            told["cpu_s"],
            tuple(told["broken"]),
        )


Results = Mapping[tuple[Disk, str], Mapping[int, Measured]]
"""By disk and server: what each round came to, by its number. A round that failed is absent."""


def rows(results: Results, failed: Sequence[tuple[Disk, str]] = ()) -> list[Row]:
    """Return the table: medians, and for delays the median of the ratios of each round. Pure."""
    table: list[Row] = []
    for disk in Disk:
        of = {name: runs for (which, name), runs in results.items() if which is disk and runs}
        broken = (disk, OURS) in failed or any(run.broken for run in of.get(OURS, {}).values())
        if not of and not broken:
            continue

        def row(
            label: str, figure: Callable[[Measured], float], digits: int, *, of: Mapping[str, Mapping[int, Measured]]
        ) -> Row:
            values = {name: median(map(figure, runs.values())) for name, runs in of.items()}
            return Row(label, values, digits, _ratio(of, figure))

        judged = row(f"{disk} disk: 99 % of {JUDGED_BYTES >> 10} KiB reads, ms", lambda m: m.judged.p99_ms, 1, of=of)
        good = False if broken else None if judged.ratio is None else judged.ratio >= TIMES[disk]
        wanted = f">= {TIMES[disk]:g} x {FORKING.name}"
        table += [
            Row(judged.label, judged.values, judged.digits, judged.ratio, wanted, good),
            row("   half of them, ms", lambda m: m.judged.p50_ms, 1, of=of),
            row("   the longest, ms", lambda m: m.judged.max_ms, 0, of=of),
            row("   99 % of all other reads, ms", lambda m: m.others.p99_ms, 1, of=of),
            row("   until all machines have all, s", lambda m: m.all_s, 1, of=of),
            row("   the slowest machine's time to the median one's", lambda m: m.slowest_times, 2, of=of),
            row("   read from the disk, MB", lambda m: m.disk_mb, 0, of=of),
            row("   the server's processor, s", lambda m: m.cpu_s, 2, of=of),
        ]
    return table


def _ratio(of: Mapping[str, Mapping[int, Measured]], figure: Callable[[Measured], float]) -> float | None:
    """Return how many times our figure theirs is: all of these are better when they are smaller."""
    ours, theirs = of.get(OURS, {}), of.get(FORKING.name, {})
    both = [
        figure(theirs[number]) / figure(ours[number]) for number in ours if number in theirs and figure(ours[number])
    ]
    return median(both) if both else None


def compare(options: argparse.Namespace) -> list[Row]:
    """Measure, and print a line for each measurement; return the table."""
    peers = (PXEBOOT, FORKING)
    results: dict[tuple[Disk, str], dict[int, Measured]] = defaultdict(dict)
    failed: list[tuple[Disk, str]] = []
    with ExitStack() as stack:
        served = FOLDER / "cold"
        if not options.keep:
            stack.callback((served / EXPORT).unlink, missing_ok=True)
        cold_file(served, options.gib)
        segment = stack.enter_context(Segment(f"{SERVER}/{LENGTH}", f"{CLIENT}/{LENGTH}"))
        limit = stack.enter_context(slow_disk(served / EXPORT, options.disk))
        disks = [disk for disk in Disk if disk in options.only and (disk is Disk.REAL or limit is not None)]
        if Disk.SLOW in options.only and limit is None:
            print("no slow disk: this machine has no control group for it (blkio, or io given to groups)")
        for number in range(options.rounds):
            for disk in disks:
                for peer in peers if number % 2 == 0 else peers[::-1]:
                    inside = limit if disk is Disk.SLOW else None
                    try:
                        measured = measure(segment, peer, served, options, number + 1, inside)
                    except (NotMeasured, NotReady, CommandFailed) as error:
                        failed.append((disk, peer.name))
                        print(f"round {number + 1}  {disk:4} disk  {peer.name:10} FAILED: {error}", flush=True)
                        continue
                    results[disk, peer.name][number] = measured
                    print(_line(number + 1, disk, peer.name, measured), flush=True)
    return rows(results, failed)


def _line(number: int, disk: Disk, server: str, m: Measured) -> str:
    broken = f"; {len(m.broken)} machines broke: {m.broken[0]}" if m.broken else ""
    return (
        f"round {number}  {disk:4} disk  {server:10} 4 KiB: {m.judged} ms; all after {m.all_s:.1f} s; "
        f"{m.bytes_read / 1e6:.0f} MB of {m.disk_mb:.0f} MB from the disk; "
        f"processor: server {m.cpu_s:.1f} s, machines {m.machines_cpu_s:.1f} s{broken}"
    )


def main(arguments: Sequence[str] = ()) -> bool:
    """Measure and print; tell whether we are no worse."""
    parser = argparse.ArgumentParser(prog="bench.nbd_cold", description="Many machines, one cold file.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gib", type=int, default=4, help="the size of the file")
    parser.add_argument("--machines", type=int, default=60)
    parser.add_argument("--reads", type=int, default=1706, help="of each machine")
    parser.add_argument("--depth", type=int, default=4, help="reads that a machine has in flight")
    parser.add_argument("--disk", type=int, default=READS_PER_S, help="reads a second of the slow disk")
    parser.add_argument("--only", nargs="+", type=Disk, choices=list(Disk), default=list(Disk))
    parser.add_argument("--keep", action="store_true", help="leave the file for the next run")
    options = parser.parse_args(arguments)
    print(
        f"{options.machines} machines, {options.reads} reads each, {options.depth} in flight, of one cold file of "
        f"{options.gib} GiB; slow disk: {options.disk:,} reads a second",
        flush=True,
    )
    table = compare(options)
    print(f"\n{render(table, [OURS, FORKING.name], f'{FORKING.name} : {OURS}')}", flush=True)
    return bool(table) and reached(table)


if __name__ == "__main__":
    stop_at_sigterm()
    sys.exit(0 if main(sys.argv[1:]) else 1)
