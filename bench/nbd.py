"""Our NBD server, nbdkit, qemu-nbd and nbd-server, alternately, serving the same file to the same clients.

    python -m bench.nbd [--rounds N] [--seconds S] [--size MIB] [--only LOAD ...] [--server NAME ...]

Needs root: everything is in network namespaces. The file is random and in the page cache; each measurement starts its
server afresh, and in the first round each server's bytes are compared with the file. Prints a line for each
measurement, then a table of the medians; then the bench of a cold file (bench/nbd_cold.py). A measurement that fails
is told. The exit code is 1 if a target was not reached, or a load failed with our server.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import nbd_cold
from bench.nbd_loads import LOADS, Copy, Load, Measured, NotMeasured, read_fio, rows
from bench.nbd_peers import CLIENT, EXPORT, FOLDER, LENGTH, PEERS, SERVER, URI, Peer, running
from bench.serving import NotReady
from bench.sides import OURS, Processors, family_s, reached, render
from bench.storm_lab import stop_at_sigterm
from tests.support.segment import CommandFailed, Host, Segment

PROGRAMS = ("nbdcopy", "fio", "cmp")
PATIENCE_S = 60.0
"""How long one client may take beyond the time that it measures."""


def measure(
    segment: Segment, peer: Peer, served: Path, load: Load, seconds: int, seed: int, *, check: bool
) -> Measured:
    """Start a server and put it under one load; with `check`, compare its bytes, too.

    Raises `NotMeasured` and `NotReady`.
    """
    with running(peer, served, segment.server) as pid:
        if check:
            _check(segment.client, served / EXPORT)
        before, processors = family_s(pid), Processors()
        if isinstance(load, Copy):
            done = _copy(segment.client, load, (served / EXPORT).stat().st_size, seconds)
        else:
            done = read_fio(_run(segment.client, load.command(URI, seconds, seed), seconds), load.block_bytes)
        busy = processors.busy()
        time.sleep(0.1)  # for a server to wait for its children, whose time is counted then
        cpu_s = family_s(pid) - before
    return Measured(done.size_bytes, done.reads, done.took_s, done.p99_us, cpu_s, busy)


def _copy(host: Host, load: Copy, size_bytes: int, seconds: int) -> Measured:
    """Copy the file again and again for about `seconds`, and count the time that nbdcopy runs."""
    copies, took_s = 0, 0.0
    while took_s < seconds:
        began = time.perf_counter()
        _run(host, load.command(URI), seconds)
        took_s += time.perf_counter() - began
        copies += 1
    return Measured(copies * size_bytes, 0, took_s)


def _check(host: Host, file: Path) -> None:
    _run(host, ["sh", "-c", f"nbdcopy {URI} - | cmp - {file}"], 0)


def _run(host: Host, command: Sequence[str], seconds: int) -> str:
    try:
        return host.run(*command, timeout=seconds + PATIENCE_S).stdout
    except (CommandFailed, subprocess.TimeoutExpired) as error:
        raise NotMeasured(str(error)) from None


@contextmanager
def random_file(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Make a folder with the file `EXPORT` of random bytes, written to the disk and in memory; then remove it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / EXPORT
    try:
        with file.open("wb") as out:
            for begin in range(0, size_bytes, 1 << 20):
                out.write(os.urandom(min(1 << 20, size_bytes - begin)))
            out.flush()
            os.fsync(out.fileno())
        yield folder
    finally:
        file.unlink(missing_ok=True)


def compare(options: argparse.Namespace, peers: Sequence[Peer]) -> bool:
    """Measure every load with every server, and print; tell whether the targets were reached."""
    results: dict[tuple[str, str], dict[int, Measured]] = defaultdict(dict)
    failed: list[tuple[str, str]] = []
    with (
        random_file(FOLDER / "warm", options.size << 20) as served,
        Segment(f"{SERVER}/{LENGTH}", f"{CLIENT}/{LENGTH}") as segment,
    ):
        for number in range(options.rounds):
            first = number % len(peers)
            for load in (load for load in LOADS if load.name in options.only):
                for peer in (*peers[first:], *peers[:first]):
                    check = (number, load.name) == (0, options.only[0])
                    try:
                        measured = measure(segment, peer, served, load, options.seconds, number + 1, check=check)
                    except (NotMeasured, NotReady) as error:
                        failed.append((load.name, peer.name))
                        print(f"round {number + 1}  {load.name:8} {peer.name:10} FAILED: {error}", flush=True)
                        continue
                    results[load.name, peer.name][number] = measured
                    print(_line(number + 1, load.name, peer.name, measured), flush=True)
    table = rows(results, failed)
    print(f"\nmedians of {options.rounds} rounds\n")
    print(render(table, [peer.name for peer in peers], f"{OURS} : best"), flush=True)
    for name, server in sorted(set(failed)):
        print(f"{server} failed in {failed.count((name, server))} of {options.rounds} rounds of {name}")
    return reached(table)


def _line(number: int, load: str, server: str, m: Measured) -> str:
    reads = f"{m.reads_per_s:9.0f}/s  p99 {m.p99_us:6.0f} µs" if m.reads else " " * 26
    return (
        f"round {number}  {load:8} {server:10} {m.mb_per_s:7.1f} MB/s {reads}"
        f"  server {m.cpu_s_per_gb:6.3f} s/GB  busy {m.busy:.2f}"
    )


def main() -> int:
    """Read the arguments, measure and print; return the exit code."""
    names = [peer.name for peer in PEERS]
    loads = [load.name for load in LOADS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="for each load")
    parser.add_argument("--size", type=int, default=1024, help="of the file, in MiB")
    parser.add_argument("--only", nargs="+", choices=loads, help="and no cold file", metavar="LOAD")
    parser.add_argument("--server", nargs="+", choices=names, default=names, metavar="NAME")
    options = parser.parse_args()
    stop_at_sigterm()
    with_cold, options.only = not options.only, options.only or loads
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        print(f"needs {', '.join(absent)}", file=sys.stderr)
        return 1
    peers = [peer for peer in PEERS if peer.name in options.server]
    print(f"Linux {platform.release()}, {os.cpu_count()} processors, shared with the clients", end="; ")
    print(f"Python {platform.python_version()}; {options.size} MiB in the page cache")
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        for peer in peers:
            print(f"  {peer.title()}")
    except NotReady as error:
        print(error, file=sys.stderr)
        return 1
    good = compare(options, peers)
    if with_cold:
        print()
        good = nbd_cold.main() and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
