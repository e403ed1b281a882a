"""Machines whose root comes by NBD: they outlive their server, let go of it, write to it, or take it into RAM."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pxeboot.image.store import open_image
from tests.support.lab import IMAGES, Lab, farm
from tests.support.machine import BOOT_S, SOON_S, Firmware, Machine
from tests.support.seed_farm import check_join, check_report
from tests.support.segment import Segment

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
NAME = "m1c29"
LET_GO_S = 50
"""Within which the connection of a machine that is off has ended. Who has not let go of it says nothing at all any
more, and the first probe goes out after a minute (`nbd.transport.KEEPALIVE`)."""
AWAY_S = 10
"""How long the server is away after its SIGKILL."""

READER = r"""#!/bin/sh
# Reads a part of the root again and again, past every cache; says how each round went, and from when to when.
cd /usr/lib/x86_64-linux-gnu
find . -maxdepth 1 -type f | sort | xargs md5sum >/run/sums
while :; do
	read -r since _ </proc/uptime
	echo 3 >/proc/sys/vm/drop_caches
	bad=$(md5sum -c --quiet /run/sums 2>&1 | head -n 3 | tr '\n' ' ')
	read -r till _ </proc/uptime
	echo "round: ${bad:-right} $since $till round" >/dev/ttyS0
done
"""

WRITER = r"""#!/bin/sh
# Writes a file again and again, has it on disk, reads it past every cache, and compares.
mkdir -p /var/lib/written
cd /var/lib/written
number=0
while :; do
	number=$((number + 1))
	bad=
	read -r since _ </proc/uptime
	sleep 0.2 # a part of the round, as it is read from the root that may be away
	head -c 300000 /dev/urandom >$((number % 8)) && sync || bad="not written"
	sum=$(md5sum <$((number % 8)))
	echo 3 >/proc/sys/vm/drop_caches
	[ "$sum" = "$(md5sum <$((number % 8)))" ] || bad="$bad another sum"
	read -r till _ </proc/uptime
	echo "round: ${bad:-right} $since $till round" >/dev/ttyS0
done
"""

RECOVERED = "EXT4-fs (nbd0): recovery complete"
"""The kernel's word for a journal that had to be carried out."""

AGAIN = "connected again after"
"""What the node's client says once its server is back."""

IN_BACKGROUND = "/etc/pxeboot/{} </dev/null >/dev/null 2>&1 &"


def started(segment: Segment, folder: Path, root: str, rcfile: str, **more: Any) -> Lab:
    """Return a farm of one machine, whose daemon runs, and which runs `rcfile` once it is up."""
    lab = Lab(segment, folder, configuration(folder, root, rcfile, **more))
    lab.start_daemon()
    return lab


def configuration(folder: Path, root: str, rcfile: str, **more: Any) -> dict[str, Any]:
    """Return the farm of `started`; `more` goes to its pool."""
    node = {"name": NAME, "macs": [MAC], "ip": "10.77.0.29"}
    pool = {"name": "workers", "image": "node", "root": root, "nodes": [node], **more}
    tags = {"all": {"kernel_parameters": ["console=ttyS0", "norandmaps"], "lts": {"RCFILE_90": rcfile}}}
    files = {name: {"content": text, "mode": "0755"} for name, text in (("reader", READER), ("writer", WRITER))}
    return farm(folder, [pool], clusters={}, tags=tags, node={"files": files})


def rounds(machine: Machine, count: int, since: int | None = None) -> list[tuple[str, float]]:
    """Wait for that many more rounds of the reader or writer; return how each went, and how long it took.

    They are counted from this place of the console on, or from now.
    """
    since = len(machine.console()) if since is None else since
    found: list[tuple[str, float]] = []
    deadline = time.monotonic() + count * SOON_S
    while len(found) < count:
        if time.monotonic() > deadline or not machine.running:
            raise TimeoutError(f"{len(found)} of {count} rounds:\n{machine.console()[-2000:]}")
        time.sleep(0.2)
        said = re.findall(r"round: (.*) ([0-9.]+) ([0-9.]+) round\n", machine.console()[since:].replace("\r", ""))
        found = [(went, float(end) - float(begin)) for went, begin, end in said]
    return found


def check_that_it_outlives_the_server(lab: Lab, machine: Machine) -> None:
    """The server is killed in the middle of a round: that one takes longer, and nobody sees an error."""
    assert {went for went, _ in rounds(machine, 1)} == {"right"}
    since = len(machine.console())
    lab.kill_daemon()
    time.sleep(AWAY_S)
    lab.start_daemon()
    lab.wait(lambda: AGAIN in machine.console()[since:], "the machine is connected again")
    rounds(machine, 2)  # with the first of them at the latest, the long one has ended
    over_it = rounds(machine, 1, since)
    assert {went for went, _ in over_it} == {"right"}
    assert max(took for _, took in over_it) > AWAY_S - 2, "nothing was read while the server was away"
    lab.stop_daemon()
    lab.start_daemon()
    lab.wait(lambda: machine.console()[since:].count(AGAIN) == 2, "the machine is connected for the third time")
    assert {went for went, _ in rounds(machine, 2)} == {"right"}  # the second of them is all of the new server
    assert "I/O error" not in machine.console()[since:]


def connections(segment: Segment) -> str:
    """Return the NBD connections as the server's kernel sees them."""
    return segment.server.run("ss", "-Htn", "sport", "=", ":10809").stdout


