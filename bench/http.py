"""Our HTTP server and nginx, alternately, under the same load on the same machine.

    python -m bench.http [--rounds N] [--seconds S] [--size BYTES] [--only bulk|ranges ...]

Needs root: everything is in network namespaces, joined by veth pairs and a bridge. Both serve the same file, which is
in the page cache. Prints a line for each measurement, then a table of the medians; then the benches of cold files and
of a boot storm. The exit code is 1 if a target was not reached.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench import http_cold, http_storm
from bench.http_load import SILENCE_S
from bench.http_peers import CLIENT, LENGTH, PORT, SERVER, Image, Nginx, Peer, Pxeboot, make_image, running
from bench.sides import OURS, Processors, Row, family, reached, render, resident_mb, used_s
from tests.support.segment import Segment

BULK, RANGES = "bulk", "ranges"
DOWNLOADS = 8
CONNECTIONS = 64
SPAN = 256 << 10
SIZE = 600_000_000
BULK_TIMES = 1.0
BULK_CPU_TIMES = 1.2
RANGES_TIMES = 0.7
NGINX = "nginx"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one load came to."""

    bytes_per_s: float
    answers_per_s: float
    cpu_s_per_gb: float
    """Of the server, all its processes and threads."""
    cpu_us_per_answer: float
    p99_ms: float
    """Of one answer, from the request to its last byte."""
    client_s_per_gb: float
    busy: float
    """Processors that were busy meanwhile, with whatever else the machine was doing."""
    memory_mb: float


def measure(segment: Segment, peer: Peer, image: Image, kind: str, seconds: float, seed: int) -> Measured:
    """Start a server, warm it up, and put it under one load."""
    with running(peer, image, segment.server) as pids:
        _load(segment, image, RANGES, 0.5, seed=0)
        pids = family(pids[0])  # nginx's workers may not have been there when the first of them was
        before, processors = used_s(pids), Processors()
        done = _load(segment, image, kind, seconds, seed)
        cpu_s, gigabytes = used_s(pids) - before, done["received"] / 1e9
        return Measured(
            bytes_per_s=done["received"] / done["seconds"],
            answers_per_s=done["answers"] / done["seconds"],
            cpu_s_per_gb=cpu_s / gigabytes,
            cpu_us_per_answer=1e6 * cpu_s / done["answers"],
            p99_ms=done["p99_ms"],
            client_s_per_gb=done["cpu_s"] / gigabytes,
            busy=processors.busy(),
            memory_mb=resident_mb(pids),
        )


def _load(segment: Segment, image: Image, kind: str, seconds: float, seed: int) -> dict[str, float]:
    arguments = [kind, SERVER, PORT, image.path, "--size", image.size_bytes, "--seconds", seconds, "--seed", seed]
    arguments += ["--connections", DOWNLOADS if kind == BULK else CONNECTIONS, "--span", SPAN]
    done = segment.client.run(sys.executable, "-m", "bench.http_load", *map(str, arguments), timeout=20 * SILENCE_S)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def table(results: Mapping[tuple[str, str], Sequence[Measured]]) -> list[Row]:
    """Return the lines that can be made of the results, by kind of load and server."""

    def medians(kind: str, figure: Callable[[Measured], float]) -> dict[str, float]:
        return {name: median(map(figure, of)) for (which, name), of in results.items() if which == kind and of}

    def row(
        kind: str, label: str, figure: Callable[[Measured], float], digits: int, least: float = 0, most: float = 0
    ) -> Row:
        values = medians(kind, figure)
        rounds = zip(results.get((kind, OURS), ()), results.get((kind, NGINX), ()), strict=True)
        # Of each round, because the two stand side by side there, whatever else the machine did in other rounds.
        ratio = median(figure(ours) / figure(theirs) for ours, theirs in rounds) if len(values) == 2 else None
        wanted = f">= {least:g} x nginx" if least else f"<= {most:g} x nginx" if most else ""
        good = None if ratio is None or not wanted else ratio >= least if least else ratio <= most
        return Row(label, values, digits, ratio, wanted, good)

    rows = []
    if medians(BULK, lambda m: 0):
        rows += [
            row(BULK, f"{DOWNLOADS} downloads of an image, MB/s", lambda m: m.bytes_per_s / 1e6, 0, least=BULK_TIMES),
            row(BULK, "   server CPU seconds per GB", lambda m: m.cpu_s_per_gb, 3, most=BULK_CPU_TIMES),
        ]
    if medians(RANGES, lambda m: 0):
        label = f"random ranges of {SPAN >> 10} KiB, {CONNECTIONS} connections, a second"
        rows += [
            row(RANGES, label, lambda m: m.answers_per_s, 0, least=RANGES_TIMES),
            row(RANGES, "   MB/s", lambda m: m.bytes_per_s / 1e6, 0),
            row(RANGES, "   server CPU for each, µs", lambda m: m.cpu_us_per_answer, 0),
            row(RANGES, "   99 % of them took at most, ms", lambda m: m.p99_ms, 1),
        ]
    return rows


def main() -> int:
    """Read the arguments, measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long random ranges are asked for")
    parser.add_argument("--size", type=int, default=SIZE, help="bytes of the image")
    parser.add_argument("--only", choices=(BULK, RANGES), action="append", help="and nothing else")
    arguments = parser.parse_args()
    peers: list[Peer] = [Nginx(), Pxeboot()]
    image = make_image(arguments.size)
    subprocess.run(["cat", str(image.folder / "root.squashfs")], stdout=subprocess.DEVNULL, check=True)
    print(f"Linux {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    for peer in peers:
        print(f"  {peer.title()}")
    results: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    with Segment(f"{SERVER}/{LENGTH}", f"{CLIENT}/{LENGTH}") as segment:
        for number in range(arguments.rounds):
            for kind in arguments.only or (BULK, RANGES):
                for peer in peers if number % 2 == 0 else peers[::-1]:
                    measured = measure(segment, peer, image, kind, arguments.seconds, number + 1)
                    results[kind, peer.name].append(measured)
                    print(_line(number + 1, kind, peer.name, measured), flush=True)
    rows = table(results)
    print(f"\n{render(rows, [peer.name for peer in peers], f'{OURS} : nginx')}\n", flush=True)
    good = reached(rows)
    if not arguments.only:
        for other in (http_cold.main, http_storm.main):
            good = other() and good
    return 0 if good else 1


def _line(number: int, kind: str, name: str, m: Measured) -> str:
    return (
        f"round {number}  {kind:6}  {name:8} {m.bytes_per_s / 1e6:6.0f} MB/s {m.answers_per_s:7.1f}/s"
        f"  server {m.cpu_s_per_gb:.3f} s/GB  client {m.client_s_per_gb:.3f} s/GB"
        f"  busy {m.busy:.2f}  p99 {m.p99_ms:.1f} ms  {m.memory_mb:.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
