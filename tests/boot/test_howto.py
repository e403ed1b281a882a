"""What the how-to pages promise of a machine, looked at on a machine."""

from pathlib import Path

import pytest
import yaml

from tests.support.document import steps
from tests.support.lab import IMAGES, ROOT, Lab
from tests.support.machine import Firmware, Machine
from tests.support.segment import Segment

pytestmark = pytest.mark.boot

BOOT_S = 240
LOOK = (
    "sleep 3; echo bond: "
    "$(ip -br link show bond0; ip -br -4 address show bond0; ls /sys/class/net/bond0 | grep lower) "
    "end >/dev/ttyS0"
)


def test_the_cards_of_a_machine_become_one_link_that_keeps_its_address(segment: Segment, folder: Path) -> None:
    """As howto/bonding.md says."""
    for step in steps(ROOT / "docs/howto/bonding.md"):
        if step.verb == "file":
            (folder / Path(step.what).name).write_text(step.text)
    made = yaml.safe_load((folder / "farm.yaml").read_text())
    made["server"] |= {"state": str(folder / "state"), "control": str(folder / "control.sock"), "controller": "none"}
    made["dhcp"]["subnets"][0]["subnet"] = "10.77.0.0/24"
    made["images"]["node"]["path"] = str(IMAGES / "node")
    node = made["pools"][0]["nodes"][0]
    node["ip"] = "10.77.0.10"
    made["tags"]["all"] = {"kernel_parameters": ["console=ttyS0", "norandmaps"], "lts": {"RCFILE_09_LOOK": LOOK}}
    lab = Lab(segment, folder, made)
    lab.start_daemon()
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=node["macs"], boot_card=1)
    machine.power_on()
    lab.wait_stage("m1", "system", BOOT_S)
    said = machine.wait_for(" end", 60).split("bond: ")[-1]
    assert f"bond0 UP {node['macs'][1]} " in said
    assert "10.77.0.10/24" in said
    assert len([word for word in said.split() if word.startswith("lower_")]) == 2
