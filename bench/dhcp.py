"""Our DHCP server, Kea and dnsmasq, alternately, under the same load on the same machine.

    python -m bench.dhcp [--rounds N | --quick] [--only SCENARIO ...] [--server NAME ...]
    python -m bench.dhcp --only dynamic --server pxeboot --rate 2000     one rate in place of a search
    python -m bench.dhcp --profile --rate 1000 [--only static]           where our time goes

Needs root: everything is in network namespaces. Each measurement starts its server afresh with no leases, which are
kept below --folder, on a real disk, so that a sync costs what it costs. Prints a line for each measurement, then a
table of the medians; the exit code is 1 if a target of the table was not reached.
"""

import argparse
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import NoReturn

from bench import dhcp_perfdhcp, dhcp_profiled, dhcp_report
from bench.dhcp_buffer import give_room
from bench.dhcp_cpu import Used
from bench.dhcp_machines import Outcome
from bench.dhcp_peers import (
    PREFIX,
    RELAY,
    SERVER,
    Dnsmasq,
    Kea,
    Leases,
    Peer,
    Pxeboot,
    Setting,
    known,
    running,
)
from bench.dhcp_perfdhcp import NOT_ALL_DONE, NoReport, Trial
from bench.dhcp_report import DELAY_RATE, Result, Scenario
from bench.dhcp_search import Found, good, highest
from bench.serving import NotReady
from bench.sides import OURS, render
from tests.support.segment import Host, Segment

ROOT = Path(__file__).parent.parent
CLIENTS = 10_000_000
"""Strangers that perfdhcp chooses from, so that hardly any asks twice."""
KNOWN = 2000
"""Machines with static leases."""
AGAIN = 500
AGAIN_RATE = 2000
"""Machines that ask again for the dynamic leases they have, and how many a second ask for them before: all, in 4 s."""
MACHINES = 1000
WARM_UP = 200
"""Exchanges before those that count."""
FIRST_GUESS = {"pxeboot": 1500, "kea": 3000, "kea-threads": 3000, "dnsmasq": 300}
STEP_FIRST = 1.6
STEP_LATER = 1.15
"""How far a search steps until it has a good and a bad rate: in the second round it knows about where to look."""
DISTURBED = 0.2
"""Processors. When others use as many, a server that fails may try again: not its fault, or not alone."""
ATTEMPTS = 3
WIRE = """
from pyroute2.ethtool.ioctl import IoctlEthtool
card = IoctlEthtool("eth1")
features = card.get_features()
features["tx-udp-segmentation"] = False
card.set_features(features)
"""
"""Has the servers' interface cut apart what it is given as one, as a wire needs it: veth would pass it on whole."""
PERFDHCP_S = 90.0
"""How long one run of perfdhcp may take at most."""
PATIENCE_S = 20.0
"""How long machines without a relay are given."""
PRECISION = defaultdict(lambda: 1.06, dnsmasq=1.15)
"""How near a search comes to the highest rate; dnsmasq is far away, and nobody waits for it."""
NO_DISK = frozenset({"tmpfs", "ramfs", "overlay"})
HOTTEST = 15


