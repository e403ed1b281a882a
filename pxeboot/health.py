"""Whether machines can boot now, in words: what /readyz says, and two metrics."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dhcp.others import Others, Standing
from dhcp.store import LeaseStore
from pxeboot.bootfiles import loader
from pxeboot.hub import Hub
from pxeboot.nbdkit.second import Second
from pxeboot.serving import Serving

PATIENCE_S = 2.0
"""So long a disk may take to tell what is on it."""


@dataclass(frozen=True, slots=True)
class Health:
    """How it is. Machines can boot if nothing is `missing`."""

    missing: Sequence[str] = ()
    """Why some machines cannot boot, or none: a sentence each."""
    degraded: Sequence[str] = ()
    """What is not as it should be, though machines boot."""

    @property
    def ready(self) -> bool:
        """Whether machines can boot."""
        return not self.missing

    def as_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"ready": self.ready, "missing": list(self.missing), "degraded": list(self.degraded)}

    def as_text(self) -> str:
        r"""Return it as lines for people.

        >>> Health(["eth1 is down"], ["the farm's file is refused"]).as_text()
        "not ready: eth1 is down\ndegraded: the farm's file is refused\n"
        """
        lines = [f"not ready: {reason}" for reason in self.missing]
        lines = lines or ["ready"]
        return "".join(f"{line}\n" for line in [*lines, *(f"degraded: {reason}" for reason in self.degraded)])


class Disk:
    """Whether GRUB's images are there: a disk may take its time to tell, and nobody waits long for it."""

    def __init__(self, served: Path) -> None:
        """Look below `served`."""
        self._served = served
        self._looking: asyncio.Task[Sequence[str]] | None = None

    async def trouble(self) -> Sequence[str]:
        """Return what is not there. Never waits longer than `PATIENCE_S`, nor with more than one thread."""
        looking = self._looking
        if looking is None or looking.done():
            looking = self._looking = asyncio.create_task(asyncio.to_thread(_without_grub, self._served))
        done, _ = await asyncio.wait([looking], timeout=PATIENCE_S)
        return looking.result() if done else [f"the disk of {self._served} does not answer"]


@dataclass(frozen=True, slots=True)
class Doctor:
    """Looks at the parts of a daemon."""

    hub: Hub
    serving: Serving
    leases: LeaseStore
    others: Others
    second: Second
    shared: Callable[[], Mapping[str, object] | None]
    """How it is with the leases that servers share; None: they share none."""
    disk: Disk

    async def look(self) -> Health:
        """Return how it is."""
        gone = await self.disk.trouble()
        return Health((*self._missing(), *gone), tuple(self._degraded()))

    def _missing(self) -> Sequence[str]:
        reasons = [f"{name} is not served: {lacks}" for name, lacks in self.serving.waits.items()]
        if not self.serving.served and not reasons:
            reasons.append("no interface is served")
        if (trouble := self.leases.degraded) is not None:
            reasons.append(trouble)
        return reasons

    def _degraded(self) -> Sequence[str]:
        hub, reasons = self.hub, []
        reloads = hub.reloads
        if reloads.refused:
            first, more = reloads.refused[0], len(reloads.refused) - 1
            others = f" (and {more} more)" if more else ""
            reasons.append(f"the farm's file is refused, and the farm before it is served: {first}{others}")
        if reloads.needs_restart:
            reasons.append(f"changed settings that count after a restart: {', '.join(reloads.needs_restart)}")
        status = self.shared()
        if status is not None and status["trouble"]:
            reasons.append(f"leases of cluster {status['cluster']} cannot be shared: {status['trouble']}")
        controller = hub.door.client
        if controller is not None and not controller.connected:
            reasons.append(
                f"the controller does not answer, so that machines boot and do not join: {controller.trouble}"
            )
        if self.second.wanted and self.second.absent is not None:
            reasons.append(f"nbdkit does not serve the images that want it: {self.second.absent}")
        reasons += [
            f"another DHCP server is in our way: {other.server_id} on {other.interface}"
            for other in self.others
            if other.standing is Standing.CONFLICT
        ]
        reasons += [str(finding) for finding in hub.findings if finding.level == "error"]
        return reasons


def _without_grub(served: Path) -> Sequence[str]:
    gone = [name for name in loader.IMAGES if not (served / name).is_file()]
    return [f"GRUB's images are not there: {', '.join(gone)} in {served}; restart pxeboot serve"] if gone else []
