"""How long a megabyte takes by TFTP over a line that loses packets in both directions, for clients as they are.

    python -m bench.tftp_loss [--runs N] [--client NAME ...] [--loss PERCENT ...] [--lanes N]

Needs root: each lane is a server, a client and a bridge between them in network namespaces of their own, and the
bridge drops packets by chance. Nearly all of the time is waiting, so lanes hardly disturb each other. The bytes of
every run are compared. Prints a line for each client and loss, and why a run failed if one did; the exit code is 1
if a median is too long or a file was not whole, for a client that asks for no window.

atftp 0.8.0 is held to the time at 1 % only. It confirms a block that comes again once; when that ACK is lost too, it
says nothing until it has heard nothing for 5 s, whatever it is sent (`tests/net/test_tftp_loss.py` shows it). At 10 %
one block in a hundred meets that: seven in a megabyte, 35 s with any server. The column "own waits" is what it said
itself of such waits.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from statistics import median
from typing import NoReturn

from bench.sides import Processors, Row, reached, render
from tests.support.segment import Segment
from tests.support.tftp_server import running

SERVER = "10.77.0.1"
CLIENT = "10.77.0.2/24"
BLKSIZE = "1428"
NAME = "core.efi"
SIZE_BYTES = 2**20
WITHIN_S = {1: 3.0, 5: 8.0, 10: 20.0}
"""What the median may be, by the percentage of packets that are lost."""
PATIENCE_S = 400.0
"""How long one run may take."""
CLIENTS = ("curl", "atftp", "busybox", "atftp-window")
JUDGED = ("curl", "atftp", "busybox")
"""Those that ask for no window."""
ATFTP_TIMER_S = 5.0
ATFTP_SAYS = "timeout: retrying"
ATFTP_IN_TIME = (1,)
"""The losses at which atftp can be in time, in per cent."""


def command(client: str, to: Path) -> list[str]:
    """Return how `client` is told to fetch the file into `to`, with blocks of 1,428 bytes."""
    options = ["--option", f"blksize {BLKSIZE}"]
    match client:
        case "curl":
            return ["curl", "-sS", "--tftp-blksize", BLKSIZE, "-o", str(to), f"tftp://{SERVER}/{NAME}"]
        case "atftp":
            return ["atftp", *options, "-g", "-r", NAME, "-l", str(to), SERVER]
        case "atftp-window":
            return ["atftp", *options, "--option", "windowsize 16", "-g", "-r", NAME, "-l", str(to), SERVER]
        case "busybox":
            return ["busybox", "tftp", "-g", "-b", BLKSIZE, "-r", NAME, "-l", str(to), SERVER]
        case _:
            raise ValueError(client)


@dataclass(frozen=True, slots=True)
class Run:
    """One download. `failure` is None if the file was whole, otherwise why it was not."""

    client: str
    percent: int
    took_s: float
    failure: str | None
    """With what the server said last."""
    own_s: float = 0.0
    """Of it, what atftp said that it waited for its own timer."""


@dataclass(slots=True)
class Bench:
    """The runs that are still to be made, and what came of the others."""

    folder: Path
    content: bytes
    left: Iterator[tuple[str, int]]
    done: list[Run] = field(default_factory=list)
    broken: BaseException | None = None
    """Why a lane ended early."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lane(self, number: int) -> None:
        """Make runs, one after the other, on a segment of its own, until none is left."""
        try:
            with Segment(client_address=CLIENT) as segment:
                # The bridge would otherwise see, and lose, a whole window as one packet: a switch never does.
                segment.server.run("ip", "link", "set", "dev", segment.server.interface, "gso_max_segs", "1")
                log = self.folder / f"log-{number}"
                with running(self.folder / "served", log, segment.server.popen, port=69):
                    self._run_all(segment, self.folder / f"got-{number}", log)
        except BaseException as error:
            self.broken = error

    def _run_all(self, segment: Segment, to: Path, log: Path) -> None:
        while self.broken is None:
            with self.lock:
                wanted = next(self.left, None)
            if wanted is None:
                return
            run = self._run(segment, to, *wanted)
            if run.failure is not None:
                run = replace(
                    run, failure=f"{run.failure}; the server: {'; '.join(log.read_text().split(chr(10))[-8:])}"
                )
            with self.lock:
                self.done.append(run)

    def _run(self, segment: Segment, to: Path, client: str, percent: int) -> Run:
        to.unlink(missing_ok=True)
        segment.lose(percent)
        began = time.monotonic()
        try:
            ended = segment.client.run(*command(client, to), timeout=PATIENCE_S, check=False)
        except subprocess.TimeoutExpired:
            return Run(client, percent, time.monotonic() - began, f"not done after {PATIENCE_S:.0f} s")
        took_s = time.monotonic() - began
        own_s = ATFTP_TIMER_S * (ended.stdout + ended.stderr).count(ATFTP_SAYS)
        if ended.returncode or not to.exists() or to.read_bytes() != self.content:
            said = (ended.stdout + ended.stderr).split("\n")
            failure = "; ".join(line.strip() for line in said[-4:] if line.strip()) or "the file is not the same"
            return Run(client, percent, took_s, f"code {ended.returncode}: {failure}", own_s)
        return Run(client, percent, took_s, None, own_s)


