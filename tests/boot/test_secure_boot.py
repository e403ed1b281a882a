"""A machine that starts nothing that is not signed: shim and GRUB as Debian signed them, all by TFTP, then HTTP."""

import shutil
from pathlib import Path

import pytest

from tests.support.lab import Lab, farm
from tests.support.machine import Firmware, Machine
from tests.support.segment import Segment

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
NAME = "m1c29"
SIGNED = {
    "shimx64.efi": Path("/usr/lib/shim/shimx64.efi.signed"),
    "grubx64.efi": Path("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
}


def test_a_machine_with_secure_boot_boots_and_its_kernel_is_locked_down(segment: Segment, folder: Path) -> None:
    files = folder / "files"
    files.mkdir()
    for name, path in SIGNED.items():
        shutil.copy(path, files / name)
    node = {"name": NAME, "macs": [MAC], "ip": "10.77.0.29"}
    made = farm(folder, [{"name": "workers", "image": "node", "root": "http", "nodes": [node]}], clusters={})
    made["server"]["files"] = str(files)
    made["dhcp"]["architectures"] = {"uefi-x64": {"boot_file": "shimx64.efi"}}
    made["tags"]["all"]["lts"] = {"RCFILE_01_LOOK": "cat /sys/kernel/security/lockdown >/dev/ttyS0"}
    lab = Lab(segment, folder, made)
    lab.start_daemon()
    machine = Machine(segment, folder, firmware=Firmware.SECURE, macs=[MAC])
    machine.power_on()
    lab.wait_stage(NAME, "system")
    assert "[integrity]" in machine.wait_for("[integrity]")
