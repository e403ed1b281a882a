"""Linux's table of neighbours: the machines on our wires whose MAC it knows. It is small, unless told otherwise."""

from contextlib import suppress
from pathlib import Path

from config.model import Farm

LIMIT = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
"""How many entries the kernel keeps at most, for the whole host; 1,024 by default. In a container it may be hidden."""
ROOM = 0.75
"""The part of it that our machines may fill: others are in it too."""


def too_few(farm: Farm, limit: Path = LIMIT) -> str | None:
    """Return what is to be done when the farm has more machines than the kernel can know; None if all is well.

    When the table is full, connections to further machines fail, and the kernel says so in its own log only.
    """
    with suppress(OSError, ValueError):
        entries = int(limit.read_text())
        machines = sum(len(pool.nodes) for pool in farm.pools)
        if machines > ROOM * entries:
            enough = 1 << (4 * machines - 1).bit_length()
            return (
                f"{machines} machines, and the kernel's table of neighbours holds {entries}; "
                f"if most are on our own wire: sysctl net.ipv4.neigh.default.gc_thresh2={enough // 2} "
                f"net.ipv4.neigh.default.gc_thresh3={enough}"
            )
    return None