def rows(runs: Sequence[Run]) -> list[Row]:
    """Return a line of the table for each client and loss, judged if the client asks for no window."""
    table = []
    for client, percent in dict.fromkeys((run.client, run.percent) for run in runs):
        of_it = [run for run in runs if (run.client, run.percent) == (client, percent)]
        took_s, whole = [run.took_s for run in of_it], sum(run.failure is None for run in of_it)
        judged = client in JUDGED and percent in WITHIN_S
        timed = client != "atftp" or percent in ATFTP_IN_TIME
        wanted = f"median < {WITHIN_S[percent]:g} s, all whole" if judged and timed else "all whole" if judged else ""
        good = whole == len(of_it) and (not timed or median(took_s) < WITHIN_S[percent]) if judged else None
        table.append(
            Row(
                f"{client}, {percent} % lost: {whole} of {len(of_it)} whole",
                {
                    "median": median(took_s),
                    "worst": max(took_s),
                    "own waits": median(run.own_s for run in of_it) if client.startswith("atftp") else nan,
                },
                1,
                wanted=wanted,
                good=good,
            )
        )
    return table


def main() -> int:
    """Measure, print, and judge."""
    signal.signal(signal.SIGTERM, _stop)
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="of each client with each loss (20)")
    parser.add_argument("--client", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--loss", nargs="+", type=int, default=list(WITHIN_S), help="per cent (1 5 10)")
    parser.add_argument("--lanes", type=int, default=16, help="runs at the same time (16)")
    asked = parser.parse_args()
    if os.geteuid():
        parser.error("needs root, for network namespaces")
    # The long ones first, so that all lanes end at about the same time.
    wanted = [(client, loss) for loss in sorted(asked.loss, reverse=True) for client in asked.client] * asked.runs
    wanted.sort(key=lambda one: (-one[1], one[0] != "atftp"))
    began, processors = time.monotonic(), Processors()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pxeboot-bench-") as name:
        folder = Path(name)
        (folder / "served").mkdir()
        content = random.Random(1).randbytes(SIZE_BYTES)
        (folder / "served" / NAME).write_bytes(content)
        bench = Bench(folder, content, iter(wanted))
        lanes = [threading.Thread(target=bench.lane, args=(number,)) for number in range(asked.lanes)]
        for lane in lanes:
            lane.start()
        try:
            for lane in lanes:
                lane.join()
        except BaseException as error:
            bench.broken = error  # each lane ends after the run that it is at
            raise
        finally:
            for lane in lanes:
                lane.join()
    if bench.broken is not None:
        raise bench.broken
    order = {(client, loss): (asked.client.index(client), loss) for client, loss in wanted}
    bench.done.sort(key=lambda run: order[run.client, run.percent])
    print(f"{SIZE_BYTES} bytes in blocks of {BLKSIZE}, each packet lost by chance in either direction; seconds")
    print(f"{len(wanted)} runs in {asked.lanes} lanes took {time.monotonic() - began:.0f} s", end="; ")
    print(f"{processors.busy():.1f} of {os.cpu_count()} processors were busy, with all that others did\n")
    table = rows(bench.done)
    print(render(table, ["median", "worst", "own waits"], ""))
    for run in bench.done:
        if run.failure is not None:
            print(f"{run.client}, {run.percent} % lost, after {run.took_s:.1f} s: {run.failure}")
    return 0 if reached(table) else 1


def _stop(number: int, frame: object) -> NoReturn:
    """End in order, so that no namespace is left behind."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
