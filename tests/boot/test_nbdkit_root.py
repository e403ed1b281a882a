"""A machine whose root comes through nbdkit and its filters."""

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pxeboot.cli.status import UnixConnection
from tests.support.lab import IMAGES, Lab, farm
from tests.support.machine import SOON_S, Firmware, Machine
from tests.support.segment import Segment, requires

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
NAME = "m1c29"

READER = r"""#!/bin/sh
# Reads a part of the root again and again, past every cache.
cd /usr/bin
md5sum * >/run/sums
while :; do
	echo 3 >/proc/sys/vm/drop_caches
	md5sum -c --quiet /run/sums >/run/bad 2>&1 && echo "round: right" >/dev/ttyS0 || echo "round: wrong" >/dev/ttyS0
done
"""


def nbdkit(lab: Lab) -> dict[str, Any]:
    """Return what the daemon says of nbdkit."""
    connection = UnixConnection(lab.control, SOON_S)
    try:
        connection.request("GET", "/v1/nbdkit")
        told: dict[str, Any] = json.loads(connection.getresponse().read())
        return told
    finally:
        connection.close()


def rounds_from_now(machine: Machine, count: int) -> set[str]:
    """Wait for that many more rounds of the reader; return how they went."""
    since = len(machine.console())
    deadline = time.monotonic() + count * SOON_S
    while len(found := re.findall(r"round: (\w+)", machine.console()[since:])) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(machine.console()[-2000:])
        time.sleep(0.2)
    return set(found)


@requires("nbdkit")
def test_a_machine_boots_from_nbdkit_and_reads_on_when_that_was_killed(segment: Segment, folder: Path) -> None:
    pool = {
        "name": "workers",
        "image": "node",
        "root": "nbd",
        "nodes": [{"name": NAME, "macs": [MAC], "ip": "10.77.0.29"}],
    }
    reading = "/etc/pxeboot/reader </dev/null >/dev/null 2>&1 &"
    configuration = farm(
        folder,
        [pool],
        clusters={},
        images={"node": {"path": str(IMAGES / "node"), "engine": "nbdkit"}},
        nbd={"nbdkit": {"filters": ["readahead"]}},
        tags={"all": {"kernel_parameters": ["console=ttyS0", "norandmaps"], "lts": {"RCFILE_01": reading}}},
        node={"files": {"reader": {"content": READER, "mode": "0755"}}},
    )
    lab = Lab(segment, folder, configuration)
    lab.start_daemon()
    lab.wait(lambda: bool(nbdkit(lab)["serves"]), "nbdkit serves")
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC], memory_mib=512)
    machine.power_on()
    lab.wait_stage(NAME, "system")
    assert "opened through nbdkit" in lab.story(NAME)
    assert "/dev/nbd0 /run/pxeboot/lower squashfs" in lab.report(NAME)["mounts"]
    assert rounds_from_now(machine, 1) == {"right"}
    (interface,) = nbdkit(lab)["interfaces"]
    os.kill(interface["pid"], signal.SIGKILL)
    lab.wait(lambda: nbdkit(lab)["exports_open"] > 0 and nbdkit(lab)["serves"], "the machine is connected again")
    assert rounds_from_now(machine, 2) == {"right"}
    assert nbdkit(lab)["interfaces"][0]["starts"] == 2
    assert "I/O error" not in machine.console()
    lab.stop_daemon()
