"""A thousand machines that are switched on together, against the real daemon: from DHCP to the last byte of the image.

    python -m bench.http_storm [--machines N] [--image-mib N] [--profile FILE]

Needs root. Each machine is simulated (bench/storm_boot.py): DHCP as its firmware, GRUB by TFTP, lists, menu, kernel,
archive and initrd by HTTP as GRUB, DHCP again, its image as node/mountroot or by ranges, and a report of every stage.
Another one asks for addresses and a small file all the while, and measures. All is on one machine, whose processors
the simulated ones share with the daemon, with a lower priority (nice 10): theirs would be their own. The exit code
is 1 if one machine does not boot, or DHCP's delay is 1 s or more at the 99th percentile.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from bench import dhcp_profiled
from bench.dhcp_cpu import Used
from bench.storm_boot import Story, address_of, mac_of
from bench.storm_lab import (
    FOLDER,
    LOAD_NICE,
    PREFIX,
    PROBE,
    ROOT,
    SERVER,
    Measuring,
    be_nice,
    farm,
    image,
    nice,
    served,
    stop_at_sigterm,
)
from bench.storm_report import Delays, Row, figure, missed, percentile, render
from tests.support.segment import CommandFailed, Host, Segment

CLIENT = "10.28.0.2"
WITHIN_S = 2.0
"""Within this time all machines are switched on."""
PATIENCE_S = 220.0
"""How long a machine may take."""
DHCP_P99_MS = 1000.0
KERNEL, INITRD = 8 << 20, 24 << 20
DHCP_RATE, FILE_RATE = 50, 20
"""Exchanges and small files a second that are measured."""
HOTTEST = 40
AFTER_S = 3.0
"""When to look what the daemon holds, after the last machine is done."""


@dataclass(frozen=True, slots=True)
class Storm:
    """How it went."""

    stories: Sequence[Story]
    took_s: float
    delays: dict[str, Delays]
    memory_mb: tuple[float, float, float]
    """The daemon's memory before, at its peak and after."""
    tcp_mb: float
    """The most that all sockets of this machine had in their buffers, the machines' included."""
    cpu_s: float
    others: float
    """Processors that others used meanwhile, who have nothing to do with it."""
    still_s: float
    """How long who measures had no processor, at the longest."""
    descriptors: tuple[int, int]
    """Before and after."""
    loaders: frozenset[str]
    """The digests of the GRUB images that there are."""


def rows(storm: Storm) -> list[Row]:
    """Return the table. Pure."""
    stories = storm.stories
    done = [story for story in stories if not story.failed]
    waited = [story.waited_s for story in stories if story.told_to_wait]
    gigabytes = sum(story.bytes_received for story in stories) / 1e9
    wrong = sum(story.loader not in storm.loaders for story in done)

    def when(label: str, at: "list[float]") -> Row:
        return Row(label, tuple(figure(v) for v in (min(at), percentile(at, 0.5), max(at))) if at else ("never",) * 3)

    dhcp = [delays for name, delays in storm.delays.items() if "file" not in name]
    table = [
        Row(
            f"{len(stories):,} machines, of them booted", ("", "", f"{len(done):,}"), "all", len(done) == len(stories)
        ),
        Row("   of them with a GRUB that is not ours", ("", "", str(wrong)), "none", not wrong),
        Row("   with an image that they checked", ("", "", str(sum(story.checked for story in done)))),
        when("an address after, in s", [story.address_s for story in done]),
        when("GRUB after", [story.loader_s for story in done]),
        when("kernel, archive and initrd after", [story.system_s for story in done]),
        when("the image after", [story.image_s for story in done]),
        Row("GB received, in s, GB/s", (f"{gigabytes:.1f}", f"{storm.took_s:.1f}", f"{gigabytes / storm.took_s:.2f}")),
        Row("machines that were told to wait", ("", "", str(len(waited)))),
        when("   they waited, in s", waited or [0.0]),
        Row("connections lost or standing still", ("", "", str(sum(story.lost for story in stories)))),
        Row("packets of DHCP and TFTP repeated", ("", "", str(sum(story.repeated for story in stories)))),
        Row("reports not taken", ("", "", str(sum(story.unheard for story in stories)))),
        when("a machine's grub.cfg took, in ms", [story.menu_ms for story in done]),
        Row("", ("p50", "p99", "longest")),
    ]
    for name, delays in sorted(storm.delays.items()):
        measured = tuple(figure(v) for v in (delays.p50_ms, delays.p99_ms, delays.max_ms))
        label = f"{'small file' if name == 'file' else f'DHCP {name}'} meanwhile, in ms"
        judged = name != "file"
        reached = delays.p99_ms < DHCP_P99_MS if judged else None
        table.append(Row(label, measured, f"p99 < {DHCP_P99_MS:,.0f} ms" if judged else "", reached))
    lost = sum(delays.lost for delays in dhcp)
    table += [
        Row("   DHCP not answered within 2 s, small files not", (str(lost), str(_lost(storm, "file")), "")),
        Row("", ("before", "peak", "after")),
        Row("the daemon's memory, in MB", tuple(f"{mb:.0f}" for mb in storm.memory_mb)),
        Row("all TCP buffers here, in MB", ("", f"{storm.tcp_mb:.0f}", "")),
        Row("the daemon's descriptors", (str(storm.descriptors[0]), "", str(storm.descriptors[1]))),
        Row("its processor time, in s; for a GB", (f"{storm.cpu_s:.1f}", f"{storm.cpu_s / max(gigabytes, 1e-9):.2f}")),
        Row("processors that others used meanwhile", (f"{storm.others:.2f}",)),
        Row("who measures had none for, in s", (f"{storm.still_s:.2f}",)),
    ]
    return table


