"""How long a bare machine takes from power-on until its Node of a real cluster is Ready, and what of that is what.

    python -m bench.ready [--rounds N]

Needs root, and what `make boot` builds. A UEFI machine in QEMU without KVM, its root fetched into RAM over HTTP, a
token for its boot, the real kubelet, kubeadm and containerd; the times are those of its timeline. What a machine of
metal takes is mostly its firmware. Nothing is judged: how long an emulator takes says nothing of ours. What is ours
are the steps `token`, `fetched` and `approved`, each a moment after what it waits for.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.kubernetes_lab import KubernetesLab, pool
from tests.support.segment import Segment

NAME, MAC, IP = "m1c29", "52:54:00:12:34:56", "10.77.0.29"
PARTS = (
    ("menu", "firmware, an address, GRUB and its menu"),
    ("network", "kernel and initrd fetched, the kernel starts, its network is up"),
    ("root", "the root image fetched into RAM, checked and mounted"),
    ("prepared", "the system prepared"),
    ("system", "systemd, until the machine is up"),
    ("token", "it asks for its join command, and its token is made"),
    ("fetched", "it has its join command"),
    ("approved", "kubeadm looks around, the kubelet starts and asks for its certificate; approved"),
    ("registered", "the kubelet has its certificate and registers its Node"),
    ("ready", "the kubelet says that it is Ready"),
)
"""Stages of a boot in their order; a part goes from the stage before to this one."""


def parts(times: Mapping[str, float]) -> list[float]:
    """Return how long each of `PARTS` took, in seconds, from the seconds after power-on at which stages were reached.

    >>> parts({stage: number + 1.0 for number, (stage, _) in enumerate(PARTS)})[:2]
    [1.0, 1.0]
    """
    reached = [times[stage] for stage, _ in PARTS]
    return [now - before for before, now in zip([0.0, *reached], reached, strict=False)]


def boot(folder: Path) -> list[float]:
    """Boot a machine in a farm of its own; return its parts. Raises `TimeoutError` when it does not get Ready."""
    pools = [pool("workers", "prod", {"name": NAME, "macs": [MAC], "ip": IP})]
    with Segment() as segment, KubernetesLab(segment, folder, pools) as farm:
        machine = farm.machine(NAME, MAC)
        on_s = time.time()
        machine.power_on()
        try:
            farm.until_ready(machine, NAME)
            return parts({step["stage"]: step["first_s"] - on_s for step in farm.lab.steps(NAME)})
        finally:
            machine.power_off()


def show(rounds: Sequence[Sequence[float]]) -> None:
    """Print the median of each part, and how far it was from power-on by then."""
    print(f"{len(rounds)} boots, medians\n\n    took  at")
    at_s = 0.0
    for (stage, what), took in zip(PARTS, zip(*rounds, strict=True), strict=True):
        took_s = statistics.median(took)
        at_s += took_s
        print(f"{took_s:6.1f} s {at_s:6.1f} s  {stage:<10} {what}")
    totals = [sum(each) for each in rounds]
    print(f"\nfrom power-on to Ready: {statistics.median(totals):.0f} s ({min(totals):.0f} to {max(totals):.0f} s)")


def main() -> int:
    """Run the rounds; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.ready", description="The time from power-on to Ready.")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = []
    for _ in range(parser.parse_args().rounds):
        with tempfile.TemporaryDirectory(prefix="ready-") as folder:
            rounds.append(boot(Path(folder)))
    show(rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