@dataclass(frozen=True, slots=True)
class Load:
    """perfdhcp on `client`, in front of the server that is the process `pid`."""

    client: Host
    pid: int
    period_s: float
    seed: int
    macs: Path | None
    """The machines that ask; None: strangers."""
    clients: int = CLIENTS
    """So many strangers."""

    def ask(self, rate: int, warm_up: int | None = None) -> Trial:
        """Ask for `rate` exchanges a second, for `period_s` or until so many to warm up are done."""
        command = dhcp_perfdhcp.argv(
            *(SERVER, self.client.interface, rate),
            period_s=self.period_s,
            seed=self.seed,
            clients=self.clients,
            macs=str(self.macs) if self.macs else None,
            warm_up=warm_up,
        )
        before = Used.now(self.pid)
        perfdhcp = self.client.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        had_room = give_room(perfdhcp.pid)
        said, _ = perfdhcp.communicate(timeout=PERFDHCP_S)
        if not had_room:
            raise NoReport(f"perfdhcp opened no socket: {said}")
        if perfdhcp.returncode not in (0, NOT_ALL_DONE):
            raise NoReport(f"perfdhcp ended with code {perfdhcp.returncode}: {said}")
        after = Used.now(self.pid)
        trial = dhcp_perfdhcp.parse(said, rate, self.period_s)
        each = 1e6 / max(1, trial.acks.received)
        return replace(
            trial,
            cpu_us=(after.server_s - before.server_s) * each,
            perfdhcp_us=(after.ours_s - before.ours_s) * each,
            others=after.others_since(before),
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share."""

    segment: Segment
    folder: Path
    checkout: Path
    period_s: float
    patience_s: float
    attempts: int
    """How often a rate is tried while others disturb it."""

    def setting(self, peer: Peer, leases: Leases) -> Setting:
        """Return what `peer` is started with."""
        return Setting(self.folder / peer.name, leases, known(KNOWN) if leases is Leases.STATIC else ())

    @contextmanager
    def load(self, peer: Peer, leases: Leases, seed: int, clients: int = CLIENTS) -> Iterator["Load"]:
        """Start a server and warm it up; yield what asks it."""
        setting = self.setting(peer, leases)
        macs = self.folder / "macs"
        macs.write_text("".join(f"{machine.mac}\n" for machine in setting.machines))
        with running(peer, setting, self.segment.server, self.checkout) as pid:
            load = Load(self.segment.client, pid, self.period_s, seed, macs if setting.machines else None, clients)
            load.ask(WARM_UP * 2, WARM_UP)
            if clients < CLIENTS:
                load.ask(AGAIN_RATE)
            yield load

    def probe(self, peer: Peer, leases: Leases, rate: int, seed: int) -> Trial:
        """Ask a server without leases for `rate` exchanges a second; again if it fails while others disturb it."""
        for _ in range(self.attempts):
            trial = self._probe(peer, leases, rate, seed)
            if good(trial) or trial.others < DISTURBED:
                break
        return trial

    def _probe(self, peer: Peer, leases: Leases, rate: int, seed: int, clients: int = CLIENTS) -> Trial:
        with self.load(peer, leases, seed, clients) as load:
            trial = load.ask(rate)
        print(
            f"    {peer.name:<12} asked {rate:>6}/s: {trial.done_per_s:>7.0f}/s done, {trial.dropped:>7.2%} dropped, "
            f"delay {trial.offers.mean_ms:.2f} + {trial.acks.mean_ms:.2f} ms, {trial.cpu_us:.0f} µs of CPU each "
            f"and perfdhcp {trial.perfdhcp_us:.0f}; "
            f"others used {trial.others:.2f}"
            f"{'' if good(trial) else '   too much'}",
            flush=True,
        )
        return trial

    def twin(self, peer: Peer, leases: Leases) -> bool:
        """Return whether our running server answers as the engine does, and print it."""
        with running(peer, self.setting(peer, leases), self.segment.server, self.checkout):
            farm = str(self.folder / peer.name / "farm.yaml")
            done = self.segment.client.run(sys.executable, "-m", "bench.dhcp_twin", farm, check=False)
        print(f"  {leases} leases: {done.stdout.strip()}{done.stderr}", flush=True)
        return done.returncode == 0

    def machines(self, peer: Peer) -> Outcome:
        """Switch on machines that no relay speaks for."""
        with running(peer, self.setting(peer, Leases.DYNAMIC), self.segment.server, self.checkout):
            done = self.segment.client.run(
                *(sys.executable, "-m", "bench.dhcp_machines", "eth0"),
                *("--machines", str(MACHINES), "--patience", str(self.patience_s)),
                timeout=self.patience_s + 30,
            )
        outcome = Outcome(**json.loads(done.stdout))
        print(
            f"    {peer.name:<12} {outcome.bound} of {outcome.machines} machines have a lease, the last after "
            f"{outcome.last_s:.2f} s; {outcome.repeated} messages repeated",
            flush=True,
        )
        return outcome

    def measure(self, scenario: Scenario, peer: Peer, seed: int, earlier: int) -> Result:
        """Measure one scenario with one server, once. `earlier` is the rate that it reached before, 0 if none."""
        match scenario:
            case Scenario.DYNAMIC | Scenario.STATIC:
                leases = Leases(scenario.value)
                start, step = (earlier, STEP_LATER) if earlier else (FIRST_GUESS[peer.name], STEP_FIRST)
                return highest(
                    lambda rate: self.probe(peer, leases, rate, seed), start, step=step, precision=PRECISION[peer.name]
                )
            case Scenario.DELAY:
                return self._probe(peer, Leases.DYNAMIC, DELAY_RATE, seed)
            case Scenario.DELAY_AGAIN:
                return self._probe(peer, Leases.DYNAMIC, DELAY_RATE, seed, AGAIN)
            case Scenario.DELAY_STATIC:
                return self._probe(peer, Leases.STATIC, DELAY_RATE, seed)
            case Scenario.BROADCAST:
                return self.machines(peer)


def main() -> int:
    """Measure, print, and judge."""
    signal.signal(signal.SIGTERM, _stop)
    options = _options()
    _be_nice(options.nice)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    disk = subprocess.run(
        ["findmnt", "-no", "FSTYPE", "-T", str(folder)], capture_output=True, text=True, check=True
    ).stdout.strip()
    if disk in NO_DISK:
        print(f"{folder} is on {disk}, where a sync costs nothing; name another --folder", file=sys.stderr)
        return 2
    known_peers: list[Peer] = [Pxeboot(), Kea(), Kea("kea-threads", threads=True), Dnsmasq()]
    peers = [peer for peer in known_peers if peer.name in options.server]
    scenarios = [scenario for scenario in Scenario if scenario in options.only]
    _alone(folder)
    print(
        f"{os.cpu_count()} processors, shared with perfdhcp; Linux {platform.release()}; leases on {disk} in {folder}",
        flush=True,
    )
    for peer in peers:
        print(f"  {peer.title()}")
    try:
        with Segment(f"{SERVER}/{PREFIX}", f"{RELAY}/{PREFIX}") as segment:
            attempts = ATTEMPTS if options.nice >= 0 else 2
            segment.server.run(sys.executable, "-c", WIRE)
            bench = Bench(segment, folder, options.checkout, options.period, PATIENCE_S, attempts)
            if options.profile:
                return _profile(bench, options.rate or 1000, Leases(scenarios[0]), folder)
            if options.rate:
                for _ in range(options.rounds):
                    for scenario in scenarios:
                        for peer in peers:
                            bench.probe(peer, Leases(scenario), options.rate, int(time.time()))
                return 0
            alike = all(bench.twin(peer, leases) for peer in peers if peer.name == OURS for leases in Leases)
            results = _rounds(bench, options.rounds, scenarios, peers)
            sync = _sync_ms(folder)
    except (NotReady, NoReport) as error:
        print(error, file=sys.stderr)
        return 1
    table = dhcp_report.rows(results)
    print(f"\nmedians of {options.rounds} rounds (of the machines without a relay: the worst)\n")
    print(render(table, [peer.name for peer in peers], f"{OURS} : Kea"))
    for name in dhcp_report.at_limit(results):
        print(f"{name} may be faster: perfdhcp could not ask for more on this machine")
    print(f"in {folder} a line written and synced (fdatasync), {DELAY_RATE} times a second, takes {sync:.2f} ms")
    return 1 if dhcp_report.missed(table) or not alike else 0


def _sync_ms(folder: Path) -> float:
    """Return how long the disk takes for what our server has it do before an ACK, at the rate of the delays.

    The median of two seconds, with nothing else going on.
    """
    fd = os.open(folder / "sync", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        took = []
        for _ in range(2 * DELAY_RATE):
            began = time.perf_counter()
            os.write(fd, b"10.77.0.99 52:54:00:12:34:56 bound 1790000000 5d8a01c3\n")
            os.fdatasync(fd)
            took.append(time.perf_counter() - began)
            time.sleep(max(0.0, 1 / DELAY_RATE - took[-1]))
        return 1000 * median(took)
    finally:
        os.close(fd)


def _rounds(
    bench: Bench, rounds: int, scenarios: list[Scenario], peers: list[Peer]
) -> dict[tuple[Scenario, str], list[Result]]:
    """Measure everything `rounds` times, the servers alternately, every other round in the opposite order."""
    results: dict[tuple[Scenario, str], list[Result]] = defaultdict(list)
    began = time.monotonic()
    for number in range(1, rounds + 1):
        for scenario in scenarios:
            print(f"  round {number} of {rounds}, {scenario}, after {time.monotonic() - began:.0f} s", flush=True)
            for peer in peers if number % 2 else reversed(peers):
                before = results[scenario, peer.name]
                rate = max((found.per_s for found in before if isinstance(found, Found)), default=0.0)
                before.append(bench.measure(scenario, peer, number, round(rate)))
    return results


def _profile(bench: Bench, rate: int, leases: Leases, folder: Path) -> int:
    """Print the functions that our server's loop spends most of its time in. The profiler itself slows it down."""
    bare = bench.probe(Pxeboot(), leases, rate, 1)
    file = folder / "profile.json"
    program = Path(dhcp_profiled.__file__).resolve()
    profiled = Pxeboot((sys.executable, str(program), str(file)))
    with bench.load(profiled, leases, 1) as load:
        os.kill(load.pid, dhcp_profiled.BEGIN)
        trial = load.ask(rate)
    print(dhcp_profiled.render(dhcp_profiled.read(file), max(1, trial.acks.received), HOTTEST))
    print(f"without the profiler, the whole process: {bare.cpu_us:.0f} µs of processor")
    return 0


def _alone(folder: Path) -> None:
    """Wait until no other bench runs in `folder`; the lock is ours until we end."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another bench runs in {folder}; waiting for its end", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _be_nice(nice: int) -> None:
    """Give us and all that we start another priority, among the processes of our session and among sessions."""
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    autogroup = Path("/proc/self/autogroup")  # sched(7); absent if the kernel does not group by session
    if autogroup.exists():
        autogroup.write_text(str(nice))


def _stop(*_: object) -> NoReturn:
    """End as after an error, so that namespaces and servers go away."""
    sys.exit("stopped")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="DHCP exchanges a second: pxeboot, Kea, dnsmasq.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="one round with short measurements: a hint, not a verdict"
    )
    parser.add_argument("--period", type=float, default=4.0, help="seconds of load in one measurement")
    parser.add_argument("--only", nargs="+", choices=list(Scenario), default=list(Scenario))
    parser.add_argument("--server", nargs="+", choices=list(FIRST_GUESS), default=["pxeboot", "kea", "dnsmasq"])
    parser.add_argument("--rate", type=int, help="measure at this rate, and search none")
    parser.add_argument("--profile", action="store_true", help="print where our server's time goes at --rate")
    parser.add_argument(
        "--nice", type=int, default=0, help="for a machine that is shared: of all servers and perfdhcp"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / ".build/bench-dhcp", help="on a real disk")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="the checkout whose server is measured")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.period = 1, 2.0
    if (options.profile or options.rate) and options.only == list(Scenario):
        options.only = [Scenario.DYNAMIC]
    return options


if __name__ == "__main__":
    sys.exit(main())