def _lost(storm: Storm, name: str) -> int:
    return storm.delays[name].lost if name in storm.delays else 0


def failures(stories: Sequence[Story], most: int = 8) -> list[str]:
    """Return why machines failed, the most frequent reasons first, with how many and one of them."""
    reasons = Counter(story.failed for story in stories if story.failed)
    first = {story.failed: story.number for story in reversed(stories)}
    return [f"{count:>5} x {reason}   (m{first[reason]})" for reason, count in reasons.most_common(most)]


class Watching:
    """Looks at what is in the kernel's TCP buffers, twice a second, in a thread."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> float:
        """Return the most that was there, in MB."""
        self._over.set()
        self._thread.join()
        return self.peak_mb

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line[:4] == "TCP:")
            pages = int(line.split()[-1])
            self.peak_mb = max(self.peak_mb, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


def add_addresses(segment: Segment, machines: int) -> None:
    """Give the client's card the addresses of all machines.

    The server reaches them by one neighbour. The kernel has one table of neighbours for this machine and all its
    namespaces, with 1,024 places unless told otherwise (net.ipv4.neigh.default.gc_thresh3), and others use it too.
    """
    client = segment.client
    lines = [f"address add {address_of(n)}/{PREFIX} dev {client.interface}\n" for n in range(1, machines + 1)]
    client.run("ip", "-batch", "-", text_in="".join(lines))
    for network in sorted({str(address_of(n)).rpartition(".")[0] for n in range(1, machines + 1)}):
        segment.server.run("ip", "route", "add", f"{network}.0/24", "via", CLIENT)


def measure(machines: int, image_mib: int, patience_s: float = PATIENCE_S, profile: Path | None = None) -> Storm:
    """Let them boot, once. Raises `CommandFailed` if the daemon or a client does not run.

    With `profile`, that file says afterwards what the daemon's main thread did.
    """
    folder = FOLDER / "storm"
    image(FOLDER / "images", "storm", KERNEL, INITRD, image_mib << 20)
    listed = {f"m{n}": (mac_of(n).hex(":"), str(address_of(n))) for n in range(1, machines + 1)}
    file = farm(folder, ["storm"], listed)
    with (
        Segment(f"{SERVER}/{PREFIX}", f"{CLIENT}/{PREFIX}") as segment,
        served(segment, folder, file, profile) as daemon,
    ):
        add_addresses(segment, machines)
        prober = segment.host(address=f"{PROBE}/{PREFIX}")
        menu = "/grub/grub.cfg-01-52-54-09-ff-ff-ff"
        asked = ("--dhcp", str(DHCP_RATE), "--file", menu, "--files", str(FILE_RATE))
        measuring = Measuring(prober, *asked)
        time.sleep(1)  # until it asks, and the daemon has answered each question once
        memory_mb, descriptors = daemon.memory_mb, daemon.descriptors
        before = Used.now(daemon.process.pid)
        if profile is not None:
            os.kill(daemon.process.pid, dhcp_profiled.BEGIN)
        watching = Watching()
        try:
            stories = _play(segment.client, machines, patience_s)
        finally:
            tcp_mb = watching.end()
        (delays, still_s), after = measuring.end(), Used.now(daemon.process.pid)
        time.sleep(AFTER_S)
        return Storm(
            stories,
            max(story.end_s for story in stories),
            delays,
            (memory_mb, daemon.peak_mb, daemon.memory_mb),
            tcp_mb,
            after.server_s - before.server_s,
            after.others_since(before),
            still_s,
            (descriptors, daemon.descriptors),
            _loaders(folder),
        )


def _play(client: Host, machines: int, patience_s: float) -> list[Story]:
    options = ("--machines", str(machines), "--within", str(WITHIN_S), "--patience", str(patience_s))
    process = client.popen(
        *nice(LOAD_NICE),
        *(sys.executable, "-m", "bench.storm_boot", client.interface, *options),
        stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    said, _ = process.communicate(timeout=patience_s + WITHIN_S + 60)
    if process.returncode:
        raise CommandFailed(process.returncode, process.args, said, "")
    return [Story(**story) for story in json.loads(said)]


def _loaders(folder: Path) -> frozenset[str]:
    return frozenset(sha256(path.read_bytes()).hexdigest() for path in (folder / "state/boot/grub").rglob("core.*"))


def main(arguments: Sequence[str] = ()) -> bool:
    """Measure and print; tell whether none failed and DHCP stayed fast."""
    parser = argparse.ArgumentParser(prog="bench.http_storm", description="A thousand machines boot together.")
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--image-mib", type=int, default=64)
    parser.add_argument("--nice", type=int, default=0, help="for a machine that is shared: of everything")
    parser.add_argument("--patience", type=float, default=PATIENCE_S)
    parser.add_argument("--profile", type=Path, help="leave there what the daemon's main thread spends its time in")
    options = parser.parse_args(arguments)
    if options.nice:
        be_nice(options.nice)
    print(
        f"{options.machines:,} simulated machines, switched on within {WITHIN_S:g} s; kernel {KERNEL >> 20} MiB, "
        f"initrd {INITRD >> 20} MiB, image {options.image_mib} MiB; {os.cpu_count()} processors, shared with the "
        f"daemon, nice {LOAD_NICE}",
        flush=True,
    )
    storm = measure(options.machines, options.image_mib, options.patience, options.profile)
    table = rows(storm)
    print(f"\n{render(table, ('first', 'median', 'last'))}")
    for line in failures(storm.stories):
        print(line)
    if options.profile is not None:
        print(dhcp_profiled.render(dhcp_profiled.read(options.profile), options.machines, HOTTEST))
    return not missed(table)


if __name__ == "__main__":
    stop_at_sigterm()
    sys.exit(0 if main(sys.argv[1:]) else 1)
