"""What a machine boots, by its boot intent: the network, its own disk, or nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pxeboot.image import store
from tests.support.disk import SAYS, bios_disk, uefi_disk
from tests.support.lab import IMAGES, Lab, farm
from tests.support.machine import Firmware, Machine
from tests.support.segment import Segment
from tests.support.served import node, status

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
AS_FIRMWARE = ("-V", "PXEClient:Arch:00007:UNDI:003016", "-x", "0x5d:0007")
"""What has udhcpc say that it is a UEFI machine's."""


def started(segment: Segment, folder: Path, **node: Any) -> Lab:
    """Return a farm with one machine, whose servers all run; the machine joins no cluster."""
    listed = {"name": "m1c29", "macs": [MAC], "ip": "10.77.0.29", **node}
    images = {name: {"path": str(path)} for name, path in (("node", IMAGES / "node"), ("other", folder / "other"))}
    lab = Lab(segment, folder, farm(folder, [{"name": "workers", "image": "node", "nodes": [listed]}], images=images))
    lab.start_daemon()
    return lab


def intent(lab: Lab) -> dict[str, Any]:
    """Return what `pxeboot node` says of the machine."""
    told: dict[str, Any] = json.loads(node(lab.control, "m1c29", "--json").stdout)["nodes"][0]
    return told


def test_a_bios_machine_is_sent_on_to_its_own_disk(segment: Segment, folder: Path) -> None:
    lab = started(segment, folder, boot="local")
    machine = Machine(segment, folder, firmware=Firmware.BIOS, macs=[MAC], memory_mib=256)
    machine.power_on(*bios_disk(folder))
    machine.wait_for(SAYS)
    assert lab.stages("m1c29") == ["discover", "address", "loader", "disk"]
    assert "its boot intent is local (the farm's file)" in lab.story("m1c29")
    machine.power_off()


@pytest.mark.parametrize("loader", ["EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi"])
def test_a_uefi_machine_is_sent_on_to_its_own_disk(segment: Segment, folder: Path, loader: str) -> None:
    lab = started(segment, folder, boot="local")
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC], memory_mib=256)
    machine.power_on(*uefi_disk(folder, loader))
    console = machine.wait_for(SAYS)
    assert lab.stages("m1c29") == ["discover", "address", "loader", "disk"]
    assert "goes on with its own disk" in console
    assert ">>Start PXE over IPv4" in console
    assert "IPv6" not in console, "its firmware went on to its next way of booting"
    assert ">>Start HTTP" not in console
    machine.power_off()


def test_a_uefi_machine_without_a_disk_says_so_and_asks_again(segment: Segment, folder: Path) -> None:
    lab = started(segment, folder, boot="local")
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC], memory_mib=256)
    machine.power_on()
    lab.wait_stage("m1c29", "failed")
    assert "found none that can be booted" in lab.story("m1c29")
    machine.wait_for("It asks again in 60 seconds")
    machine.power_off()


def test_a_machine_that_may_boot_once_boots_from_its_disk_the_second_time(segment: Segment, folder: Path) -> None:
    """Over a restart of the daemon too. (What breaks off before its kernel is in test_node_command.)"""
    lab = started(segment, folder)
    assert node(lab.control, "m1c29", "boot=once").returncode == 0
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC])
    disk = uefi_disk(folder)
    machine.power_on(*disk)
    lab.wait_stage("m1c29", "network")
    assert SAYS not in machine.console()
    spent = intent(lab)
    assert spent["boot"] == "local"
    loaded = {step["stage"]: step["first_s"] for step in lab.steps("m1c29")}
    assert spent["since_s"] >= max(loaded["menu"], loaded["initrd"]), "it was used up before all was loaded"
    lab.kill_daemon()
    lab.start_daemon()
    machine.power_off()
    machine.power_on(*disk)
    machine.wait_for(SAYS)
    assert lab.stages("m1c29") == ["discover", "address", "loader", "disk"]
    machine.power_off()


def another_version(folder: Path) -> store.StoredImage:
    """Make the image `other` in `folder`: the node image, but its root is longer and so has another digest."""
    staged = folder / "staged"
    shutil.copytree(store.open_image(IMAGES / "node").folder, staged, ignore=shutil.ignore_patterns(store.DISK))
    with (staged / store.SQUASHFS).open("ab") as root:
        root.write(bytes(4096))
    (folder / store.BY_DIGEST).mkdir()
    return store.publish(folder, "other", staged)


def test_a_machine_boots_another_image_once_and_its_pools_the_next_time(segment: Segment, folder: Path) -> None:
    """As `pxeboot node` said it; and what is to come, and what came of it, is shown to everybody."""
    other = another_version(folder)
    pools = store.open_image(IMAGES / "node")
    lab = started(segment, folder)

    def page() -> str:
        """Return the machine's page."""
        return segment.server.run("curl", "-s", "http://127.0.0.1:8067/machines/m1c29").stdout

    def to_come(image: str, of: store.StoredImage) -> str:
        """Return what the page says of the next boot."""
        return f'<dt>Next boot</dt><dd>{image} <code title="{of.image_id}">'

    before = segment.host(mac=MAC)  # its firmware was heard of before, so people see the machine
    before.run("busybox", "udhcpc", "-nq", "-i", before.interface, "-s", "/bin/true", *AS_FIRMWARE)
    before.run("ip", "link", "set", before.interface, "down")
    said = node(lab.control, "m1c29", "image=other", "--once")
    assert "image=other, once" in said.stdout, said.stderr
    assert "image=other once" in status(lab.control, "m1c29").stdout
    assert "image=other, once" in page()
    assert to_come("other", other) in page()
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC])
    machine.power_on()
    lab.wait_stage("m1c29", "system")
    assert other.squashfs_sha256 in lab.story("m1c29"), "the root is what it should be"
    report = lab.report("m1c29")
    assert (report["image"], report["sha256"]) == (other.image_id, other.squashfs_sha256)
    assert f"pxeboot.image={other.image_id}" in report["cmdline"]
    assert (intent(lab)["image"], intent(lab)["boot"]) == ("", "netboot")
    assert "image=other" not in status(lab.control, "m1c29").stdout
    assert "image=other, once" not in page()
    assert to_come("node", pools) in page()
    machine.power_off()
    machine.power_on()
    console = machine.wait_for("Kernel command line:")
    lab.wait(lambda: f"pxeboot.image={pools.image_id}" in machine.console(), "it boots its pool's image")
    assert other.image_id not in console
    machine.power_off()
