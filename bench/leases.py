"""What leases cost: reading 100,000 at a start, putting one on disk, and what a rewrite does to the event loop.

    python -m bench.leases [--leases N] [--seconds S]

Each figure is the best and the median of five. The exit code is 1 when reading takes over 2 s, when a put costs the
loop over 5 microseconds, or when the loop was held up for over 50 ms while the file was written anew. Each as
processor time or as the best of its rounds, since others may use the machine; the stalls are measured against those of
the same loop with an idle journal.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from dhcp import journal
from dhcp.journal import HEADER, encode
from dhcp.leases import Lease, Leases
from dhcp.store import LeaseStore

ROUNDS = 5
MOST_READ_S = 2.0
MOST_PUT_US = 5.0
MOST_STALL_MS = 50.0
NOW = 1_790_000_000


def made(number: int, expires: int = NOW + 3600) -> Lease:
    """Return the lease of one client."""
    mac = (0x0210_0000_0000 + number).to_bytes(6, "big").hex(":")
    return Lease(IPv4Address(0x0A000001 + number), mac, expires)


def inode(path: Path) -> int:
    """Return which file is there."""
    return path.stat().st_ino


def times(measure: Callable[[], float], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the best and the median of some rounds."""
    found = []
    for _ in range(rounds):
        gc.collect()
        found.append(measure())
    return min(found), statistics.median(found)


def read_once(path: Path) -> float:
    """Return how long it takes to open the file and have its leases in the engine."""
    began = time.perf_counter()
    store = LeaseStore.open(path)
    leases = Leases(store.leases, NOW, 86400)
    took_s = time.perf_counter() - began
    store.close()
    del leases
    return took_s


def put_once(path: Path, number: int) -> tuple[float, float, float]:
    """Return (seconds of the loop's processor time for a put, that and the answer, leases a second on disk)."""

    async def run() -> tuple[float, float, float]:
        store = LeaseStore.open(path)
        fresh = [made(200_000 + n, NOW + n) for n in range(number)]
        done = asyncio.get_running_loop().create_future()
        left = number

        def then(error: BaseException | None) -> None:
            nonlocal left
            left -= 1
            if not left or error is not None:
                done.set_result(error)

        began, busy, put_s = time.perf_counter(), time.thread_time(), 0.0
        for at in range(0, number, 16):  # as many as arrive together under load
            start = time.thread_time()
            for lease in fresh[at : at + 16]:
                store.put(lease, then)
            put_s += time.thread_time() - start
            await asyncio.sleep(0)
        if (error := await done) is not None:
            raise error
        took_s, busy_s = time.perf_counter() - began, time.thread_time() - busy
        store.close()
        return put_s / number, busy_s / number, number / took_s

    return asyncio.run(run())


def stalls(path: Path, seconds: float, *, anew: bool) -> tuple[float, int]:
    """Return (the longest time in ms that the loop was away, rewrites) while 200 leases a second are put."""

    async def run() -> tuple[float, int]:
        store = LeaseStore.open(path)
        gc.collect()
        gc.freeze()  # 100,000 leases are looked through by the collector otherwise, which is not what is measured
        current, files, worst, number = inode(path), 0, 0.0, 0
        end = time.perf_counter() + seconds
        while (before := time.perf_counter()) < end:
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - before - 0.001)
            number += 1
            if number % 5 == 0:
                store.put(made(number % 1000, NOW + number), lambda error: None)
            if number % 10 == 0 and (found := inode(path)) != current:
                current, files = found, files + 1
        store.close()
        gc.unfreeze()
        return worst * 1e3, files

    few = journal._FEW_LINES
    journal._FEW_LINES = -(1 << 40) if anew else 1 << 40
    try:
        return asyncio.run(run())
    finally:
        journal._FEW_LINES = few


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="What leases cost.")
    parser.add_argument("--leases", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pxeboot-bench-") as folder:
        path = Path(folder) / "leases"
        lines = [encode(made(n)) for n in range(asked.leases)]
        path.write_bytes(HEADER + b"".join(lines))
        read_s, read_median_s = times(lambda: read_once(path))
        print(f"{asked.leases} leases read, and in the engine: {read_s:.2f} s (median {read_median_s:.2f})")
        path.write_bytes(HEADER + b"".join(lines) * 3)
        print("  the file as long as it can get: {:.2f} s (median {:.2f})".format(*times(lambda: read_once(path))))
        path.write_bytes(HEADER + b"".join(lines))
        puts = [put_once(path, 20_000) for _ in range(ROUNDS)]
        put_us, busy_us, rate = (
            pick(column) for pick, column in zip((min, min, max), zip(*puts, strict=True), strict=True)
        )
        put_us, busy_us = put_us * 1e6, busy_us * 1e6
        print(f"a put costs the loop {put_us:.1f} µs, with its answer {busy_us:.1f} µs; {rate:.0f} a second on disk")
        path.write_bytes(HEADER + b"".join(lines))
        idle_ms, _ = times_of_stalls(path, asked.seconds, anew=False)
        stall_ms, files = times_of_stalls(path, asked.seconds, anew=True)
        print(f"the loop's longest absence at 200 a second: {stall_ms:.1f} ms while the file was written anew "
              f"{files} times, {idle_ms:.1f} ms without")  # fmt: skip
    bad = [read_s > MOST_READ_S, put_us > MOST_PUT_US, stall_ms > MOST_STALL_MS]
    return 1 if any(bad) else 0


def times_of_stalls(path: Path, seconds: float, *, anew: bool) -> tuple[float, int]:
    """Return the best of some rounds of `stalls`, and the rewrites of all."""
    found = [stalls(path, seconds, anew=anew) for _ in range(3)]
    return min(worst for worst, _ in found), sum(files for _, files in found)


if __name__ == "__main__":
    sys.exit(main())
