"""What the models say of firmware, against that firmware: the menu that boots the local disk."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dhcp import pxe
from tests.support.disk import SAYS, bios_disk
from tests.support.machine import SOON_S, Firmware, Machine
from tests.support.segment import Segment

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
LOCAL = {"boot_file": "", "options": {"60": "PXEClient", "43": pxe.LOCAL_BOOT.hex()}, "always_send": ["60", "43"]}


@pytest.fixture
def serve(segment: Segment, folder: Path) -> Iterator[Any]:
    """Start a DHCP server that knows `MAC`, with settings; its log is in `folder`."""
    started: list[subprocess.Popen[str]] = []

    def start(**dhcp: Any) -> None:
        node = {"name": "n1", "macs": [MAC], "ip": "10.77.0.10"}
        pool = {"name": "workers", "image": "node", "nodes": [node]}
        settings = {
            "dhcp": {"subnets": [{"subnet": "10.77.0.0/24"}], **dhcp},
            "images": {"node": {"path": "/srv/node"}},
            "pools": [pool],
        }
        (folder / "farm.json").write_text(json.dumps(settings))
        argv = (
            sys.executable,
            "-m",
            "tests.support.serve_dhcp",
            segment.server.interface,
            str(folder / "farm.json"),
            str(folder / "leases"),
        )
        with (folder / "dhcp.log").open("w") as log:
            started.append(segment.server.popen(*argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        deadline = time.monotonic() + SOON_S
        while ":67 " not in segment.server.run("ss", "-lunH").stdout:
            assert started[-1].poll() is None, (folder / "dhcp.log").read_text()
            assert time.monotonic() < deadline, (folder / "dhcp.log").read_text()
            time.sleep(0.1)

    yield start
    for process in started:
        process.terminate()
        process.wait(SOON_S)


def test_ipxe_boots_the_disk_when_the_local_menu_says_so(segment: Segment, folder: Path, serve: Any) -> None:
    """Nothing is fetched: there is no TFTP server."""
    serve(**LOCAL)
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC], memory_mib=256)
    machine.power_on(*bios_disk(folder))
    machine.wait_for(SAYS)
    machine.power_off()
    assert f"{MAC} has 10.77.0.10" in (folder / "dhcp.log").read_text()


def test_ovmf_ends_its_boot_over_ipv4_when_the_local_menu_says_so(segment: Segment, folder: Path, serve: Any) -> None:
    """At once; but its next entries are IPv6 and HTTP, so that our GRUB leads a UEFI machine to its disk sooner."""
    serve(**LOCAL)
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC], memory_mib=256)
    machine.power_on()
    machine.wait_for("PXE-E21: Remote boot cancelled")
    machine.power_off()
