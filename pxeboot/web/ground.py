"""What the page of one machine is made from: taken together on the event loop, so that a thread can work on it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path
from threading import Lock

from config.marks import Marks
from config.model import Farm, Node, Pool
from config.yamltree import NotReadable
from dhcp.leases import Lease
from dhcp.plan import Plan
from pxeboot.answered import Answer
from pxeboot.bootfiles.machine import Machine as Booting
from pxeboot.hub import Hub
from pxeboot.intents import Intent
from pxeboot.messages import Line
from pxeboot.stuck import Verdict, goal_of, judge
from pxeboot.timeline import Boot, Machine, Past

LARGEST = 4 * 1024 * 1024
"""Bytes of a farm's file that is read for its line numbers: 50,000 machines."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the explanation of a DHCP answer is made from, all of it as it is now."""

    farm: Farm
    plan: Plan
    marks: Marks
    name: str
    intent: Intent
    leases: tuple[Lease, ...]
    ours: IPv4Address
    """Our address as the machine reaches it."""
    now_s: float


@dataclass(frozen=True, slots=True)
class Subject:
    """One machine, as it is now. Nothing in it changes any more."""

    name: str
    farm: Farm
    pool: Pool | None
    node: Node | None
    """None: the farm's file does not list it."""
    macs: tuple[str, ...]
    mac: str
    """The card that it booted from, or its first; "" if none is known."""
    ip: str
    boots: tuple[Boot, ...]
    """The oldest first."""
    pasts: tuple[Past, ...]
    verdict: Verdict
    intent: Intent
    booting: Booting | None
    """None: the farm gives it nothing to boot."""
    lines: Sequence[Line]
    answer: Answer | None
    known: Known
    root: object
    """What it reads by NBD, as the status tells it; None: nothing."""
    stamp: str
    """Another one once anything of this changed."""


def subject(hub: Hub, name: str, now_s: float) -> Subject | None:
    """Return the machine of this name; None if the farm does not list it and nobody heard of it. On the event loop."""
    farm = hub.farm
    pool, node = next(((p, n) for p in farm.pools for n in p.nodes if n.name == name), (None, None))
    machine = hub.timeline.get(name)
    intent = hub.nodes.intent(name)
    if node is None and machine is None and intent.since_s is None:
        return None
    heard = machine or Machine(name)
    if pool is None:
        pool = next((one for one in farm.pools if one.name == heard.pool), None)
    cluster = farm.clusters.get(pool.cluster) if pool is not None and pool.cluster else None
    macs = tuple(dict.fromkeys((*([heard.mac] if heard.mac else []), *(node.macs if node else ()))))
    mac = macs[0] if macs else ""
    ip = heard.ip or (str(node.ip) if node else "")
    address = IPv4Address(ip) if ip else None
    lease = hub.dhcp.leases.record(address) if address is not None else None
    ours = hub.server_for(address or IPv4Address(0))
    about = hub.roots.about(name)
    answers = [answer for one in macs if (answer := hub.answered.of(one)) is not None]
    verdict = judge(heard, goal_of(cluster), now_s, listed=node is not None)
    lines = hub.messages.of(name)
    return Subject(
        name=name,
        farm=farm,
        pool=pool,
        node=node,
        macs=macs,
        mac=mac,
        ip=ip,
        boots=tuple(_copy(boot) for boot in heard.boots),
        pasts=tuple(heard.pasts),
        verdict=verdict,
        intent=intent,
        booting=hub.tree.house.machine(mac, address, name) if address is not None else None,
        lines=lines,
        answer=max(answers, key=lambda answer: answer.at_s, default=None),
        known=Known(farm, hub.dhcp.plan, Marks(), name, intent, (lease,) if lease else (), ours, now_s),
        root=about.get("root"),
        stamp=stamp(hub, name),
    )


def _copy(boot: Boot) -> Boot:
    return replace(boot, steps=[replace(step) for step in boot.steps], notes=boot.notes.copy())


def stamp(hub: Hub, name: str) -> str:
    """Return what is another text once anything happened to a machine. Cheap. On the event loop."""
    machine, lines, intent = hub.timeline.get(name), hub.messages.of(name), hub.nodes.intent(name)
    changed, newest = machine.changed if machine is not None else 0, lines[-1].at_s if lines else 0.0
    said = (intent.boot, intent.image, intent.since_s)
    return sha256(repr((changed, newest, len(lines), said, hub.reloads.generation)).encode()).hexdigest()[:16]


class Lines:
    """The line numbers of the farm's file, as long as it is the one that is served. For use from several threads."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lock = Lock()
        self._kept: tuple[object, Marks] | None = None

    def of(self, hub: Hub) -> Marks:
        """Return the lines; none if there is no file, or it says something else by now. Blocks on the disk."""
        reloads = hub.reloads
        if reloads.path is None or reloads.refused is not None:
            return Marks()
        with self._lock:
            try:
                about = os.stat(reloads.path)
                seen = (reloads.path, reloads.generation, about.st_mtime_ns, about.st_size)
                if self._kept is not None and self._kept[0] == seen:
                    return self._kept[1]
                if about.st_size > LARGEST or about.st_mtime > reloads.at_s:
                    return Marks()  # too large, or changed since, and soon read anew
                marks = Marks(reloads.path, Path(reloads.path).read_text(encoding="utf-8-sig"))
            except (OSError, UnicodeDecodeError, NotReadable):
                return Marks()
            self._kept = seen, marks
            return marks

    def forget(self) -> None:
        """Give the memory back: 30 MB for 10,000 machines."""
        self._kept = None
