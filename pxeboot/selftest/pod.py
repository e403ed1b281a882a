"""Whether we are in a container with a network of its own, where no machine's broadcast comes."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pxeboot.selftest.findings import Finding

SYS = Path("/sys/class/net")
_MARKS = (Path("/run/.containerenv"), Path("/.dockerenv"))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where we run."""

    kubernetes: bool
    container: bool
    pairs: frozenset[str]
    """The interfaces that are one end of a pair (veth), as the engine of a container makes them."""
    interfaces: frozenset[str]


def surroundings(environment: Mapping[str, str] = os.environ, sys: Path = SYS) -> Surroundings:
    """Look around."""
    names = frozenset(path.name for path in sys.iterdir()) if sys.is_dir() else frozenset[str]()
    pairs = frozenset(name for name in names if _is_pair(sys / name))
    kubernetes = "KUBERNETES_SERVICE_HOST" in environment
    return Surroundings(kubernetes, kubernetes or any(mark.exists() for mark in _MARKS), pairs, names)


def _is_pair(folder: Path) -> bool:
    """A veth's other end has another number, and it says of itself no kind (macvlan, vlan and others do)."""
    try:
        other = (folder / "iflink").read_text() != (folder / "ifindex").read_text()
        return other and "DEVTYPE=" not in (folder / "uevent").read_text()
    except OSError:
        return False


def look(patterns: Iterable[str], served: Iterable[str], around: Surroundings) -> list[Finding]:
    """Return whether hostNetwork is missing: `served` are the interfaces of `patterns` that are there."""
    there = set(served)
    only_a_pods = around.interfaces <= {"lo", "eth0"} | {name for name in around.interfaces if "tunl" in name}
    if not around.container or not only_a_pods or "eth0" not in around.pairs or (there and there != {"eth0"}):
        return []
    named = ", ".join(patterns)
    how = "run it with --network host"
    if around.kubernetes:
        how = "hostNetwork: true (and dnsPolicy: ClusterFirstWithHostNet) in the pod's spec"
    where = f"this {'pod' if around.kubernetes else 'container'} has a network of its own (eth0 is one end of a pair)"
    return [Finding("error", "hostNetwork", f"{where}, where no DHCP of machines comes; it cannot serve {named}", how)]
