"""What the how-to pages promise of a machine, looked at on a machine."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.document import steps
from tests.support.lab import IMAGES, ROOT, Lab
from tests.support.machine import Firmware, Machine
from tests.support.segment import Segment

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
LOOK = (
    "for try in $(seq 60); do sleep 1; ip -br -4 address show bond0 | grep -q 'UP .*/' && break; done; echo bond: "
    "$(ip -br link show bond0; ip -br -4 address show bond0; ls /sys/class/net/bond0 | grep lower) "
    "end >/dev/ttyS0"
)


def farms(page: str, folder: Path) -> list[dict[str, Any]]:
    """Return the farms of a page, as they are in our network; other files of it come to `folder`."""
    found = []
    for step in steps(ROOT / "docs" / page):
        if step.verb == "file" and step.what.endswith("/farm.yaml"):
            made = yaml.safe_load(step.text.replace("10.28.0.", "10.77.0."))
            made["server"] |= {
                "state": str(folder / "state"), "control": str(folder / "control.sock"), "controller": "none",
            }  # fmt: skip
            made["images"]["node"]["path"] = str(IMAGES / "node")
            all_of_them = made.setdefault("tags", {}).setdefault("all", {})
            all_of_them["kernel_parameters"] = ["console=ttyS0", "norandmaps"]
            found.append(made)
        elif step.verb == "file":
            (folder / Path(step.what).name).write_text(step.text)
    return found


def test_the_tutorial_ends_with_a_machine_that_has_the_name_one_gave_it(segment: Segment, folder: Path) -> None:
    stranger, listed = farms("tutorial.md", folder)
    lab = Lab(segment, folder, stranger)
    lab.start_daemon()
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC])
    machine.power_on()
    lab.wait_stage(f"node-{MAC.replace(':', '')}", "kernel")
    machine.power_off()
    lab.configuration.write_text(yaml.safe_dump(listed))
    lab.wait(lambda: "is served from now on" in lab.log("serve"), "the daemon takes the change in")
    machine.power_on()
    lab.wait_stage("m1", "system")
    assert lab.report("m1")["hostname"] == "m1"


def test_the_cards_of_a_machine_become_one_link_that_keeps_its_address(segment: Segment, folder: Path) -> None:
    """As howto/bonding.md says."""
    (made,) = farms("howto/bonding.md", folder)
    node = made["pools"][0]["nodes"][0]
    made["tags"]["all"]["lts"] = {"RCFILE_09_LOOK": LOOK}
    lab = Lab(segment, folder, made)
    lab.start_daemon()
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=node["macs"], boot_card=1)
    machine.power_on()
    lab.wait_stage("m1", "system")
    said = machine.wait_for(" end").split("bond: ")[-1]
    assert f"bond0 UP {node['macs'][1]} " in said
    assert "10.77.0.10/24" in said
    assert len([word for word in said.split() if word.startswith("lower_")]) == 2
