"""`make demo`: a bare UEFI machine boots from us and joins a cluster, in a network of our own.

Everything runs for real but two things: the Kubernetes API is a stand-in (`tests.support.kube_api`), and so is the
machine's kubeadm, which does with the token what kubeadm and a kubelet do: it checks the cluster by it, asks for a
certificate, and registers its Node with that. tests/boot/test_kubernetes.py does it with the real ones.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pxeboot.cli.status import timeline
from pxeboot.cli.token import tokens
from tests.support.lab import ROOT, Lab, farm
from tests.support.machine import BOOT_S, SOON_S, Firmware, Machine
from tests.support.segment import Segment

MAC = "52:54:00:12:34:56"
NAME = "m1c29"
TITLES = {
    "discover": "its firmware asks for an address",
    "address": "it has an address",
    "loader": "it loads GRUB",
    "menu": "GRUB reads what this machine boots",
    "kernel": "it loads the kernel",
    "initrd": "it loads its configuration and the initrd",
    "network": "the kernel runs, its network is up",
    "fetch": "it fetches its root",
    "verified": "the root is what it should be",
    "root": "the root is mounted",
    "prepared": "the system is prepared from lts.conf",
    "system": "systemd is up",
    "token": "a token is made for this boot",
    "fetched": "it fetched its join command",
    "joining": "it joins the cluster",
    "approved": "its certificate is approved",
    "registered": "it registers its Node",
    "joined": "it has joined",
    "ready": "the cluster can use it",
    "disk": "GRUB goes on with its own disk",
    "waiting": "it waits for its turn to fetch",
    "failed": "it failed",
    "refused": "somebody was refused what is its own",
}
POOL = {
    "name": "workers",
    "image": "node",
    "root": "http",
    "cluster": "prod",
    "tags": ["gpu"],
    "nodes": [{"name": NAME, "macs": [MAC], "ip": "10.77.0.29"}],
}


def main() -> int:
    """Run the demonstration; return the exit status."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    signal.signal(signal.SIGTERM, interrupted)
    if os.geteuid() != 0:
        console.print("[red]make demo needs root: it makes a network namespace of its own[/]")
        return 2
    firmware = Firmware(os.environ.get("FIRMWARE", "uefi"))
    pool = {**POOL, "root": os.environ.get("ROOT_KIND", "http")}
    try:
        with tempfile.TemporaryDirectory(prefix="demo-", dir=own_folder()) as folder, Segment() as segment:
            return run(console, segment, Path(folder), firmware, pool)
    except KeyboardInterrupt:
        console.print("\ninterrupted; the machine, the servers and the network are gone")
        return 130
    except TimeoutError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return 1


def own_folder() -> Path | None:
    """Return where our files go: below .build, unless its path is too long for the name of a unix socket."""
    folder = ROOT / ".build"
    return folder if len(str(folder)) < 70 else None


def interrupted(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


def run(console: Console, segment: Segment, folder: Path, firmware: Firmware, pool: dict[str, Any]) -> int:
    """Start the servers, power the machine on, and tell what it does until its Node is Ready."""
    clusters = {"prod": {"kubeconfig": str(folder / "kube/controller.kubeconfig")}}
    configuration = farm(folder, [pool], clusters=clusters)
    configuration["tags"]["all"]["lts"] = {"FSTAB_01_SCRATCH": "tmpfs /srv/scratch tmpfs size=64m 0 0"}
    lab = Lab(segment, folder, configuration)
    console.print("[bold]1. The servers[/], in a network namespace of their own")
    begin = time.monotonic()
    lab.start_api()
    console.print("   stand-in for the Kubernetes API   https://10.77.0.1:6443")
    lab.start_controller()
    console.print("   pxeboot controller                makes a token for each boot, with the rights of rbac.yaml")
    lab.start_daemon()
    console.print("   pxeboot serve                     DHCP, TFTP, HTTP and NBD on 10.77.0.1")
    console.print(f"   ready after {time.monotonic() - begin:.1f} s\n")

    before = lab.daemon_memory("VmRSS")
    machine = Machine(segment, folder, firmware=firmware, macs=[MAC])
    machine.power_on()
    begin = time.monotonic()
    console.print(f"[bold]2. A bare {firmware.name} machine is powered on[/] (QEMU without KVM: be patient)")
    shown: set[tuple[str, str]] = set()
    deadline = begin + BOOT_S
    while True:
        steps = lab.steps(NAME)
        for step in steps:
            said = (step["stage"], step["detail"])
            if said not in shown:
                shown.add(said)
                say(console, time.monotonic() - begin, *said)
        stages = {step["stage"] for step in steps}
        if {"joined", "ready"} <= stages:
            break
        if "failed" in stages or time.monotonic() > deadline or not machine.running:
            console.print(
                f"[red]the boot did not end well[/]; its console ended:\n{escape(machine.console()[-1500:])}"
            )
            console.print(escape(lab.log("serve")[-3000:]))
            return 1
        time.sleep(0.2)
    took = time.monotonic() - begin

    console.print("\n[bold]3. Its boot[/], as `pxeboot status` shows it")
    known = lab.machine(NAME)
    assert known is not None
    console.print(timeline(known))
    report = lab.report(NAME)
    console.print("[bold]4. What the machine says it became[/]")
    root = next((line for line in report["mounts"].splitlines() if " / " in line), "?")
    for title, value in (
        ("host name", report["hostname"]),
        ("image", f"{report['sha256'][:16]}…"),
        ("root", root.split(",")[0]),
        ("fstab", "; ".join(line for line in report["fstab"].splitlines() if not line.startswith("#"))),
        ("kubelet", report["kubelet"]),
    ):
        console.print(f"   {title:<10} {escape(value)}")
    console.print("\n[bold]5. How it joined[/]")
    details = {step["stage"]: step["detail"].strip() for step in known["boot"]["steps"]}
    joined = Table.grid(padding=(0, 2, 0, 0))
    joined.add_row("   it ran", escape(details["joining"]))
    for line in lab.log("kube").splitlines():
        if NAME in line:
            joined.add_row("   the API", escape(line))
    joined.add_row("   tokens", tokens_left(lab))
    console.print(joined)
    console.print(f"\n[green bold]From power-on to Ready: {took:.0f} s.[/]")
    idle, now, peak = before, lab.daemon_memory("VmRSS"), lab.daemon_memory("VmHWM")
    console.print(f"pxeboot serve: {idle:.0f} MB when it was ready, {now:.0f} MB now, {peak:.0f} MB at most")
    machine.power_off()
    return 0


def tokens_left(lab: Lab) -> str:
    """Return what `pxeboot token list` says, once the controller has had a moment to delete what it need not keep."""
    deadline = time.monotonic() + SOON_S
    while True:
        found = tokens(lab.controller)
        if not found:
            return "none is left: it was deleted when the Node was Ready"
        if time.monotonic() > deadline:
            return ", ".join(f"{token['id']}: {token['state']}" for token in found)
        time.sleep(0.1)


def say(console: Console, at_s: float, stage: str, detail: str) -> None:
    """Show one step as it happens, on one line."""
    colour = {"failed": "red", "refused": "red", "joined": "green", "ready": "green"}.get(stage, "cyan")
    line = f"   [{colour}]{at_s:6.1f} s[/]  {TITLES[stage]:<42} [dim]{escape(detail.strip())}[/]"
    console.print(line, no_wrap=True, overflow="ellipsis")


if __name__ == "__main__":
    sys.exit(main())
