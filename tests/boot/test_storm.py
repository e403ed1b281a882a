"""A machine that comes when all slots for root images are taken."""

import hashlib
from pathlib import Path

import pytest

from pxeboot.image.store import open_image
from tests.support.lab import IMAGES, SERVER, Lab, farm
from tests.support.machine import Firmware, Machine
from tests.support.segment import Segment

pytestmark = pytest.mark.boot

MAC = "52:54:00:12:34:56"
OTHER = "10.77.0.50"
SLOW = {f"{OTHER}/32": 1}
"""At 1 Mbit/s the other machine holds the only slot for ten minutes, until we end it."""


def test_a_machine_that_is_told_to_wait_is_shown_as_waiting_and_boots_in_the_end(
    segment: Segment, folder: Path
) -> None:
    image = open_image(IMAGES / "node")
    listed = {"name": "m1c29", "macs": [MAC], "ip": "10.77.0.29"}
    pools = [{"name": "workers", "image": "node", "nodes": [listed]}]
    lab = Lab(segment, folder, farm(folder, pools, http={"downloads": 1, "subnet_rates_mbit_s": SLOW}))
    lab.start_daemon()
    other = segment.host(address=f"{OTHER}/24")
    url = f"http://{SERVER}/images/{image.image_id}/root.squashfs"
    held = folder / "held"
    holding = other.popen("curl", "-sN", "-o", str(held), url)
    lab.wait(lambda: held.exists() and held.stat().st_size > 0, "the other machine has the slot")
    machine = Machine(segment, folder, firmware=Firmware.UEFI, macs=[MAC])
    machine.power_on()
    lab.wait_stage("m1c29", "waiting")
    said = "pxeboot: waiting: too many machines fetch their root now; asking again in"
    once = machine.wait_for(said).index(said)
    machine.wait_for(said, since=once + 1)
    assert lab.stages("m1c29")[-1] == "waiting"
    assert "waits for its turn: 0 before it, asks again in" in lab.steps("m1c29")[-1]["detail"]
    holding.terminate()
    lab.wait_stage("m1c29", "system")
    assert lab.stages("m1c29")[-6:] == ["waiting", "fetch", "verified", "root", "prepared", "system"]
    assert "connection lost" not in machine.console()
    assert hashlib.sha256((image.folder / "root.squashfs").read_bytes()).hexdigest() == lab.report("m1c29")["sha256"]
    machine.power_off()
