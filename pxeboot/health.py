"""Whether machines can boot now, in words: what /readyz says, and two metrics."""

import asyncio
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.model import Farm
from dhcp.others import Others, Standing
from dhcp.store import LeaseStore
from pxeboot.bootfiles import loader
from pxeboot.hub import Hub
from pxeboot.metrics.expiry import not_after
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
    expiries: Mapping[str, float] = field(default_factory=dict)
    """When the certificates of our servers expire, in seconds since 1970, by the server."""

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


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What a disk tells of what is served."""

    missing: Sequence[str]
    expiries: Mapping[str, float]
    """When the certificates of our servers expire, in seconds since 1970, by the server."""


class Disk:
    """What only a disk knows: it may take its time to tell, and nobody waits long for it."""

    def __init__(self, farm: Callable[[], Farm]) -> None:
        """Look for what `farm` names."""
        self._farm = farm
        self._looking: asyncio.Task[OnDisk] | None = None

    async def look(self) -> OnDisk:
        """Return what is there. Never waits longer than `PATIENCE_S`, nor with more than one thread."""
        looking = self._looking
        if looking is None or looking.done():
            looking = self._looking = asyncio.create_task(asyncio.to_thread(_on_disk, self._farm()))
        done, _ = await asyncio.wait([looking], timeout=PATIENCE_S)
        if not done:
            return OnDisk([f"the disk of {self._farm().server.state} does not answer"], {})
        try:
            return looking.result()
        except OSError as error:
            return OnDisk([f"{self._farm().server.state} cannot be read: {error.strerror or error}"], {})


def _on_disk(farm: Farm) -> OnDisk:
    shown = {"http": farm.http.tls, "nbd": farm.nbd.tls, "web": farm.web.tls}
    expiries = {}
    for server, tls in shown.items():
        if tls is not None and (expires := _expires(tls.certificate)) is not None:
            expiries[server] = expires
    return OnDisk(_without_grub(farm.server.state / "boot"), expiries)


def _expires(certificate: Path) -> float | None:
    """Return when the first certificate of a file expires; None if that cannot be told."""
    try:
        text = certificate.read_text()
        begin, end = text.index("-----BEGIN CERTIFICATE-----"), text.index("-----END CERTIFICATE-----")
        return not_after(binascii.a2b_base64(text[begin + 27 : end]))
    except (OSError, ValueError):
        return None


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
        found = await self.disk.look()
        return Health((*self._missing(), *found.missing), tuple(self._degraded()), found.expiries)

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
        if (trouble := hub.door.trouble) is not None:
            reasons.append(f"the controller does not answer, so that machines boot and do not join: {trouble}")
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
