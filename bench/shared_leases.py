"""What it costs that several servers share their leases: kept by a real API server, or by this one's disk alone.

    python -m bench.shared_leases [--rounds N] [--addresses N]

Alternates between three ways. `delay` is what an ACK waits for its lease when one machine asks at a time, `rate` how
many leases are kept in a second when all ask at once. The first and the last go through the daemon's own store; the
shared ones through its link and `pxeboot controller`, which `CPU` is of, in milliseconds for a lease. In between
stands kube-apiserver 1.20 with etcd alone: 32 at a time create such objects there, and do nothing else.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from config.load import load
from dhcp.engine import Server
from dhcp.leases import Lease
from dhcp.plan import plan
from dhcp.shared_wire import Entry
from dhcp.store import LeaseStore
from pxeboot.controller.lease_object import object_of
from pxeboot.kube.api import Api
from pxeboot.kube.leases import create_lease
from pxeboot.shared.link import Link
from tests.support.control_plane import ControlPlane

POOL = IPv4Network("10.128.0.0/12")
ONE_AT_A_TIME = 100
AT_ONCE = 32
_READY_S = 60.0

Keep = Callable[[Lease], Coroutine[None, None, None]]


@dataclass
class Side:
    """One way of keeping leases."""

    name: str
    keep: Keep
    first: int
    """The number of its first address in the pool: no two sides have the same."""
    delays: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    async def measure(self, count: int) -> None:
        """One round, with addresses that nobody had."""
        for lease in self._leases(ONE_AT_A_TIME):
            began = time.perf_counter()
            await self.keep(lease)
            self.delays.append(time.perf_counter() - began)
        leases = self._leases(count)
        began = time.perf_counter()
        await asyncio.gather(*map(self.keep, leases))
        self.rates.append(count / (time.perf_counter() - began))

    def _leases(self, count: int) -> list[Lease]:
        numbers, self.first = range(self.first, self.first + count), self.first + count
        expires = int(time.time()) + 3600
        return [
            Lease(IPv4Address(int(POOL[1]) + number), (b"\x02\x30" + number.to_bytes(4, "big")).hex(":"), expires)
            for number in numbers
        ]


def stored(store: LeaseStore) -> Keep:
    """Keep leases as the daemon does."""

    async def keep(lease: Lease) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        store.put(lease, lambda error: done.set_exception(error) if error is not None else done.set_result(None))
        await done

    return keep


def cpu_s(pid: int) -> float:
    """The processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_farm(folder: Path, kubeconfig: Path) -> Path:
    """Write a farm that shares a large pool."""
    subnet = {"subnet": str(POOL), "pool": f"{POOL[1]}-{POOL[300_000]}"}
    farm = {
        "server": {"interfaces": ["lo"], "controller": str(folder / "controller.sock")},
        "dhcp": {"shared": "prod", "subnets": [subnet]},
        "clusters": {"prod": {"kubeconfig": str(kubeconfig), "tokens": "boot"}},
    }
    path = folder / "farm.yaml"
    path.write_text(json.dumps(farm))
    return path


async def measured(folder: Path, path: Path, controller: int, rounds: int, count: int) -> tuple[list[Side], float]:
    """Return all sides, measured, and the controller's processor seconds for each lease."""
    farm = load(path)
    own = LeaseStore.open(folder / "own/leases")
    store = LeaseStore.open(folder / "shared/leases")
    link = Link(farm.server.controller, "prod", Server(plan(farm), (), store.clock()), store)
    api = Api("prod", farm.clusters["prod"].kubeconfig)
    limit = asyncio.Semaphore(AT_ONCE)

    async def create(lease: Lease) -> None:
        async with limit:
            made = object_of(Entry(lease, lease.expires + 3600), time.time(), "", farm)
            if await create_lease(api, "default", made) is None:
                raise SystemExit(f"{made.name} was there already")

    sides = [
        Side("this server's disk alone", stored(own), 0),
        Side("the API alone", create, 100_000),
        Side("shared by way of the API", stored(store), 200_000),
    ]
    running = asyncio.create_task(link.run())
    used = 0.0
    try:
        deadline = time.monotonic() + _READY_S
        while link.trouble is not None:
            if time.monotonic() > deadline:
                raise SystemExit(f"{link.trouble}: {(folder / 'controller.log').read_text()}")
            await asyncio.sleep(0.05)
        for _ in range(rounds):
            for side in sides:
                before = cpu_s(controller)
                await side.measure(count)
                used += cpu_s(controller) - before if side is sides[-1] else 0.0
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await api.close()
        own.close()
        store.close()
    return sides, used / (rounds * (ONE_AT_A_TIME + count))


def main() -> None:
    """Measure, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--addresses", type=int, default=500, help="that ask at once, in a round")
    given = arguments.parse_args()
    with TemporaryDirectory(prefix="pxeboot-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        (folder / "plane").mkdir()
        with ControlPlane(folder / "plane") as plane, (folder / "controller.log").open("w") as log:
            path = write_farm(folder, plane.kubeconfig)
            plane.controller_kubeconfig()
            argv = [sys.executable, "-m", "pxeboot", "controller", "-c", str(path)]
            controller = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                sides, used_s = asyncio.run(measured(folder, path, controller.pid, given.rounds, given.addresses))
            finally:
                controller.terminate()
                controller.wait()
    print(f"{'leases are kept by':28}{'delay, median':>16}{'p95':>12}{'rate':>12}{'CPU':>10}")
    for side in sides:
        p95 = quantiles(side.delays, n=20)[-1]
        cpu = f"{used_s * 1e3:7.2f} ms" if side is sides[-1] else ""
        print(
            f"{side.name:28}{median(side.delays) * 1e3:13.1f} ms{p95 * 1e3:9.1f} ms{median(side.rates):10.0f}/s{cpu}"
        )
    alone, api, shared = sides
    print(
        f"an ACK of a pool address waits {(median(shared.delays) - median(alone.delays)) * 1e3:.1f} ms longer, "
        f"{(median(shared.delays) - median(api.delays)) * 1e3:.1f} ms of them for us; "
        f"{median(shared.rates) / median(api.rates):.2f} times as many in a second as the API alone"
    )


if __name__ == "__main__":
    main()