def mounts(report: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what is mounted where, by a machine's own account."""
    return {line.split()[1]: line.split() for line in report["mounts"].splitlines()}


def test_a_uefi_machine_reads_on_when_the_server_was_killed_and_lets_go_when_it_is_switched_off(
    segment: Segment, folder: Path
) -> None:
    about = "echo device: $(cd /sys/block/nbd0; cat ro size queue/logical_block_size). >/dev/ttyS0; "
    made = configuration(folder, "nbd", about + IN_BACKGROUND.format("reader"), cluster="prod", tags=["gpu"])
    seed = farm(folder, made["pools"])
    made["clusters"] = seed["clusters"]
    made["tags"]["gpu"] = seed["tags"]["gpu"]
    made["node"] = seed["node"] | {"files": seed["node"]["files"] | made["node"]["files"]}
    lab = Lab(segment, folder, made)
    lab.start_api()
    lab.start_controller()
    lab.start_daemon()
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC], memory_mib=512)
    machine.power_on()
    lab.wait_stage(NAME, "joined")
    check_report(lab.report(NAME), NAME, "10.77.0.29")
    assert mounts(lab.report(NAME))["/run/pxeboot/lower"][0] == "/dev/nbd0"
    assert "verified" not in lab.stages(NAME)
    check_join(lab, NAME, "10.77.0.29")
    sectors = -(-open_image(IMAGES / "node").size_bytes // 4096) * 8
    assert f"device: 1 {sectors} 512." in machine.wait_for(" 512.")
    check_that_it_outlives_the_server(lab, machine)
    assert "ESTAB" in connections(segment)
    machine.press_power_button()
    machine.wait_until_off()
    lab.wait(lambda: "ESTAB" not in connections(segment), "the machine let go of its root", LET_GO_S)


def wire_of(segment: Segment, mbit_s: int) -> None:
    """Let the server send as fast as that, and no faster."""
    shape = ("tbf", "rate", f"{mbit_s}mbit", "burst", "32k", "latency", "50ms")
    segment.server.run("tc", "qdisc", "replace", "dev", "eth1", "root", *shape)


def test_a_bios_machine_takes_its_root_into_ram_by_nbd_and_lets_go_of_it(segment: Segment, folder: Path) -> None:
    """Over a SIGKILL of the server in the middle: what has arrived stays."""
    lab = started(segment, folder, "nbd-to-ram", "echo device: $(ls /sys/block/nbd0/pid 2>&1) >/dev/ttyS0")
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC])
    wire_of(segment, 60)  # a copy is not over before we look
    machine.power_on()
    lab.wait_stage(NAME, "network")
    wire_of(segment, 16)
    lab.wait(lambda: lab.fetched_percent(NAME) >= 10, "the machine is in the middle of its copy", BOOT_S)
    lab.kill_daemon()
    console = machine.wait_for("connection lost after")
    already = int(console.split("connection lost after ")[1].split()[0])
    assert already > 5
    segment.server.run("tc", "qdisc", "delete", "dev", "eth1", "root")
    lab.start_daemon()
    lab.wait_stage(NAME, "system")
    assert "verified" in lab.stages(NAME)
    image = open_image(IMAGES / "node")
    left = re.compile(r"left '(?:node|[0-9a-f]{64})': .* ([0-9.]+) MiB")
    lab.wait(lambda: left.search(lab.log("serve").split("ready in")[-1]) is not None, "its connection ends")
    copied = max(map(float, left.findall(lab.log("serve").split("ready in")[-1])))
    assert copied < image.size_bytes / 2**20 - already + 2, "it was copied anew, not resumed"
    report = lab.report(NAME)
    assert report["sha256"] == image.squashfs_sha256
    assert mounts(report)["/run/pxeboot/lower"][0].startswith("/dev/loop")
    machine.wait_for("device: ls: cannot access")
    lab.wait(lambda: "ESTAB" not in connections(segment), "its copy is over", LET_GO_S)
    lab.stop_daemon()
    machine.press_power_button()
    machine.wait_until_off()


def test_a_machine_writes_to_its_root_and_finds_it_again_until_it_is_to_start_afresh(
    segment: Segment, folder: Path
) -> None:
    """Four boots: kept over the power button, then over the pulling of the plug; the last one has `keep: boot`."""
    seen = (
        "cat /var/lib/boots >/dev/ttyS0; echo one more boot >>/var/lib/boots; sync; sleep 1; echo seen. >/dev/ttyS0; "
    )
    always = {"where": "file", "keep": "always"}
    lab = started(segment, folder, "nbd", seen + IN_BACKGROUND.format("writer"), writable=always)
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC], memory_mib=512)
    machine.power_on()
    lab.wait_stage(NAME, "system")
    root = mounts(lab.report(NAME))["/"]
    assert root[0] == "/dev/nbd0"
    assert root[2] == "ext4"
    assert root[3].startswith("rw")
    assert lab.report(NAME)["failed"] == ""
    assert "one more boot" not in machine.wait_for("seen.")
    check_that_it_outlives_the_server(lab, machine)
    machine.press_power_button()
    machine.wait_until_off()
    lab.wait(lambda: "ESTAB" not in connections(segment), "the machine let go of its root", LET_GO_S)
    lab.stop_daemon()

    lab = started(segment, folder, "nbd", seen, writable=always)
    machine.power_on()
    console = machine.wait_for("seen.")
    assert console.count("one more boot") == 1
    assert RECOVERED not in console, "it was not made read-only when the machine was switched off"
    machine.power_off()
    lab.stop_daemon()

    until_it_boots = {"where": "file", "keep": "boot"}
    lab = started(segment, folder, "nbd", seen + "systemctl poweroff", writable=until_it_boots)
    machine.power_on()
    console = machine.wait_for("seen.")
    assert console.count("one more boot") == 2, "what was written when the rule was `always`"
    assert RECOVERED in console
    machine.wait_until_off()

    machine.power_on()
    assert "one more boot" not in machine.wait_for("seen.")
    machine.wait_until_off()
