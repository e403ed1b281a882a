"""What a machine boots, by its boot intent: the network, its own disk, or nothing."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.disk import SAYS, bios_disk, uefi_disk
from tests.support.lab import Lab, farm
from tests.support.machine import Firmware, Machine
from tests.support.segment import Segment
from tests.support.served import node

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"


def started(segment: Segment, folder: Path, **node: Any) -> Lab:
    """Return a farm with one machine, whose servers all run; the machine joins no cluster."""
    listed = {"name": "m1c29", "macs": [MAC], "ip": "10.77.0.29", **node}
    lab = Lab(segment, folder, farm(folder, [{"name": "workers", "image": "node", "nodes": [listed]}]))
    lab.start_daemon()
    return lab


def to_disk_s(lab: Lab, machine: Machine, within_s: float) -> float:
    """Wait until the machine runs from its disk; return how long that took from its first question on."""
    machine.wait_for(SAYS, within_s)
    first_s: float = lab.steps("m1c29")[0]["first_s"]
    return time.time() - first_s


def test_a_bios_machine_is_sent_on_to_its_own_disk(segment: Segment, folder: Path) -> None:
    """iPXE's ROM waits 16 s for an IPv6 router before it loads anything; what comes after is ours."""
    lab = started(segment, folder, boot="local")
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC], memory_mib=256)
    machine.power_on(*bios_disk(folder))
    to_disk_s(lab, machine, 60)
    loaded = next(step["first_s"] for step in lab.steps("m1c29") if step["stage"] == "loader")
    assert time.time() - loaded < 10
    assert lab.stages("m1c29") == ["discover", "address", "loader", "disk"]
    assert "its boot intent is local (the farm's file)" in lab.story("m1c29")
    machine.power_off()


@pytest.mark.parametrize("loader", ["EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi"])
def test_a_uefi_machine_is_sent_on_to_its_own_disk(segment: Segment, folder: Path, loader: str) -> None:
    lab = started(segment, folder, boot="local")
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC], memory_mib=256)
    machine.power_on(*uefi_disk(folder, loader))
    assert to_disk_s(lab, machine, 60) < 20
    assert lab.stages("m1c29") == ["discover", "address", "loader", "disk"]
    assert "goes on with its own disk" in machine.console()
    machine.power_off()


def test_a_uefi_machine_without_a_disk_says_so_and_asks_again(segment: Segment, folder: Path) -> None:
    lab = started(segment, folder, boot="local")
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC], memory_mib=256)
    machine.power_on()
    lab.wait_stage("m1c29", "failed", 60)
    assert "found none that can be booted" in lab.story("m1c29")
    machine.wait_for("It asks again in 60 seconds", 10)
    machine.power_off()


def test_a_machine_that_may_boot_once_boots_from_its_disk_the_second_time(segment: Segment, folder: Path) -> None:
    """Over a restart of the daemon too. (What breaks off before its kernel is in test_node_command.)"""
    lab = started(segment, folder)
    assert node(lab.control, "m1c29", "boot=once").returncode == 0
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC])
    disk = uefi_disk(folder)
    machine.power_on(*disk)
    lab.wait_stage("m1c29", "menu", 60)
    assert json.loads(node(lab.control, "m1c29", "--json").stdout)["nodes"][0]["boot"] == "once"
    lab.wait_stage("m1c29", "network", 120)
    assert SAYS not in machine.console()
    assert json.loads(node(lab.control, "m1c29", "--json").stdout)["nodes"][0]["boot"] == "local"
    lab.kill_daemon()
    lab.start_daemon()
    machine.power_off()
    machine.power_on(*disk)
    machine.wait_for(SAYS, 60)
    assert lab.stages("m1c29") == ["discover", "address", "loader", "disk"]
    machine.power_off()
