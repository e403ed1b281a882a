from ipaddress import IPv4Address
from pathlib import Path

import pytest

from config.model import Farm, Image, Node, Pool
from pxeboot.neighbours import too_few


def farm(machines: int) -> Farm:
    nodes = tuple(
        Node(name=f"n{n}", ip=IPv4Address(0x0A1C0001 + n), macs=(f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}",))
        for n in range(machines)
    )
    return Farm(images={"node": Image(path=Path("/i/node"))}, pools=(Pool(name="w", image="node", nodes=nodes),))


@pytest.mark.parametrize(("machines", "entries", "told"), [(768, 1024, False), (769, 1024, True), (769, 4096, False)])
def test_more_machines_than_the_kernel_can_know_are_told(
    tmp_path: Path, machines: int, entries: int, told: bool
) -> None:
    limit = tmp_path / "gc_thresh3"
    limit.write_text(f"{entries}\n")
    assert (too_few(farm(machines), limit) is not None) == told


def test_what_to_do_is_said(tmp_path: Path) -> None:
    limit = tmp_path / "gc_thresh3"
    limit.write_text("1024\n")
    assert "gc_thresh3=4096" in (too_few(farm(1000), limit) or "")


def test_where_the_kernel_hides_its_limit_nothing_is_said(tmp_path: Path) -> None:
    assert too_few(farm(1000), tmp_path / "gc_thresh3") is None
