"""What the page says beside the machines: images and the versions in use, pools, addresses, other DHCP servers."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.model import Farm
from dhcp.others import Other
from pxeboot.image import store
from pxeboot.reloading.state import Reloads
from pxeboot.selftest.findings import Finding
from pxeboot.stuck import State
from pxeboot.web.notices import Notice, notices
from pxeboot.web.rows import Row

SHORT = 12
"""Digits of a version that are shown, as everywhere in pxeboot."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an image, and how many machines run it."""

    short: str
    machines: int
    is_current: bool


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the farm's file; `trouble` says why machines cannot boot it."""

    name: str
    trouble: str
    versions: Sequence[Version]

    @property
    def known(self) -> int:
        """How many machines run a version of it that we know."""
        return sum(version.machines for version in self.versions)

    @property
    def current(self) -> int:
        """How many run the one that machines boot now."""
        return sum(version.machines for version in self.versions if version.is_current)


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool of machines."""

    name: str
    image: str
    root: str
    up: int
    stuck: int
    machines: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """A range of addresses for machines that are not listed."""

    first: str
    last: str
    used: int
    size: int


@dataclass(frozen=True, slots=True)
class Dhcp:
    """What there is to say of DHCP: what keeps it from serving, and how full its ranges are."""

    troubles: Sequence[str] = ()
    addresses: Sequence[Addresses] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """A DHCP server of somebody else."""

    standing: str
    name: str
    does: str
    last_seen_s: float


@dataclass(frozen=True, slots=True)
class Sending:
    """The root images that are being sent."""

    running: int
    at_most: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it, at one time."""

    notices: Sequence[Notice] = ()
    images: Sequence[Image] = ()
    pools: Sequence[Pool] = ()
    addresses: Sequence[Addresses] = ()
    servers: Sequence[Server] = ()
    sending: Sending | None = None
    findings: Sequence[Finding] = ()
    """Warnings and notes of the self-test; its errors are among the notices."""
    changeable: bool = False
    """Whether there are people who may change what machines boot."""


async def _no_dhcp() -> Dhcp:
    return Dhcp()


async def _at_once(look: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(look)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where it comes from. All is asked on the event loop; what is awaitable may block in a thread."""

    farm: Callable[[], Farm]
    intent: Callable[[str], str] = lambda _: ""
    """What a machine is to do at its next boot, in words; "" for what all do."""
    image: Callable[[str], str] = lambda _: ""
    """The version that a machine boots or booted, as far as the server knows."""
    dhcp: Callable[[], Awaitable[Dhcp]] = _no_dhcp
    others: Callable[[], Iterable[Other]] = list
    findings: Callable[[], Iterable[Finding]] = list
    reloads: Callable[[], Reloads | None] = lambda: None
    joins: Callable[[], Mapping[str, Any]] = dict
    sending: Callable[[], Sending | None] = lambda: None
    looked_up: Callable[[Callable[[], Mapping[str, str]]], Awaitable[Mapping[str, str]]] = field(default=_at_once)
    """Runs what may block on the image stores; raises `OSError` when they hang."""


async def gather(sources: Sources, rows: Sequence[Row]) -> Facts:
    """Return what there is to say now, with `rows` of all machines."""
    farm, now_s = sources.farm(), time.time()
    try:
        current = await sources.looked_up(lambda: versions_now(farm))
    except OSError as error:
        current = dict.fromkeys(farm.images, f"!the image store does not answer ({error.strerror or 'it hangs'})")
    dhcp = await sources.dhcp()
    others, findings = list(sources.others()), list(sources.findings())
    shown = {f"image {name}" for name, version in current.items() if version.startswith("!")}
    return Facts(
        notices=notices(findings, sources.reloads(), sources.joins(), dhcp.troubles, others, now_s),
        images=images(farm, current, rows),
        pools=pools(farm, rows),
        addresses=dhcp.addresses,
        servers=[Server(one.standing.value, one.name, one.words(), one.last_seen) for one in others],
        sending=sources.sending(),
        findings=[one for one in findings if one.level != "error" and one.about not in shown],
        changeable=farm.web.users is not None,
    )


def versions_now(farm: Farm) -> dict[str, str]:
    """Return the version that each image of `farm` points to, or an exclamation mark and why not. Blocks."""
    found = {}
    for name, image in farm.images.items():
        try:
            found[name] = store.open_image(Path(image.path)).image_id
        except (store.ImageError, OSError) as error:
            found[name] = f"!{error}"
    return found


def images(farm: Farm, current: Mapping[str, str], rows: Iterable[Row]) -> list[Image]:
    """Return the images of `farm`, each with its current version, and those that machines run that are up."""
    of_pool = {pool.name: pool.image for pool in farm.pools}
    named = {image_id: name for name, image_id in current.items()}
    used: dict[str, Counter[str]] = {name: Counter() for name in farm.images}
    for row in rows:
        if not row.image_id or row.state is not State.UP:
            continue  # one that boots may be on its way to it, and may never run it
        name = named.get(row.image_id) or of_pool.get(row.pool)
        if name in used:
            used[name][row.image_id] += 1
    out = []
    for name, counter in used.items():
        now = current.get(name, "")
        trouble = now[1:] if now.startswith("!") else ""
        if now and not trouble:
            counter.setdefault(now, 0)
        found = [Version(one[:SHORT], number, one == now) for one, number in counter.items()]
        found.sort(key=lambda version: (not version.is_current, -version.machines, version.short))
        out.append(Image(name, trouble, found))
    return out


def pools(farm: Farm, rows: Iterable[Row]) -> list[Pool]:
    """Return the pools of `farm`, each with how many of its machines are up."""
    states: dict[str, Counter[State]] = {}
    for row in rows:
        states.setdefault(row.pool, Counter())[row.state] += 1
    return [
        Pool(pool.name, pool.image, pool.root, of[State.UP], of[State.STUCK], of.total())
        for pool in farm.pools
        for of in (states.get(pool.name, Counter()),)
    ]
