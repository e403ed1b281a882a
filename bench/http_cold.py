"""How late DHCP and small files are while eight images are downloaded that are not in the page cache.

    python -m bench.http_cold [--seconds N] [--mib N]

Needs root, and nbdkit for the slow disk. The real daemon, four times for some seconds: idle; with eight downloads of
eight images that are in memory; with the same after each was dropped from the page cache, again and again; and from
a disk that takes 50 ms for every read (nbdkit's filter `delay`). All the while 100 machines a second that the farm
lists and 40 that it does not ask for an address, by broadcast, and 20 small files are fetched. Whoever downloads
shares the processors with the daemon, with a lower priority (nice 10), and throws what comes away in the kernel;
whoever measures has a higher one. The exit code is 1 if DHCP's delay under cold downloads, or from the slow disk, is
20 ms or more at the 99th percentile. The ACK of a stranger among them waits for the sync of his lease; what a sync
of that disk takes by itself stands below it.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import fmean

from bench.dhcp_cpu import Used
from bench.storm_lab import (
    FOLDER,
    LOAD_NICE,
    PREFIX,
    PROBE,
    ROOT,
    SERVER,
    Measuring,
    Served,
    be_nice,
    farm,
    image,
    nice,
    served,
    stop_at_sigterm,
)
from bench.storm_pull import Pulled
from bench.storm_report import Delays, Row, figure, missed, render
from pxeboot.image import store
from pxeboot.image.store import StoredImage
from tests.support.segment import CommandFailed, Host, Segment

DOWNLOADS = 8
P99_MS = 20.0
DHCP_RATE, STRANGER_RATE, FILE_RATE, SYNC_RATE = 100, 40, 20, 10
DISTURBED = 0.2
"""Processors. When others use as many, or the disk itself is too slow, what was missed is measured again."""
ATTEMPTS = 3
SLOW_MIB = 64
SLOW_MS = 50
"""What each read of the slow disk takes."""
MENU = "/grub/grub.cfg-01-52-54-09-ff-ff-ff"


class Phase(StrEnum):
    """What goes on while delays are measured."""

    IDLE = "idle"
    WARM = "in memory"
    COLD = "cold"
    SLOW = "slow disk"


JUDGED = (Phase.COLD, Phase.SLOW)


@dataclass(frozen=True, slots=True)
class Measured:
    """How it went."""

    delays: dict[str, Delays]
    pulled: Pulled
    seconds: float
    cpu: float
    """Processors that the daemon used."""
    others: float
    """Processors that others used, who have nothing to do with it."""
    peak_mb: float
    disk: Delays
    """What a line written and synced to the disk of the leases takes meanwhile, without the daemon."""
    still_s: float
    """How long who measures had no processor, at the longest."""


class Syncing:
    """Writes and syncs a line on the disk of the leases, some times a second, in a thread, as its measure."""

    def __init__(self, folder: Path) -> None:
        self._took_ms: list[float] = []
        self._over = threading.Event()
        self._fd = os.open(folder / "sync", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._thread = threading.Thread(target=self._sync)
        self._thread.start()

    def end(self) -> Delays:
        """Return how long it took."""
        self._over.set()
        self._thread.join()
        os.close(self._fd)
        return Delays.of(self._took_ms)

    def _sync(self) -> None:
        while not self._over.wait(1 / SYNC_RATE):
            began = time.perf_counter()
            os.write(self._fd, b"10.77.0.99 52:54:00:12:34:56 bound 1790000000 5d8a01c3\n")
            os.fdatasync(self._fd)
            self._took_ms.append((time.perf_counter() - began) * 1000)


def rows(results: dict[Phase, Measured]) -> list[Row]:
    """Return the table. Pure."""
    names = sorted({name for measured in results.values() for name in measured.delays})
    table = []
    for name in names:
        delays = {phase: measured.delays.get(name, Delays.of([])) for phase, measured in results.items()}
        label = "small file" if name == "file" else f"DHCP, {name}"
        judged = [delays[phase].p99_ms for phase in JUDGED if phase in delays and name != "file"]
        table.append(
            Row(
                f"{label}: p50 / p99 / longest, in ms",
                tuple(map(str, delays.values())),
                f"p99 < {P99_MS:g} ms" if judged else "",
                max(judged) < P99_MS if judged else None,
            )
        )

    def line(label: str, values: list[str]) -> None:
        table.append(Row(label, tuple(values)))

    line("a line synced to the same disk", [str(measured.disk) for measured in results.values()])
    line("asked", [f"{sum(d.asked for d in measured.delays.values()):,}" for measured in results.values()])
    line("downloaded, in MB/s", [figure(m.pulled.bytes_received / m.seconds / 1e6) for m in results.values()])
    line("   downloads that ended, broke", [f"{m.pulled.downloads}, {m.pulled.broken}" for m in results.values()])
    line("   of a file in memory before, in %", [_cached(m.pulled) for m in results.values()])
    line("processors the daemon used", [figure(measured.cpu) for measured in results.values()])
    line("processors that others used", [figure(measured.others) for measured in results.values()])
    line("who measures had none for, in s", [figure(measured.still_s) for measured in results.values()])
    line("the daemon's largest memory, in MB", [f"{measured.peak_mb:.0f}" for measured in results.values()])
    return table


def _cached(pulled: Pulled) -> str:
    told = [share for share in pulled.cached if not math.isnan(share)]
    return f"{100 * fmean(told):.1f}" if told else "-"


@contextmanager
def slow(there: StoredImage, folder: Path) -> Iterator[None]:
    """Put a disk on which every read takes `SLOW_MS` in place of an image's squashfs. Raises `TimeoutError`."""
    file, data = there.folder / store.SQUASHFS, folder / "slow.data"
    subprocess.run(["umount", "-q", "-l", str(file)], check=False, capture_output=True)  # of a run that was killed
    data.unlink(missing_ok=True)
    data.hardlink_to(file)
    disk = ("nbdkit", "-s", "--filter=delay", "file", str(data), f"rdelay={SLOW_MS}ms")
    with (folder / "slow.log").open("w") as log:
        fuse = subprocess.Popen(
            ["nbdfuse", "-r", str(file), "--command", *disk], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 10
        while not os.path.ismount(file) and file.stat().st_dev == data.stat().st_dev:
            if time.monotonic() > deadline or fuse.poll() is not None:
                raise TimeoutError(f"nbdfuse is not ready: {(folder / 'slow.log').read_text()}")
            time.sleep(0.1)
        yield
    finally:
        subprocess.run(["umount", "-q", "-l", str(file)], check=False, capture_output=True)
        try:
            fuse.wait(5)
        except subprocess.TimeoutExpired:
            fuse.kill()
            fuse.wait()
        data.unlink()


def measure(
    phase: Phase, daemon: Served, load: Host, prober: Host, images: list[StoredImage], seconds: float
) -> Measured:
    """Measure one phase: `images` are the eight, and the one on the slow disk."""
    asked = ("--dhcp", str(DHCP_RATE), "--strangers", str(STRANGER_RATE), "--file", MENU, "--files", str(FILE_RATE))
    what = []
    for number in range(DOWNLOADS):
        chosen = images[-1] if phase is Phase.SLOW else images[number]
        parts = [_address(number), f"/images/{chosen.image_id}/{store.SQUASHFS}"]
        if phase is Phase.COLD or (phase is Phase.SLOW and number == 0):
            parts.append(str(chosen.folder / store.SQUASHFS))
        what.append("=".join(parts))
    before = Used.now(daemon.process.pid)
    measuring, syncing = Measuring(prober, *asked), Syncing(FOLDER / "cold")
    pulled = Pulled()
    try:
        if phase is Phase.IDLE:
            time.sleep(seconds)
        else:
            pulled = _pull(load, seconds, what)
    finally:
        disk = syncing.end()
    delays, still_s = measuring.end()
    after = Used.now(daemon.process.pid)
    took_s = after.at_s - before.at_s
    cpu = (after.server_s - before.server_s) / took_s
    return Measured(delays, pulled, seconds, cpu, after.others_since(before), daemon.peak_mb, disk, still_s)


def _pull(load: Host, seconds: float, what: Sequence[str]) -> Pulled:
    process = load.popen(
        *nice(LOAD_NICE), sys.executable, "-m", "bench.storm_pull", f"{seconds:g}", *what,
        stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    said, _ = process.communicate(timeout=seconds + 60)
    if process.returncode:
        raise CommandFailed(process.returncode, process.args, said, "")
    return Pulled(**json.loads(said))


def _address(number: int) -> str:
    return f"10.28.1.{number + 2}"


def run(seconds: float, mib: int, phases: Sequence[Phase]) -> dict[Phase, Measured]:
    """Measure the phases. Raises `CommandFailed`, `TimeoutError`."""
    folder = FOLDER / "cold"
    names = [f"cold{number}" for number in range(DOWNLOADS)]
    images = [image(FOLDER / "images", name, 1 << 20, 1 << 20, mib << 20) for name in names]
    images.append(image(FOLDER / "images", "slow", 1 << 20, 1 << 20, SLOW_MIB << 20))
    file = farm(folder, [*names, "slow"], {})
    results = {}
    with (
        slow(images[-1], folder),
        Segment(f"{SERVER}/{PREFIX}", f"10.28.0.2/{PREFIX}") as segment,
        served(segment, folder, file) as daemon,
    ):
        lines = [f"address add {_address(number)}/{PREFIX} dev eth0\n" for number in range(DOWNLOADS)]
        segment.client.run("ip", "-batch", "-", text_in="".join(lines))
        prober = segment.host(address=f"{PROBE}/{PREFIX}")
        for phase in phases:
            for _ in range(ATTEMPTS):
                results[phase] = measure(phase, daemon, segment.client, prober, images, seconds)
                measured = results[phase]
                undisturbed = measured.others < DISTURBED and not measured.disk.p99_ms >= P99_MS
                if undisturbed or not missed(rows({phase: measured})):
                    break
                why = f"others used {measured.others:.2f} processors, a sync took {measured.disk.p99_ms:.1f} ms"
                print(f"  {phase}: {why}; once more", flush=True)
    return results


def main(arguments: Sequence[str] = ()) -> bool:
    """Measure and print; tell whether DHCP stayed fast."""
    parser = argparse.ArgumentParser(prog="bench.http_cold", description="DHCP's delay under cold downloads.")
    parser.add_argument("--seconds", type=float, default=12.0, help="for each of the four")
    parser.add_argument("--mib", type=int, default=256, help="the size of each image")
    parser.add_argument("--only", nargs="+", type=Phase, choices=list(Phase), default=list(Phase))
    parser.add_argument("--nice", type=int, default=0, help="for a machine that is shared: of everything")
    options = parser.parse_args(arguments)
    if options.nice:
        be_nice(options.nice)
    absent = [program for program in ("nbdkit", "nbdfuse") if shutil.which(program) is None]
    if absent:
        print(f"needs {', '.join(absent)}", file=sys.stderr)
        return False
    (FOLDER / "cold").mkdir(parents=True, exist_ok=True)
    print(
        f"{DOWNLOADS} downloads of {DOWNLOADS} images of {options.mib} MiB for {options.seconds:g} s; slow disk: all "
        f"of one of {SLOW_MIB} MiB, {SLOW_MS} ms a read; {os.cpu_count()} processors, shared with the daemon, "
        f"nice {LOAD_NICE}",
        flush=True,
    )
    results = run(options.seconds, options.mib, options.only)
    table = rows(results)
    print(f"\n{render(table, list(results))}")
    return not missed(table)


if __name__ == "__main__":
    stop_at_sigterm()
    sys.exit(0 if main(sys.argv[1:]) else 1)
